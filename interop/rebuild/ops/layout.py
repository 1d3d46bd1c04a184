"""Shapes: what moves elements and computes none. Source: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from keras import ops

from interop.capture.keras.symint import SymInt, floor_divide
from interop.rebuild.context import Context
from interop.rebuild.known import sizes_array
from interop.rebuild.registry import Tensor, op


@op("Shape", since=1)
def shape(ctx: Context, x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return sizes_array(ctx.dims(x)[start:end])


@op("Size", since=1)
def size(ctx: Context, x: Tensor) -> Tensor:
    return sizes_array([_product(ctx.dims(x))]).reshape(())


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for length in sizes:
        total = total * length
    return total


@op("Reshape", since=5, dims=("shape",))
def reshape(ctx: Context, x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """0 keeps a size (unless `allowzero`), -1 takes what is left."""
    have = ctx.dims(x)
    target = ctx.items(shape)
    for axis, length in enumerate(target):
        if not isinstance(length, SymInt) and length == 0 and not allowzero:
            if axis >= len(have):
                ctx.fail(f"the target {target} keeps axis {axis}, and the input has {len(have)} axes")
            target[axis] = have[axis]
    left = [axis for axis, length in enumerate(target) if not isinstance(length, SymInt) and length == -1]
    if len(left) > 1:
        ctx.fail(f"the target {target} leaves more than one size open")
    if left:
        rest = _product([length for axis, length in enumerate(target) if axis not in left])
        target[left[0]] = floor_divide(_product(have), rest) if rest else 0
    return ctx.reshape(x, target)


@op("Flatten", since=1)
def flatten(ctx: Context, x: Tensor, *, axis: int = 1) -> Tensor:
    have = ctx.dims(x)
    axis = axis + len(have) if axis < 0 else axis
    return ctx.reshape(x, (_product(have[:axis]), _product(have[axis:])))


@op("Transpose", since=1)
def transpose(ctx: Context, x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    axes = tuple(perm) if perm is not None else tuple(reversed(range(ctx.rank(x))))
    have = ctx.dims(x)
    return ctx.declare(ops.transpose(x, axes), [have[axis] for axis in axes])


@op("Squeeze", since=1)
def squeeze_attribute(ctx: Context, x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    return _squeezed(ctx, x, axes)


@op("Squeeze", since=13, static=("axes",))
def squeeze(ctx: Context, x: Tensor, axes: Tensor = None) -> Tensor:
    return _squeezed(ctx, x, None if axes is None else ctx.ints(axes))


def _squeezed(ctx: Context, x: Tensor, axes: Sequence[int] | None) -> Tensor:
    have = ctx.dims(x)
    if axes is None:
        axes = [axis for axis, length in enumerate(have) if not isinstance(length, SymInt) and length == 1]
    gone = {ctx.axis(axis, len(have)) for axis in axes}
    if not gone:
        return x
    kept = [length for axis, length in enumerate(have) if axis not in gone]
    return ctx.declare(ops.squeeze(x, tuple(sorted(gone))), kept)


@op("Unsqueeze", since=1)
def unsqueeze_attribute(ctx: Context, x: Tensor, *, axes: Sequence[int]) -> Tensor:
    return _unsqueezed(ctx, x, axes)


@op("Unsqueeze", since=13, static=("axes",))
def unsqueeze(ctx: Context, x: Tensor, axes: Tensor) -> Tensor:
    return _unsqueezed(ctx, x, ctx.ints(axes))


def _unsqueezed(ctx: Context, x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = ctx.rank(x) + len(axes)
    new = sorted(ctx.axis(axis, rank) for axis in axes)
    have = iter(ctx.dims(x))
    dims = [1 if axis in new else next(have) for axis in range(rank)]
    for axis in new:
        x = ops.expand_dims(x, axis)
    return ctx.declare(x, dims)


@op("Concat", since=4)
def concat(ctx: Context, *xs: Tensor, axis: int) -> Tensor:
    axis = ctx.axis(axis, ctx.rank(xs[0]))
    all_dims = [ctx.dims(x) for x in xs]
    if len({len(one) for one in all_dims}) > 1:
        ctx.fail(f"its inputs have different numbers of axes: {', '.join(map(ctx.text, all_dims))}")
    dims: list[Any] = list(all_dims[0])
    for other in all_dims[1:]:
        dims = [a if isinstance(b, SymInt) else b for a, b in zip(dims, other, strict=True)]
    dims[axis] = sum((other[axis] for other in all_dims[1:]), all_dims[0][axis])
    return ctx.declare(ops.concatenate(xs, axis=axis), dims)


@op("Split", since=2)
def split_attribute(
    ctx: Context, x: Tensor, *, axis: int = 0, split: Sequence[int] = ()
) -> tuple[Tensor, ...]:
    return _parts(ctx, x, axis, list(split) or _even(ctx, x, axis, ctx.outputs, exact=True))


@op("Split", since=13, static=("split",))
def split_input(ctx: Context, x: Tensor, split: Tensor = None, *, axis: int = 0) -> tuple[Tensor, ...]:
    lengths = _even(ctx, x, axis, ctx.outputs, exact=True) if split is None else ctx.ints(split)
    return _parts(ctx, x, axis, lengths)


@op("Split", since=18, static=("split",))
def split(
    ctx: Context, x: Tensor, split: Tensor = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    """Without `split`, in equal parts of which the last may be shorter."""
    lengths = (
        _even(ctx, x, axis, num_outputs or ctx.outputs, exact=False) if split is None else ctx.ints(split)
    )
    return _parts(ctx, x, axis, lengths)


def _even(ctx: Context, x: Tensor, axis: int, count: int, *, exact: bool) -> list[int]:
    total = ctx.dims(x)[axis]
    if isinstance(total, SymInt):
        ctx.fail(f"the open dimension {total} at axis {axis} is split into {count} parts; give their sizes")
    if exact and total % count:
        ctx.fail(f"axis {axis} of {total} elements does not split into {count} equal parts")
    step = -(-total // count)
    return [min(step, total - step * part) for part in range(count)]


def _parts(ctx: Context, x: Tensor, axis: int, lengths: Sequence[int]) -> tuple[Tensor, ...]:
    axis = ctx.axis(axis, ctx.rank(x))
    have = ctx.dims(x)
    if not isinstance(have[axis], SymInt) and sum(lengths) != have[axis]:
        ctx.fail(f"parts of {', '.join(map(str, lengths))} of an axis of the size {have[axis]}")
    edges = np.cumsum([0, *lengths]).tolist()
    parts = []
    for (start, end), length in zip(pairwise(edges), lengths, strict=True):
        part = x[(slice(None),) * axis + (slice(start, end),)]
        parts.append(ctx.declare(part, [length if i == axis else size for i, size in enumerate(have)]))
    return tuple(parts)


@op("Slice", since=1)
def slice_attributes(
    ctx: Context, x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    return _sliced(ctx, x, list(starts), list(ends), axes, None)


@op("Slice", since=10, dims=("starts", "ends"), static=("axes", "steps"))
def slice_inputs(
    ctx: Context, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor = None, steps: Tensor = None
) -> Tensor:
    return _sliced(
        ctx,
        x,
        ctx.items(starts),
        ctx.items(ends),
        None if axes is None else ctx.ints(axes),
        None if steps is None else ctx.ints(steps),
    )


def _sliced(
    ctx: Context,
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Tensor:
    rank = ctx.rank(x)
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not step:
            ctx.fail(f"a slice of axis {axis} in steps of 0")
        x = _sliced_axis(ctx, x, start, end, ctx.axis(axis, rank), step)
    return x


def _sliced_axis(ctx: Context, x: Tensor, start: int, end: int, axis: int, step: int) -> Tensor:
    have: list[int | None] = list(ctx.dims(x))
    size = ctx.dims(x)[axis]
    if (
        step < 0
        and not isinstance(size, SymInt)
        and not isinstance(start, SymInt)
        and not isinstance(end, SymInt)
    ):
        picked = np.arange(size)[slice(start, None if end < -size else end, step)]
        have[axis] = len(picked)
        return ctx.declare(ops.take(x, picked, axis=axis), have)
    if step < 0:
        # Counted from the other end, the same elements in ascending order.
        x = ctx.declare(ops.flip(x, axis=axis), have)
        start, end, step = _mirrored(start, size), _mirrored(end, size), -step
    if ctx.sizes.same(end, size) or (not isinstance(end, SymInt) and end >= 2**31 - 1):
        end = size
    if isinstance(start, SymInt) or (isinstance(end, SymInt) and not ctx.sizes.same(end, size)):
        return _sliced_open(ctx, x, start, end, axis, step)
    stop = None if ctx.sizes.same(end, size) else end
    index = (slice(None),) * axis + (slice(start, stop, step),)
    if isinstance(size, SymInt):
        have[axis] = _open_length(size, start, stop, step)
    else:
        have[axis] = len(range(size)[slice(start, stop, step)])
    if index[axis] == slice(0, None, 1):
        return x
    return ctx.declare(x[index], have)


def _mirrored(bound: int, size: int) -> int:
    """A bound of a slice that runs backwards, on the flipped axis."""
    if isinstance(bound, SymInt):
        mirrored: int = size - 1 - bound
        return mirrored
    return -bound - 1 if -(2**31) < bound < 2**31 - 1 else (0 if bound > 0 else 2**31 - 1)


def _open_length(size: SymInt, start: int, stop: int | None, step: int) -> int | None:
    """Length of a slice of an open dimension; None where the bounds may lie beyond it."""
    if start < 0 or (stop is not None and stop >= 0):
        return None
    return floor_divide(size - start + (stop or 0) + step - 1, step)


def _sliced_open(ctx: Context, x: Tensor, start: int, end: int, axis: int, step: int) -> Tensor:
    """A slice whose bounds are sizes of other tensors: its elements are taken by their positions."""
    have = list(ctx.dims(x))
    size = have[axis]
    first, last = (
        bound if isinstance(bound, SymInt) or bound >= 0 else size + bound for bound in (start, end)
    )
    length = floor_divide(last - first + step - 1, step)
    positions = ctx.sizes.arange(length)
    if step != 1:
        positions = ops.multiply(positions, step)
    if isinstance(first, SymInt) or first:
        positions = ops.add(ops.cast(ctx.sizes.measured(first), "int32"), positions)
    have[axis] = length
    return ctx.declare(ops.take(x, positions, axis=axis), have)


@op("Gather", since=1)
def gather(ctx: Context, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    have = ctx.dims(x)
    axis = ctx.axis(axis, len(have))
    dims = [*have[:axis], *ctx.dims(indices), *have[axis + 1 :]]
    _check_indices(ctx, indices, have[axis])
    return ctx.declare(ops.take(x, indices, axis=axis), dims)


def _check_indices(ctx: Context, indices: Tensor, size: int) -> None:
    """Indices that are known lie on an axis whose size is."""
    if not isinstance(indices, np.ndarray) or isinstance(size, SymInt) or indices.dtype == object:
        return
    beyond = indices[(indices < -size) | (indices >= size)]
    if beyond.size:
        ctx.fail(f"index {beyond.flat[0]} of an axis of the size {size}")


@op("Expand", since=8, dims=("shape",))
def expand(ctx: Context, x: Tensor, shape: Tensor) -> Tensor:
    have, target = list(ctx.dims(x)), ctx.items(shape)
    rank = max(len(have), len(target))
    have, target = [1] * (rank - len(have)) + have, [1] * (rank - len(target)) + target
    dims = []
    for a, b in zip(have, target, strict=True):
        one = not isinstance(b, SymInt) and b == 1
        dims.append(a if one or (isinstance(b, SymInt) and not isinstance(a, SymInt) and a != 1) else b)
    return ctx.expand(x, dims)


@op("Range", since=11, dims=("start", "limit", "delta"))
def arange(ctx: Context, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    given = [ctx.items(array)[0] for array in (start, limit, delta)]
    if not any(isinstance(item, SymInt) for item in given):
        return ops.arange(*given, dtype=ctx.dtype(start))
    if isinstance(given[2], SymInt) or given[2] == 0 or any(item != int(item) for item in given):
        ctx.fail(
            f"a range in steps of {given[2]} from {given[0]} to {given[1]}, of which one is an open size"
        )
    # The bounds of a range of floats may be sizes, too.
    dtype = next((str(a.dtype) for a in (start, limit, delta) if a.dtype.kind == "f"), "int32")
    first, last, step = (item if isinstance(item, SymInt) else int(item) for item in given)
    span = last - first if step > 0 else first - last
    positions = ctx.sizes.arange((span + abs(step) - 1) // abs(step))
    if step != 1:
        positions = ops.multiply(positions, step)
    if isinstance(first, SymInt) or first:
        positions = ops.add(ops.cast(ctx.sizes.measured(first), "int32"), positions)
    return positions if dtype == "int32" else ops.cast(positions, dtype)


@op("ConstantOfShape", since=9, dims=("shape",))
def constant_of_shape(ctx: Context, shape: Tensor, *, value: Tensor = None) -> Tensor:
    filling = np.zeros((), "float32") if value is None else np.asarray(value).reshape(())
    dims = ctx.items(shape)
    if not any(isinstance(length, SymInt) for length in dims):
        return np.full(dims, filling)
    return ctx.expand(filling.reshape((1,) * len(dims)), dims)


@op("Constant", since=1)
def constant(
    ctx: Context,
    *,
    value: Tensor = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
    value_string: str | None = None,
    value_strings: Sequence[str] | None = None,
) -> Tensor:
    if value is not None:
        return value
    for given, dtype in (
        (value_float, "float32"),
        (value_floats, "float32"),
        (value_int, "int64"),
        (value_ints, "int64"),
    ):
        if given is not None:
            return np.asarray(given, dtype)
    return np.asarray(value_string if value_string is not None else value_strings, object)
