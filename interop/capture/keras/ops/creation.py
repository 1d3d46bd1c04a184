"""Tensors made from sizes and constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, element_count
from interop.capture.keras.registry import function, op
from interop.capture.keras.shapes import broadcast_shapes
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


@function("zeros", "empty", since=13)
def zeros(e: Emit, shape: Any, dtype: Any = None) -> Value:
    return filled(e, shape, 0, _dtype(dtype))


@function("ones", since=13)
def ones(e: Emit, shape: Any, dtype: Any = None) -> Value:
    return filled(e, shape, 1, _dtype(dtype))


@function("full", since=13)
def full(e: Emit, shape: Any, fill_value: Any, dtype: Any = None) -> Value:
    return filled(e, shape, fill_value, _dtype(dtype))


@op("Full", since=13)
def full_of_tensor(e: Emit, fill_value: Value, *, shape: Any) -> Value:
    return filled(e, shape, fill_value, e.spec.dtype)


@function("eye", since=13)
def eye(e: Emit, N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Value:
    return e.cast(on_diagonal(e, N, N if M is None else M, k), _dtype(dtype))


@function("identity", since=13)
def identity(e: Emit, n: Any, dtype: Any = None) -> Value:
    return e.cast(on_diagonal(e, n, n, 0), _dtype(dtype))


def on_diagonal(e: Emit, rows: Any, columns: Any, k: Any) -> Value:
    """(rows, columns), true where the column is ``k`` places after the row."""
    if not any(is_symbolic(size) or isinstance(size, Value) for size in (rows, columns, k)):
        return e.constant(np.eye(rows, columns, int(k), dtype=bool))
    places = e.binary("Add", _column(e, rows), e.tensor(k, "int64"))
    return e.binary("Equal", places, e.unsqueeze(counting(e, columns), [0]), dtype="bool")


@function("tri", since=16)
def tri(e: Emit, N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Value:
    rows, columns = N, N if M is None else M
    below = e.binary("Add", _column(e, rows), e.tensor(k, "int64"))
    hit = e.binary("GreaterOrEqual", below, e.unsqueeze(counting(e, columns), [0]), dtype="bool")
    return e.cast(hit, _dtype(dtype))


@function("shape")
def shape(e: Emit, x: Any) -> tuple[Any, ...]:
    return tuple(x.dims) if isinstance(x, Value) else tuple(x.shape)


def _no_spec(operation: Any, x: Any) -> None:
    """The result is a number, not a tensor."""


@op("Ndim", spec=_no_spec)
def ndim(e: Emit, x: Value) -> int:
    return x.rank


@op("Size", spec=_no_spec)
def size(e: Emit, x: Value) -> Any:
    return element_count(x.dims)


def counting(e: Emit, count: Any) -> Value:
    """0, 1, ..., count - 1 as int64; the count may be traced."""
    if not is_symbolic(count) and not isinstance(count, Value):
        return e.constant(np.arange(int(count), dtype=np.int64))
    extent = e.unknown("count", count) if isinstance(count, Value) else count
    stop = e.cast(e.reshape(count, ()), "int64") if isinstance(count, Value) else e.reshape(e.size(count), ())
    zero, one = e.scalar(0, "int64"), e.scalar(1, "int64")
    result = e.node("Range", zero, stop, one, dtype="int64", shape=(extent,))
    return e.witness(result) if isinstance(count, Value) else result


def _column(e: Emit, count: Any) -> Value:
    return e.unsqueeze(counting(e, count), [1])


def _arange_spec(operation: Any, start: Any, stop: Any = None, step: Any = None) -> Any:
    dtype = operation.dtype
    if dtype is None:
        kinds = (getattr(v, "dtype", _number(v)) for v in _range(start, stop, step))
        dtype = compat.result_type(*kinds)
    return compat.tensor_spec((None,), dtype)


def _number(value: Any) -> type:
    return float if isinstance(value, float) else int


def _range(start: Any, stop: Any, step: Any) -> tuple[Any, Any, Any]:
    begin, end = (0, start) if stop is None else (start, stop)
    return begin, end, 1 if step is None else step


@op("Arange", since=11, spec=_arange_spec)
def arange(e: Emit, start: Any, stop: Any = None, step: Any = None) -> Value:
    parts = begin, end, stride = _range(start, stop, step)
    dtype = e.spec.dtype
    if not any(is_symbolic(v) or isinstance(v, Value) for v in parts):
        return e.constant(np.arange(begin, end, stride), dtype)
    exact = any(isinstance(v, float) or getattr(v, "dtype", "int").startswith("float") for v in parts)
    kind = dtype if dtype in ("int32", "int64", "float32", "float64") else "float32" if exact else "int64"
    limits = [e.reshape(e.tensor(v, kind), ()) for v in parts]
    count: Any
    if all(isinstance(v, int) for v in parts):
        count = end - begin if stride == 1 else -((begin - end) // stride)
        return e.cast(e.node("Range", *limits, dtype=kind, shape=(count,)), dtype)
    result = e.node("Range", *limits, dtype=kind)
    result.shape = (e.unknown("count", result),)
    return e.cast(e.witness(result), dtype)


@op("ZerosLike", "EmptyLike", since=13)
def zeros_like(e: Emit, x: Value) -> Value:
    return filled(e, x.dims, 0, e.spec.dtype)


@op("OnesLike", since=13)
def ones_like(e: Emit, x: Value) -> Value:
    return filled(e, x.dims, 1, e.spec.dtype)


@op("FullLike", since=13)
def full_like(e: Emit, x: Any, fill_value: Any) -> Value:
    return filled(e, e.tensor(x).dims, fill_value, e.spec.dtype)


# Ranges between tensors


def _between_spec(operation: Any, start: Any, stop: Any) -> Any:
    dtype = _float(operation.dtype, start)
    spec = compat.tensor_spec((None,), dtype)
    return (spec, spec) if getattr(operation, "retstep", False) else spec


def _float(dtype: Any, start: Any) -> str:
    kind = dtype or getattr(start, "dtype", type(start))
    return compat.result_type(compat.dtype_name(kind), float)


def _between(
    e: Emit, start: Any, stop: Any, num: Any, endpoint: bool, axis: int, dtype: str
) -> tuple[Value, Value]:
    """``num`` values from start to stop along a new axis, both ends exact; and the step."""
    a, b = e.tensor(start, dtype), e.tensor(stop, dtype)
    gaps = num - 1 if endpoint else num
    step = e.binary("Sub", b, a)
    if not is_symbolic(gaps) and gaps <= 0:
        step, gaps = e.binary("Mul", step, e.like(float("nan"), step)), 1
    count = e.cast(e.reshape(e.size(gaps), ()), dtype)
    step = e.binary("Div", step, count)
    part = e.binary("Div", e.cast(counting(e, num), dtype), count)
    rank = step.rank + 1
    axis = axis % rank
    part = e.unsqueeze(part, [i for i in range(rank) if i != axis])
    rest = e.binary("Sub", e.like(1, part), part)
    shape = broadcast_shapes(a.dims, b.dims)
    a, b = (e.unsqueeze(x, [*range(rank - 1 - x.rank)]) for x in (a, b))
    a, b = e.unsqueeze(a, [axis]), e.unsqueeze(b, [axis])
    result = e.binary("Add", e.binary("Mul", a, rest), e.binary("Mul", b, part))
    result.shape = (*shape[:axis], num, *shape[axis:])
    return result, step


def linspace(
    e: Emit,
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    values, step = _between(e, start, stop, num, endpoint, axis, _float(dtype, start))
    return (values, step) if retstep else values


function("linspace", since=13)(linspace)


@op("Linspace", since=13, spec=_between_spec)
def linspace_of_tensors(
    e: Emit, start: Any, stop: Any, *, num: Any, endpoint: bool, retstep: bool, dtype: Any, axis: int
) -> Any:
    return linspace(e, start, stop, num, endpoint, retstep, dtype, axis)


def logspace(
    e: Emit,
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10,
    dtype: Any = None,
    axis: int = 0,
) -> Value:
    powers, _ = _between(e, start, stop, num, endpoint, axis, _float(dtype, start))
    return e.binary("Pow", e.tensor(base, powers.dtype), powers)


function("logspace", since=13)(logspace)


@op("Logspace", since=13, spec=_between_spec)
def logspace_of_tensors(
    e: Emit, start: Any, stop: Any, *, num: Any, endpoint: bool, base: Any, dtype: Any, axis: int
) -> Value:
    return logspace(e, start, stop, num, endpoint, base, dtype, axis)


def geomspace(
    e: Emit, start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Value:
    """Values with a constant ratio, with the sign of ``start``, as the backends compute it."""
    kind = _float(dtype, start)
    first, last = e.tensor(start, kind), e.tensor(stop, kind)
    logs = [e.unary("Log", e.unary("Abs", x)) for x in (first, last)]
    powers, _ = _between(e, logs[0], logs[1], num, endpoint, axis, kind)
    rank = powers.rank
    sign = e.unary("Sign", first)
    sign = e.unsqueeze(e.unsqueeze(sign, [*range(rank - 1 - sign.rank)]), [axis % rank])
    return e.binary("Mul", e.unary("Exp", powers), sign)


function("geomspace", since=13)(geomspace)


@op("Geomspace", since=13, spec=_between_spec)
def geomspace_of_tensors(
    e: Emit, start: Any, stop: Any, *, num: Any, endpoint: bool, dtype: Any, axis: int
) -> Value:
    return geomspace(e, start, stop, num, endpoint, dtype, axis)


def _meshgrid_spec(operation: Any, *xs: Any) -> list[Any]:
    return [compat.tensor_spec((None,), x.dtype) for x in xs]


@op("Meshgrid", since=13, spec=_meshgrid_spec)
def meshgrid(e: Emit, *xs: Any, indexing: str) -> list[Value]:
    """Each vector along an axis of its own; the first two are swapped for ``xy``."""
    vectors = [e.reshape(e.tensor(x), (element_count(e.tensor(x).dims),)) for x in xs]
    axes = list(range(len(vectors)))
    if indexing == "xy" and len(axes) > 1:
        axes[0], axes[1] = 1, 0
    shape: list[Any] = [0] * len(axes)
    for axis, vector in zip(axes, vectors, strict=True):
        shape[axis] = vector.dims[0]
    return [
        e.expand(e.unsqueeze(vector, [i for i in range(len(axes)) if i != axis]), shape)
        for axis, vector in zip(axes, vectors, strict=True)
    ]
