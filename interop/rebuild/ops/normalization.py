"""Normalisation. Source: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

import numpy as np
from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


def _over_channels(x: Tensor, parameter: Tensor) -> Tensor:
    """A vector of channels, to broadcast against a tensor with its channels on axis 1."""
    return ops.reshape(parameter, (1, -1) + (1,) * (len(x.shape) - 2))


def _normalized(
    ctx: Context, x: Tensor, axes: tuple[int, ...], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`x` over its deviation along axes, with the mean and the inverse of the deviation."""
    mean = ops.mean(x, axis=axes, keepdims=True)
    centred = ops.subtract(x, mean)
    variance = ops.mean(ops.square(centred), axis=axes, keepdims=True)
    inverse = ops.rsqrt(ops.add(variance, np.asarray(epsilon, ctx.dtype(x))))
    return ops.multiply(centred, inverse), mean, inverse


@op("BatchNormalization", since=7)
def batch_normalization(
    ctx: Context,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> tuple[Tensor, ...]:
    """In training mode by the statistics of the batch; the running ones are further outputs."""
    if not spatial:
        ctx.fail("spatial=0 normalises every place by its own statistics, which is not supported")
    running: tuple[Tensor, ...] = ()
    if training_mode:
        axes = tuple(axis for axis in range(ctx.rank(x)) if axis != 1)
        old, share = (mean, variance), np.asarray(momentum, ctx.dtype(mean))
        mean, variance = ops.mean(x, axis=axes), ops.var(x, axis=axes)
        running = tuple(
            ops.add(ops.multiply(before, share), ops.multiply(now, 1 - share))
            for before, now in zip(old, (mean, variance), strict=True)
        )
    inverse = ops.rsqrt(ops.add(variance, np.asarray(epsilon, ctx.dtype(variance))))
    factor = ops.multiply(scale, inverse)
    offset = ops.subtract(bias, ops.multiply(mean, factor))
    scaled = ops.multiply(x, _over_channels(x, factor))
    y = ops.cast(ctx.add(scaled, _over_channels(x, offset)), ctx.dtype(x))
    return ctx.declare(y, ctx.dims(x)), *running


@op("InstanceNormalization", since=6)
def instance_normalization(
    ctx: Context, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    normal, _, _ = _normalized(ctx, x, tuple(range(2, ctx.rank(x))), epsilon)
    scaled = ops.multiply(normal, _over_channels(x, scale))
    return ctx.declare(ctx.add(scaled, _over_channels(x, bias)), ctx.dims(x))


@op("LayerNormalization", since=17)
def layer_normalization(
    ctx: Context,
    x: Tensor,
    scale: Tensor,
    bias: Tensor = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, ...]:
    """Computed in the type of `stash_type`."""
    dtype = ctx.dtype(x)
    first = ctx.axis(axis, ctx.rank(x))
    wide = ops.cast(x, ctx.dtype_of_code(stash_type))
    normal, mean, inverse = _normalized(ctx, wide, tuple(range(first, ctx.rank(x))), epsilon)
    y = ops.multiply(ops.cast(normal, dtype), scale)
    y = y if bias is None else ctx.add(y, bias)
    return ctx.declare(y, ctx.dims(x)), mean, inverse


@op("GroupNormalization", since=21)
def group_normalization(
    ctx: Context,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """Channels in groups, each group normalised with all its places."""
    batch, channels, *places = ctx.dims(x)
    wide = ops.cast(x, ctx.dtype_of_code(stash_type))
    grouped = ctx.reshape(
        ctx.declare(wide, ctx.dims(x)), (batch, num_groups, channels // num_groups, *places)
    )
    normal, _, _ = _normalized(ctx, grouped, tuple(range(2, len(places) + 3)), epsilon)
    normal = ctx.reshape(ctx.declare(normal, ctx.dims(grouped)), ctx.dims(x))
    scaled = ops.multiply(ops.cast(normal, ctx.dtype(x)), _over_channels(x, scale))
    return ctx.declare(ctx.add(scaled, _over_channels(x, bias)), ctx.dims(x))


@op("LpNormalization", since=1)
def lp_normalization(ctx: Context, x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Where the norm is 0, so is the result."""
    if p == 1:
        norm = ops.sum(ops.abs(x), axis=axis, keepdims=True)
    else:
        norm = ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=True))
    nothing = ops.equal(norm, 0)
    y = ops.divide(x, ops.where(nothing, ops.ones_like(norm), norm))
    return ctx.declare(ops.where(nothing, ops.zeros_like(y), y), ctx.dims(x))


@op("LRN", since=1)
def local_response_normalization(
    ctx: Context, x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Tensor:
    """By the squares of neighbouring channels."""
    dtype, channels = ctx.dtype(x), int(x.shape[1])
    before = (size - 1) // 2
    sides = [(0, 0), (before, size - 1 - before), *[(0, 0)] * (ctx.rank(x) - 2)]
    squares = ops.pad(ops.square(x), sides, constant_values=0)
    total = squares[:, :channels]
    for shift in range(1, size):
        total = ops.add(total, squares[:, shift : shift + channels])
    scaled = ops.add(ops.multiply(total, np.asarray(alpha / size, dtype)), np.asarray(bias, dtype))
    return ctx.declare(ops.divide(x, ops.power(scaled, np.asarray(beta, dtype))), ctx.dims(x))
