"""Quantised numbers. Source: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html and its kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.dtypes import available
from interop.rebuild.narrow import NAMES, Narrow, limits, narrowed, type_of, wide
from interop.rebuild.ops.convolution import conv
from interop.rebuild.registry import Tensor, op


def _spread(ctx: Context, value: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """Scales or zero points, one for all, one a slice of an axis, or one a block, to broadcast against `x`."""
    value = wide(value)
    if not ctx.rank(value):
        return value
    if int(np.prod(value.shape)) == 1 and ctx.rank(value) == 1:
        return ops.reshape(value, ())
    rank = ctx.rank(x)
    axis = ctx.axis(axis, rank)
    if not block_size:
        return ops.reshape(value, [-1 if i == axis else 1 for i in range(rank)])
    repeated = ops.repeat(value, block_size, axis=axis)
    return repeated[(slice(None),) * axis + (slice(0, x.shape[axis]),)]


def _quantized(ctx: Context, x: Tensor, zero: Tensor, dtype: str, saturate: int = 1) -> Tensor:
    """Numbers that were divided by their scale, in a quantised type."""
    bounds = limits(dtype)
    if bounds is None:
        if zero is not None and dtype == "float4_e2m1fn":
            x = ops.add(x, ops.cast(zero, ctx.dtype(x)))
        return narrowed(x, dtype, saturate=bool(saturate))
    whole = ops.round(ops.cast(x, "float32" if ctx.dtype(x) != "float64" else "float64"))
    if zero is not None:
        whole = ops.add(whole, ops.cast(zero, ctx.dtype(whole)))
    whole = ops.clip(whole, *bounds)
    return Narrow(ops.cast(whole, "int32"), dtype) if dtype in NAMES else ops.cast(whole, dtype)


@op("QuantizeLinear", since=10, narrow=True)
def quantize(
    ctx: Context,
    x: Tensor,
    scale: Tensor,
    zero: Tensor = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    if zero is not None:
        dtype = type_of(zero) or ctx.dtype(zero)
    else:
        dtype = ctx.dtype_of_code(output_dtype) if output_dtype else "uint8"
    steps = _spread(ctx, scale, x, axis, block_size)
    if precision:
        x, steps = (ops.cast(y, ctx.dtype_of_code(precision)) for y in (x, steps))
    offset = None if zero is None else _spread(ctx, zero, x, axis, block_size)
    return _quantized(ctx, ops.divide(x, steps), offset, dtype, saturate)


@op("DequantizeLinear", since=10, narrow=True)
def dequantize(
    ctx: Context,
    x: Tensor,
    scale: Tensor,
    zero: Tensor = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    dims = ctx.dims(wide(x))
    numbers = ops.cast(wide(x), "float32")
    if zero is not None:
        offset = ops.cast(_spread(ctx, zero, numbers, axis, block_size), "float32")
        numbers = ops.subtract(numbers, offset)
    y = ops.multiply(numbers, ops.cast(_spread(ctx, scale, numbers, axis, block_size), "float32"))
    return ctx.declare(
        ops.cast(y, ctx.dtype_of_code(output_dtype) if output_dtype else ctx.dtype(scale)), dims
    )


def _centred(x: Tensor, zero: Tensor) -> Tensor:
    """Integers less their zero point."""
    x = ops.cast(x, "int32")
    return x if zero is None else ops.subtract(x, ops.cast(zero, "int32"))


def _rows(ctx: Context, zero: Tensor) -> Tensor:
    """Zero points of the rows of a left factor."""
    return (
        ops.expand_dims(zero, -1) if zero is not None and ctx.rank(zero) == 1 and zero.shape[0] != 1 else zero
    )


@op("MatMulInteger", since=10)
def matmul_integer(
    ctx: Context, a: Tensor, b: Tensor, a_zero: Tensor = None, b_zero: Tensor = None
) -> Tensor:
    return ops.matmul(_centred(a, _rows(ctx, a_zero)), _centred(b, b_zero))


@op("QLinearMatMul", since=10)
def quantized_matmul(
    ctx: Context,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    product = ops.matmul(_centred(a, _rows(ctx, a_zero)), _centred(b, b_zero))
    left, right, out = (ops.cast(s, "float32") for s in (_rows(ctx, a_scale), b_scale, y_scale))
    factor = ops.divide(ops.multiply(left, right), out)
    return _quantized(ctx, ops.multiply(ops.cast(product, "float32"), factor), y_zero, ctx.dtype(y_zero))


def _integer_conv(ctx: Context, x: Tensor, w: Tensor, **attributes: object) -> Tensor:
    """A convolution of integers, exact in float64 (in float32 up to 2**24)."""
    exact = available("float64")
    return ops.round(conv(ctx, ops.cast(x, exact), ops.cast(w, exact), **attributes))  # type: ignore[arg-type]


def _of_filters(ctx: Context, zero: Tensor, w: Tensor) -> Tensor:
    """A zero point for every filter."""
    if zero is None or not ctx.rank(zero):
        return zero
    return ops.reshape(zero, (-1,) + (1,) * (ctx.rank(w) - 1))


@op("ConvInteger", since=10)
def conv_integer(
    ctx: Context,
    x: Tensor,
    w: Tensor,
    x_zero: Tensor = None,
    w_zero: Tensor = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    y = _integer_conv(
        ctx,
        _centred(x, x_zero),
        _centred(w, _of_filters(ctx, w_zero, w)),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    return ops.cast(y, "int32")


@op("QLinearConv", since=10)
def quantized_conv(
    ctx: Context,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    b: Tensor = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    y = _integer_conv(
        ctx,
        _centred(x, x_zero),
        _centred(w, _of_filters(ctx, w_zero, w)),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    channels = (1, -1) + (1,) * (ctx.rank(x) - 2)
    if b is not None:
        y = ops.add(y, ops.cast(ops.reshape(b, channels), ctx.dtype(y)))
    scale = ops.reshape(w_scale, channels) if ctx.rank(w_scale) else w_scale
    factor = ops.divide(ops.multiply(x_scale, scale), y_scale)
    return _quantized(ctx, ops.multiply(ops.cast(y, "float32"), factor), y_zero, ctx.dtype(y_zero))
