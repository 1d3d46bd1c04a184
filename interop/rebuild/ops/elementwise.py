"""Arithmetic, comparison, logic and selection, element by element.

Source: https://onnx.ai/onnx/operators/, from the versions with NumPy's broadcasting (opset 7) on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.narrow import NAMES, narrowed, type_of, wide
from interop.rebuild.registry import Tensor, op

_UNARY: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    # operator: function, first version with these types
    "Abs": (ops.abs, 6),
    "Acos": (ops.arccos, 7),
    "Acosh": (ops.arccosh, 9),
    "Asin": (ops.arcsin, 7),
    "Asinh": (ops.arcsinh, 9),
    "Atan": (ops.arctan, 7),
    "Atanh": (ops.arctanh, 9),
    "Ceil": (ops.ceil, 6),
    "Cos": (ops.cos, 7),
    "Cosh": (ops.cosh, 9),
    "Erf": (ops.erf, 9),
    "Exp": (ops.exp, 6),
    "Floor": (ops.floor, 6),
    "IsNaN": (ops.isnan, 9),
    "Log": (ops.log, 6),
    "Neg": (ops.negative, 6),
    "Not": (ops.logical_not, 1),
    "Reciprocal": (ops.reciprocal, 6),
    "Round": (ops.round, 11),
    "Sign": (ops.sign, 9),
    "Sin": (ops.sin, 7),
    "Sinh": (ops.sinh, 9),
    "Sqrt": (ops.sqrt, 6),
    "Tan": (ops.tan, 7),
}

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "And": ops.logical_and,
    "Greater": ops.greater,
    "Less": ops.less,
    "Mul": ops.multiply,
    "Or": ops.logical_or,
    "Sub": ops.subtract,
    "Xor": ops.logical_xor,
}


def _register() -> None:
    """Operators that are one function of Keras."""

    def unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        return lambda ctx, x: function(x)

    def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        return lambda ctx, x, y: function(x, y)

    for name, (function, since) in _UNARY.items():
        op(name, since=since, pointwise=True)(unary(function))
    for name, pair in _BINARY.items():
        op(name, since=7, pointwise=True)(binary(pair))


_register()


@op("Equal", since=7, pointwise=True)
def equal(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """Strings stay arrays, and are compared as such."""
    if isinstance(x, np.ndarray) and x.dtype == object:
        return np.asarray(x == y)
    return ops.equal(x, y)


@op("GreaterOrEqual", since=12, pointwise=True)
def greater_equal(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    return ops.greater_equal(x, y)


@op("LessOrEqual", since=12, pointwise=True)
def less_equal(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    return ops.less_equal(x, y)


@op("Add", since=7, pointwise=True)
def add(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    return ctx.add(x, y)


@op("Div", since=7, pointwise=True)
def divide(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    dtype = ctx.dtype(x)
    if "int" not in dtype:
        return ops.divide(x, y)
    if dtype.startswith("uint"):
        return ops.floor_divide(x, y)
    quotient = ops.floor_divide(ops.abs(x), ops.abs(y))
    return ops.cast(ops.multiply(quotient, ops.multiply(ops.sign(x), ops.sign(y))), dtype)


@op("Pow", since=7, pointwise=True)
def power(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """The result has the type of the base."""
    return ops.cast(ops.power(x, y), ctx.dtype(x))


@op("Mod", since=10, pointwise=True)
def modulo(ctx: Context, x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    """The sign is that of the divisor, with `fmod` that of the dividend."""
    return ops.fmod(x, y) if fmod else ops.mod(x, y)


@op("Max", since=8, pointwise=True)
def maximum(ctx: Context, *xs: Tensor) -> Tensor:
    return reduce(ops.maximum, xs)


@op("Min", since=8, pointwise=True)
def minimum(ctx: Context, *xs: Tensor) -> Tensor:
    return reduce(ops.minimum, xs)


@op("Sum", since=8, pointwise=True)
def total(ctx: Context, *xs: Tensor) -> Tensor:
    return reduce(ctx.add, xs)


@op("Mean", since=8, pointwise=True)
def mean(ctx: Context, *xs: Tensor) -> Tensor:
    return ops.divide(reduce(ctx.add, xs), np.asarray(len(xs), ctx.dtype(xs[0])))


@op("Where", since=9, pointwise=True)
def where(ctx: Context, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ops.where(condition, x, y)


@op("Clip", since=6, pointwise=True)
def clip_to_attributes(
    ctx: Context, x: Tensor, *, min: float = -3.4028234663852886e38, max: float = 3.4028234663852886e38
) -> Tensor:
    return ops.clip(x, min, max)


@op("Clip", since=11, pointwise=True)
def clip(ctx: Context, x: Tensor, low: Tensor = None, high: Tensor = None) -> Tensor:
    """Where `low` is above `high`, the result is `high`."""
    if low is not None:
        x = ops.maximum(x, low)
    return x if high is None else ops.minimum(x, high)


@op("Identity", pointwise=True, narrow=True)
def identity(ctx: Context, x: Tensor) -> Tensor:
    return x


@op("Cast", since=6, pointwise=True, narrow=True)
def cast(ctx: Context, x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """`saturate` and `round_mode` say how float8 is rounded."""
    dtype = ctx.dtype_of_code(to)
    if dtype in NAMES:
        return narrowed(wide(x), dtype, saturate=bool(saturate), round_mode=round_mode)
    return ops.cast(wide(x), dtype)


@op("CastLike", since=15, narrow=True)
def cast_like(ctx: Context, x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    dtype = type_of(like)
    if dtype:
        return narrowed(wide(x), dtype, saturate=bool(saturate), round_mode=round_mode)
    return ctx.declare(ops.cast(wide(x), ctx.dtype(like)), ctx.dims(x))


@op("Dropout", since=7)
def dropout_attribute(ctx: Context, x: Tensor, *, ratio: float = 0.5) -> tuple[Tensor, ...]:
    return dropout(ctx, x)


@op("Dropout", since=12)
def dropout(
    ctx: Context, x: Tensor, ratio: Tensor = None, training_mode: Tensor = None, *, seed: int | None = None
) -> tuple[Tensor, ...]:
    """Outside training it is the identity, and its mask is true; so it is where nothing is dropped."""
    training = training_mode is not None and any(ctx.ints(training_mode))
    share = 0.5 if ratio is None else ctx.known(ratio)
    if training and (share is None or float(share) > 0):
        ctx.fail("dropout in training mode is random; export the model for inference")
    return (x, ops.ones_like(x, dtype="bool")) if ctx.wants(1) else (x,)


@op("IsInf", since=10, pointwise=True)
def is_inf(ctx: Context, x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    infinite = ops.isinf(x)
    if not detect_negative:
        infinite = ops.logical_and(infinite, ops.greater(x, 0))
    return infinite if detect_positive else ops.logical_and(infinite, ops.less(x, 0))
