"""Padding, tiling and blocks: elements are moved or repeated. Source: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op

_MODES = ("constant", "reflect", "edge")


@op("Pad", since=2)
def pad_attributes(
    ctx: Context, x: Tensor, *, mode: str = "constant", pads: Sequence[int], value: float = 0.0
) -> Tensor:
    return _padded(ctx, x, list(pads), list(range(ctx.rank(x))), mode, value)


@op("Pad", since=11, static=("pads", "axes"))
def pad(
    ctx: Context,
    x: Tensor,
    pads: Tensor,
    value: Tensor = None,
    axes: Tensor = None,
    *,
    mode: str = "constant",
) -> Tensor:
    rank = ctx.rank(x)
    over = list(range(rank)) if axes is None else [ctx.axis(axis, rank) for axis in ctx.ints(axes)]
    filling = 0 if value is None else ctx.known(value)
    if filling is None:
        ctx.fail("its constant_value depends on the model's inputs; export the model with it as a constant")
    return _padded(ctx, x, ctx.ints(pads), over, mode, np.asarray(filling).reshape(()).item())


def _padded(ctx: Context, x: Tensor, pads: list[int], axes: list[int], mode: str, value: Any) -> Tensor:
    """Negative numbers crop; "wrap" takes places from the other end, again and again."""
    if len(pads) != 2 * len(axes):
        ctx.fail(f"{len(pads)} pads for {len(axes)} axes; expected {2 * len(axes)}")
    dims: list[Any] = list(ctx.dims(x))
    sides = [(0, 0)] * len(dims)
    for i, axis in enumerate(axes):
        sides[axis] = (pads[i], pads[i + len(axes)])
    crops = tuple(slice(max(0, -before), min(0, after) or None) for before, after in sides)
    if any(min(pair) < 0 for pair in sides):
        x = x[crops]
        dims = [size + min(0, a) + min(0, b) for size, (a, b) in zip(dims, sides, strict=True)]
    grown = [(max(0, before), max(0, after)) for before, after in sides]
    if not any(map(any, grown)):
        return ctx.declare(x, dims)
    if mode == "wrap":
        for axis, (before, after) in enumerate(grown):
            if before or after:
                size = _fixed(ctx, dims[axis], "wrap")
                x = ops.take(x, np.arange(-before, size + after) % size, axis=axis)
    elif mode in _MODES:
        x = _pad(ctx, x, grown, mode, value)
    else:
        ctx.fail(f"mode {mode!r} is unknown; expected one of {', '.join([*_MODES, 'wrap'])}")
    return ctx.declare(x, [a + size + b for size, (a, b) in zip(dims, grown, strict=True)])


def _open_pad(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Padding along an open dimension, by parts of it: Keras' own does not know "edge" on PyTorch and TensorFlow."""

    def part(start: int | None, stop: int | None) -> Tensor:
        return x[(slice(None),) * axis + (slice(start, stop),)]

    if mode == "edge":
        parts = [*[part(0, 1)] * before, x, *[part(-1, None)] * after]
    else:
        parts = [ops.flip(part(1, before + 1), axis), x, ops.flip(part(-after - 1, -1), axis)]
    return ops.concatenate([one for one in parts if one.shape[axis] != 0], axis=axis)


def _pad(ctx: Context, x: Tensor, grown: list[tuple[int, int]], mode: str, value: Any) -> Tensor:
    dtype = ctx.dtype(x)
    if mode != "constant":
        # An axis at a time, by positions: what Keras pads otherwise depends on the number of axes.
        for axis, (before, after) in enumerate(grown):
            if not before and not after:
                continue
            size = x.shape[axis]
            if size is None:
                x = _open_pad(x, axis, before, after, mode)
                continue
            places = np.pad(np.arange(size), (before, after), mode="edge" if mode == "edge" else "reflect")
            x = ops.take(x, places, axis=axis)
        return x
    if dtype == "bool":
        padded = ops.pad(ops.cast(x, "int32"), grown, constant_values=int(value))
        return ops.cast(padded, "bool")
    return ops.pad(x, grown, constant_values=value)


def _fixed(ctx: Context, size: int, what: str) -> int:
    if isinstance(size, SymInt):
        ctx.fail(f"{what} over the open dimension {size}; export the model with that size fixed")
    return int(size)


@op("Tile", since=6, dims=("repeats",))
def tile(ctx: Context, x: Tensor, repeats: Tensor) -> Tensor:
    counts = ctx.items(repeats)
    dims = list(ctx.dims(x))
    if len(counts) != len(dims):
        ctx.fail(f"{len(counts)} repeats of a tensor with {len(dims)} axes")
    total = [size * count for size, count in zip(dims, counts, strict=True)]
    if not any(isinstance(count, SymInt) for count in counts):
        return ctx.declare(ops.tile(x, tuple(counts)), total)
    # Each repeat is an axis of its own in front of what it repeats.
    pairs = [part for size, count in zip(dims, counts, strict=True) for part in (count, size)]
    apart = ctx.reshape(x, [part for size in dims for part in (1, size)])
    return ctx.reshape(ctx.expand(apart, pairs), total)


@op("DepthToSpace", since=1)
def depth_to_space(ctx: Context, x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of channels become places, one axis of places or more."""
    batch, channels, *places = ctx.dims(x)
    rank = len(places)
    rest = channels // blocksize**rank
    blocks = [blocksize] * rank
    apart = [batch, *blocks, rest, *places] if mode == "DCR" else [batch, rest, *blocks, *places]
    first = 1 if mode == "DCR" else 2
    axes = [0, rank + 1 if mode == "DCR" else 1]
    for i in range(rank):
        axes += [rank + 2 + i, first + i]
    moved = [apart[axis] for axis in axes]
    y = ctx.declare(ops.transpose(ctx.reshape(x, apart), axes), moved)
    return ctx.reshape(y, [batch, rest, *(size * blocksize for size in places)])


@op("SpaceToDepth", since=1)
def space_to_depth(ctx: Context, x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """The inverse of DepthToSpace."""
    batch, channels, *places = ctx.dims(x)
    rank = len(places)
    apart = [batch, channels]
    for size in places:
        apart += [size // blocksize, blocksize]
    blocks, kept = [3 + 2 * i for i in range(rank)], [2 + 2 * i for i in range(rank)]
    axes = [0, *blocks, 1, *kept] if mode == "DCR" else [0, 1, *blocks, *kept]
    moved = [apart[axis] for axis in axes]
    y = ctx.declare(ops.transpose(ctx.reshape(x, apart), axes), moved)
    return ctx.reshape(y, [batch, channels * blocksize**rank, *(size // blocksize for size in places)])


@op("Col2Im", since=18, static=("image_shape", "block_shape"))
def col2im(
    ctx: Context,
    x: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    *,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """Columns of blocks summed where they overlap."""
    image, block = ctx.ints(image_shape), ctx.ints(block_shape)
    rank = len(image)
    steps, spread = tuple(strides) or (1,) * rank, tuple(dilations) or (1,) * rank
    sides = tuple(pads) or (0,) * (2 * rank)
    full = [size + sides[i] + sides[i + rank] for i, size in enumerate(image)]
    counts = [(full[i] - (block[i] - 1) * spread[i] - 1) // steps[i] + 1 for i in range(rank)]
    batch, rows, columns = ctx.dims(x)
    channels = rows // int(np.prod(block))
    # Where each element of each block goes in the flattened image.
    places = np.zeros(1, "int32")
    for i in range(rank):
        line = np.arange(block[i])[:, None] * spread[i] + np.arange(counts[i]) * steps[i]
        old = places.reshape(int(np.prod(block[:i])), 1, int(np.prod(counts[:i])), 1)
        places = (old * full[i] + line[None, :, None, :]).reshape(-1)
    flat = ctx.reshape(x, (batch, channels, int(np.prod(block)) * columns))
    moved = ops.transpose(flat, (2, 0, 1))
    gathered = ops.segment_sum(moved, places.astype("int32"), num_segments=int(np.prod(full)))
    y = ctx.reshape(ops.transpose(gathered, (1, 2, 0)), (batch, channels, *full))
    inner = tuple(slice(sides[i], full[i] - sides[i + rank]) for i in range(rank))
    return ctx.declare(y[(slice(None), slice(None), *inner)], (batch, channels, *image))


@op("Trilu", since=14)
def trilu(ctx: Context, x: Tensor, k: Tensor = None, *, upper: int = 1) -> Tensor:
    diagonal = 0 if k is None else ctx.ints(k)[0]
    rows, columns = (ctx.sizes.arange(size) for size in ctx.dims(x)[-2:])
    offset = ops.subtract(ops.expand_dims(columns, 0), ops.expand_dims(rows, 1))
    kept = ops.greater_equal(offset, diagonal) if upper else ops.less_equal(offset, diagonal)
    return ctx.declare(ops.where(kept, x, ops.zeros_like(x)), ctx.dims(x))


@op("EyeLike", since=9)
def eye_like(ctx: Context, x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    rows, columns = (ctx.sizes.arange(size) for size in ctx.dims(x))
    on = ops.equal(ops.subtract(ops.expand_dims(columns, 0), ops.expand_dims(rows, 1)), k)
    return ctx.declare(ops.cast(on, ctx.dtype(x) if dtype is None else ctx.dtype_of_code(dtype)), ctx.dims(x))


@op("ReverseSequence", since=10)
def reverse_sequence(
    ctx: Context, x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    """The first `lengths[b]` elements of every row turned around."""
    dims, rank = ctx.dims(x), ctx.rank(x)
    time = ops.reshape(ctx.sizes.arange(dims[time_axis]), [-1 if i == time_axis else 1 for i in range(rank)])
    ends = ops.reshape(ops.cast(lengths, "int32"), [-1 if i == batch_axis else 1 for i in range(rank)])
    places = ops.where(ops.less(time, ends), ops.subtract(ops.subtract(ends, time), 1), time)
    return ctx.declare(ops.take_along_axis(x, ctx.expand(places, dims), axis=time_axis), dims)
