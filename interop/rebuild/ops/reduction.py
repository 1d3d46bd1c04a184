"""Reductions over axes. Source: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


def _norm1(x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.sum(ops.abs(x), axis=axis, keepdims=keepdims)


def _norm2(x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.sqrt(_sum_of_squares(x, axis, keepdims))


def _sum_of_squares(x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.sum(ops.square(x), axis=axis, keepdims=keepdims)


def _log_of_sum(x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.log(ops.sum(x, axis=axis, keepdims=keepdims))


_REDUCTIONS: dict[str, tuple[Callable[..., Tensor], int]] = {
    # operator: function, opset from which on `axes` is an input
    "ReduceL1": (_norm1, 18),
    "ReduceL2": (_norm2, 18),
    "ReduceLogSum": (_log_of_sum, 18),
    "ReduceLogSumExp": (ops.logsumexp, 18),
    "ReduceMax": (ops.max, 18),
    "ReduceMean": (ops.mean, 18),
    "ReduceMin": (ops.min, 18),
    "ReduceProd": (ops.prod, 18),
    "ReduceSum": (ops.sum, 13),
    "ReduceSumSquare": (_sum_of_squares, 18),
}


_EXTREMES = (ops.max, ops.min)


def _of_nothing(dtype: str, largest: bool) -> Tensor:
    """The maximum or minimum of no elements: what every element is above or below."""
    if dtype == "bool":
        return np.asarray(not largest)
    if "int" in dtype:
        bounds = np.iinfo(dtype)
        return np.asarray(bounds.min if largest else bounds.max, dtype)
    return np.asarray(-np.inf if largest else np.inf, dtype)


def _reduced(
    ctx: Context, function: Callable[..., Tensor], x: Tensor, axes: Sequence[int], keepdims: int
) -> Tensor:
    rank, dims = ctx.rank(x), ctx.dims(x)
    over = tuple(sorted({ctx.axis(axis, rank) for axis in axes})) or tuple(range(rank))
    dtype = ctx.dtype(x)
    if function in _EXTREMES and any(not isinstance(dims[axis], SymInt) and dims[axis] == 0 for axis in over):
        kept = [1 if axis in over else size for axis, size in enumerate(dims) if keepdims or axis not in over]
        return ctx.expand(_of_nothing(dtype, function is ops.max), kept)
    if dtype == "bool":
        x = ops.cast(x, "int32")
    result = function(x, axis=over, keepdims=bool(keepdims))
    kept = [1 if axis in over else size for axis, size in enumerate(dims) if keepdims or axis not in over]
    return ctx.declare(ops.cast(result, dtype), kept)


def _register() -> None:
    def by_attribute(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def handler(ctx: Context, x: Tensor, *, axes: Sequence[int] = (), keepdims: int = 1) -> Tensor:
            return _reduced(ctx, function, x, axes, keepdims)

        return handler

    def by_input(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def handler(
            ctx: Context, x: Tensor, axes: Tensor = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
        ) -> Tensor:
            over = [] if axes is None else ctx.ints(axes)
            if not over and noop_with_empty_axes:
                return x
            return _reduced(ctx, function, x, over, keepdims)

        return handler

    for name, (function, since) in _REDUCTIONS.items():
        op(name, since=1)(by_attribute(function))
        op(name, since=since, static=("axes",))(by_input(function))


_register()


def _extreme_index(
    ctx: Context, find: Callable[..., Tensor], x: Tensor, axis: int, keepdims: int, select_last_index: int
) -> Tensor:
    axis = ctx.axis(axis, ctx.rank(x))
    dims = ctx.dims(x)
    if select_last_index:
        found = ops.subtract(
            ops.subtract(ops.shape(x)[axis], 1), find(ops.flip(x, axis), axis=axis, keepdims=bool(keepdims))
        )
    else:
        found = find(x, axis=axis, keepdims=bool(keepdims))
    kept = [1 if i == axis else size for i, size in enumerate(dims) if keepdims or i != axis]
    return ctx.declare(ops.cast(found, ctx.dtype_of_code(7)), kept)


@op("ArgMax")
def argmax(
    ctx: Context, x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Tensor:
    return _extreme_index(ctx, ops.argmax, x, axis, keepdims, select_last_index)


@op("ArgMin")
def argmin(
    ctx: Context, x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Tensor:
    return _extreme_index(ctx, ops.argmin, x, axis, keepdims, select_last_index)
