"""Pooling. Source: https://onnx.ai/onnx/operators/onnx__MaxPool.html and its kind. Channels as in ``convolution``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np
from keras import KerasTensor, layers, ops

from interop.capture.keras.symint import SymInt, floor_divide
from interop.formats.dtypes import numpy_dtype
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op
from interop.rebuild.windows import Window, single, window


def _channels_last(x: Tensor) -> Tensor:
    rank = len(x.shape)
    return ops.transpose(x, (0, *range(2, rank), 1))


def _channels_first(x: Tensor) -> Tensor:
    rank = len(x.shape)
    return ops.transpose(x, (0, rank - 1, *range(1, rank - 1)))


def _padding(sides: Window, *, excess: bool) -> tuple[tuple[int, int], ...]:
    beyond = sides.excess if excess else (0,) * len(sides.excess)
    return ((0, 0), *((a, b + more) for (a, b), more in zip(sides.pads, beyond, strict=True)), (0, 0))


def _pad(x: Tensor, padding: tuple[tuple[int, int], ...], value: float) -> Tensor:
    return ops.pad(x, padding, constant_values=value) if any(map(any, padding)) else x


@op("MaxPool", since=1)
def max_pool(
    ctx: Context,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    storage_order: int = 0,
    strides: Sequence[int] = (),
) -> tuple[Tensor, ...]:
    """The second output says where each maximum is in the whole tensor, flattened."""
    have, dtype = ctx.dims(x), ctx.dtype(x)
    sides = window(ctx, have[2:], kernel_shape, auto_pad, dilations, pads, strides, ceil_mode)
    lowest = float("-inf") if "float" in dtype else int(np.iinfo(dtype).min)
    moved = _pad(_channels_last(x), _padding(sides, excess=True), lowest)
    if max(sides.dilations) > 1 or "float" not in dtype or len(sides.kernel) > 3:
        y = _over_windows(ops.maximum, moved, sides)
    else:
        y = _pooled("Max", moved, sides)
    dims = (*have[:2], *sides.outputs)
    pooled = ctx.declare(_channels_first(y), dims)
    if not ctx.wants(1):
        return (pooled,)
    return pooled, ctx.declare(_positions(ctx, moved, have, sides, storage_order), dims)


def _positions(ctx: Context, moved: Tensor, have: Sequence[int], sides: Window, storage_order: int) -> Tensor:
    """Of the maxima: the place in the whole tensor of the first largest element of every window."""
    sizes = [int(size) for size in have]
    places = np.arange(int(np.prod(sizes[2:]))).reshape(sizes[2:], order="F" if storage_order else "C")
    padded = np.pad(places, [(a, b + more) for (a, b), more in zip(sides.pads, sides.excess, strict=True)])
    best, found = None, None
    for part, place in zip(_shifts(moved, sides), _shifts(padded[None, ..., None], sides), strict=True):
        place = place.astype("int32")
        better: Tensor = None if best is None else ops.greater(part, best)
        found = (
            ops.add(ops.zeros_like(part, dtype="int32"), place)
            if found is None
            else ops.where(better, place, found)
        )
        best = part if best is None else ops.where(better, part, best)
    found = ops.cast(_channels_first(found), ctx.dtype_of_code(7))
    slabs = np.arange(sizes[0] * sizes[1]).reshape(sizes[0], sizes[1], *(1,) * (len(sizes) - 2)) * places.size
    return ctx.add(found, slabs.astype(ctx.dtype_of_code(7)))


def _pooled(kind: str, x: Tensor, sides: Window) -> Tensor:
    """A pool of Keras. In a model it is a layer, as the operation does not load again on JAX: its config has lists
    where tuples are needed (Keras 3.15, ``keras/src/backend/jax/nn.py``)."""
    if isinstance(x, KerasTensor):
        layer = getattr(layers, f"{kind}Pooling{len(sides.kernel)}D")
        return layer(sides.kernel, sides.strides, "valid", "channels_last", dtype=str(x.dtype))(x)
    pool = ops.max_pool if kind == "Max" else ops.average_pool
    return pool(x, sides.kernel, sides.strides, "valid", data_format="channels_last")


def _shifts(x: Tensor, sides: Window) -> Iterator[Tensor]:
    """The elements of every window, one place of the window after the other."""
    for offset in np.ndindex(*sides.kernel):
        index: list[slice] = [slice(None)]
        for axis, place in enumerate(offset):
            start = place * sides.dilations[axis]
            reach = (sides.kernel[axis] - 1 - place) * sides.dilations[axis]
            index.append(slice(start, -reach or None, sides.strides[axis]))
        yield x[tuple(index)]


def _over_windows(combine: Callable[[Tensor, Tensor], Tensor], x: Tensor, sides: Window) -> Tensor:
    """The elements of every window, combined one axis after the other: a window of 60 x 80 takes 140 steps."""
    for axis, (size, step, dilation) in enumerate(
        zip(sides.kernel, sides.strides, sides.dilations, strict=True)
    ):
        before = (slice(None),) * (axis + 1)
        lines = (
            slice(place * dilation, -(size - 1 - place) * dilation or None, step) for place in range(size)
        )
        x = reduce(combine, [x[(*before, line)] for line in lines])
    return x


@op("AveragePool", since=7)
def average_pool(
    ctx: Context,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    have = ctx.dims(x)
    moved = _channels_last(x)
    if auto_pad == "SAME_UPPER" and _pads_unknown(have, strides) and max(dilations, default=1) == 1:
        dtype = numpy_dtype(ctx.dtype(x))
        shares = _average_of_open_sizes(moved, kernel_shape, strides, int(have[1]), dtype)
        y = shares[0] if count_include_pad else ops.divide(*shares)
        outputs = [floor_divide(size + step - 1, step) for size, step in zip(have[2:], strides, strict=True)]
        return ctx.declare(_channels_first(y), (*have[:2], *outputs))
    sides = window(ctx, have[2:], kernel_shape, auto_pad, dilations, pads, strides, ceil_mode)

    def average(of: Tensor) -> Tensor:
        if max(sides.dilations) > 1 or len(sides.kernel) > 3:
            return ops.divide(_over_windows(ops.add, of, sides), float(np.prod(sides.kernel)))
        return _pooled("Average", of, sides)

    y = average(_pad(moved, _padding(sides, excess=True), 0.0))
    if any(sides.excess) or (not count_include_pad and any(map(any, sides.pads))):
        # Places that do not count are 0 here, so this is the share of those that do.
        ones = ops.ones_like(moved[:1, ..., :1])
        counted = _pad(ones, _padding(sides, excess=False), 1.0 if count_include_pad else 0.0)
        beyond = ((0, 0), *((0, more) for more in sides.excess), (0, 0))
        y = ops.divide(y, average(_pad(counted, beyond, 0.0)))
    return ctx.declare(_channels_first(y), (*have[:2], *sides.outputs))


def _pads_unknown(have: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether padding to the same size depends on an open one, where a convolution of Keras can take care of it."""
    if len(have) not in (3, 4) or isinstance(have[1], SymInt):
        return False
    return any(isinstance(size, SymInt) and step > 1 for size, step in zip(have[2:], strides, strict=False))


def _average_of_open_sizes(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], channels: int, dtype: np.dtype[Any]
) -> tuple[Tensor, Tensor]:
    """The sum over each window by the size of one, and the share of the window that is no padding.

    A pool of Keras would do on TensorFlow and JAX; on PyTorch it repeats the border where a convolution has zeros.
    """
    weights = np.full((*kernel, channels, 1), 1 / np.prod(kernel), dtype)
    made = [
        ops.depthwise_conv(part, weights[..., :depth, :], single(strides), "same", "channels_last")
        for part, depth in ((x, channels), (ops.ones_like(x[:1, ..., :1]), 1))
    ]
    return made[0], made[1]


@op("GlobalAveragePool", since=1)
def global_average_pool(ctx: Context, x: Tensor) -> Tensor:
    have = ctx.dims(x)
    y = ops.mean(x, axis=tuple(range(2, len(have))), keepdims=True)
    return ctx.declare(y, (*have[:2], *(1,) * (len(have) - 2)))


@op("GlobalMaxPool", since=1)
def global_max_pool(ctx: Context, x: Tensor) -> Tensor:
    have = ctx.dims(x)
    y = ops.max(x, axis=tuple(range(2, len(have))), keepdims=True)
    return ctx.declare(y, (*have[:2], *(1,) * (len(have) - 2)))


@op("LpPool", since=2)
def lp_pool(
    ctx: Context,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    have = ctx.dims(x)
    sides = window(ctx, have[2:], kernel_shape, auto_pad, dilations, pads, strides, ceil_mode)
    powers = ops.power(ops.abs(_channels_last(x)), float(p))
    total = _over_windows(ops.add, _pad(powers, _padding(sides, excess=True), 0.0), sides)
    y = ops.power(total, 1.0 / p)
    return ctx.declare(_channels_first(y), (*have[:2], *sides.outputs))


@op("GlobalLpPool", since=2)
def global_lp_pool(ctx: Context, x: Tensor, *, p: int = 2) -> Tensor:
    have = ctx.dims(x)
    total = ops.sum(ops.power(ops.abs(x), float(p)), axis=tuple(range(2, len(have))), keepdims=True)
    return ctx.declare(ops.power(total, 1.0 / p), (*have[:2], *(1,) * (len(have) - 2)))


@op("MaxUnpool", since=9, static=("output_shape",))
def max_unpool(
    ctx: Context,
    x: Tensor,
    indices: Tensor,
    output_shape: Tensor = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """Maxima where they came from, zeros elsewhere; a larger `output_shape` adds zeros behind."""
    rank = len(kernel_shape)
    flat, steps = tuple(pads) or (0,) * (2 * rank), tuple(strides) or (1,) * rank
    sizes = [int(size) for size in x.shape[:2]]
    for i, size in enumerate(x.shape[2:]):
        sizes.append((int(size) - 1) * steps[i] - flat[i] - flat[i + rank] + kernel_shape[i])
    places = ops.reshape(ops.cast(indices, "int32"), (-1, 1))
    zeros = ops.zeros((int(np.prod(sizes)),), dtype=ctx.dtype(x))
    y = ops.reshape(ops.scatter_update(zeros, places, ops.reshape(x, (-1,))), sizes)
    if output_shape is None:
        return y
    return ops.pad(y, [(0, new - size) for new, size in zip(ctx.ints(output_shape), sizes, strict=True)])
