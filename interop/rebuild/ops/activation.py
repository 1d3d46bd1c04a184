"""Activations. Source: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

import numpy as np
from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


@op("Relu", since=6, pointwise=True)
def relu(ctx: Context, x: Tensor) -> Tensor:
    return ops.relu(x)


@op("Sigmoid", since=6, pointwise=True)
def sigmoid(ctx: Context, x: Tensor) -> Tensor:
    return ops.sigmoid(x)


@op("Tanh", since=6, pointwise=True)
def tanh(ctx: Context, x: Tensor) -> Tensor:
    return ops.tanh(x)


@op("Softplus", pointwise=True)
def softplus(ctx: Context, x: Tensor) -> Tensor:
    return ops.softplus(x)


@op("Softsign", pointwise=True)
def softsign(ctx: Context, x: Tensor) -> Tensor:
    return ops.softsign(x)


@op("LeakyRelu", since=6, pointwise=True)
def leaky_relu(ctx: Context, x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return ops.leaky_relu(x, negative_slope=alpha)


@op("PRelu", since=7, pointwise=True)
def parametric_relu(ctx: Context, x: Tensor, slope: Tensor) -> Tensor:
    return ops.where(ops.less(x, 0), ops.multiply(slope, x), x)


@op("ThresholdedRelu", since=10, pointwise=True)
def thresholded_relu(ctx: Context, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return ops.where(ops.greater(x, alpha), x, ops.zeros_like(x))


@op("Elu", since=6, pointwise=True)
def elu(ctx: Context, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return ops.elu(x, alpha=alpha)


@op("Selu", since=6, pointwise=True)
def selu(
    ctx: Context, x: Tensor, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805
) -> Tensor:
    return ops.multiply(ops.elu(x, alpha=alpha), np.asarray(gamma, ctx.dtype(x)))


@op("HardSigmoid", since=6, pointwise=True)
def hard_sigmoid(ctx: Context, x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    scaled = ops.add(ops.multiply(x, np.asarray(alpha, ctx.dtype(x))), np.asarray(beta, ctx.dtype(x)))
    return ops.clip(scaled, 0.0, 1.0)


@op("HardSwish", since=14, pointwise=True)
def hard_swish(ctx: Context, x: Tensor) -> Tensor:
    return ops.multiply(x, hard_sigmoid(ctx, x, alpha=1 / 6))


@op("Mish", since=18, pointwise=True)
def mish(ctx: Context, x: Tensor) -> Tensor:
    return ops.multiply(x, ops.tanh(ops.softplus(x)))


@op("Gelu", since=20, pointwise=True)
def gelu(ctx: Context, x: Tensor, *, approximate: str = "none") -> Tensor:
    return ops.gelu(x, approximate=approximate == "tanh")


@op("Softmax", since=13)
def softmax(ctx: Context, x: Tensor, *, axis: int = -1) -> Tensor:
    return ctx.declare(ops.softmax(x, axis=axis), ctx.dims(x))


@op("LogSoftmax", since=13)
def log_softmax(ctx: Context, x: Tensor, *, axis: int = -1) -> Tensor:
    return ctx.declare(ops.log_softmax(x, axis=axis), ctx.dims(x))


@op("Softmax", since=1)
def softmax_of_rows(ctx: Context, x: Tensor, *, axis: int = 1) -> Tensor:
    """Over all axes from `axis` on together."""
    axis = ctx.axis(axis, ctx.rank(x))
    scaled, total = _exponentials(x, tuple(range(axis, ctx.rank(x))))
    return ctx.declare(ops.divide(ops.exp(scaled), total), ctx.dims(x))


@op("LogSoftmax", since=1)
def log_softmax_of_rows(ctx: Context, x: Tensor, *, axis: int = 1) -> Tensor:
    """Over all axes from `axis` on together."""
    axis = ctx.axis(axis, ctx.rank(x))
    scaled, total = _exponentials(x, tuple(range(axis, ctx.rank(x))))
    return ctx.declare(ops.subtract(scaled, ops.log(total)), ctx.dims(x))


def _exponentials(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """`x` below its maximum over axes, so that nothing overflows, and the sum of its exponentials."""
    scaled = ops.subtract(x, ops.max(x, axis=axes, keepdims=True))
    return scaled, ops.sum(ops.exp(scaled), axis=axes, keepdims=True)


@op("Hardmax", since=13)
def hardmax(ctx: Context, x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first maximum along an axis, 0 elsewhere."""
    axis = ctx.axis(axis, ctx.rank(x))
    line = ops.reshape(
        ctx.sizes.arange(ctx.dims(x)[axis]), [-1 if i == axis else 1 for i in range(ctx.rank(x))]
    )
    best = ops.cast(ops.argmax(x, axis=axis, keepdims=True), "int32")
    return ctx.declare(ops.cast(ops.equal(line, best), ctx.dtype(x)), ctx.dims(x))


@op("Hardmax", since=1)
def hardmax_of_rows(ctx: Context, x: Tensor, *, axis: int = 1) -> Tensor:
    """Over all axes from `axis` on together."""
    have = ctx.dims(x)
    axis = ctx.axis(axis, len(have))
    width = 1
    for size in have[axis:]:
        width = width * size
    rows = ctx.reshape(x, (*have[:axis], width))
    return ctx.reshape(hardmax(ctx, rows, axis=-1), have)


@op("Shrink", since=9, pointwise=True)
def shrink(ctx: Context, x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    low, high = ops.add(x, bias), ops.subtract(x, bias)
    y = ops.where(ops.less(x, -lambd), low, ops.where(ops.greater(x, lambd), high, ops.zeros_like(high)))
    return ops.cast(y, ctx.dtype(x))


@op("Swish", since=24, pointwise=True)
def swish(ctx: Context, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return ops.multiply(x, ops.sigmoid(ops.multiply(x, np.asarray(alpha, ctx.dtype(x)))))
