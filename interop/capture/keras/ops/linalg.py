"""Linear systems, determinants and triangular factors, for any size, known or not.

ONNX has one operator here, Det. The others run the textbook algorithm column by column: written out for
a few columns, a Scan over the columns otherwise. Source: Golub and Van Loan, Matrix Computations, 4th
edition: Cholesky 4.2, Gauss with partial pivoting 3.4, substitution 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import counting, filled, on_diagonal
from interop.capture.keras.ops.elementwise import choose
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import broadcast_shapes
from interop.capture.keras.subgraphs import scan
from interop.capture.keras.symint import is_symbolic, same
from interop.graph.record import Value

Values = list[Value]

# Up to this many columns an algorithm is written out instead of being a Scan.
UNROLLED = 4


def as_emitted(operation: Any, *args: Any, **kwargs: Any) -> None:
    """No spec: Keras' own takes the smaller of two sizes by their hints, or declares float pivots."""


def working(e: Emit, x: Value) -> Value:
    """A matrix in a dtype to compute in."""
    return x if x.dtype in ("float32", "float64") else e.cast(x, "float32")


def identity(e: Emit, x: Value, rows: Any, columns: Any) -> Value:
    """Ones on the diagonal, with the batch axes of ``x``."""
    return e.expand(e.cast(on_diagonal(e, rows, columns, 0), x.dtype), (*x.dims[:-2], rows, columns))


def swapped(e: Emit, x: Value) -> Value:
    """A matrix transposed, batch axes kept."""
    return e.transpose(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])


def picked(e: Emit, x: Value, place: Value, axis: int) -> Value:
    """One slice of an axis, kept with size 1; ``place`` is an int64 of shape (1,)."""
    axis = axis % x.rank
    dims = tuple(1 if i == axis else dim for i, dim in enumerate(x.dims))
    return e.node("Gather", x, place, shape=dims, axis=axis)


def numbered(e: Emit, x: Value, axis: int) -> Value:
    """The numbers of rows (axis -2) or columns (axis -1) as one column or row: (n, 1) or (1, n)."""
    return e.unsqueeze(counting(e, x.dims[axis]), [1 if axis == -2 else 0])


def at(e: Emit, numbers: Value, place: Value, op_type: str = "Equal") -> Value:
    """Where numbers are at, after or before a place."""
    return e.binary(op_type, numbers, place, dtype="bool")


def by_column(
    e: Emit,
    columns: Value,
    carries: Sequence[Value],
    step: Callable[[Value, Values], tuple[Sequence[Value], Sequence[Value]]],
    *,
    reverse: bool = False,
) -> tuple[Values, Values]:
    """Run a step for every column number.

    Args:
        e: the running trace.
        columns: the numbers from 0 on, int64.
        carries: what steps hand on.
        step: (number of shape (1,), carried) -> (new carried, results).
        reverse: whether to begin at the last column; results stand at their column either way.

    Returns:
        The values carried at last, and the results stacked along a new first axis.
    """
    count = columns.dims[0]
    if is_symbolic(count) or count > UNROLLED or count == 0:
        return scan(e, lambda c, s: step(e.unsqueeze(s[0], [0]), c), carries, [columns], reverse=reverse)
    state, rows = list(carries), []
    order = range(count - 1, -1, -1) if reverse else range(count)
    for number in order:
        new, results = step(e.constant([number], "int64"), state)
        state = list(new)
        rows.append([e.unsqueeze(result, [0]) for result in results])
    rows = rows[::-1] if reverse else rows
    stacked = [parts[0] if count == 1 else e.concat(parts, 0) for parts in zip(*rows, strict=True)]
    return state, stacked


def _last(e: Emit, x: Value) -> Value:
    """The first axis moved to the end."""
    return e.transpose(x, [*range(1, x.rank), 0])


def outer(e: Emit, column: Value, row: Value) -> Value:
    """A column times a row."""
    return e.binary("Mul", column, row)


def factor(e: Emit, x: Value) -> tuple[Value, Value]:
    """Cholesky: the factor's columns as rows (..., column, row), and the squared diagonal (..., column)."""

    numbers = numbered(e, x, -2)

    def step(place: Value, state: Values) -> tuple[Values, Values]:
        (rest,) = state
        column = picked(e, rest, place, -1)
        square = picked(e, column, place, -2)
        scaled = e.binary("Div", column, e.unary("Sqrt", square))
        scaled = choose(e, at(e, numbers, place, "GreaterOrEqual"), scaled, e.like(0, rest))
        rest = e.binary("Sub", rest, outer(e, scaled, swapped(e, scaled)))
        return [rest], [e.squeeze(scaled, [-1]), e.squeeze(square, [-1, -2])]

    _, (columns, squares) = by_column(e, counting(e, x.dims[-1]), [x], step)
    rank = columns.rank
    return e.transpose(columns, [*range(1, rank - 1), 0, rank - 1]), _last(e, squares)


@op("Cholesky", since=16)
def cholesky(e: Emit, x: Value, *, upper: bool) -> Value:
    factors, _ = factor(e, working(e, x))
    return factors if upper else swapped(e, factors)


@op("Logdet", since=16)
def logdet(e: Emit, x: Value) -> Value:
    """For positive definite matrices: the sum of the logarithms of the Cholesky pivots."""
    _, squares = factor(e, working(e, x))
    return e.reduce("ReduceSum", e.unary("Log", squares), [-1])


def substitute(e: Emit, a: Value, b: Value, lower: bool) -> Value:
    """x with a x = b for a triangular matrix; the other triangle is not read."""
    dims = (*broadcast_shapes(a.dims[:-2], b.dims[:-2]), *b.dims[-2:])
    numbers = numbered(e, a, -2)

    def step(place: Value, state: Values) -> tuple[Values, Values]:
        (solved,) = state
        row = picked(e, a, place, -2)
        rest = e.binary("Sub", picked(e, b, place, -2), e.matmul(row, solved))
        found = e.binary("Div", rest, picked(e, row, place, -1))
        return [choose(e, at(e, numbers, place), found, solved)], []

    start = filled(e, dims, 0, a.dtype)
    return by_column(e, counting(e, a.dims[-1]), [start], step, reverse=not lower)[0][0]


def _columns(e: Emit, a: Value, b: Value, run: Callable[[Value, Value], Value]) -> Value:
    """``run`` on matrices, where ``b`` may be one vector."""
    a = working(e, a)
    b = e.cast(b, a.dtype)
    if b.rank == a.rank - 1:
        return e.squeeze(run(a, e.unsqueeze(b, [-1])), [-1])
    return run(a, b)


@op("SolveTriangular", since=16)
def solve_triangular(e: Emit, a: Value, b: Value, *, lower: bool) -> Value:
    return _columns(e, a, b, lambda x, y: substitute(e, x, y, lower))


@op("CholeskyInverse", since=16)
def cholesky_inverse(e: Emit, x: Value, *, upper: bool) -> Value:
    """The inverse of the matrix that a Cholesky factor came from."""
    x = working(e, x)
    size = x.dims[-1]
    inverse = substitute(e, x, identity(e, x, size, size), not upper)
    return e.matmul(inverse, swapped(e, inverse)) if upper else e.matmul(swapped(e, inverse), inverse)


def pivoted(e: Emit, x: Value, numbers: Value, place: Value) -> tuple[Value, Value, Value, Value]:
    """Bring the row with the largest entry of a column up to the diagonal.

    Returns:
        The matrix, that row, its entry and its number (..., 1, 1).
    """
    column = e.unary("Abs", picked(e, x, place, -1))
    open_ = choose(e, at(e, numbers, place, "GreaterOrEqual"), column, e.like(-1, column))
    best = e.node("ArgMax", open_, dtype="int64", shape=(*open_.dims[:-2], 1, 1), axis=-2, keepdims=1)
    here = picked(e, x, place, -2)
    index = e.expand(best, here.dims)
    row = e.node("GatherElements", x, index, shape=here.dims, axis=x.rank - 2)
    moved = choose(e, at(e, numbers, best), here, x)
    moved = choose(e, at(e, numbers, place), row, moved)
    return moved, row, picked(e, row, place, -1), best


def solution(e: Emit, a: Value, b: Value) -> Value:
    """x with a x = b, by Gauss-Jordan elimination with partial pivoting."""
    size = a.dims[-1]
    batch = tuple(broadcast_shapes(a.dims[:-2], b.dims[:-2]))
    whole = e.concat([e.expand(m, (*batch, *m.dims[-2:])) for m in (a, b)], -1)
    numbers = numbered(e, whole, -2)

    def step(place: Value, state: Values) -> tuple[Values, Values]:
        moved, row, pivot, _ = pivoted(e, state[0], numbers, place)
        unit = e.binary("Div", row, pivot)
        cleared = e.binary("Sub", moved, outer(e, picked(e, moved, place, -1), unit))
        return [choose(e, at(e, numbers, place), unit, cleared)], []

    (reduced,), _ = by_column(e, counting(e, size), [whole], step)
    result = e.slice(reduced, -1, size, None)
    result.shape = (*batch, *b.dims[-2:])
    return result


@op("Solve", since=16)
def solve(e: Emit, a: Value, b: Value) -> Value:
    return _columns(e, a, b, lambda x, y: solution(e, x, y))


@op("Inv", since=16)
def inv(e: Emit, x: Value) -> Value:
    x = working(e, x)
    return solution(e, x, identity(e, x, x.dims[-1], x.dims[-1]))


def least(e: Emit, rows: Any, columns: Any) -> Value:
    """0, 1, ... up to the smaller of two sizes."""
    if same(rows, columns) or not (is_symbolic(rows) or is_symbolic(columns)):
        return counting(e, min(rows, columns))
    return counting(e, e.node("Min", e.size(rows), e.size(columns), dtype="int64", shape=(1,)))


def lu(e: Emit, x: Value) -> tuple[Value, Value, Value]:
    """Both triangles in one matrix, the pivot rows (column, ...) and the pivots (column, ...)."""
    numbers, across = numbered(e, x, -2), numbered(e, x, -1)

    def step(place: Value, state: Values) -> tuple[Values, Values]:
        moved, row, pivot, best = pivoted(e, state[0], numbers, place)
        divisor = choose(e, e.binary("Equal", pivot, e.like(0, pivot), dtype="bool"), e.like(1, pivot), pivot)
        below, after = at(e, numbers, place, "Greater"), at(e, across, place, "Greater")
        ratio = e.binary("Div", picked(e, moved, place, -1), divisor)
        ratio = choose(e, below, ratio, e.like(0, ratio))
        cleared = e.binary("Sub", moved, outer(e, ratio, choose(e, after, row, e.like(0, row))))
        kept = e.binary("And", below, at(e, across, place), dtype="bool")
        results = [e.squeeze(item, [-1, -2]) for item in (best, pivot)]
        return [choose(e, kept, ratio, cleared)], results

    (packed,), (rows, pivots) = by_column(e, least(e, *x.dims[-2:]), [x], step)
    return packed, rows, pivots


@op("LuFactor", since=16, spec=as_emitted)
def lu_factor(e: Emit, x: Value) -> tuple[Value, Value]:
    """LU with LAPACK's pivots from 0; on TensorFlow Keras gives a permutation of the rows instead."""
    packed, rows, _ = lu(e, working(e, x))
    pivots = _permutation(e, rows, x.dims[-2]) if keras.backend.backend() == "tensorflow" else rows
    return e.cast(packed, x.dtype), e.cast(_last(e, pivots), "int32")


def _permutation(e: Emit, rows: Value, size: Any) -> Value:
    """Where each row went when every row changed places with its pivot in turn: (row, ...)."""
    batch = rows.dims[1:]
    numbers = e.reshape(counting(e, size), (size, *[1] * len(batch)))
    start = e.expand(numbers, (size, *batch))

    def step(slot: Value, state: Values) -> tuple[Values, Values]:
        (order,) = state
        pivot = picked(e, rows, slot, 0)
        here = picked(e, order, slot, 0)
        there = e.node("GatherElements", order, pivot, shape=here.dims, axis=0)
        moved = choose(e, at(e, numbers, pivot), here, order)
        return [choose(e, at(e, numbers, slot), there, moved)], []

    (order,), _ = by_column(e, counting(e, rows.dims[0]), [start], step)
    return e.node("ScatterElements", start, order, start, shape=start.shape, axis=0)


@op("Slogdet", since=16, spec=as_emitted)
def slogdet(e: Emit, x: Value) -> tuple[Value, Value]:
    """Signs and logarithms of the pivots, so that no product overflows."""
    _, rows, pivots = lu(e, working(e, x))
    numbers = e.reshape(counting(e, rows.dims[0]), (rows.dims[0], *[1] * (rows.rank - 1)))
    stayed = at(e, rows, numbers)
    signs = e.unary("Sign", pivots)
    signs = choose(e, stayed, signs, e.unary("Neg", signs))
    logs = e.unary("Log", e.unary("Abs", pivots))
    return e.cast(e.reduce("ReduceProd", signs, [0]), x.dtype), e.cast(
        e.reduce("ReduceSum", logs, [0]), x.dtype
    )


@op("Det", since=11)
def det(e: Emit, x: Value) -> Value:
    return e.node("Det", e.cast(x, "float32"), shape=x.dims[:-2])
