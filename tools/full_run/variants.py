"""Other forms of an application's export: fixed shapes, float16, and OpenVINO instead of ONNX Runtime.

Enters: a built application. Leaves: what each form computes beside Keras' own float32 outputs, and facts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

import interop
from models.applications import Application
from models.randomize import relative_std
from tools.full_run.comparison import (
    TOLERANCE,
    VARIES_ABOVE,
    Array,
    excess,
    max_rel,
    reference,
    run,
    session_of,
)
from tools.full_run.tables import Row, Verdict

#: Of float16 against Keras in float32: 11 bits a number, through hundreds of layers.
HALF = (2e-2, 1e-2)


@dataclass(frozen=True)
class Built:
    """An application with what Keras computes: two batches and the outputs for them."""

    name: str
    model: Any
    batches: list[Array]
    wanted: list[Array]


def built(application: Application) -> Built:
    """The application, built and run."""
    model, batches = application.build()
    wanted = [reference(model, batch) for batch in batches]
    return Built(application.name, model, batches, wanted)


@dataclass(frozen=True)
class Outcome:
    """What a form computed, in the order of the batches that it was given."""

    got: list[Array]
    wanted: list[Array]
    tolerance: tuple[float, float]
    facts: dict[str, Any]


def fixed(built: Built, path: Path) -> Outcome:
    """Shapes of the first batch in the signature: no dimension of the graph is open."""
    interop.export_onnx(built.model, path, input_signature=[built.batches[0].shape], verify=False)
    graph = onnx.load(path, load_external_data=False).graph
    open_dimensions = [
        f"{value.name}: {dimension.dim_param or 'unknown'}"
        for value in (*graph.input, *graph.output, *graph.value_info)
        for dimension in value.type.tensor_type.shape.dim
        if dimension.WhichOneof("value") != "dim_value"
    ]
    if open_dimensions:
        raise ValueError(f"{len(open_dimensions)} dimensions are open, the first is {open_dimensions[0]}")
    got = [run(session_of(path), built.batches[0])]
    return Outcome(got, built.wanted[:1], TOLERANCE, {"nodes": len(graph.node)})


def half(built: Built, path: Path) -> Outcome:
    """Everything in float16, inputs and outputs too."""
    interop.export_onnx(built.model, path, dtype="float16", verify=False)
    session = session_of(path)
    got = [run(session, batch.astype("float16")) for batch in built.batches]
    return Outcome(
        [_widened(array, "float16") for array in got],
        built.wanted,
        HALF,
        {"megabytes": path.stat().st_size / 1e6},
    )


def half_inside(built: Built, path: Path) -> Outcome:
    """float16 between inputs and outputs in float32."""
    interop.export_onnx(built.model, path, dtype="float16", io_dtype="float32", verify=False)
    session = session_of(path)
    return Outcome([run(session, batch) for batch in built.batches], built.wanted, HALF, {})


def _widened(array: Array, dtype: str) -> Array:
    if array.dtype != dtype:
        raise ValueError(f"an output is {array.dtype}, expected {dtype}")
    return array.astype("float32")


def openvino(built: Built, path: Path) -> Outcome:
    """The flat export in OpenVINO, in float32."""
    from openvino import Core

    interop.export_onnx(built.model, path, verify=False)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = Core().compile_model(str(path), "CPU", hints)
    got = [np.array(compiled([batch])[0]) for batch in built.batches]
    return Outcome(got, built.wanted, TOLERANCE, {})


FORMS: dict[str, Callable[[Built, Path], Outcome]] = {
    "fixed shape": fixed,
    "float16": half,
    "float16, float32 I/O": half_inside,
    "OpenVINO": openvino,
}


def row(name: str, built: Built, form: str) -> Row:
    """One form of one application."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = FORMS[form](built, Path(folder, "model.onnx"))
    pairs = list(zip(outcome.got, outcome.wanted, strict=True))
    beyond = max(excess(ours, theirs, outcome.tolerance) for ours, theirs in pairs)
    varies = min(relative_std(array) for array in built.wanted)
    verdict: Verdict = "pass"
    reason = ""
    if beyond > 1:
        verdict, reason = "fail", f"beyond the tolerance by a factor of {beyond:.3g}"
    elif varies <= VARIES_ABOVE:
        verdict, reason = "fail", f"the output does not vary over the batch: {varies:.1e}"
    facts = {"max_rel": [max_rel(ours, theirs) for ours, theirs in pairs], **outcome.facts}
    return Row(name, keras.backend.backend(), verdict, time.perf_counter() - started, reason, facts)
