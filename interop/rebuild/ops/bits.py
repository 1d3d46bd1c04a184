"""Bits of integers. Source: https://onnx.ai/onnx/operators/onnx__BitwiseAnd.html and its kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


def _register() -> None:
    def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        return lambda ctx, x, y: function(x, y)

    for name, function in (
        ("BitwiseAnd", ops.bitwise_and),
        ("BitwiseOr", ops.bitwise_or),
        ("BitwiseXor", ops.bitwise_xor),
    ):
        op(name, since=18, pointwise=True)(binary(function))


_register()


@op("BitwiseNot", since=18, pointwise=True)
def bitwise_not(ctx: Context, x: Tensor) -> Tensor:
    return ops.bitwise_not(x)


@op("BitShift", since=11, pointwise=True)
def bit_shift(ctx: Context, x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """By as many bits as there are, or by a negative number, all bits leave: to the right, copies of the sign stay."""
    dtype = ctx.dtype(x)
    bits = np.iinfo(dtype).bits
    most = np.asarray(bits - 1, dtype)
    near = ops.less(y, np.asarray(bits, dtype))
    if not dtype.startswith("u"):
        near = ops.logical_and(near, ops.greater_equal(y, 0))
    shift = ops.where(near, y, most)
    if direction == "LEFT":
        moved = ops.cast(ops.bitwise_left_shift(x, shift), dtype)
        return ops.where(near, moved, ops.zeros_like(moved))
    moved = ops.cast(ops.bitwise_right_shift(x, shift), dtype)
    return ops.where(near, moved, ops.zeros_like(moved)) if dtype.startswith("u") else moved


@op("BitCast", since=26)
def bit_cast(ctx: Context, x: Tensor, *, to: int) -> Tensor:
    """The same bits read as another type of the same size."""
    dtype = ctx.dtype_of_code(to)
    if "bool" in (dtype, ctx.dtype(x)):
        return ops.cast(x, dtype)
    if np.dtype(dtype).itemsize != np.dtype(ctx.dtype(x)).itemsize:
        ctx.fail(f"{ctx.dtype(x)} and {dtype} have different sizes")
    return ctx.declare(ops.view(x, dtype), ctx.dims(x))
