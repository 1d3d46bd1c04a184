"""What a model takes and returns keeps its structure through every door that opens a graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import layers, ops

import interop
from interop.artifact.signature import flatten
from interop.errors import CaptureError, SignatureError


class Addition(layers.Layer):
    """``x``, with ``extra`` added if it is given."""

    def call(self, x: Any, extra: Any = None) -> Any:
        return x if extra is None else x + extra

    def compute_output_spec(self, x: Any, extra: Any = None) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


class Gaps(keras.Model):
    """Returns a structure with a place that holds nothing, and a tensor without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        y = self.dense(inputs["x"]) + inputs["more"][0]
        return {"y": (y, None, [ops.tanh(y)]), "loss": ops.mean(y)}


def optional(nest: Callable[[Any, Any], Any]) -> keras.Model:
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b", optional=True)
    return keras.Model(nest(a, b), Addition()(layers.Dense(3)(a), b))


def nested() -> keras.Model:
    a, b, c = (keras.Input((size,), name=name) for size, name in ((3, "a"), (4, "b"), (2, "c")))
    outputs = [layers.Dense(2)(a), {"s": (layers.Dense(3)(b), layers.Dense(1)(c))}]
    return keras.Model({"p": [a, {"q": b}], "r": (c,)}, outputs)


def scalars() -> keras.Model:
    x = keras.Input((3,))
    y = layers.Dense(2)(x)
    return keras.Model(x, {"total": ops.sum(y), "per_unit": ops.mean(y, axis=0), "y": y})


def of_one() -> keras.Model:
    x = keras.Input((3,))
    return keras.Model([x], [layers.Dense(2)(x)])


def gaps() -> keras.Model:
    model = Gaps()
    model({"x": np.ones((2, 3), "float32"), "more": [np.ones((2, 3), "float32")]})
    return model


def f(rows: int, size: int) -> np.ndarray:
    return np.random.default_rng(rows + size).standard_normal((rows, size)).astype("float32")


class Row(NamedTuple):
    """A model, its inputs for a batch size, and the signature it is captured with."""

    build: Callable[[], keras.Model]
    inputs: Callable[[int], Any]
    signature: Any = None


ROWS = {
    "nested": Row(nested, lambda n: {"p": [f(n, 3), {"q": f(n, 4)}], "r": (f(n, 2),)}),
    "scalars": Row(scalars, lambda n: f(n, 3)),
    "of_one": Row(of_one, lambda n: [f(n, 3)]),
    "gaps": Row(gaps, lambda n: {"x": f(n, 3), "more": [f(n, 3)]}),
    "optional_given": Row(
        lambda: optional(lambda a, b: {"a": a, "b": b}), lambda n: {"a": f(n, 3), "b": f(n, 3)}
    ),
    "optional_left_out": Row(
        lambda: optional(lambda a, b: {"a": a, "b": b}),
        lambda n: {"a": f(n, 3), "b": None},
        {"a": (None, 3), "b": None},
    ),
    "optional_of_a_list": Row(
        lambda: optional(lambda a, b: [a, b]), lambda n: [f(n, 3), None], [(None, 3), None]
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_structure_is_kept(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    model = row.build()
    interop.save_model(model, tmp_path / "m.interop", input_signature=row.signature)
    interop.export_onnx(model, tmp_path / "m.onnx", input_signature=row.signature)
    report = interop.verify(model, tmp_path / "m.interop")
    assert not report.disagrees, report
    graph, plain = interop.load_graph(tmp_path / "m.interop"), interop.load_graph(tmp_path / "m.onnx")
    assert [spec.name for spec in plain.inputs] == [spec.name for spec in graph.inputs]
    assert [spec.name for spec in plain.outputs] == [spec.name for spec in graph.outputs]
    for size in (2, 5):
        inputs = row.inputs(size)
        wanted, got = model(inputs), graph(inputs)
        keras.tree.assert_same_structure(wanted, got)
        structures = graph.signature.input_structure, graph.signature.output_structure
        given, theirs, ours = (
            [array for _, array in sorted(flatten(structure, value).items())]
            for structure, value in zip((*structures, structures[1]), (inputs, wanted, got), strict=True)
        )
        bare = plain(*given)
        for tensor, *arrays in zip(
            theirs, ours, bare if isinstance(bare, list | tuple) else [bare], strict=True
        ):
            array = keras.ops.convert_to_numpy(tensor)
            for found in arrays:
                assert found.shape == array.shape
                np.testing.assert_allclose(found, array, rtol=1e-5, atol=1e-6)


def test_a_tensor_that_was_left_out_cannot_be_given_and_the_other_way_round(tmp_path: Path) -> None:
    model = optional(lambda a, b: {"a": a, "b": b})
    interop.save_model(model, tmp_path / "without.interop", input_signature={"a": (None, 3), "b": None})
    interop.save_model(model, tmp_path / "with.interop")
    without, both = (interop.load_graph(tmp_path / f"{name}.interop") for name in ("without", "with"))
    np.testing.assert_array_equal(without({"a": f(2, 3)}), without({"a": f(2, 3), "b": None}))
    with pytest.raises(SignatureError, match="expected None: the graph has no tensor there"):
        without({"a": f(2, 3), "b": f(2, 3)})
    with pytest.raises(SignatureError, match="is None; the graph was captured with a tensor there"):
        both({"a": f(2, 3), "b": None})
    with pytest.raises(CaptureError, match="None in every place"):
        interop.save_model(model, tmp_path / "nothing", input_signature={"a": None, "b": None})
