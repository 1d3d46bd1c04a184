"""Sizes that reach keras.ops as tensors, by table: each is exported with batch and time open, and run at two of each.

Oracle: the Keras model itself. Rows name the backends on which Keras takes such a size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import interop
from interop.errors import UnsupportedOp

ops = keras.ops
EVERY = ("jax", "tensorflow", "torch")


@dataclass(frozen=True)
class Row:
    name: str
    compute: Callable[[Any], Any]
    backends: tuple[str, ...] = EVERY


def _both(x: Any) -> Any:
    return ops.shape(x)[0] * ops.shape(x)[1]


def _causal(x: Any) -> Any:
    """The mask of a decoder, repeated over the batch by a concatenated vector of counts."""
    steps = ops.shape(x)[1]
    seen = ops.cast(ops.arange(steps)[:, None] >= ops.arange(steps), x.dtype)
    one = ops.convert_to_tensor([1, 1])
    counts = ops.concatenate([ops.expand_dims(ops.shape(x)[0], -1), one], 0)
    return ops.matmul(ops.tile(seen[None], counts), x)


ROWS = [
    Row("tile_concatenated", _causal, ("tensorflow", "torch")),
    Row(
        "tile_stacked", lambda x: ops.tile(x[:1], ops.stack([ops.shape(x)[0], 1, 1])), ("tensorflow", "torch")
    ),
    Row("reshape_stacked", lambda x: ops.reshape(x, ops.stack([ops.shape(x)[0], -1])), ("tensorflow",)),
    Row("reshape_one_size", lambda x: ops.reshape(x, (ops.convert_to_tensor(_both(x)), 4)), ("tensorflow",)),
    Row(
        "reshape_halved",
        lambda x: ops.reshape(ops.concatenate([x, x], 1), (-1, ops.shape(x)[1], 2 * ops.shape(x)[2] // 2)),
    ),
    Row(
        "reshape_quotient",
        lambda x: ops.reshape(
            ops.concatenate([x, x], 1),
            ops.stack([ops.shape(x)[0], ops.floor_divide(ops.convert_to_tensor(ops.shape(x)[1]) * 2, 2), -1]),
        ),
        ("tensorflow",),
    ),
    Row(
        "broadcast_shape",
        lambda x: ops.broadcast_to(x[:1], ops.convert_to_tensor(ops.shape(x))),
        ("tensorflow",),
    ),
    Row("zeros_stacked", lambda x: x + ops.zeros(ops.stack([ops.shape(x)[0], 1, 1])), ("tensorflow",)),
    Row("slice_stacked", lambda x: ops.slice(x, [0, 1, 0], ops.stack([ops.shape(x)[0], 2, 3])), EVERY),
    Row("prod_of_sizes", lambda x: x * ops.cast(ops.prod(ops.convert_to_tensor(ops.shape(x)[1:])), x.dtype)),
    Row(
        "one_hot_depth",
        lambda x: ops.matmul(ops.one_hot(ops.arange(ops.shape(x)[1]), ops.shape(x)[1])[None], x),
    ),
    Row("numpy_scalar", lambda x: np.float64(3.0) * x / np.sqrt(x.shape[-1]) - np.float64(0.5) ** x),
]


class Computed(keras.Layer):
    def __init__(self, compute: Callable[[Any], Any]) -> None:
        super().__init__()
        self.compute = compute

    def call(self, x: Any) -> Any:
        return self.compute(x)


class Holder(keras.Model):
    """Calls its layer on tensors only, never on Keras' symbolic ones."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        super().__init__()
        self.computed = Computed(compute)

    def call(self, x: Any) -> Any:
        return self.computed(x)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if keras.backend.backend() in row.backends], ids=lambda row: row.name
)
def test_a_size_as_a_tensor_stays_open(row: Row, tmp_path: Path) -> None:
    model = Holder(row.compute)
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=shape).astype("float32") for shape in [(2, 5, 4), (3, 6, 4)]]
    wanted = [keras.ops.convert_to_numpy(model(x)) for x in batches]
    spec = keras.InputSpec(shape=(None, None, 4), dtype="float32")
    interop.export_onnx(model, tmp_path / "m.onnx", input_signature=[spec])
    graph = interop.load_graph(tmp_path / "m.onnx")
    for x, want in zip(batches, wanted, strict=True):
        got = graph(x)
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.framework("tensorflow")
def test_a_size_that_depends_on_values_is_an_error_naming_the_layer(tmp_path: Path) -> None:
    model = Holder(lambda x: ops.tile(x, ops.stack([1, ops.cast(ops.max(x), "int32"), 1])))
    model(np.ones((2, 3, 4), "float32"))
    with pytest.raises(UnsupportedOp, match=r"'computed' gives Tile a size .* depends on values"):
        interop.export_onnx(model, tmp_path / "m.onnx", input_signature=[keras.InputSpec(shape=(None, 3, 4))])
