"""An application's flat export in ONNX Runtime against Keras, and whether the comparison would notice a fault.

Enters: one of ``models.applications``. Leaves: a ``Row``. A row passes if outputs agree at both sizes, vary over
the batch, and stop to agree when any one of a few weights, drawn by chance, is changed by 1 %.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime

import interop
from models.applications import Application
from models.randomize import relative_std
from tools.full_run.tables import Row, Verdict

Array = np.ndarray[Any, Any]

#: Bounds on ``|ours - theirs|``: this share of ``|theirs|``, and that share of the largest ``|theirs|``.
TOLERANCE = (1e-4, 2e-5)

#: An output that varies by less over the batch proves nothing.
VARIES_ABOVE = 1e-2


def compared(application: Application, *, weights: int = 4) -> Row:
    """Export a model, run it and compare.

    Args:
        application: which.
        weights: how many of its weights are changed, one at a time, to see whether that is noticed.
    """
    started = time.perf_counter()
    model, batches = application.build()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        summary = interop.export_onnx(model, path, verify=False)
        session = session_of(path)
        operators = [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]
    got = [run(session, batch) for batch in batches]
    wanted = [reference(model, batch) for batch in batches]
    changes = [
        excess(got[-1], changed, TOLERANCE)
        for changed in _changed(model, application.name, batches[-1], weights)
    ]
    beyond = max(excess(ours, theirs, TOLERANCE) for ours, theirs in zip(got, wanted, strict=True))
    varies = [relative_std(array) for array in wanted]
    facts = {
        "inputs": [list(batch.shape) for batch in batches],
        "max_rel": [max_rel(ours, theirs) for ours, theirs in zip(got, wanted, strict=True)],
        "relative_std": varies,
        "caught": f"{sum(change > 1 for change in changes)}/{len(changes)}",
        "opset": summary.opset,
        "nodes": len(operators),
        "transposes": operators.count("Transpose"),
    }
    verdict: Verdict = "pass"
    reason = ""
    if beyond > 1:
        verdict, reason = "fail", f"beyond the tolerance by a factor of {beyond:.3g}"
    elif min(varies) <= VARIES_ABOVE:
        verdict, reason = "fail", f"the output does not vary over the batch: {min(varies):.1e}"
    elif min(changes) <= 1:
        verdict, reason = "fail", "a weight changed by 1 % is not noticed"
    return Row(
        application.name, keras.backend.backend(), verdict, time.perf_counter() - started, reason, facts
    )


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, batch: Array) -> Array:
    """The one output for the one input."""
    (got,) = session.run(None, {session.get_inputs()[0].name: batch})
    return np.asarray(got)


def reference(model: Any, batch: Array) -> Array:
    """What Keras computes; compiled where running operation by operation takes longer than that."""
    if keras.backend.backend() == "jax":
        return np.asarray(model.predict_on_batch(batch))
    return np.asarray(keras.ops.convert_to_numpy(model(batch, training=False)))


def max_rel(ours: Array, theirs: Array) -> float:
    """The largest difference, relative to the largest value."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def excess(ours: Array, theirs: Array, tolerance: tuple[float, float]) -> float:
    """The largest difference in units of the tolerance; above 1 they disagree."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype or not np.isfinite(ours).all():
        return float("inf")
    rtol, share = tolerance
    bound = share * np.abs(theirs).max() + rtol * np.abs(theirs)
    return float((np.abs(ours - theirs) / bound).max())


def _changed(model: Any, name: str, batch: Array, count: int) -> Iterator[Array]:
    """What Keras computes with one weight 1 % larger, for a few weights."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))
    weights = [variable for variable in model.weights if "float" in variable.dtype]
    for index in rng.choice(len(weights), count, replace=False):
        variable = weights[index]
        before = keras.ops.convert_to_numpy(variable.value)
        variable.assign(before * np.float32(1.01))
        yield reference(model, batch)
        variable.assign(before)
