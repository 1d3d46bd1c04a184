"""Branches and loops whose conditions depend on the values of a model's inputs, imported and in revived layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers, ops
from onnx import TensorProto, helper, numpy_helper

import interop
from interop import onnx_backend
from interop.errors import GraphError

node = helper.make_node
FLOAT, BOOL, INT = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


def value(name: str, kind: int = FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes: list[onnx.NodeProto], outputs: list[Any], **weights: Any) -> onnx.ModelProto:
    """One input x (n, 4); `total` is the sum of it and `positive` whether that is above zero."""
    first = [
        node("ReduceSum", ["x"], ["total"], keepdims=0),
        node("Greater", ["total", "zero"], ["positive"]),
    ]
    weights = {"zero": np.float32(0), "w": np.eye(4, dtype="float32") * 0.7, **weights}
    made = helper.make_graph(
        [*first, *nodes],
        "graph",
        [value("x", shape=("n", 4))],
        outputs,
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def body(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[str]) -> onnx.GraphProto:
    known = {"more": value("more", BOOL, ())}
    return helper.make_graph(nodes, "body", inputs, [known.get(name, value(name)) for name in outputs])


#: The state is doubled, and goes on while its largest element is below 9.
DOUBLED = body(
    [
        node("Add", ["state", "state"], ["next"]),
        node("ReduceMax", ["next"], ["most"], keepdims=0),
        node("Less", ["most", "nine"], ["more"]),
    ],
    [value("i", INT, ()), value("going", BOOL, ()), value("state")],
    ["more", "next"],
)
NINE = {"nine": np.float32(9)}
BRANCHES = {
    "then_branch": body([node("MatMul", ["x", "w"], ["a"])], [], ["a"]),
    "else_branch": body([node("Neg", ["x"], ["n"]), node("Exp", ["n"], ["b"])], [], ["b"]),
}
Y = [value("y", shape=("n", 4))]
OPEN = {
    "if": model([node("If", ["positive"], ["y"], **BRANCHES)], Y),
    "loop": model([node("Loop", ["six", "positive", "x"], ["y"], body=DOUBLED)], Y, six=np.array(6), **NINE),
    "loop that starts": model(
        [node("Loop", ["six", "", "x"], ["y"], body=DOUBLED)], Y, six=np.array([6]), **NINE
    ),
    "nested": model(
        [
            node(
                "If",
                ["positive"],
                ["y"],
                then_branch=body(
                    [node("Loop", ["six", "", "x"], ["l"], body=DOUBLED), node("MatMul", ["l", "w"], ["a"])],
                    [],
                    ["a"],
                ),
                else_branch=BRANCHES["else_branch"],
            )
        ],
        Y,
        six=np.array(6),
        **NINE,
    ),
}


def batches() -> list[np.ndarray]:
    """Sums above and below zero, of several sizes of a batch."""
    rng = np.random.default_rng(0)
    small = rng.random((3, 4), dtype="float32")
    return [small + 0.5, -small, 5 * small[:2], small[:1] * 0.01]


@pytest.mark.parametrize("name", OPEN)
def test_an_open_condition_runs_saves_and_trains(name: str, tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(OPEN[name].SerializeToString())
    made = interop.import_onnx(OPEN[name])
    made.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    backend = onnx_backend.prepare(OPEN[name])
    for x in batches():
        (wanted,) = session.run(None, {"x": x})
        for got in (made(x), made.predict(x, verbose=0), again(x), backend.run([x])[0]):
            np.testing.assert_allclose(ops.convert_to_numpy(got), wanted, rtol=1e-5, atol=1e-6)
    if made.trainable_weights:
        made.compile("sgd", "mse")
        x = batches()[0]
        losses = made.fit(x, np.zeros_like(x), epochs=3, verbose=0, batch_size=3).history["loss"]
        assert losses[2] < losses[0]


STEP = body(
    [node("Neg", ["state"], ["next"]), node("Identity", ["going"], ["more"])],
    list(DOUBLED.input),
    ["more", "next"],
)
REFUSED = {
    "branches of two shapes": (
        model(
            [
                node(
                    "If",
                    ["positive"],
                    ["y"],
                    "one",
                    then_branch=BRANCHES["then_branch"],
                    else_branch=body([node("ReduceSum", ["x"], ["b"])], [], ["b"]),
                )
            ],
            [value("y")],
        ),
        r"'one'.*output 'a' is float32\(n, 4\) or float32\(1, 1\)",
    ),
    "no limit": (
        model([node("Loop", ["", "positive", "x"], ["y"], "one", body=DOUBLED)], Y, **NINE),
        "'one'.*without a limit",
    ),
    "a high limit": (
        model(
            [node("Loop", ["many", "positive", "x"], ["y"], "one", body=DOUBLED)],
            Y,
            many=np.array(999),
            **NINE,
        ),
        "'one'.*up to 999 times.*at most 256",
    ),
    "an open limit": (
        model(
            [node("Cast", ["total"], ["m"], to=INT), node("Loop", ["m", "", "x"], ["y"], "one", body=STEP)], Y
        ),
        "'one'.*runs as often as the values",
    ),
    "collected": (
        model(
            [node("Loop", ["six", "positive", "x"], ["last", "y"], "one", body=collecting)]
            if (
                collecting := helper.make_graph(
                    [*DOUBLED.node, node("Neg", ["next"], ["out"])],
                    "body",
                    DOUBLED.input,
                    [*DOUBLED.output, value("out")],
                )
            )
            else [],
            [value("y")],
            six=np.array(6),
            **NINE,
        ),
        "'one'.*collects what its iterations give",
    ),
    "a body that does not fit": (
        model(
            [node("Loop", ["six", "", "x", "x"], ["y", "z"], "one", body=DOUBLED)],
            [*Y, value("z")],
            six=np.array(6),
            **NINE,
        ),
        "'one'.*carries 2 values, and its body has 3 inputs",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_tensor_of_keras_holds_is_refused_by_name(name: str) -> None:
    graph, message = REFUSED[name]
    with pytest.raises(GraphError, match=message):
        interop.import_onnx(graph)


class Steered(layers.Layer):
    """A branch, and a loop that runs as long as its input says, beside weights from outside."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense = layers.Dense(4, name="dense")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        total = ops.sum(x)
        h = ops.cond(total > 0, lambda: self.dense(x), lambda: ops.exp(x) + total)
        (h,) = ops.while_loop(lambda h: ops.max(h) < 9, lambda h: (h + ops.abs(h) + 1,), (h,))
        return ops.fori_loop(0, ops.cast(ops.abs(total), "int32"), lambda i, s: s + 0.5, h)


def test_a_lost_layer_that_branches_and_loops_predicts_the_same(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    original = keras.Model(inputs, Steered(name="steered")(inputs))
    interop.save_model(original, tmp_path / "model.artifact")
    with pytest.warns(UserWarning, match="Steered"):
        revived = interop.load_model(tmp_path / "model.artifact")
    assert type(revived.get_layer("steered")).__name__ == "RevivedLayer"
    for x in batches():
        wanted = original.predict(x, verbose=0)
        for got in (revived(x), revived.predict(x, verbose=0)):
            np.testing.assert_allclose(ops.convert_to_numpy(got), wanted, rtol=1e-5, atol=1e-5)
