"""Flat graphs as they are written, before any pass: Transposes between layers that undo each other are not there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from keras import layers, ops

import interop
from interop.capture.keras import capture
from interop.capture.keras.compat import flatten
from interop.capture.keras.compat.values import mapping_plainly, telling_at_once


def written(model: keras.Model) -> Counter[str]:
    proto = ir.to_proto(capture(model).flat())
    onnx.checker.check_model(proto, full_check=True)
    return Counter(node.op_type for node in proto.graph.node)


def checked(model: keras.Model, path: Path) -> None:
    """What is written, and what the passes make of it, agree with the model at two sizes of every dynamic axis."""
    path = path / "model.onnx"
    interop.export_onnx(model, path, verify=False)
    report = interop.verify(model, path)
    assert report.passed, str(report)


def test_between_convolutions() -> None:
    """One kernel's Transpose for each, one into the first, one out of the last."""
    x = keras.Input((None, None, 3))
    y = x
    for _ in range(3):
        y = layers.Conv2D(4, 3, use_bias=False)(y)
    assert written(keras.Model(x, y)) == {"Conv": 3, "Transpose": 3 + 2}


def twice(x: Any) -> Any:
    return layers.Permute((2, 1))(layers.Permute((2, 1))(x))


def outputs(x: Any) -> Any:
    y = layers.Dense(4)(x)
    return [twice(y), twice(twice(y)), twice(x), layers.Permute((2, 1))(y), y]


def between(x: Any) -> Any:
    """The turned value is used as well."""
    turned = layers.Permute((2, 1))(layers.Dense(4)(x))
    return layers.Dense(2)(layers.Permute((2, 1))(turned)) + ops.sum(turned, axis=(1, 2), keepdims=True)


def others(x: Any) -> Any:
    """Three axes in turn are where they were after three times, not after two."""
    y = layers.Dense(4)(x)[:, None]
    for _ in range(3):
        y = layers.Permute((2, 3, 1))(y)
    return layers.Dense(2)(y)


class Branching(layers.Layer):
    def call(self, x: Any) -> Any:
        turned = ops.transpose(x, (0, 2, 1))

        def back() -> Any:
            return ops.transpose(turned, (0, 2, 1))

        return ops.cond(ops.sum(x) > 0, back, lambda: back() * 2)


@pytest.mark.parametrize("make", [outputs, between, others, lambda x: Branching()(layers.Dense(4)(x))])
def test_what_is_undone_is_the_same(make: Any, tmp_path: Path) -> None:
    x = keras.Input((5, 3))
    checked(keras.Model(x, make(x)), tmp_path)


STRUCTURES: list[Any] = [
    None,
    1,
    "a",
    (),
    [],
    {},
    (1, None, 2.5),
    [True, "b"],
    {"b": 1, "a": 2},
    {"b": [1, {"c": 2}], "a": (3,)},
    [(1, [2]), {"z": None}],
    np.arange(3),
    (np.arange(3), 1),
    keras.KerasTensor((2, 3)),
    {"x": keras.KerasTensor((2, 3)), "training": None},
]


@pytest.mark.parametrize("structure", STRUCTURES, ids=map(str, range(len(STRUCTURES))))
def test_structures_are_mapped_as_keras_maps_them(structure: Any) -> None:
    def named(leaf: Any) -> str:
        return f"{type(leaf).__name__} {leaf}"

    plainly = mapping_plainly(keras.tree.map_structure)
    wanted, got = keras.tree.map_structure(named, structure), plainly(named, structure)
    assert got == wanted
    assert type(got) is type(wanted)
    assert flatten(got) == flatten(wanted)
    if isinstance(structure, dict):
        assert list(got) == list(wanted)
    pairs = plainly(lambda a, b: (named(a), named(b)), structure, structure)
    assert flatten(pairs) == [name for leaf in flatten(wanted) for name in (leaf, leaf)]


def test_keras_has_its_own_mapping_back(tmp_path: Path) -> None:
    from keras.src import tree
    from keras.src.models import functional

    before = tree.map_structure
    x = keras.Input((3,))
    interop.export_onnx(keras.Model(x, layers.Dense(2)(x)), tmp_path / "model.onnx", verify=False)
    assert tree.map_structure is before
    assert functional.tree is tree


def test_what_is_a_tensor_is_what_keras_says() -> None:
    is_tensor = keras.src.backend.is_tensor
    layer = layers.Dense(2)
    layer.build((None, 3))
    one = ops.ones((2,))
    for x in (
        *(one, np.ones(2), 1.0, None, "one", [one], (one,), {"one": one}, keras.Input((2,)), layer),
        *(
            *layer.variables,
            layer.kernel.value,
            layer.dtype_policy,
            layer.kernel_initializer,
            keras.KerasTensor((2,)),
        ),
        *(
            keras.losses.MeanSquaredError(),
            keras.optimizers.Adam(),
            keras.random.SeedGenerator(1),
            layers.Dense,
        ),
    ):
        assert telling_at_once(is_tensor)(x) == is_tensor(x), x
    assert telling_at_once(is_tensor)(one)
    capture(keras.Sequential([keras.Input((3,)), layer]))
    assert keras.src.backend.is_tensor is is_tensor
