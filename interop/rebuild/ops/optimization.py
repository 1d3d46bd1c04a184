"""Steps of optimizers. Source: https://github.com/onnx/onnx/blob/main/docs/Operators-preview.training.md.

Inputs are the learning rate, the count of steps so far, then all tensors, all their gradients and all their states.
"""

from __future__ import annotations

from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op

_DOMAIN = "ai.onnx.preview.training"


def _groups(xs: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """For every tensor, itself, its gradient and its states."""
    size = len(xs) // count
    return list(zip(*(xs[i * size : (i + 1) * size] for i in range(count)), strict=True))


def _columns(results: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """All new tensors, then all new states."""
    return tuple(x for column in zip(*results, strict=True) for x in column)


@op("Adagrad", since=1, domain=_DOMAIN)
def adagrad(
    ctx: Context,
    rate: Tensor,
    step: Tensor,
    *xs: Tensor,
    decay_factor: float = 0.0,
    epsilon: float = 0.0,
    norm_coefficient: float = 0.0,
) -> tuple[Tensor, ...]:
    decayed = ops.divide(rate, ops.add(ops.multiply(ops.cast(step, ctx.dtype(rate)), decay_factor), 1.0))
    results = []
    for x, gradient, squares in _groups(xs, 3):
        slope = ops.add(ops.multiply(x, norm_coefficient), gradient)
        total = ops.add(squares, ops.square(slope))
        move = ops.divide(ops.multiply(slope, decayed), ops.add(ops.sqrt(total), epsilon))
        results.append((ops.subtract(x, move), total))
    return _columns(results)


@op("Momentum", since=1, domain=_DOMAIN)
def momentum(
    ctx: Context,
    rate: Tensor,
    step: Tensor,
    *xs: Tensor,
    alpha: float,
    beta: float,
    mode: str,
    norm_coefficient: float,
) -> tuple[Tensor, ...]:
    """At step 0 the gradient counts fully."""
    share = ops.where(ops.greater(step, 0), ops.cast(beta, ctx.dtype(rate)), ops.cast(1.0, ctx.dtype(rate)))
    results = []
    for x, gradient, velocity in _groups(xs, 3):
        slope = ops.add(ops.multiply(x, norm_coefficient), gradient)
        moving = ops.add(ops.multiply(velocity, alpha), ops.multiply(slope, share))
        move = moving if mode == "standard" else ops.add(slope, ops.multiply(moving, alpha))
        results.append((ops.subtract(x, ops.multiply(move, rate)), moving))
    return _columns(results)


@op("Adam", since=1, domain=_DOMAIN)
def adam(
    ctx: Context,
    rate: Tensor,
    step: Tensor,
    *xs: Tensor,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 0.0,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> tuple[Tensor, ...]:
    """From step 1 on, the averages are corrected for having begun at zero."""
    dtype = ctx.dtype(rate)
    count = ops.cast(ops.maximum(step, 1), dtype)
    first, second = (ops.subtract(1.0, ops.power(ops.cast(base, dtype), count)) for base in (alpha, beta))
    corrected = ops.divide(ops.multiply(rate, ops.sqrt(second)), first)
    pace = ops.where(ops.greater(step, 0), corrected, rate)
    results = []
    for x, gradient, mean, square in _groups(xs, 4):
        slope = ops.add(ops.multiply(x, norm_coefficient), gradient)
        mean = ops.add(ops.multiply(mean, alpha), ops.multiply(slope, 1 - alpha))
        square = ops.add(ops.multiply(square, beta), ops.multiply(ops.square(slope), 1 - beta))
        move = ops.multiply(ops.divide(mean, ops.add(ops.sqrt(square), epsilon)), pace)
        results.append((ops.multiply(ops.subtract(x, move), 1 - norm_coefficient_post), mean, square))
    return _columns(results)
