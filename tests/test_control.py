"""Loops and branches with layers inside: in functions and flat, with every weight under its own key."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from keras import layers, ops

from interop.capture.keras import capture
from interop.errors import CaptureError
from interop.graph.passes import inlined, optimized


class Mixed(layers.Layer):
    """Calls one layer in a loop, a branch and a map, beside values from outside."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense = layers.Dense(4, name="dense")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        total = ops.sum(x)

        def step(number: Any, state: Any) -> Any:
            shift = ops.cond(total > 1, lambda: total, lambda: self.dense.bias[0])
            return ops.tanh(self.dense(state)) + ops.cast(number, "float32") + ops.tanh(shift)

        rows = ops.map(lambda row: self.dense(row) + total, x)
        return ops.fori_loop(0, 3, step, x) + rows


class Looping(keras.Model):
    """A scan and a branch at the top, whose bodies hold layers that hold loops."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layers.Dense(4, name="first"), layers.Dense(4, name="second")
        self.inner = Mixed(name="inner")

    def call(self, x: Any) -> Any:
        h = self.first(x)

        def step(carry: Any, now: Any) -> Any:
            new = ops.tanh(self.second(carry) + now + h[0, 0])
            return new, new * 2

        last, steps = ops.scan(step, ops.zeros_like(x[:, 0]), ops.transpose(h, (1, 0, 2)))
        steps = ops.transpose(steps, (1, 0, 2))
        return ops.cond(
            ops.sum(x) > 0, lambda: self.inner(self.inner(steps)), lambda: self.second(steps)
        ), last


@pytest.fixture(scope="module")
def model() -> Looping:
    made = Looping()
    made(np.ones((2, 3, 4), "float32"))
    rng = np.random.default_rng(0)
    for weight in made.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    return made


@pytest.mark.parametrize("form", ["flat", "functions", "inlined", "optimized"])
@pytest.mark.parametrize("opset", [17, 20, 23])
def test_layers_in_bodies(model: Looping, form: str, opset: int) -> None:
    captured = capture(model, input_signature=[("b", "t", 4)], opset=opset)
    graph = captured.flat() if form in ("flat", "optimized") else captured.with_functions()
    graph = inlined(graph) if form == "inlined" else optimized(graph) if form == "optimized" else graph
    if form in ("flat", "functions"):
        assert set(graph.graph.initializers) == {record.key for record in captured.variables}
    data = ir.serde.serialize_model(graph).SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    for shape, sign in (((2, 3, 4), 1), ((5, 7, 4), -1)):
        x = (sign * np.abs(rng.normal(size=shape))).astype("float32")
        wanted = [ops.convert_to_numpy(y) for y in model(x)]
        for got, want in zip(session.run(None, {session.get_inputs()[0].name: x}), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_a_layer_in_a_body_is_called_by_name(model: Looping) -> None:
    captured = capture(model, input_signature=[("b", "t", 4)])
    calls = {node.name for node in captured.with_functions().graph.all_nodes()}
    found = {record.path: record for record in captured.layers}
    assert found["second"].functions == ("Dense",)
    assert found["inner"].calls == ("inner#0", "inner#1")
    assert {"second#0", "second#1", "inner#0", "inner#1"} <= calls
    assert len(found["inner"].functions) == 1


class Through(keras.Model):
    """A model that is one function of its input."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, x: Any) -> Any:
        return self.function(self, x)


def _leaking(model: Any, x: Any) -> Any:
    kept: list[Any] = []
    ops.fori_loop(0, 2, lambda i, s: kept.append(s * 2) or s + 1, x)
    return kept[0]


def _assigning(model: Any, x: Any) -> Any:
    def step(number: Any, state: Any) -> Any:
        model.count.assign(model.count + 1)
        return state + model.count

    return ops.fori_loop(0, 2, step, x)


def _growing(model: Any, x: Any) -> Any:
    return ops.fori_loop(0, 2, lambda i, s: ops.concatenate([s, s], 1), x)


def _differing(model: Any, x: Any) -> Any:
    return ops.cond(ops.sum(x) > 0, lambda: x, lambda: x[:, :1])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_leaking, "used outside of it"),
        (_assigning, "assigns a variable inside the body"),
        (_growing, "must keep its shape"),
        (_differing, "a branch|keep its shape"),
    ],
)
def test_what_a_body_cannot_do(function: Any, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        capture(Through(function), input_signature=[("b", 4)])
