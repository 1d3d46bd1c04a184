"""Reductions over axes, norms, cumulative sums, and index searches.

Invariants:
- Sums run in a dtype that ONNX Runtime has a kernel for and that holds the declared one.
- A NaN makes a maximum or minimum NaN, as in Keras on every backend. ONNX leaves that open and ONNX
  Runtime drops it, so the sum of absolute values, NaN exactly if one of them is, decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, axis_list, element_count
from interop.capture.keras.ops.elementwise import choose, floating, is_float, isnan
from interop.capture.keras.registry import op
from interop.capture.keras.subgraphs import scan
from interop.errors import UnsupportedOp
from interop.graph.record import Value

# Element types that ONNX Runtime's ReduceMax and ReduceMin take.
_COMPARABLE = ("float32", "float16", "float64", "int8", "uint8", "int32", "int64")


def _summand(e: Emit, x: Value) -> Value:
    """``x`` in the dtype its sum runs in."""
    if is_float(e.spec.dtype):
        return e.widened(e.cast(x, e.spec.dtype), "float16", "float32", "float64")
    return e.cast(x, "int64" if e.spec.dtype in ("int64", "uint32") else "int32")


def _without_nan(e: Emit, x: Value, instead: float) -> Value:
    """``x`` with another value for NaN."""
    return choose(e, isnan(e, x), e.like(instead, x), x) if is_float(x.dtype) else x


def _sum(onnx: str, nan: float | None = None) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
        x = x if nan is None else _without_nan(e, x, nan)
        return e.reduce(onnx, _summand(e, x), axis_list(axis, x.rank), keepdims)

    return emit


op("Sum", since=13)(_sum("ReduceSum"))
op("Mean", since=13)(_sum("ReduceMean"))
op("Prod", since=13)(_sum("ReduceProd"))
op("Nansum", since=16)(_sum("ReduceSum", 0))
op("Nanprod", since=16)(_sum("ReduceProd", 1))


def extreme(e: Emit, onnx: str, x: Value, axes: list[int], keepdims: bool) -> Value:
    """The greatest or least value (ReduceMax, ReduceMin), NaN if any is."""
    x = e.widened(x, *_COMPARABLE)
    result = e.reduce(onnx, x, axes, keepdims)
    if not axes or not is_float(x.dtype):
        return result
    size = e.reduce("ReduceL1", x, axes, keepdims)
    return choose(e, isnan(e, size), size, result)


def _extreme(onnx: str) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
        return extreme(e, onnx, x, axis_list(axis, x.rank), keepdims)

    return emit


def _extreme_from(onnx: str, pairwise: str) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: Any, keepdims: bool, initial: Any) -> Value:
        result = extreme(e, onnx, x, axis_list(axis, x.rank), keepdims)
        return result if initial is None else e.binary(pairwise, result, e.tensor(initial, result.dtype))

    return emit


op("Amax", since=16)(_extreme("ReduceMax"))
op("Amin", since=16)(_extreme("ReduceMin"))
op("Max", since=16)(_extreme_from("ReduceMax", "Max"))
op("Min", since=16)(_extreme_from("ReduceMin", "Min"))


@op("Ptp", since=16)
def ptp(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    axes = axis_list(axis, x.rank)
    least = e.reduce("ReduceMin", e.widened(x, *_COMPARABLE), axes, keepdims)
    return e.binary("Sub", extreme(e, "ReduceMax", x, axes, keepdims), least)


def _all_nan(e: Emit, x: Value, axes: list[int], keepdims: bool) -> Value:
    return e.cast(e.reduce("ReduceMin", e.cast(isnan(e, x), "int32"), axes, keepdims), "bool")


def _extreme_number(onnx: str, worst: float) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
        axes = axis_list(axis, x.rank)
        if not axes:
            return x
        number = e.widened(_without_nan(e, x, worst), *_COMPARABLE)
        result = e.reduce(onnx, number, axes, keepdims)
        if not is_float(x.dtype):
            return result
        return choose(e, _all_nan(e, x, axes, keepdims), e.like(math.nan, result), result)

    return emit


op("Nanmax", since=16)(_extreme_number("ReduceMax", -math.inf))
op("Nanmin", since=16)(_extreme_number("ReduceMin", math.inf))


def _wide(e: Emit, x: Value) -> Value:
    """A float tensor in which squares may be summed."""
    x = floating(e, x)
    return x if x.dtype == "float64" else e.cast(x, "float32")


def variance(e: Emit, x: Value, axis: Any, keepdims: bool) -> Value:
    """Population variance, in two passes as Keras computes it."""
    axes = axis_list(axis, x.rank)
    centred = e.binary("Sub", x, e.reduce("ReduceMean", x, axes, True))
    return e.reduce("ReduceMean", e.binary("Mul", centred, centred), axes, keepdims)


@op("Var", since=14)
def var(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return variance(e, _wide(e, x), axis, keepdims)


@op("Std", since=14)
def std(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return e.unary("Sqrt", variance(e, _wide(e, x), axis, keepdims))


def _numbers(e: Emit, x: Value, axes: list[int], keepdims: bool) -> Value:
    """How many values are not NaN."""
    valid = e.unary("Not", isnan(e, x))
    return e.reduce("ReduceSum", e.cast(valid, x.dtype), axes, keepdims)


def _mean_of_numbers(e: Emit, x: Value, axes: list[int], keepdims: bool) -> Value:
    total = e.reduce("ReduceSum", _without_nan(e, x, 0), axes, keepdims)
    return e.binary("Div", total, _numbers(e, x, axes, keepdims))


def _variance_of_numbers(e: Emit, x: Value, axes: list[int], keepdims: bool) -> Value:
    centred = e.binary("Sub", x, _mean_of_numbers(e, x, axes, True))
    return _mean_of_numbers(e, e.binary("Mul", centred, centred), axes, keepdims)


@op("Nanmean", since=16)
def nanmean(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return _mean_of_numbers(e, _wide(e, x), axis_list(axis, x.rank), keepdims)


@op("Nanvar", since=16)
def nanvar(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return _variance_of_numbers(e, _wide(e, x), axis_list(axis, x.rank), keepdims)


@op("Nanstd", since=16)
def nanstd(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return e.unary("Sqrt", _variance_of_numbers(e, _wide(e, x), axis_list(axis, x.rank), keepdims))


@op("Moments", since=14)
def moments(e: Emit, x: Value, *, axes: Any, keepdims: bool) -> tuple[Value, Value]:
    wide = e.cast(x, "float32") if x.dtype in ("float16", "bfloat16") else x
    mean = e.reduce("ReduceMean", wide, axis_list(axes, x.rank), keepdims)
    return e.cast(mean, x.dtype), e.cast(variance(e, wide, axes, keepdims), x.dtype)


@op("All", since=13)
def all_(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    number = e.cast(e.cast(x, "bool"), "int32")
    return e.cast(e.reduce("ReduceMin", number, axis_list(axis, x.rank), keepdims), "bool")


@op("Any", since=13)
def any_(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    number = e.cast(e.cast(x, "bool"), "int32")
    return e.cast(e.reduce("ReduceMax", number, axis_list(axis, x.rank), keepdims), "bool")


@op("CountNonzero", since=13)
def count_nonzero(e: Emit, x: Value, *, axis: Any) -> Value:
    number = e.cast(e.cast(x, "bool"), "int32")
    return e.reduce("ReduceSum", number, axis_list(axis, x.rank))


@op("Logsumexp", since=13)
def logsumexp(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return e.reduce("ReduceLogSumExp", floating(e, x), axis_list(axis, x.rank), keepdims)


def _vector_norm(e: Emit, x: Value, ord: Any, axes: list[int], keepdims: bool) -> Value:
    if ord == 1:
        return e.reduce("ReduceL1", x, axes, keepdims)
    if ord == 0:
        return e.reduce("ReduceSum", e.cast(e.cast(x, "bool"), x.dtype), axes, keepdims)
    size = e.unary("Abs", x)
    if math.isinf(ord):
        return extreme(e, "ReduceMax" if ord > 0 else "ReduceMin", size, axes, keepdims)
    total = e.reduce("ReduceSum", e.binary("Pow", size, e.like(ord, x)), axes, keepdims)
    return e.binary("Pow", total, e.like(1 / ord, x))


def norm_of(e: Emit, x: Value, ord: Any, axis: Any, keepdims: bool) -> Value:
    """Norm of vectors along one axis, or of matrices along a pair (rows, columns)."""
    axes = axis_list(axis, x.rank)
    if ord is None or ord == "fro" or (ord == 2 and len(axes) == 1):
        return e.reduce("ReduceL2", x, axes, keepdims)
    if len(axes) == 1:
        return _vector_norm(e, x, ord, axes, keepdims)
    if ord in ("nuc", 2, -2):
        raise UnsupportedOp(f"norm with ord={ord!r} of a matrix needs its singular values: ONNX has no SVD.")
    summed, compared = axes if abs(ord) == 1 else axes[::-1]
    sums = e.reduce("ReduceL1", x, [summed], keepdims=True)
    result = extreme(e, "ReduceMax" if ord > 0 else "ReduceMin", sums, [compared], True)
    return result if keepdims else e.squeeze(result, axes)


@op("Norm", since=16)
def norm(e: Emit, x: Value, *, ord: Any, axis: Any, keepdims: bool) -> Value:
    return norm_of(e, floating(e, x), ord, axis, keepdims)


@op("Normalize", since=16)
def normalize(e: Emit, x: Value, *, axis: Any, order: int, epsilon: float | None) -> Value:
    """By the norm, or by epsilon where that is greater."""
    x, least = floating(e, x), compat.epsilon(epsilon)
    length = norm_of(e, x, None if order == 2 else order, axis, True)
    return e.binary("Div", x, e.binary("Max", length, e.like(least, x)))


def arg_extreme(e: Emit, onnx: str, x: Value, axis: int | None, keepdims: bool) -> Value:
    """Index of the first greatest or least value (ArgMax, ArgMin), in all of ``x`` with ``axis=None``."""
    x = e.widened(x, *_COMPARABLE)
    if axis is None:
        flat = e.reshape(x, (element_count(x.dims),))
        found = e.node(onnx, flat, dtype="int64", shape=(), axis=0, keepdims=0)
        return e.reshape(found, (1,) * x.rank) if keepdims else found
    axis = axis % x.rank
    kept = [1] if keepdims else []
    shape = (*x.dims[:axis], *kept, *x.dims[axis + 1 :])
    return e.node(onnx, x, dtype="int64", shape=shape, axis=axis, keepdims=int(keepdims))


def _arg(onnx: str) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: int | None, keepdims: bool) -> Value:
        return arg_extreme(e, onnx, x, axis, keepdims)

    return emit


op("Argmax", since=13)(_arg("ArgMax"))
op("Argmin", since=13)(_arg("ArgMin"))


def _arg_of_numbers(onnx: str, worst: float) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: int | None, keepdims: bool) -> Value:
        found = arg_extreme(e, onnx, _without_nan(e, x, worst), axis, keepdims)
        if not is_float(x.dtype):
            return found
        return choose(e, _all_nan(e, x, axis_list(axis, x.rank), keepdims), e.like(-1, found), found)

    return emit


op("Nanargmax", since=16)(_arg_of_numbers("ArgMax", -math.inf))
op("Nanargmin", since=16)(_arg_of_numbers("ArgMin", math.inf))


def _cumulated(e: Emit, x: Value, axis: int | None) -> tuple[Value, int]:
    """``x`` in the dtype its sums run in, flat with ``axis=None``, and the axis."""
    x = _summand(e, x)
    if axis is None:
        return e.reshape(x, (element_count(x.dims),)), 0
    return x, axis % x.rank


@op("Cumsum", since=14)
def cumsum(e: Emit, x: Value, *, axis: int | None) -> Value:
    x, place = _cumulated(e, x, axis)
    return e.node("CumSum", x, e.scalar(place, "int64"), shape=x.shape)


@op("Nancumsum", since=16)
def nancumsum(e: Emit, x: Value, *, axis: int | None) -> Value:
    return cumsum(e, _without_nan(e, x, 0), axis=axis)


@op("Cumprod", since=14)
def cumprod(e: Emit, x: Value, *, axis: int | None) -> Value:
    """A Scan, as ONNX has no cumulative product before opset 26."""
    x, place = _cumulated(e, x, axis)
    rest = (*x.dims[:place], *x.dims[place + 1 :])

    def step(before: list[Value], given: list[Value]) -> tuple[list[Value], list[Value]]:
        product = e.binary("Mul", before[0], given[0])
        return [product], [product]

    return scan(e, step, [e.expand(e.like(1, x), rest)], [x], axis=place)[1][0]


@op("Nancumprod", since=16)
def nancumprod(e: Emit, x: Value, *, axis: int | None) -> Value:
    return cumprod(e, _without_nan(e, x, 1), axis=axis)


@op("TopK", since=11)
def top_k(e: Emit, x: Value, *, k: int, sorted: bool) -> tuple[Value, Value]:
    shape = (*x.dims[:-1], k)
    keys = e.widened(x, "float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8")
    outputs = [(keys.dtype, shape), ("int64", shape)]
    values, places = e.nodes("TopK", keys, [k], outputs=outputs, axis=-1, sorted=1)
    return values, places
