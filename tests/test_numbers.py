"""Python numbers, lists and arrays as arguments of operations: tensors by the time a model runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop

ops = keras.ops
LIST = [0.1, 0.2, 0.3, 0.4]


def whole(x):
    return ops.cast(x * 5, "int32")


CASES = {
    "add a list": lambda x: ops.add(x, LIST),
    "a list less": lambda x: ops.subtract(LIST, x),
    "multiply by a tuple": lambda x: ops.multiply(x, (1, 2, 3, 4)),
    "divide by integers": lambda x: ops.divide(x, [1, 2, 3, 4]),
    "maximum": lambda x: ops.maximum(x, LIST),
    "matmul": lambda x: ops.matmul(x, [[0.5], [1.0], [2.0], [3.0]]),
    "dot": lambda x: ops.dot(x, LIST),
    "append": lambda x: ops.append(x, LIST),
    "hypot": lambda x: ops.hypot(x, 0.5),
    "hypot of an integer": lambda x: ops.hypot(2, x),
    "hypot of integers": lambda x: ops.hypot(whole(x), 0.5),
    "heaviside": lambda x: ops.heaviside(x - 0.3, 0.5) + x,
    "bitwise and": lambda x: ops.bitwise_and(whole(x), 3),
    "bitwise or": lambda x: ops.bitwise_or(4, whole(x)),
    "bitwise xor": lambda x: ops.bitwise_xor(whole(x), [1, 2, 3, 4]),
    "shifted number": lambda x: ops.left_shift(1, ops.abs(whole(x))),
    "is in": lambda x: ops.cast(ops.isin(2, whole(x)), "float32") + x,
    "full like an array": lambda x: ops.full_like(np.ones((3,), "float32"), ops.mean(x)) + x[:, :1],
    "top k": lambda x: ops.top_k(x, 2),
    "digitize": lambda x: ops.digitize(x, LIST),
}


class Run(keras.Model):
    """A model of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_numbers(case, tmp_path):
    model = Run(case)
    model(np.ones((2, 4), "float32"))
    interop.export_onnx(model, tmp_path / "m.onnx", input_signature=[(None, 4)])
    x = np.random.default_rng(0).uniform(-1, 1, (5, 4)).astype("float32")
    expected = keras.tree.flatten(keras.tree.map_structure(keras.ops.convert_to_numpy, model(x)))
    found = keras.tree.flatten(interop.load_graph(tmp_path / "m.onnx")(x))
    assert [f.dtype.name for f in found if f.dtype.kind != "i"] == [
        e.dtype.name for e in expected if e.dtype.kind != "i"
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
