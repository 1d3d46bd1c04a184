"""Elements picked and placed by index. Source: https://onnx.ai/onnx/operators/.

Negative indices count from the end. Sizes that depend on values (NonZero, Compress, Unique) work where they are
computed at once, and not in a graph of layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from keras import KerasTensor, ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op

_REDUCTIONS = {"none": None, "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _from_front(ctx: Context, indices: Tensor, size: int) -> Tensor:
    """Indices that count from the front."""
    indices = ops.cast(indices, "int32")
    return ops.where(ops.less(indices, 0), ops.add(indices, ctx.sizes.measured(size)), indices)


def must_be_eager(ctx: Context, x: Tensor) -> None:
    """The size of the result depends on values."""
    if isinstance(x, KerasTensor):
        ctx.fail("the size of its result depends on values, so it cannot be part of a Keras model")


@op("GatherElements", since=11)
def gather_elements(ctx: Context, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis = ctx.axis(axis, ctx.rank(x))
    sizes, wanted = ctx.dims(x), ctx.dims(indices)
    places = _from_front(ctx, indices, sizes[axis])
    for other, size in enumerate(wanted):
        if other != axis and not ctx.sizes.same(size, sizes[other]):
            x = x[tuple(slice(0, int(size)) if i == other else slice(None) for i in range(len(wanted)))]
    return ctx.declare(ops.take_along_axis(x, places, axis=axis), wanted)


@op("GatherND", since=11)
def gather_nd(ctx: Context, x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Slices of `x` at tuples of indices, looked up in `x` with those axes made one."""
    sizes, wanted = ctx.dims(x), ctx.dims(indices)
    depth = int(wanted[-1])
    picked = sizes[batch_dims : batch_dims + depth]
    rest = sizes[batch_dims + depth :]
    flat = _flat_index(ctx, indices, picked)
    total = 1
    for size in picked:
        total = total * size
    merged = ctx.reshape(x, (*sizes[:batch_dims], total, *rest))
    dims = (*wanted[:-1], *rest)
    if not batch_dims:
        return ctx.declare(ops.take(merged, flat, axis=0), dims)
    batch = sizes[:batch_dims]
    count = math.prod(batch)
    offsets = ctx.reshape(ctx.sizes.arange(count), (*batch, *(1,) * (len(wanted) - 1 - batch_dims)))
    rows = ctx.add(ops.multiply(offsets, ctx.sizes.measured(total)), flat)
    return ctx.declare(ops.take(ctx.reshape(merged, (count * total, *rest)), rows, axis=0), dims)


def _flat_index(ctx: Context, indices: Tensor, sizes: Sequence[int]) -> Tensor:
    """Tuples of indices along the last axis as one index."""
    flat = None
    for i, size in enumerate(sizes):
        place = _from_front(ctx, indices[..., i], size)
        flat = place if flat is None else ctx.add(ops.multiply(flat, ctx.sizes.measured(size)), place)
    return flat


@op("Scatter", since=9)
def scatter(ctx: Context, x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    return scatter_elements(ctx, x, indices, updates, axis=axis)


@op("ScatterElements", since=11)
def scatter_elements(
    ctx: Context, x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    axis = ctx.axis(axis, ctx.rank(x))
    sizes, shape = ctx.dims(x), ctx.dims(indices)
    places = [
        ops.reshape(_from_front(ctx, indices, sizes[axis]) if i == axis else _along(ctx, i, shape), (-1,))
        for i in range(len(shape))
    ]
    return _scattered(ctx, x, ops.stack(places, axis=-1), ops.reshape(updates, (-1,)), reduction)


def _along(ctx: Context, axis: int, dims: Sequence[int]) -> Tensor:
    """At every place of a shape, how far along an axis it is."""
    line = [1] * len(dims)
    line[axis] = -1
    if not any(isinstance(size, SymInt) for size in dims):
        return np.broadcast_to(np.arange(dims[axis], dtype="int32").reshape(line), dims)
    return ctx.expand(ops.reshape(ctx.sizes.arange(dims[axis]), line), dims)


@op("ScatterND", since=11)
def scatter_nd(
    ctx: Context, x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none"
) -> Tensor:
    """Slices of `x` replaced at tuples of indices; the axes of the tuples are made one."""
    sizes, wanted = ctx.dims(x), ctx.dims(indices)
    depth = int(wanted[-1])
    total = 1
    for size in sizes[:depth]:
        total = total * size
    flat = _flat_index(ctx, indices, sizes[:depth])
    merged = ctx.reshape(x, (total, *sizes[depth:]))
    rows = ops.reshape(flat, (-1, 1))
    count = 1
    for size in wanted[:-1]:
        count = count * size
    given = ctx.reshape(updates, (count, *sizes[depth:]))
    return ctx.reshape(ctx.declare(_scattered(ctx, merged, rows, given, reduction), ctx.dims(merged)), sizes)


def _scattered(ctx: Context, x: Tensor, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction not in _REDUCTIONS:
        ctx.fail(f"reduction {reduction!r} is unknown; expected one of {', '.join(_REDUCTIONS)}")
    dtype = ctx.dtype(x)
    if dtype == "bool":
        ints = ops.scatter_update(ops.cast(x, "int32"), places, ops.cast(updates, "int32"))
        return ctx.declare(ops.cast(ints, "bool"), ctx.dims(x))
    kind = _REDUCTIONS[reduction]
    made = (
        ops.scatter_update(x, places, updates)
        if kind is None
        else ops.scatter_update(x, places, updates, reduction=kind)
    )
    return ctx.declare(ops.cast(made, dtype), ctx.dims(x))


@op("TensorScatter", since=24)
def tensor_scatter(
    ctx: Context, past: Tensor, update: Tensor, write: Tensor = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """A cache with new rows written from a place of its own in every batch."""
    dims, rank = ctx.dims(past), ctx.rank(past)
    axis = ctx.axis(axis, rank)
    size, count = dims[axis], ctx.dims(update)[axis]
    line = ops.reshape(ctx.sizes.arange(size), [-1 if i == axis else 1 for i in range(rank)])
    start = np.zeros((1,), "int32") if write is None else ops.cast(write, "int32")
    start = ops.reshape(start, [-1, *(1,) * (rank - 1)])
    offset = ops.subtract(line, start)
    if mode == "circular":
        offset = ops.mod(offset, ctx.sizes.measured(size))
    inside = ops.logical_and(ops.greater_equal(offset, 0), ops.less(offset, ctx.sizes.measured(count)))
    source = ops.clip(offset, 0, ctx.sizes.measured(count) - 1)
    taken = ops.take_along_axis(update, ctx.expand(source, dims), axis=axis)
    return ctx.declare(ops.where(inside, taken, past), dims)


@op("OneHot", since=9, dims=("depth",))
def one_hot(ctx: Context, indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    """Indices from -depth to depth - 1; others give a row of off values."""
    size = int(ctx.items(depth)[0]) if not isinstance(ctx.items(depth)[0], SymInt) else ctx.items(depth)[0]
    have = list(ctx.dims(indices))
    place = ctx.axis(axis, len(have) + 1)
    # Indices may be fractions, which are cut.
    whole = _from_front(ctx, indices, size)
    line = [1] * (len(have) + 1)
    line[place] = -1
    on = ops.equal(ops.expand_dims(whole, place), ops.reshape(ctx.sizes.arange(size), line))
    y = ops.where(on, values[1], values[0])
    return ctx.declare(y, [*have[:place], size, *have[place:]])


@op("NonZero", since=9)
def nonzero(ctx: Context, x: Tensor) -> Tensor:
    must_be_eager(ctx, x)
    if not ctx.rank(x):
        x = ops.reshape(x, (1,))
    return ops.cast(ops.stack(ops.nonzero(x)), ctx.dtype_of_code(7))


@op("Compress", since=9)
def compress(ctx: Context, x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    must_be_eager(ctx, condition)
    if axis is None:
        x, axis = ops.reshape(x, (-1,)), 0
    return ops.take(x, ops.nonzero(condition)[0], axis=axis)


@op("TopK", since=1)
def top_k_attribute(ctx: Context, x: Tensor, *, axis: int = -1, k: int) -> tuple[Tensor, Tensor]:
    return _best(ctx, x, k, axis, 1)


@op("TopK", since=10, dims=("k",))
def top_k(
    ctx: Context, x: Tensor, k: Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    return _best(ctx, x, ctx.items(k)[0], axis, largest)


def _best(ctx: Context, x: Tensor, k: int, axis: int, largest: int) -> tuple[Tensor, Tensor]:
    """Of equal elements the one with the lower index comes first."""
    axis = ctx.axis(axis, ctx.rank(x))
    dims = list(ctx.dims(x))
    everything = ctx.sizes.same(k, dims[axis])
    if isinstance(k, SymInt) and not everything:
        ctx.fail(f"its k must be a number, or the size of the axis. Received: {k}")
    # Descending and stable: ascending in the flipped tensor, flipped again.
    turned = ops.flip(x, axis) if largest else x
    order = ops.argsort(turned, axis=axis)
    if largest:
        last = ops.subtract(ctx.sizes.measured(dims[axis]), 1)
        order = ops.subtract(last, ops.cast(ops.flip(order, axis), "int32"))
    order = ops.cast(order, ctx.dtype_of_code(7))
    if not everything:
        order = order[(slice(None),) * axis + (slice(0, k),)]
        dims[axis] = k
    order = ctx.declare(order, dims)
    return ctx.declare(ops.take_along_axis(x, order, axis=axis), dims), order


@op("Unique", since=11)
def unique(ctx: Context, x: Tensor, *, axis: int | None = None, sorted: int = 1) -> tuple[Tensor, ...]:
    """Unique elements or slices, where each is first, which each element is, and how often it comes."""
    must_be_eager(ctx, x)
    values, first, inverse, counts = ops.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    dtype = ctx.dtype_of_code(7)
    first, inverse, counts = (ops.cast(ops.reshape(y, (-1,)), dtype) for y in (first, inverse, counts))
    if not sorted:  # in the order in which they come
        order = ops.argsort(first)
        rank = ops.argsort(order)
        values = ops.take(values, order, axis=axis or 0)
        first, counts = ops.take(first, order), ops.take(counts, order)
        inverse = ops.cast(ops.take(rank, inverse), dtype)
    return values, first, inverse, counts


@op("CumSum", since=11)
def cumsum(ctx: Context, x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _accumulated(ctx, x, ctx.ints(axis)[0], ops.cumsum, 0, exclusive, reverse)


@op("CumProd", since=26)
def cumprod(ctx: Context, x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _accumulated(ctx, x, ctx.ints(axis)[0], ops.cumprod, 1, exclusive, reverse)


def _accumulated(
    ctx: Context, x: Tensor, axis: int, function: object, start: int, exclusive: int, reverse: int
) -> Tensor:
    """Running results along an axis; `exclusive` ones begin with `start` and leave the last element out."""
    dims, rank = ctx.dims(x), ctx.rank(x)
    axis = ctx.axis(axis, rank)
    y = ops.flip(x, axis) if reverse else x
    if exclusive:
        first = tuple(slice(0, 1) if i == axis else slice(None) for i in range(rank))
        rest = tuple(slice(0, -1) if i == axis else slice(None) for i in range(rank))
        y = ops.concatenate([ops.full_like(y[first], start), y[rest]], axis=axis)
    y = ops.cast(function(y, axis=axis), ctx.dtype(x))  # type: ignore[operator]
    return ctx.declare(ops.flip(y, axis) if reverse else y, dims)
