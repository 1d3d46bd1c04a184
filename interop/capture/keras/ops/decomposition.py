"""Orthogonal decompositions and what is computed from them.

QR is Householder's with LAPACK's signs, so it gives the numbers that every backend gives. Eigenvectors and
singular vectors are defined up to their signs (and rotations within equal values); here they come from
Jacobi rotations, all disjoint pairs of columns at once, paired as in a round-robin tournament.

Sources: Golub and Van Loan, Matrix Computations, 4th edition: QR 5.2, Jacobi 8.5, one-sided Jacobi 8.6.3;
LAPACK's dlarfg for the signs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import counting, on_diagonal
from interop.capture.keras.ops.elementwise import choose
from interop.capture.keras.ops.linalg import (
    as_emitted,
    at,
    by_column,
    identity,
    least,
    numbered,
    outer,
    picked,
    swapped,
    working,
)
from interop.capture.keras.registry import op
from interop.capture.keras.subgraphs import loop, scan
from interop.capture.keras.symint import is_symbolic
from interop.graph.record import Value

Values = list[Value]

# More sweeps than any matrix needs: convergence is quadratic.
_SWEEPS = 20


def _epsilon(x: Value) -> float:
    return float(np.finfo(x.dtype).eps)


def _square(e: Emit, x: Value) -> Value:
    return e.binary("Mul", x, x)


def _positive(e: Emit, x: Value) -> Value:
    return e.binary("Greater", x, e.like(0, x), dtype="bool")


def _nonzero(e: Emit, x: Value) -> Value:
    """``x`` with 1 in place of 0, to divide by."""
    return choose(e, e.binary("Equal", x, e.like(0, x), dtype="bool"), e.like(1, x), x)


def _total(e: Emit, x: Value, axis: int) -> Value:
    return e.reduce("ReduceSum", x, [axis], keepdims=True)


def _reflected(e: Emit, x: Value, normal: Value) -> Value:
    """``x`` mirrored: (1 - w w') x, for a column w with w'w = 2."""
    return e.binary("Sub", x, outer(e, normal, e.matmul(swapped(e, normal), x)))


def householder(e: Emit, x: Value) -> tuple[Value, Value]:
    """R, as tall as ``x``, and the mirrors' normals (column, ..., row)."""
    rows = numbered(e, x, -2)

    def step(place: Value, state: Values) -> tuple[Values, Values]:
        (rest,) = state
        column = picked(e, rest, place, -1)
        head = picked(e, column, place, -2)
        below = choose(e, at(e, rows, place, "Greater"), column, e.like(0, column))
        tail = _total(e, _square(e, below), -2)
        length = e.unary("Sqrt", e.binary("Add", _square(e, head), tail))
        down = e.binary("GreaterOrEqual", head, e.like(0, head), dtype="bool")
        first = e.binary("Sub", head, choose(e, down, e.unary("Neg", length), length))
        size = e.unary("Sqrt", e.binary("Add", _square(e, first), tail))
        scale = e.binary("Div", e.like(2**0.5, size), _nonzero(e, size))
        scale = choose(e, _positive(e, tail), scale, e.like(0, scale))
        normal = e.binary("Mul", choose(e, at(e, rows, place), first, below), scale)
        return [_reflected(e, rest, normal)], [e.squeeze(normal, [-1])]

    (triangle,), (normals,) = by_column(e, least(e, *x.dims[-2:]), [x], step)
    under = at(e, numbered(e, x, -1), rows, "Less")
    return choose(e, under, e.like(0, triangle), triangle), normals


def orthogonal(e: Emit, x: Value, normals: Value, columns: Any) -> Value:
    """The first columns of the product of the mirrors."""

    def step(place: Value, state: Values) -> tuple[Values, Values]:
        normal = e.squeeze(e.unsqueeze(picked(e, normals, place, 0), [-1]), [0])
        return [_reflected(e, state[0], normal)], []

    start = identity(e, x, x.dims[-2], columns)
    return by_column(e, counting(e, normals.dims[0]), [start], step, reverse=True)[0][0]


def _first(e: Emit, x: Value, axis: int, count: Any) -> Value:
    axis = axis % x.rank
    result = e.slice(x, axis, 0, count)
    result.shape = (*x.dims[:axis], count, *x.dims[axis + 1 :])
    return result


@op("Qr", since=16, spec=as_emitted)
def qr(e: Emit, x: Value, *, mode: str) -> tuple[Value, Value]:
    matrix = working(e, x)
    triangle, normals = householder(e, matrix)
    count = normals.dims[0]
    if mode == "reduced":
        triangle = _first(e, triangle, -2, count)
    q = orthogonal(e, matrix, normals, count if mode == "reduced" else matrix.dims[-2])
    return e.cast(q, x.dtype), e.cast(triangle, x.dtype)


def _partners(e: Emit, size: Any, number: Value) -> tuple[Value, Any]:
    """Round ``number`` of a tournament: who meets whom (itself: nobody), and how many rounds there are.

    i meets (number - i) mod N, for N the odd one of size and size - 1; with an even size the last one meets
    whoever would meet itself.
    """
    rounds = size - 1 + size % 2
    players = counting(e, size)
    modulus = e.reshape(e.size(rounds), ())
    opponent = e.binary("Mod", e.binary("Sub", number, players), modulus)
    half = e.reshape(e.size((rounds + 1) // 2), ())
    lonely = e.binary("Mod", e.binary("Mul", number, half), modulus)
    bench = e.binary("Less", modulus, e.reshape(e.size(size), ()), dtype="bool")
    waiting = choose(e, bench, modulus, players)
    opponent = choose(e, e.binary("Equal", opponent, players, dtype="bool"), waiting, opponent)
    return choose(e, e.binary("Equal", players, modulus, dtype="bool"), lonely, opponent), rounds


def _rotation(
    e: Emit, own: Value, other: Value, mixed: Value, players: Value, partner: Value
) -> tuple[Value, Value]:
    """Cosines and sines that make ``mixed`` zero, seen from both columns of each pair."""
    gap = e.binary("Div", e.binary("Sub", other, own), _nonzero(e, e.binary("Add", mixed, mixed)))
    root = e.unary("Sqrt", e.binary("Add", _square(e, gap), e.like(1, gap)))
    lower = e.binary("Less", players, partner, dtype="bool")
    level = e.binary("Equal", gap, e.like(0, gap), dtype="bool")
    rising = e.binary("Or", e.binary("And", level, lower, dtype="bool"), _positive(e, gap), dtype="bool")
    sign = choose(e, rising, e.like(1, gap), e.like(-1, gap))
    tangent = e.binary("Div", sign, e.binary("Add", e.unary("Abs", gap), root))
    still = e.binary(
        "Or", e.binary("Equal", mixed, e.like(0, mixed), dtype="bool"), at(e, players, partner), dtype="bool"
    )
    tangent = choose(e, still, e.like(0, tangent), tangent)
    cosine = e.unary("Reciprocal", e.unary("Sqrt", e.binary("Add", _square(e, tangent), e.like(1, tangent))))
    return cosine, e.binary("Mul", cosine, tangent)


def _turned(e: Emit, x: Value, cosine: Value, sine: Value, partner: Value, axis: int) -> Value:
    """Every column (or row) rotated with its partner."""
    other = e.node("Gather", x, partner, shape=x.shape, axis=axis % x.rank)
    return e.binary("Sub", e.binary("Mul", cosine, x), e.binary("Mul", sine, other))


def _converged(e: Emit, size: Any, carries: Values, turn: Any) -> Values:
    """Sweeps of rotations until the largest mixed product of a sweep is rounding noise.

    ``turn(partner, players, carries)`` gives the new carries and that product relative to its scale.
    """
    dtype = carries[0].dtype
    limit = e.scalar(4 * float(np.finfo(dtype).eps), dtype)
    rounds = counting(e, size - 1 + size % 2)
    players = counting(e, size)

    def one(state: Values, slices: Values) -> tuple[Values, Values]:
        partner, _ = _partners(e, size, slices[0])
        turned, worst = turn(partner, players, state[1:])
        return [e.binary("Max", state[0], worst), *turned], []

    def sweep(number: Value, state: Values) -> tuple[Value, Values, Values]:
        (worst, *turned), _ = scan(e, one, [e.scalar(0, dtype), *state], [rounds])
        return e.binary("Greater", worst, limit, dtype="bool"), turned, []

    return loop(e, sweep, carries, trips=_SWEEPS)[0]


def _largest(e: Emit, x: Value) -> Value:
    return e.reduce("ReduceMax", x, None)


def _sorted(e: Emit, values: Value, count: Any, *, largest: bool) -> tuple[Value, Value]:
    shape = (*values.dims[:-1], count)
    made = e.nodes(
        "TopK",
        values,
        e.size(count),
        outputs=[(values.dtype, shape), ("int64", shape)],
        axis=-1,
        largest=int(largest),
    )
    return made[0], made[1]


def _ordered(e: Emit, x: Value, order: Value) -> Value:
    """Columns in a given order, which differs over the batch."""
    dims = (*x.dims[:-1], order.dims[-1])
    index = e.expand(e.unsqueeze(order, [-2]), dims)
    return e.node("GatherElements", x, index, shape=dims, axis=x.rank - 1)


@op("Eigh", since=16, spec=as_emitted)
def eigh(e: Emit, x: Value) -> tuple[Value, Value]:
    """Eigenvalues from the smallest, and eigenvectors as columns, of the lower triangle's symmetric matrix."""
    matrix = e.cast(x, "float64")  # hundreds of rotations in a row: float32 would lose two digits at size 64
    size = x.dims[-1]
    diagonal = on_diagonal(e, size, size, 0)
    above = at(e, numbered(e, matrix, -1), numbered(e, matrix, -2), "Greater")
    matrix = choose(e, above, swapped(e, matrix), matrix)
    scale = e.unary("Sqrt", e.reduce("ReduceSum", _square(e, matrix), [-1, -2], keepdims=True))
    scale = _nonzero(e, scale)

    def on(m: Value) -> Value:
        return _total(e, choose(e, diagonal, m, e.like(0, m)), -2)

    def turn(partner: Value, players: Value, state: Values) -> tuple[Values, Value]:
        a, vectors = state
        own = on(a)
        other = e.node("Gather", own, partner, shape=own.shape, axis=own.rank - 1)
        mixed = on(e.node("Gather", a, partner, shape=a.shape, axis=a.rank - 1))
        cosine, sine = _rotation(e, own, other, mixed, players, partner)
        a = _turned(e, a, cosine, sine, partner, -1)
        a = _turned(e, a, swapped(e, cosine), swapped(e, sine), partner, -2)
        met = choose(e, at(e, players, partner), e.like(0, mixed), e.unary("Abs", mixed))
        return [a, _turned(e, vectors, cosine, sine, partner, -1)], _largest(e, e.binary("Div", met, scale))

    a, vectors = _converged(e, size, [matrix, identity(e, matrix, size, size)], turn)
    values, order = _sorted(e, e.squeeze(on(a), [-2]), size, largest=False)
    return e.cast(values, x.dtype), e.cast(_ordered(e, vectors, order), x.dtype)


def _one_sided(e: Emit, x: Value, *, vectors: bool) -> tuple[Value, Value | None]:
    """``x`` V with orthogonal columns, and V."""
    eps = _epsilon(x)

    def turn(partner: Value, players: Value, state: Values) -> tuple[Values, Value]:
        a = state[0]
        across = e.node("Gather", a, partner, shape=a.shape, axis=a.rank - 1)
        own = _total(e, _square(e, a), -2)
        other = e.node("Gather", own, partner, shape=own.shape, axis=own.rank - 1)
        mixed = _total(e, e.binary("Mul", a, across), -2)
        cosine, sine = _rotation(e, own, other, mixed, players, partner)
        # Columns that are rounding noise beside the largest never settle, and need not.
        noise = e.binary("Mul", e.reduce("ReduceMax", own, [-1], keepdims=True), e.like(eps**2, own))
        counts = e.binary("Greater", e.binary("Min", own, other), noise, dtype="bool")
        counts = e.binary("And", counts, e.unary("Not", at(e, players, partner)), dtype="bool")
        scale = _nonzero(e, e.binary("Mul", e.unary("Sqrt", own), e.unary("Sqrt", other)))
        met = choose(e, counts, e.binary("Div", e.unary("Abs", mixed), scale), e.like(0, mixed))
        return [_turned(e, m, cosine, sine, partner, -1) for m in state], _largest(e, met)

    size = x.dims[-1]
    start = [x, identity(e, x, size, size)] if vectors else [x]
    turned = _converged(e, size, start, turn)
    return turned[0], turned[1] if vectors else None


def _lengths(e: Emit, x: Value) -> Value:
    """Lengths of the columns."""
    return e.unary("Sqrt", e.reduce("ReduceSum", _square(e, x), [-2]))


def singular_values(e: Emit, x: Value) -> Value:
    """Singular values from the largest."""
    rows, columns = x.dims[-2:]
    if not is_symbolic(rows) and not is_symbolic(columns) and rows < columns:
        x = swapped(e, x)
    turned, _ = _one_sided(e, x, vectors=False)
    return _sorted(e, _lengths(e, turned), least(e, rows, columns).dims[0], largest=True)[0]


@op("SVD", since=16, spec=as_emitted)
def svd(e: Emit, x: Value, *, full_matrices: bool, compute_uv: bool) -> Any:
    """U, singular values from the largest, V transposed."""
    matrix = working(e, x)
    rows, columns = matrix.dims[-2:]
    if not compute_uv:
        return e.cast(singular_values(e, matrix), x.dtype)
    count = least(e, rows, columns).dims[0]
    wide = not is_symbolic(rows) and not is_symbolic(columns) and rows < columns
    left, values, right = _decomposed(e, swapped(e, matrix) if wide else matrix, count, full_matrices)
    if wide:
        left, right = right, left
    return tuple(e.cast(item, x.dtype) for item in (left, values, swapped(e, right)))


def _decomposed(e: Emit, x: Value, count: Any, full: bool) -> tuple[Value, Value, Value]:
    """U, singular values and V; vectors of zero singular values, and those beyond, complete the basis."""
    turned, basis = _one_sided(e, x, vectors=True)
    assert basis is not None
    lengths, order = _sorted(e, _lengths(e, turned), x.dims[-1], largest=True)
    values = _first(e, lengths, -1, count)
    left = _first(e, _ordered(e, turned, order), -1, count)
    left = e.binary("Div", left, e.unsqueeze(_nonzero(e, values), [-2]))
    triangle, normals = householder(e, left)
    q = orthogonal(e, left, normals, x.dims[-2] if full else count)
    # Q's columns are those of U but for the signs on R's diagonal.
    top = _first(e, triangle, -2, count)
    kept = choose(e, on_diagonal(e, count, count, 0), top, e.like(0, top))
    negative = e.binary("Less", e.reduce("ReduceSum", kept, [-2]), e.like(0, top), dtype="bool")
    signs = e.unsqueeze(choose(e, negative, e.like(-1, top), e.like(1, top)), [-2])
    u = e.binary("Mul", _first(e, q, -1, count), signs)
    if full:
        rest = e.slice(q, -1, count, None)
        rest.shape = (*q.dims[:-1], q.dims[-1] - count)
        u = e.concat([u, rest], -1)
        u.shape = q.shape
    right = _ordered(e, basis, order)
    return u, values, right if full else _first(e, right, -1, count)


def _inverse_parts(e: Emit, x: Value, rcond: Any) -> tuple[Value, Value]:
    """V and (x V)' with each row over its squared singular value, or zero below the cutoff."""
    turned, basis = _one_sided(e, x, vectors=True)
    assert basis is not None
    lengths = _lengths(e, turned)
    cutoff = e.binary("Mul", e.reduce("ReduceMax", lengths, [-1], keepdims=True), rcond)
    kept = e.binary("Greater", lengths, cutoff, dtype="bool")
    weight = choose(e, kept, e.unary("Reciprocal", _nonzero(e, _square(e, lengths))), e.like(0, lengths))
    return basis, swapped(e, e.binary("Mul", turned, e.unsqueeze(weight, [-2])))


def _cutoff(e: Emit, x: Value, rcond: Any, factor: float) -> Value:
    """A cutoff ratio that was given, or ``factor`` rounding errors for every row or column."""
    if rcond is not None:
        ratio = e.tensor(rcond, x.dtype)
        return ratio if ratio.rank == 0 else e.unsqueeze(ratio, [-1])
    longest = e.node("Max", e.size(x.dims[-2]), e.size(x.dims[-1]), dtype="int64", shape=(1,))
    return e.binary("Mul", e.cast(longest, x.dtype), e.scalar(factor * _epsilon(x), x.dtype))


@op("Pinv", since=16)
def pinv(e: Emit, x: Value, *, rcond: Any) -> Value:
    matrix = working(e, x)
    basis, rows = _inverse_parts(e, matrix, _cutoff(e, matrix, rcond, 10))
    return e.matmul(basis, rows)


@op("Lstsq", since=16)
def lstsq(e: Emit, a: Value, b: Value, *, rcond: Any) -> Value:
    """The least-squares solution of least length."""
    matrix = working(e, a)
    given = e.cast(b, matrix.dtype)
    basis, rows = _inverse_parts(e, matrix, _cutoff(e, matrix, rcond, 1))
    columns = e.unsqueeze(given, [-1]) if given.rank == 1 else given
    found = e.matmul(basis, e.matmul(rows, columns))
    return e.squeeze(found, [-1]) if given.rank == 1 else found


@op("MatrixRank", since=16)
def matrix_rank(e: Emit, x: Value, *, tol: Any) -> Value:
    """How many singular values are above the tolerance."""
    matrix = working(e, x)
    values = singular_values(e, matrix)
    if tol is None:
        largest = e.reduce("ReduceMax", values, [-1], keepdims=True)
        bar = e.binary("Mul", largest, _cutoff(e, matrix, None, 1))
    else:
        bar = e.tensor(tol, matrix.dtype)
        bar = bar if bar.rank == 0 else e.unsqueeze(bar, [-1])
    above = e.binary("Greater", values, bar, dtype="bool")
    return e.reduce("ReduceSum", e.cast(above, "int32"), [-1])
