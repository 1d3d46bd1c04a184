"""Weights in another order, or times a factor, are written as NumPy has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from interop.graph import arranged, file

pytestmark = pytest.mark.framework("torch")

# (shape in memory, order of the axes that is written)
LAYOUTS = {
    "dense": ((40, 70), (1, 0)),
    "convolution": ((3, 3, 20, 70), (3, 2, 0, 1)),
    "one cell": ((1, 1, 70, 40), (3, 2, 0, 1)),
    "depthwise": ((5, 5, 40, 1), (2, 3, 0, 1)),
    "three axes of cells": ((2, 3, 2, 9, 33), (4, 3, 0, 1, 2)),
    "rows stay whole": ((9, 5, 64), (1, 0, 2)),
    "one row": ((70, 50, 1), (2, 1, 0)),
}


@pytest.mark.parametrize("factor", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16, "float64"], ids=str)
@pytest.mark.parametrize(("shape", "order"), LAYOUTS.values(), ids=LAYOUTS)
def test_what_is_written(
    shape: tuple[int, ...],
    order: tuple[int, ...],
    dtype: Any,
    factor: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arranged, "BLOCK_BYTES", 1000)  # several blocks, whose last is shorter
    monkeypatch.setattr(file, "_LARGE_BYTES", 0)
    generator = np.random.default_rng(0)
    weight = generator.normal(size=shape).astype(dtype).transpose(order)
    scale = generator.normal(size=(weight.shape[0], *(1,) * (weight.ndim - 1))).astype(dtype)
    wanted = weight * scale if factor else weight
    first = arranged.ScaledTensor(weight, scale, "first") if factor else ir.Tensor(weight, name="first")
    tensors = [first, ir.Tensor(np.arange(5), name="between"), ir.Tensor(weight, name="last")]
    values = [
        ir.Value(name=t.name, type=ir.TensorType(t.dtype), shape=t.shape, const_value=t) for t in tensors
    ]
    graph = ir.Graph([], [], nodes=[], initializers=values, opset_imports={"": 20}, name="g")
    file.write_file(ir.Model(graph, ir_version=9), tmp_path / "m.onnx")
    found = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert found["first"].dtype == wanted.dtype
    np.testing.assert_array_equal(found["first"], wanted)
    np.testing.assert_array_equal(found["between"], np.arange(5))
    np.testing.assert_array_equal(found["last"], weight)
