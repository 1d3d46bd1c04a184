"""Tensors made from sizes and constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import function, op
from interop.capture.keras.symint import is_symbolic
from interop.graph.record import Value


def filled(e: Emit, shape: Any, value: Any, dtype: str) -> Value:
    """A tensor of one repeated value."""
    dims = (shape,) if isinstance(shape, int) else tuple(shape)
    scalar = e.tensor(value, dtype)
    if scalar.kind == "constant" and scalar.array is not None and scalar.rank == 0 and dtype != "bfloat16":
        return e.node(
            "ConstantOfShape", e.sizes(dims), dtype=dtype, shape=dims, value=scalar.array.reshape(1)
        )
    return e.expand(scalar, dims)


def _dtype(dtype: Any) -> str:
    import keras

    return str(keras.backend.standardize_dtype(dtype or keras.config.floatx()))


@function("zeros", since=13)
def zeros(e: Emit, shape: Any, dtype: Any = None) -> Value:
    return filled(e, shape, 0, _dtype(dtype))


@function("ones", since=13)
def ones(e: Emit, shape: Any, dtype: Any = None) -> Value:
    return filled(e, shape, 1, _dtype(dtype))


@function("full", since=13)
def full(e: Emit, shape: Any, fill_value: Any, dtype: Any = None) -> Value:
    return filled(e, shape, fill_value, _dtype(dtype))


@function("eye", since=13)
def eye(e: Emit, N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Value:
    rows, columns = N, N if M is None else M
    difference = e.binary("Sub", _column(e, rows), e.unsqueeze(counting(e, columns), [0]))
    hit = e.binary("Equal", difference, e.scalar(-k, "int64"), dtype="bool")
    return e.cast(hit, _dtype(dtype))


@function("tri", since=16)
def tri(e: Emit, N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Value:
    rows, columns = N, N if M is None else M
    below = e.binary("Add", _column(e, rows), e.scalar(k, "int64"))
    hit = e.binary("GreaterOrEqual", below, e.unsqueeze(counting(e, columns), [0]), dtype="bool")
    return e.cast(hit, _dtype(dtype))


@function("shape")
def shape(e: Emit, x: Any) -> tuple[Any, ...]:
    return tuple(x.dims) if isinstance(x, Value) else tuple(x.shape)


def counting(e: Emit, count: Any) -> Value:
    """0, 1, ..., count - 1 as int64."""
    if not is_symbolic(count):
        return e.constant(np.arange(int(count), dtype=np.int64))
    stop = e.reshape(e.size(count), ())
    zero, one = e.scalar(0, "int64"), e.scalar(1, "int64")
    return e.node("Range", zero, stop, one, dtype="int64", shape=(count,))


def _column(e: Emit, count: Any) -> Value:
    return e.unsqueeze(counting(e, count), [1])


def _arange_spec(operation: Any, start: Any, stop: Any = None, step: Any = None) -> Any:
    begin, end, stride = _range(start, stop, step)
    dtype = operation.dtype
    if dtype is None:
        dtype = compat.result_type(*(getattr(v, "dtype", _number(v)) for v in (begin, end, stride)))
    if any(hasattr(v, "dtype") for v in (begin, end, stride)):
        return compat.tensor_spec((None,), dtype)
    if isinstance(stride, int) and isinstance(begin, int) and isinstance(end, int):
        count = end - begin if stride == 1 else -((begin - end) // stride)
    else:
        count = int(np.ceil((end - begin) / stride))
    return compat.tensor_spec((count,), dtype)


def _number(value: Any) -> type:
    return float if isinstance(value, float) else int


def _range(start: Any, stop: Any, step: Any) -> tuple[Any, Any, Any]:
    begin, end = (0, start) if stop is None else (start, stop)
    return begin, end, 1 if step is None else step


@op("Arange", since=11, spec=_arange_spec)
def arange(e: Emit, start: Any, stop: Any = None, step: Any = None) -> Value:
    begin, end, stride = _range(start, stop, step)
    dtype = e.spec.dtype
    parts = (begin, end, stride)
    if not any(is_symbolic(v) or isinstance(v, Value) for v in parts):
        return e.constant(np.arange(begin, end, stride), dtype)
    kind = dtype if dtype in ("int32", "int64", "float32", "float64") else "float32"
    limits = [e.reshape(e.tensor(v, kind), ()) for v in parts]
    return e.cast(e.node("Range", *limits, dtype=kind, shape=e.spec.shape), dtype)


@op("ZerosLike", "EmptyLike", since=13)
def zeros_like(e: Emit, x: Value) -> Value:
    return filled(e, x.dims, 0, e.spec.dtype)


@op("OnesLike", since=13)
def ones_like(e: Emit, x: Value) -> Value:
    return filled(e, x.dims, 1, e.spec.dtype)


@op("FullLike", since=13)
def full_like(e: Emit, x: Value, fill_value: Any) -> Value:
    return filled(e, x.dims, fill_value, e.spec.dtype)
