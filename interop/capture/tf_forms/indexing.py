"""Places and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras.emit import Emit
from interop.capture.tf_forms.registry import Operation, form, keras_form, known
from interop.graph.record import Value


@form("Cross")
def _cross(e: Emit, node: Operation, a: Value, b: Value) -> Value:
    def turned(x: Value, by: int) -> Value:
        return e.node("Gather", x, np.roll(np.arange(3), by), shape=x.shape, axis=-1)

    left = e.binary("Mul", turned(a, -1), turned(b, 1))
    return e.binary("Sub", left, e.binary("Mul", turned(a, 1), turned(b, -1)))


@form("InTopKV2", "InTopK")
def _in_top_k(e: Emit, node: Operation, predictions: Value, targets: Value, *k: Value) -> Any:
    count = int(known(k[0], "k of tf.math.in_top_k")) if k else node.get("k")
    return keras_form(e, "InTopK", targets, predictions, k=count)


def _counted(e: Emit, op_type: str, edges: Value, values: Value, dtype: str) -> Value:
    before = e.cast(e.node(op_type, edges, values, dtype="bool"), "int32")
    return e.cast(e.node("ReduceSum", before, [-1], keepdims=0), dtype)


@form("LowerBound", "UpperBound")
def _bound(e: Emit, node: Operation, edges: Value, values: Value) -> Value:
    """How many of a row's edges lie before each value of that row."""
    op_type = "Less" if node.node.op_type == "LowerBound" else "LessOrEqual"
    edges, values = e.node("Unsqueeze", edges, [1]), e.node("Unsqueeze", values, [2])
    return _counted(e, op_type, edges, values, node.dtypes[0])


@form("Bucketize")
def _bucketize(e: Emit, node: Operation, x: Value) -> Value:
    edges = e.constant(np.asarray(list(node.get("boundaries", ())), "float32"))
    x = e.node("Unsqueeze", e.cast(x, "float32"), [-1])
    return _counted(e, "LessOrEqual", edges, x, node.dtypes[0])


@form("ShapeN")
def _shapes(e: Emit, node: Operation, *tensors: Value) -> list[Value]:
    return [
        e.cast(e.node("Shape", x, dtype="int64"), dtype)
        for x, dtype in zip(tensors, node.dtypes, strict=True)
    ]


@form("UnravelIndex")
def _unravel(e: Emit, node: Operation, places: Value, dims: Value) -> Value:
    sizes = known(dims, "the shape given to tf.unravel_index")
    rows = []
    for axis, size in enumerate(sizes):
        stride = e.like(int(np.prod(sizes[axis + 1 :])), places)
        row = e.node("Mod", e.binary("Div", places, stride), e.like(int(size), places), shape=places.shape)
        rows.append(e.node("Unsqueeze", row, [0]))
    return e.node("Concat", *rows, axis=0)


@form("InvertPermutation")
def _inverted(e: Emit, node: Operation, places: Value) -> Any:
    return keras_form(e, "Argsort", places, axis=0)


@form("ScatterNd")
def _scatter(e: Emit, node: Operation, places: Value, updates: Value, dims: Value) -> Value:
    """What goes to one place adds up, but for booleans."""
    zero = np.zeros(1, updates.dtype)
    base = e.node("ConstantOfShape", e.cast(dims, "int64"), dtype=updates.dtype, value=zero)
    return e.node(
        "ScatterND",
        base,
        e.cast(places, "int64"),
        updates,
        reduction="none" if updates.dtype == "bool" else "add",
    )
