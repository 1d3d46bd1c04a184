"""Bits of integers, booleans as integers of one bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.elementwise import operands
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import broadcast_shapes
from interop.errors import UnsupportedOp
from interop.formats.dtypes import numpy_dtype
from interop.graph.record import Value

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
            raise UnsupportedOp(f"{name} on {e.spec.dtype} needs opset 18 or newer. Pass opset=18 or newer.")
        return e.binary(on_booleans, *operands(e, x, y, "bool"))

    return emit


for _name, (_onnx, _on_booleans) in _BITWISE.items():
    op(_name, since=18)(_bitwise(_onnx, _on_booleans))
    op(_name, since=7)(_boolean_only(_on_booleans, _name))


@op("BitwiseInvert", "BitwiseNot", since=18)
def bitwise_not(e: Emit, x: Value) -> Value:
    return e.unary("Not" if x.dtype == "bool" else "BitwiseNot", x)


@op("BitwiseInvert", "BitwiseNot", since=14)
def bitwise_not_by_arithmetic(e: Emit, x: Value) -> Value:
    if x.dtype == "bool":
        return e.unary("Not", x)
    return e.binary("Sub", e.constant(np.invert(numpy_dtype(x.dtype).type(0))), x)


def _shift_spec(operation: Any, x: Any, y: Any) -> Any:
    dtype = x.dtype if isinstance(y, int) else compat.result_type(x.dtype, y.dtype)
    return compat.tensor_spec(tuple(broadcast_shapes(x.shape, np.shape(y))), dtype)


def _power_of_two(e: Emit, places: Any) -> Value:
    """2 ** places in int64."""
    if not isinstance(places, Value):
        return e.constant(np.left_shift(np.int64(1), np.asarray(places, np.int64)))
    one = e.constant(np.asarray(1, np.uint64))
    shifted = e.node("BitShift", one, e.cast(places, "uint64"), shape=places.shape, direction="LEFT")
    return e.cast(shifted, "int64")


# Arithmetic in int64: BitShift takes unsigned integers only.
@op("BitwiseLeftShift", "LeftShift", since=14, spec=_shift_spec)
def left_shift(e: Emit, x: Any, y: Any) -> Value:
    return e.binary("Mul", e.tensor(x, "int64"), _power_of_two(e, y))


@op("BitwiseRightShift", "RightShift", since=14, spec=_shift_spec)
def right_shift(e: Emit, x: Any, y: Any) -> Value:
    """Division by a power of two towards minus infinity: the sign bit moves in."""
    wide, divisor = e.tensor(x, "int64"), _power_of_two(e, y)
    return e.binary("Div", e.binary("Sub", wide, e.binary("Mod", wide, divisor)), divisor)
