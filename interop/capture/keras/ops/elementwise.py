"""Elementwise arithmetic, comparison, logic and selection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import op
from interop.graph.record import Value

_UNARY = {
    "Abs": "Abs",
    "Absolute": "Abs",
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
    "Negative": "Neg",
    "Reciprocal": "Reciprocal",
    "Sign": "Sign",
    "Sin": "Sin",
    "Sinh": "Sinh",
    "Sqrt": "Sqrt",
    "Tan": "Tan",
    "Tanh": "Tanh",
}


def _unary(onnx: str) -> Callable[[Emit, Value], Value]:
    def emit(e: Emit, x: Value) -> Value:
        return e.unary(onnx, e.cast(x, e.spec.dtype))

    return emit


for _keras_name, _onnx_name in _UNARY.items():
    op(_keras_name)(_unary(_onnx_name))


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
    return str(x.dtype)


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
    safe = e.node("Where", zero, e.like(1, b), b, dtype=b.dtype, shape=b.shape)
    return e.node("Where", zero, e.like(0, a), e.binary("Div", a, safe), dtype=a.dtype)


@op("FloorDivide", since=14)
def floor_divide(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    if a.dtype.startswith(("float", "bfloat")):
        return e.unary("Floor", e.binary("Div", a, b))
    # ONNX integer division truncates: subtract the remainder that has the divisor's sign first.
    return e.binary("Div", e.binary("Sub", a, e.binary("Mod", a, b)), b)


@op("Mod", since=13)
def mod(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    if not a.dtype.startswith(("float", "bfloat")):
        return e.binary("Mod", a, b)
    return e.binary("Sub", a, e.binary("Mul", e.unary("Floor", e.binary("Div", a, b)), b))


@op("Maximum", since=13)
def maximum(e: Emit, x1: Any, x2: Any) -> Value:
    return e.binary("Max", *operands(e, x1, x2, e.spec.dtype))


@op("Minimum", since=13)
def minimum(e: Emit, x1: Any, x2: Any) -> Value:
    return e.binary("Min", *operands(e, x1, x2, e.spec.dtype))


@op("Power", since=15)
def power(e: Emit, x1: Any, x2: Any) -> Value:
    return e.binary("Pow", *operands(e, x1, x2, e.spec.dtype))


@op("Square", since=14)
def square(e: Emit, x: Value) -> Value:
    x = e.cast(x, e.spec.dtype)
    return e.node("Mul", x, x, shape=x.shape)


@op("Rsqrt", since=13)
def rsqrt(e: Emit, x: Value) -> Value:
    return e.unary("Reciprocal", e.unary("Sqrt", e.cast(x, e.spec.dtype)))


@op("Log1p", since=13)
def log1p(e: Emit, x: Value) -> Value:
    x = e.cast(x, e.spec.dtype)
    return e.unary("Log", e.binary("Add", x, e.like(1, x)))


@op("Expm1", since=13)
def expm1(e: Emit, x: Value) -> Value:
    x = e.cast(x, e.spec.dtype)
    return e.binary("Sub", e.unary("Exp", x), e.like(1, x))


def _scaled_log(base: float) -> Callable[[Emit, Value], Value]:
    def emit(e: Emit, x: Value) -> Value:
        logarithm = e.unary("Log", e.cast(x, e.spec.dtype))
        return e.binary("Mul", logarithm, e.like(1 / math.log(base), logarithm))

    return emit


op("Log2", since=13)(_scaled_log(2.0))
op("Log10", since=13)(_scaled_log(10.0))


@op("Round", since=11)
def round_(e: Emit, x: Value, *, decimals: int = 0) -> Value:
    if not x.dtype.startswith(("float", "bfloat")):
        return x
    if not decimals:
        return e.unary("Round", x)
    factor = e.like(10.0**decimals, x)
    return e.binary("Div", e.unary("Round", e.binary("Mul", x, factor)), factor)


@op("Clip", since=13)
def clip(e: Emit, x: Value, *, x_min: Any, x_max: Any) -> Value:
    kind = e.spec.dtype
    x = e.cast(x, kind)
    low, high = (None if bound is None else e.tensor(bound, kind) for bound in (x_min, x_max))
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

_BITWISE = {
    "BitwiseAnd": ("BitwiseAnd", "And"),
    "BitwiseOr": ("BitwiseOr", "Or"),
    "BitwiseXor": ("BitwiseXor", "Xor"),
}


def _bitwise(onnx: str, on_booleans: str) -> Callable[[Emit, Any, Any], Value]:
    def emit(e: Emit, x: Any, y: Any) -> Value:
        a, b = operands(e, x, y, e.spec.dtype)
        return e.binary(on_booleans if e.spec.dtype == "bool" else onnx, a, b)

    return emit


def _boolean_only(on_booleans: str, name: str) -> Callable[[Emit, Any, Any], Value]:
    def emit(e: Emit, x: Any, y: Any) -> Value:
        if e.spec.dtype != "bool":
            from interop.errors import UnsupportedOp

            raise UnsupportedOp(f"{name} on {e.spec.dtype} needs opset 18 or newer. Pass opset=18 or newer.")
        return e.binary(on_booleans, *operands(e, x, y, "bool"))

    return emit


for _name, (_onnx, _on_booleans) in _BITWISE.items():
    op(_name, since=18)(_bitwise(_onnx, _on_booleans))
    op(_name, since=7)(_boolean_only(_on_booleans, _name))


@op("Isnan", since=13)
def isnan(e: Emit, x: Value) -> Value:
    return e.node("IsNaN", _as_float(e, x), dtype="bool", shape=x.shape)


@op("Isinf", since=10)
def isinf(e: Emit, x: Value) -> Value:
    return e.node("IsInf", _as_float(e, x), dtype="bool", shape=x.shape)


@op("Isfinite", since=13)
def isfinite(e: Emit, x: Value) -> Value:
    return e.unary("Not", e.binary("Or", isnan(e, x), isinf(e, x)))


def _as_float(e: Emit, x: Value) -> Value:
    return x if x.dtype.startswith("float") else e.cast(x, "float32")


@op("Where", since=16)
def where(e: Emit, condition: Any, x1: Any = None, x2: Any = None) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    return e.node("Where", e.tensor(condition, "bool"), a, b, dtype=e.spec.dtype)


@op("Cast", since=13)
def cast(e: Emit, x: Value, *, dtype: str) -> Value:
    if x.dtype.startswith(("float", "bfloat")) and dtype == "bool":
        return e.unary("Not", e.binary("Equal", x, e.like(0, x), dtype="bool"))
    return e.cast(x, dtype)


@op("ConvertToTensor", since=13)
def convert_to_tensor(e: Emit, x: Any, *, dtype: str | None = None) -> Value:
    return e.tensor(x, dtype)


@op("StopGradient", "Copy", "Array", since=1)
def identity(e: Emit, x: Any) -> Value:
    return e.tensor(x, e.spec.dtype)


@op("Arctan2", since=14)
def arctan2(e: Emit, x1: Any, x2: Any) -> Value:
    y, x = operands(e, x1, x2, e.spec.dtype)
    zero = e.like(0, x)
    angle = e.unary("Atan", e.binary("Div", y, x))
    pi = e.like(np.pi, x)
    left = e.binary("Less", x, zero, dtype="bool")
    below = e.binary("Less", y, zero, dtype="bool")
    turn = e.node("Where", below, e.unary("Neg", pi), pi, dtype=x.dtype, shape=below.shape)
    shifted = e.node("Where", left, e.binary("Add", angle, turn), angle, dtype=x.dtype, shape=angle.shape)
    half = e.node(
        "Where", below, e.like(-np.pi / 2, x), e.like(np.pi / 2, x), dtype=x.dtype, shape=below.shape
    )
    on_axis = e.binary("Equal", x, zero, dtype="bool")
    result = e.node("Where", on_axis, half, shifted, dtype=x.dtype, shape=angle.shape)
    origin = e.binary("And", on_axis, e.binary("Equal", y, zero, dtype="bool"))
    return e.node("Where", origin, zero, result, dtype=x.dtype, shape=angle.shape)
