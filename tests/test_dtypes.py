"""Layers under every dtype policy against Keras itself under the same policy, both forms of the graph.

Every run checks a choice of rows; ``--full`` checks every row of ``tests/cases/layers`` under every policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import test_layers as rows
from cases import layers as table
from onnx.reference import ReferenceEvaluator

from interop.capture.keras import capture
from interop.errors import ArtifactError
from interop.loading import load_graph
from interop.parity.tolerance import tolerance_for

POLICIES = ("mixed_float16", "float16", "mixed_bfloat16", "bfloat16", "float64")

#: What every run checks: the operators that policies are used for, and each way a graph is made.
CHOSEN = {
    "Activation", "Dense", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "LayerNormalization",
    "GroupNormalization", "LSTM-mask", "GRU", "RNN", "Bidirectional-concat", "MultiHeadAttention", "Embedding",
    "AveragePooling2D", "GlobalMaxPooling2D", "Softmax", "Resizing", "Normalization", "Add",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _policies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights are drawn in float32: PyTorch and JAX have no QR decomposition in half types."""
    draw = keras.initializers.Orthogonal.__call__
    monkeypatch.setattr(
        keras.initializers.Orthogonal,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.cast(draw(self, shape, "float32"), dtype or "float32"),
    )
    yield
    keras.config.set_dtype_policy("float32")


def _cases() -> Iterator[Any]:
    for policy in POLICIES:
        for case in rows.CASES:
            marks = () if case.id in CHOSEN else (pytest.mark.full,)
            yield pytest.param(case, policy, id=f"{case.id}-{policy}", marks=marks)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask attached")
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")
@pytest.mark.parametrize(("case", "policy"), _cases())
def test_layer(case: table.LayerCase, policy: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy(policy)
    model = rows.built(case)
    states = rows.states_of(model)
    signature = [rows.signature_of(case)] if case.model else None
    captured = capture(model, input_signature=signature, opset=case.opset)
    graphs = {"flat": captured.flat(), "functions": captured.with_functions()}
    for name, graph in graphs.items():
        ir.save(graph, tmp_path / f"{name}.onnx")
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
    runs = [load_graph(tmp_path / f"{name}.onnx") for name in graphs]
    for size in (0, 1):
        arrays = rows.arrays_of(case, size)
        feed = {f"x{i}": array for i, array in enumerate(arrays)}
        got = [run.run({spec.name: feed[spec.name] for spec in run.inputs}) for run in runs]
        if keras.backend.backend() not in case.backends:
            continue
        for variable, value in states:
            variable.assign(value)
        wanted = rows.reference(model, case, arrays)
        for outputs in got:
            _compare(outputs, wanted, policy)


def _compare(got: list[np.ndarray], wanted: list[np.ndarray], policy: str) -> None:
    assert [a.dtype.name for a in got] == [a.dtype.name for a in wanted]
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.shape == theirs.shape
        if ours.dtype.kind in "fV":
            tolerance = tolerance_for(ours.dtype.name, computed_in=frozenset({policy.removeprefix("mixed_")}))
            np.testing.assert_allclose(
                ours.astype("float64"), theirs.astype("float64"), rtol=tolerance.rtol, atol=tolerance.atol
            )
        else:
            np.testing.assert_array_equal(ours, theirs)
