"""Diagonals: taken out, summed, and put into zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, element_count
from interop.capture.keras.ops.creation import counting, on_diagonal
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic, same
from interop.graph.record import Value


def _as_emitted(operation: Any, x: Any) -> Any:
    """The dtype of the argument; the emitter knows the shape."""
    return compat.tensor_spec((None,), x.dtype)


def diagonal_of(e: Emit, x: Value, offset: int, axis1: int, axis2: int) -> Value:
    """A diagonal of two axes as the last axis: one Gather from the two flattened."""
    axis1, axis2 = axis1 % x.rank, axis2 % x.rank
    rest = [i for i in range(x.rank) if i not in (axis1, axis2)]
    x = e.transpose(x, [*rest, axis1, axis2])
    rows, columns = x.dims[-2:]
    flat = e.reshape(x, (*x.dims[:-2], rows * columns))
    below, right = max(-offset, 0), max(offset, 0)
    length = _shorter(e, x, rows - below, columns - right)
    places = _places(e, length, columns, below, right)
    return e.node("Gather", flat, places, shape=(*flat.dims[:-1], places.dims[0]), axis=flat.rank - 1)


def _shorter(e: Emit, x: Value, a: Any, b: Any) -> Any:
    """The smaller size, never negative; computed where it depends on two dynamic dimensions."""
    if same(a, b):
        return a
    if not is_symbolic(a) and not is_symbolic(b):
        return max(0, min(a, b))
    return e.reshape(e.node("Min", e.size(a), e.size(b), dtype="int64", shape=(1,)), ())


def _places(e: Emit, length: Any, columns: Any, below: int, right: int) -> Value:
    if not is_symbolic(columns) and not is_symbolic(length) and not isinstance(length, Value):
        start = below * int(columns) + right
        return e.constant(start + np.arange(max(0, length), dtype=np.int64) * (int(columns) + 1))
    steps = e.binary("Mul", counting(e, length), e.reshape(e.size(columns + 1), ()))
    if not below and not right:
        return steps
    return e.binary("Add", steps, e.reshape(e.size(below * columns + right), ()))


@op("Diagonal", since=13, spec=_as_emitted)
def diagonal(e: Emit, x: Value, *, offset: int, axis1: int, axis2: int) -> Value:
    return diagonal_of(e, x, offset, axis1, axis2)


@op("Trace", since=13)
def trace(e: Emit, x: Value, *, offset: int, axis1: int, axis2: int) -> Value:
    found = diagonal_of(e, x, offset, axis1, axis2)
    wide = e.widened(e.cast(found, e.spec.dtype), "float32", "float64", "float16", "int32", "int64")
    return e.reduce("ReduceSum", wide, [-1])


@op("Diag", since=16, spec=_as_emitted)
def diag(e: Emit, x: Value, *, k: int) -> Value:
    return _diagonal_matrix(e, x, k) if x.rank == 1 else diagonal_of(e, x, k, 0, 1)


@op("Diagflat", since=16, spec=_as_emitted)
def diagflat(e: Emit, x: Value, *, k: int) -> Value:
    return _diagonal_matrix(e, e.reshape(x, (element_count(x.dims),)), k)


def _diagonal_matrix(e: Emit, x: Value, k: int) -> Value:
    """A vector on a diagonal of zeros: chosen by a mask, so that infinities stay where they are."""
    size = x.dims[0] + abs(k)
    if k:
        x = e.concat([x, e.constant(np.zeros(abs(k)), x.dtype)], 0)
    lines = e.unsqueeze(x, [1 if k >= 0 else 0])
    hit = on_diagonal(e, size, size, k)
    return e.node("Where", hit, lines, e.like(0, x), dtype=x.dtype, shape=(size, size))
