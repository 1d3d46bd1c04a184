"""Elementwise arithmetic, comparison, logic and selection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.indexing import nonzero
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import broadcast_shapes
from interop.formats.dtypes import numpy_dtype
from interop.graph.record import Value

# Element types that ONNX Runtime's Max, Min, Where and Clip take, and its Pow.
_SELECTABLE = ("float32", "float16", "float64", "int8", "uint8", "int32", "int64")
_POWERS = ("float32", "float16", "float64", "int32", "int64")

_UNARY = {
    "Arccos": "Acos",
    "Arccosh": "Acosh",
    "Arcsin": "Asin",
    "Arcsinh": "Asinh",
    "Arctan": "Atan",
    "Arctanh": "Atanh",
    "Ceil": "Ceil",
    "Cos": "Cos",
    "Cosh": "Cosh",
    "Erf": "Erf",
    "Exp": "Exp",
    "Floor": "Floor",
    "Log": "Log",
    "Reciprocal": "Reciprocal",
    "Sin": "Sin",
    "Sinh": "Sinh",
    "Sqrt": "Sqrt",
    "Tan": "Tan",
    "Tanh": "Tanh",
}


def is_float(dtype: str) -> bool:
    """Whether a dtype is one of the floating-point ones."""
    return dtype.startswith(("float", "bfloat"))


def floating(e: Emit, x: Any) -> Value:
    """A tensor in the float dtype an operation works in: its result's, or float32 for an integer result."""
    return e.tensor(x, e.spec.dtype if is_float(e.spec.dtype) else "float32")


def choose(e: Emit, condition: Value, a: Value, b: Value) -> Value:
    """``a`` where the condition holds, else ``b``."""
    shape = broadcast_shapes(broadcast_shapes(condition.dims, a.dims), b.dims)
    return e.node("Where", condition, a, b, dtype=a.dtype, shape=tuple(shape))


def _unary(onnx: str) -> Callable[[Emit, Value], Value]:
    def emit(e: Emit, x: Value) -> Value:
        return e.unary(onnx, floating(e, x))

    return emit


for _keras_name, _onnx_name in _UNARY.items():
    op(_keras_name)(_unary(_onnx_name))


@op("Abs", "Absolute", since=13)
def absolute(e: Emit, x: Value) -> Value:
    return x if x.dtype == "bool" else e.unary("Abs", x)


@op("Fabs", since=13)
def fabs(e: Emit, x: Value) -> Value:
    return e.unary("Abs", e.cast(x, e.spec.dtype))


@op("Sign", since=13)
def sign(e: Emit, x: Value) -> Value:
    return x if x.dtype == "bool" else e.unary("Sign", x)


@op("Negative", since=14)
def negative(e: Emit, x: Value) -> Value:
    return e.binary("Sub", e.like(0, x), x) if x.dtype.startswith("uint") else e.unary("Neg", x)


def operands(e: Emit, x1: Any, x2: Any, dtype: str | None = None) -> tuple[Value, Value]:
    """Both sides in one dtype: the given one, or Keras' promotion of the two."""
    kind = dtype or compat.result_type(*(_kind(x) for x in (x1, x2)))
    return e.tensor(x1, kind), e.tensor(x2, kind)


def _kind(x: Any) -> Any:
    if isinstance(x, bool | int | float):
        return type(x) if type(x) in (bool, int, float) else int
    if isinstance(x, Value):
        return x.dtype
    if isinstance(x, list | tuple):
        return compat.result_type(*(_kind(item) for item in x))
    return compat.dtype_name(x.dtype)


_ARITHMETIC = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul"}
_LOGICAL = {"Add": "Or", "Multiply": "And"}  # what + and * mean on booleans


def _arithmetic(name: str) -> Callable[[Emit, Any, Any], Value]:
    def emit(e: Emit, x1: Any, x2: Any) -> Value:
        a, b = operands(e, x1, x2, e.spec.dtype)
        if e.spec.dtype == "bool" and name in _LOGICAL:
            return e.binary(_LOGICAL[name], a, b)
        return e.binary(_ARITHMETIC[name], a, b)

    return emit


for _name in _ARITHMETIC:
    op(_name, since=14)(_arithmetic(_name))

_COMPARISONS = {
    "Equal": ("Equal", False),
    "NotEqual": ("Equal", True),
    "Greater": ("Greater", False),
    "GreaterEqual": ("GreaterOrEqual", False),
    "Less": ("Less", False),
    "LessEqual": ("LessOrEqual", False),
}


def _comparison(onnx: str, negated: bool) -> Callable[[Emit, Any, Any], Value]:
    def emit(e: Emit, x1: Any, x2: Any) -> Value:
        a, b = operands(e, x1, x2)
        if a.dtype == "bool" and onnx != "Equal":
            a, b = e.cast(a, "int32"), e.cast(b, "int32")
        result = e.binary(onnx, a, b, dtype="bool")
        return e.unary("Not", result) if negated else result

    return emit


for _name, (_onnx, _negated) in _COMPARISONS.items():
    op(_name)(_comparison(_onnx, _negated))


@op("Divide", "TrueDivide", since=14)
def divide(e: Emit, x1: Any, x2: Any) -> Value:
    return e.binary("Div", *operands(e, x1, x2, e.spec.dtype))


@op("DivideNoNan", since=14)
def divide_no_nan(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    zero = e.binary("Equal", b, e.like(0, b), dtype="bool")
    safe = choose(e, zero, e.like(1, b), b)
    return choose(e, zero, e.like(0, a), e.binary("Div", a, safe))


def _all(x: Value, holds: Callable[[Any], Any]) -> bool:
    return x.array is not None and bool(np.all(holds(x.array)))


def _fmod(e: Emit, a: Value, b: Value) -> Value:
    """The remainder with the dividend's sign, which is exact."""
    return e.node("Mod", a, b, shape=tuple(broadcast_shapes(a.dims, b.dims)), fmod=1)


def _against(e: Emit, remainder: Value, b: Value) -> Value:
    """Whether a remainder is not zero and its sign not the divisor's."""
    if not _all(b, lambda array: array > 0):
        remainder = e.binary("Mul", remainder, e.unary("Sign", b))
    return e.binary("Less", remainder, e.like(0, remainder), dtype="bool")


@op("FloorDivide", since=14)
def floor_divide(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    if a.dtype.startswith("uint"):
        return e.binary("Div", a, b)
    if not is_float(a.dtype):
        # ONNX integer division truncates: subtract the remainder that has the divisor's sign first.
        return e.binary("Div", e.binary("Sub", a, e.binary("Mod", a, b)), b)
    quotient = e.binary("Div", a, b)
    if _all(b, lambda array: np.frexp(np.abs(array))[0] == 0.5):  # powers of two divide exactly
        return e.unary("Floor", quotient)
    # The rounded quotient may be the next integer up (1.0 // 0.1 is 9), so divide what is divisible.
    remainder = _fmod(e, a, b)
    whole = e.unary("Round", e.binary("Div", e.binary("Sub", a, remainder), b))
    result = e.binary("Sub", whole, e.cast(_against(e, remainder, b), a.dtype))
    if _all(b, lambda array: array != 0):
        return result
    return choose(e, e.binary("Equal", b, e.like(0, b), dtype="bool"), quotient, result)


@op("Mod", since=13)
def mod(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    if not is_float(a.dtype):
        return e.binary("Mod", a, b)
    remainder = _fmod(e, a, b)
    return choose(e, _against(e, remainder, b), e.binary("Add", remainder, b), remainder)


@op("Fmod", since=13)
def fmod(e: Emit, x1: Any, x2: Any) -> Value:
    return _fmod(e, *operands(e, x1, x2, e.spec.dtype))


def _extreme(onnx: str, on_booleans: str) -> Callable[[Emit, Any, Any], Value]:
    def emit(e: Emit, x1: Any, x2: Any) -> Value:
        a, b = operands(e, x1, x2, e.spec.dtype)
        if a.dtype == "bool":
            return e.binary(on_booleans, a, b)
        return e.binary(onnx, e.widened(a, *_SELECTABLE), e.widened(b, *_SELECTABLE))

    return emit


def _extreme_number(onnx: str, on_booleans: str) -> Callable[[Emit, Any, Any], Value]:
    """The other side where one is NaN."""

    def emit(e: Emit, x1: Any, x2: Any) -> Value:
        result = _extreme(onnx, on_booleans)(e, x1, x2)
        if not is_float(result.dtype):
            return result
        a, b = operands(e, x1, x2, e.spec.dtype)
        return choose(e, isnan(e, a), b, choose(e, isnan(e, b), a, result))

    return emit


op("Maximum", since=13)(_extreme("Max", "Or"))
op("Minimum", since=13)(_extreme("Min", "And"))
op("Fmax", since=13)(_extreme_number("Max", "Or"))
op("Fmin", since=13)(_extreme_number("Min", "And"))


@op("Power", since=15)
def power(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    return e.binary("Pow", e.widened(a, *_POWERS), e.widened(b, *_POWERS))


@op("Square", since=14)
def square(e: Emit, x: Value) -> Value:
    x = e.cast(x, e.spec.dtype)
    return e.node("Mul", x, x, shape=x.shape)


@op("Rsqrt", since=13)
def rsqrt(e: Emit, x: Value) -> Value:
    return e.unary("Reciprocal", e.unary("Sqrt", floating(e, x)))


@op("Log1p", since=13)
def log1p(e: Emit, x: Value) -> Value:
    """log(u) for u = 1 + x as rounded, and what rounding lost: (x - (u - 1)) / u."""
    x = floating(e, x)
    one = e.like(1, x)
    u = e.binary("Add", x, one)
    kept = e.binary("Sub", u, one)
    lost = e.binary("Div", e.binary("Sub", x, kept), u)
    exact = e.binary("Equal", x, kept, dtype="bool")  # also at the infinities and at -1
    return e.binary("Add", e.unary("Log", u), choose(e, exact, e.like(0, x), lost))


@op("Expm1", since=13)
def expm1(e: Emit, x: Value) -> Value:
    """tanh(x / 2) (exp(x) + 1), which is exact near 0 where exp(x) - 1 is not."""
    x = floating(e, x)
    half = e.unary("Tanh", e.binary("Mul", x, e.like(0.5, x)))
    return e.binary("Mul", half, e.binary("Add", e.unary("Exp", x), e.like(1, x)))


def _scaled_log(base: float) -> Callable[[Emit, Value], Value]:
    def emit(e: Emit, x: Value) -> Value:
        logarithm = e.unary("Log", floating(e, x))
        return e.binary("Mul", logarithm, e.like(1 / math.log(base), logarithm))

    return emit


op("Log2", since=13)(_scaled_log(2.0))
op("Log10", since=13)(_scaled_log(10.0))


@op("Round", since=11)
def round_(e: Emit, x: Value, *, decimals: int = 0) -> Value:
    number = x
    if not is_float(x.dtype):
        if decimals >= 0:
            return x
        number = e.cast(x, "float64")
    if not decimals:
        return e.unary("Round", x)
    # A power of ten below 1 is not exact: divide by the one above.
    there, back = ("Mul", "Div") if decimals > 0 else ("Div", "Mul")
    factor = e.like(10.0 ** abs(decimals), number)
    return e.binary(back, e.unary("Round", e.binary(there, number, factor)), factor)


@op("Trunc", since=16)
def trunc(e: Emit, x: Value) -> Value:
    if not is_float(x.dtype):
        return x
    below = e.binary("Less", x, e.like(0, x), dtype="bool")
    return choose(e, below, e.unary("Ceil", x), e.unary("Floor", x))


@op("Clip", since=13)
def clip(e: Emit, x: Value, *, x_min: Any, x_max: Any) -> Value:
    x = e.widened(e.cast(x, e.spec.dtype), *_SELECTABLE)
    low, high = (None if bound is None else e.tensor(bound, x.dtype) for bound in (x_min, x_max))
    if all(bound is None or bound.rank == 0 for bound in (low, high)):
        return e.node("Clip", x, low, high, shape=x.shape)
    x = x if low is None else e.binary("Max", x, low)
    return x if high is None else e.binary("Min", x, high)


@op("LogicalNot", since=1)
def logical_not(e: Emit, x: Value) -> Value:
    return e.unary("Not", e.cast(x, "bool"))


_CONNECTIVES = {"LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor"}


def _connective(onnx: str) -> Callable[[Emit, Any, Any], Value]:
    def emit(e: Emit, x1: Any, x2: Any) -> Value:
        return e.binary(onnx, e.tensor(x1, "bool"), e.tensor(x2, "bool"))

    return emit


for _name, _onnx in _CONNECTIVES.items():
    op(_name, since=7)(_connective(_onnx))


@op("Isnan", since=13)
def isnan(e: Emit, x: Value) -> Value:
    return e.node("IsNaN", _as_float(e, x), dtype="bool", shape=x.shape)


def _infinite(positive: bool, negative: bool) -> Callable[[Emit, Value], Value]:
    def emit(e: Emit, x: Value) -> Value:
        up, down = (None, None) if positive and negative else (int(positive), int(negative))
        value = _as_float(e, x)
        return e.node("IsInf", value, dtype="bool", shape=x.shape, detect_positive=up, detect_negative=down)

    return emit


isinf = op("Isinf", since=10)(_infinite(True, True))
isposinf = op("Isposinf", since=10)(_infinite(True, False))
isneginf = op("Isneginf", since=10)(_infinite(False, True))


@op("Isfinite", since=13)
def isfinite(e: Emit, x: Value) -> Value:
    size = e.unary("Abs", _as_float(e, x))
    return e.binary("Less", size, e.like(math.inf, size), dtype="bool")


def _as_float(e: Emit, x: Value) -> Value:
    return x if x.dtype.startswith("float") else e.cast(x, "float32")


@op("Isreal", since=13)
def isreal(e: Emit, x: Value) -> Value:
    return e.expand(e.scalar(True, "bool"), x.dims)


@op("Isclose", since=16)
def isclose(e: Emit, x1: Any, x2: Any, rtol: Any = 1e-5, atol: Any = 1e-8, *, equal_nan: bool) -> Value:
    """|a - b| <= atol + rtol |b|, or equal: integers, and infinities of one sign."""
    a, b = operands(e, x1, x2)
    equal = e.binary("Equal", a, b, dtype="bool")
    if not is_float(a.dtype):
        return equal
    if a.dtype != "float64":
        a, b = e.cast(a, "float32"), e.cast(b, "float32")
    distance = e.unary("Abs", e.binary("Sub", a, b))
    scaled = e.binary("Mul", e.unary("Abs", b), e.tensor(rtol, a.dtype))
    # Capped, as nothing is close to an infinity but itself.
    cap = e.like(float(np.finfo(a.dtype).max), a)
    tolerance = e.binary("Min", e.binary("Add", scaled, e.tensor(atol, a.dtype)), cap)
    close = e.binary("Or", equal, e.binary("LessOrEqual", distance, tolerance, dtype="bool"))
    if not equal_nan:
        return close
    return e.binary("Or", close, e.binary("And", isnan(e, a), isnan(e, b)))


@op("AllClose", since=16)
def allclose(e: Emit, x1: Any, x2: Any, *, rtol: float, atol: float, equal_nan: bool) -> Value:
    close = isclose(e, x1, x2, rtol, atol, equal_nan=equal_nan)
    return e.cast(e.reduce("ReduceMin", e.cast(close, "int32"), None), "bool")


def _largest(dtype: str) -> float:
    """The greatest finite value of a float dtype."""
    from ml_dtypes import finfo

    return float(finfo(numpy_dtype(dtype)).max)


@op("NanToNum", since=16)
def nan_to_num(e: Emit, x: Value, *, nan: Any, posinf: Any, neginf: Any) -> Value:
    if not is_float(x.dtype):
        return x
    edge = _largest(x.dtype)
    result = choose(e, isnan(e, x), e.tensor(nan, x.dtype), x)
    if posinf is not None:
        result = choose(e, isposinf(e, x), e.tensor(posinf, x.dtype), result)
    if neginf is not None:
        result = choose(e, isneginf(e, x), e.tensor(neginf, x.dtype), result)
    low, high = (e.like(v, x) if w is None else None for v, w in ((-edge, neginf), (edge, posinf)))
    return result if low is None and high is None else e.node("Clip", result, low, high, shape=x.shape)


def _where_spec(operation: Any, condition: Any, x1: Any = None, x2: Any = None) -> Any:
    if x1 is None and x2 is None:
        return tuple(compat.tensor_spec((None,), "int32") for _ in condition.shape)
    return operation.compute_output_spec(condition, x1, x2)


@op("Where", since=16, spec=_where_spec)
def where(e: Emit, condition: Any, x1: Any = None, x2: Any = None) -> Value | tuple[Value, ...]:
    if x1 is None and x2 is None:
        return nonzero(e, condition)
    a, b = operands(e, x1, x2, e.spec.dtype)
    return choose(e, e.tensor(condition, "bool"), e.widened(a, *_SELECTABLE), e.widened(b, *_SELECTABLE))


@op("Cast", since=13)
def cast(e: Emit, x: Value, *, dtype: str) -> Value:
    if is_float(x.dtype) and dtype == "bool":
        return e.unary("Not", e.binary("Equal", x, e.like(0, x), dtype="bool"))
    return e.cast(x, dtype)


def _limits(dtype: str) -> tuple[Any, Any]:
    """Least and greatest value of a dtype."""
    if dtype == "bool":
        return 0, 1
    if is_float(dtype):
        return -_largest(dtype), _largest(dtype)
    edges = np.iinfo(dtype)
    return int(edges.min), int(edges.max)


@op("SaturateCast", since=13)
def saturate_cast(e: Emit, x: Value, *, dtype: str) -> Value:
    """Clipped to what both dtypes hold, a limit that rounds outwards moved one step in."""
    low, high = (
        pick(ours, theirs)
        for pick, ours, theirs in zip((max, min), _limits(x.dtype), _limits(dtype), strict=True)
    )
    if (low, high) == _limits(x.dtype) and not is_float(x.dtype):
        return cast(e, x, dtype=dtype)
    x = e.cast(x, "int32") if x.dtype == "bool" else e.widened(x, *_SELECTABLE)
    kind = numpy_dtype(x.dtype)
    bounds = [np.asarray(low).astype(kind), np.asarray(high).astype(kind)]
    for place, limit in enumerate((low, high)):
        if abs(float(bounds[place])) > abs(limit):
            bounds[place] = np.nextafter(bounds[place], kind.type(0))
    result = cast(e, e.node("Clip", x, *map(e.constant, bounds), shape=x.shape), dtype=dtype)
    if float(bounds[1]) == high or is_float(dtype):
        return result
    beyond = e.binary("Greater", x, e.constant(bounds[1]), dtype="bool")
    return choose(e, beyond, e.scalar(high, dtype), result)


@op("ConvertToTensor", since=13)
def convert_to_tensor(e: Emit, x: Any, *, dtype: str | None = None) -> Value:
    return e.tensor(x, dtype)


@op("StopGradient", "Copy", "Array", "Real", "Conj", "Conjugate", since=1)
def identity(e: Emit, x: Any) -> Value:
    return e.tensor(x, e.spec.dtype)
