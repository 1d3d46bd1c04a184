"""Pooling. Source: https://onnx.ai/onnx/operators/onnx__MaxPool.html and its kind. Channels as in ``convolution``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import KerasTensor, layers, ops

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op
from interop.rebuild.windows import Window, window


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
) -> Tensor:
    if ctx.wants(1):
        ctx.fail("its second output, the positions of the maxima, is not computed")
    have, dtype = ctx.dims(x), ctx.dtype(x)
    sides = window(ctx, have[2:], kernel_shape, auto_pad, dilations, pads, strides, ceil_mode)
    lowest = float("-inf") if "float" in dtype else int(np.iinfo(dtype).min)
    moved = _pad(_channels_last(x), _padding(sides, excess=True), lowest)
    if max(sides.dilations) > 1 or "float" not in dtype:
        y = _max_of_shifts(moved, sides)
    else:
        y = _pooled("Max", moved, sides)
    return ctx.declare(_channels_first(y), (*have[:2], *sides.outputs))


def _pooled(kind: str, x: Tensor, sides: Window) -> Tensor:
    """A pool of Keras. In a model it is a layer, as the operation does not load again on JAX: its config has lists
    where tuples are needed (Keras 3.15, ``keras/src/backend/jax/nn.py``)."""
    if isinstance(x, KerasTensor):
        layer = getattr(layers, f"{kind}Pooling{len(sides.kernel)}D")
        return layer(sides.kernel, sides.strides, "valid", "channels_last", dtype=str(x.dtype))(x)
    pool = ops.max_pool if kind == "Max" else ops.average_pool
    return pool(x, sides.kernel, sides.strides, "valid", data_format="channels_last")


def _max_of_shifts(x: Tensor, sides: Window) -> Tensor:
    """The maximum over a window, one of its elements after the other; for windows that Keras does not pool."""
    best = None
    for offset in np.ndindex(*sides.kernel):
        index: list[slice] = [slice(None)]
        for axis, place in enumerate(offset):
            start = place * sides.dilations[axis]
            reach = (sides.kernel[axis] - 1 - place) * sides.dilations[axis]
            index.append(slice(start, -reach or None, sides.strides[axis]))
        part = x[tuple(index)]
        best = part if best is None else ops.maximum(best, part)
    return best


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
    sides = window(ctx, have[2:], kernel_shape, auto_pad, dilations, pads, strides, ceil_mode)
    if max(sides.dilations) > 1:
        ctx.fail("dilations of an average are not supported")
    moved = _channels_last(x)

    def average(of: Tensor) -> Tensor:
        return _pooled("Average", of, sides)

    y = average(_pad(moved, _padding(sides, excess=True), 0.0))
    if any(sides.excess) or (not count_include_pad and any(map(any, sides.pads))):
        # Places that do not count are 0 here, so this is the share of those that do.
        ones = ops.ones_like(moved[:1, ..., :1])
        counted = _pad(ones, _padding(sides, excess=False), 1.0 if count_include_pad else 0.0)
        beyond = ((0, 0), *((0, more) for more in sides.excess), (0, 0))
        y = ops.divide(y, average(_pad(counted, beyond, 0.0)))
    return ctx.declare(_channels_first(y), (*have[:2], *sides.outputs))


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
