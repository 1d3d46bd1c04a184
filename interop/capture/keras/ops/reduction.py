"""Reductions over axes, cumulative sums, and index searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interop.capture.keras.emit import Emit, axis_list
from interop.capture.keras.registry import op
from interop.graph.record import Value

_REDUCTIONS = {
    "Sum": "ReduceSum",
    "Mean": "ReduceMean",
    "Max": "ReduceMax",
    "Min": "ReduceMin",
    "Amax": "ReduceMax",
    "Amin": "ReduceMin",
    "Prod": "ReduceProd",
}


def _reduction(onnx: str) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
        dtype = e.spec.dtype
        narrow = dtype in ("bool", "int8", "uint8", "int16", "uint16") or (
            onnx == "ReduceProd" and dtype == "bool"
        )
        x = e.cast(x, "int32" if narrow else dtype)
        return e.reduce(onnx, x, axis_list(axis, x.rank), keepdims)

    return emit


for _name, _onnx in _REDUCTIONS.items():
    op(_name, since=13)(_reduction(_onnx))


def variance(e: Emit, x: Value, axis: Any, keepdims: bool) -> Value:
    """Population variance, in two passes as Keras computes it."""
    axes = axis_list(axis, x.rank)
    centred = e.binary("Sub", x, e.reduce("ReduceMean", x, axes, True))
    return e.reduce("ReduceMean", e.binary("Mul", centred, centred), axes, keepdims)


@op("Var", since=14)
def var(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return variance(e, e.cast(x, e.spec.dtype), axis, keepdims)


@op("Std", since=14)
def std(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return e.unary("Sqrt", variance(e, e.cast(x, e.spec.dtype), axis, keepdims))


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


@op("Logsumexp", since=13)
def logsumexp(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return e.reduce("ReduceLogSumExp", e.cast(x, e.spec.dtype), axis_list(axis, x.rank), keepdims)


def _arg(onnx: str) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: int | None, keepdims: bool) -> Value:
        if x.dtype == "bool":
            x = e.cast(x, "int32")
        if axis is None:
            from interop.capture.keras.emit import element_count

            flat = e.reshape(x, (element_count(x.dims),))
            found = e.node(onnx, flat, dtype="int64", shape=(), axis=0, keepdims=0)
            return e.reshape(found, (1,) * x.rank) if keepdims else found
        axis = axis % x.rank
        kept = [1] if keepdims else []
        shape = (*x.dims[:axis], *kept, *x.dims[axis + 1 :])
        return e.node(onnx, x, dtype="int64", shape=shape, axis=axis, keepdims=int(keepdims))

    return emit


op("Argmax", since=13)(_arg("ArgMax"))
op("Argmin", since=13)(_arg("ArgMin"))


@op("Cumsum", since=14)
def cumsum(e: Emit, x: Value, *, axis: int | None) -> Value:
    x = e.cast(x, "int32" if e.spec.dtype in ("bool", "int8", "uint8", "int16", "uint16") else e.spec.dtype)
    if axis is None:
        from interop.capture.keras.emit import element_count

        x, axis = e.reshape(x, (element_count(x.dims),)), 0
    return e.node("CumSum", x, e.scalar(axis % x.rank, "int64"), shape=x.shape)


@op("TopK", since=11)
def top_k(e: Emit, x: Value, *, k: int, sorted: bool) -> tuple[Value, Value]:
    shape = (*x.dims[:-1], k)
    values, places = e.nodes("TopK", x, [k], outputs=[(x.dtype, shape), ("int64", shape)], axis=-1, sorted=1)
    return values, places
