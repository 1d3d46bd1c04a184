"""``import_onnx`` of what ``export_onnx`` wrote: the same numbers, and which classes of layers come back.

Rows are those of ``cases/layers`` and the models of ``keras.applications``. A row passes if the model that comes back
computes the same at two sizes of every open dimension; where the backend cannot run the layer on strings, its graph
does. Whether its layers are of the same classes is recorded: "same",
"weighted" (the same layers with weights; others are operations of ``keras.ops``, or the other way round), or "other".
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
import pytest
from cases import layers as table
from cases.layer_models import arrays_of, built, reference, signature_of, states_of
from cases.sessions import session_of

import interop
from interop.capture.keras import compat
from models.applications import Application, applications

CASES = {case.id: case for case in table.all_cases()}

#: What is left out of a count: it computes nothing when a model predicts.
SILENT = (
    *("InputLayer", "Identity", "ActivityRegularization", "Dropout", "SpatialDropout1D", "SpatialDropout2D"),
    *("SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
)

#: Rows of which every layer comes back, run on every backend without ``--full``.
QUICK = (
    "GroupNormalization",
    "RMSNormalization",
    "LayerNormalization",
    "SeparableConv2D",
    "GlobalAveragePooling2D",
    "MultiHeadAttention",
    "Bidirectional-concat",
    "ConvLSTM2D",
    "LSTM-stateful",
    "StringLookup",
    "Normalization",
)


def classes_of(model: Any) -> tuple[Counter[str], Counter[str]]:
    """How many layers there are of each class, models inside taken apart; those with weights, and the others."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            for count, inner in zip(counts, classes_of(layer), strict=True):
                count.update(inner)
        elif type(layer).__name__ not in SILENT:
            counts[not layer.weights][type(layer).__name__] += 1
    return counts


def compared_classes(before: Any, after: Any) -> dict[str, Any]:
    """The facts of a row."""
    (weighted, plain), (weighted_after, plain_after) = classes_of(before), classes_of(after)
    wanted, got = weighted + plain, weighted_after + plain_after
    verdict = "same" if wanted == got else "weighted" if weighted == weighted_after else "other"
    facts: dict[str, Any] = {"classes": verdict}
    for key, difference in (("missing", wanted - got), ("instead", got - wanted)):
        if difference:
            facts[key] = dict(sorted(difference.items()))
    return facts


def arrays_in_order(outputs: Any) -> list[np.ndarray]:
    leaves = outputs.values() if isinstance(outputs, dict) else [outputs]
    return [np.asarray(keras.ops.convert_to_numpy(leaf)) for leaf in leaves]


def called(model: Any, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of an imported model, which has the inputs that the graph has kept."""
    tensors = [keras.ops.convert_to_tensor(given[x.name]) for x in model.inputs]
    return arrays_in_order(compat.inference(model)(tensors[0] if len(tensors) == 1 else tensors))


def close(got: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> float:
    """The largest relative difference, which is within the tolerance."""
    assert got.shape == wanted.shape
    if not np.issubdtype(wanted.dtype, np.inexact):
        np.testing.assert_array_equal(got, wanted)
        return 0.0
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)
    wanted = np.nan_to_num(wanted)
    return float(
        np.abs(np.nan_to_num(got) - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-30)
    )


def layer_row(case: table.LayerCase, path: Path) -> dict[str, Any]:
    """A row of ``cases/layers``, there and back."""
    model = built(case)
    states = states_of(model)
    signature = [signature_of(case)] if case.model else None
    interop.export_onnx(model, path, input_signature=signature, opset=case.opset, verify=False)
    back = interop.import_onnx(path)
    errors = []
    own = states_of(back)
    for size in (0, 1):
        arrays = arrays_of(case, size)
        for variable, value in (*states, *own):
            variable.assign(value)
        given = {f"x{i}": array for i, array in enumerate(arrays)}
        if keras.backend.backend() in case.backends:
            wanted = reference(model, case, arrays)
        else:  # its own eager layer does not work on these inputs
            wanted = session_of(ir.load(path)).run(None, given)
        if case.direct and keras.backend.backend() in case.backends:
            got = reference(back, case, arrays)  # strings are no tensors on every backend
        elif case.direct or keras.backend.backend() not in case.backends:
            interop.export_onnx(back, path.with_stem("back"), verify=False)
            got = session_of(ir.load(path.with_stem("back"))).run(None, given)
        else:
            got = called(back, given)
        assert len(got) == len(wanted)
        errors += [close(a, b, case.rtol, case.atol) for a, b in zip(got, wanted, strict=True)]
    return {**compared_classes(model, back), "max_rel": max(errors)}


def application_row(application: Application, path: Path) -> dict[str, Any]:
    """A model of ``keras.applications``, there and back."""
    model, batches = application.build()
    interop.export_onnx(model, path, verify=False)
    back = interop.import_onnx(path)
    errors = []
    for batch in batches:
        (wanted,) = arrays_in_order(compat.inference(model)(keras.ops.convert_to_tensor(batch)))
        (got,) = called(back, {back.inputs[0].name: batch})
        errors.append(close(got, wanted, 1e-3, 1e-4 * float(np.abs(wanted).max())))
    return {**compared_classes(model, back), "max_rel": max(errors)}


def _rows() -> list[Any]:
    mark = pytest.mark.full
    rows = [pytest.param(name, id=name, marks=() if name in QUICK else mark) for name in CASES]
    return rows + [pytest.param(row, id=f"applications.{row.name}", marks=mark) for row in applications()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", _rows())
def test_round_trip(row: str | Application, tmp_path: Path, record_property: Any) -> None:
    path = tmp_path / "model.onnx"
    facts = application_row(row, path) if isinstance(row, Application) else layer_row(CASES[row], path)
    for key, fact in facts.items():
        record_property(key, fact)
    if row in QUICK:
        assert facts["classes"] == "same", facts
