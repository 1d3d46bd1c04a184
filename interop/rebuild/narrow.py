"""Element types that Keras has on no backend, or not on all: float8, float4, and integers of 4 and 2 bits.

A tensor of such a type is a ``Narrow``: the same numbers in a type that every backend has, and the name of the type.
They are cast, quantised and dequantised; nothing else is computed in them. Rounding is done by ``keras.ops`` on the
bits of float32, so that it is exact everywhere. Source: https://onnx.ai/onnx/technical/float8.html and float4.html.

Invariant: every number of a ``Narrow`` is one that its type can hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops


@dataclass(frozen=True)
class _Float:
    """How a type of floating point rounds.

    Attributes:
        mantissa: bits after the point.
        lowest: exponent of its smallest normal number.
        largest: its largest number.
        beyond: what a number above that becomes without saturation.
        nan: what no number becomes.
    """

    mantissa: int
    lowest: int
    largest: float
    beyond: float
    nan: float = float("nan")


_FLOATS = {
    "float8_e4m3fn": _Float(3, -6, 448.0, float("nan")),
    "float8_e4m3fnuz": _Float(3, -7, 240.0, float("nan")),
    "float8_e5m2": _Float(2, -14, 57344.0, float("inf")),
    "float8_e5m2fnuz": _Float(2, -15, 57344.0, float("nan")),
    "float4_e2m1fn": _Float(1, 0, 6.0, 6.0, 0.0),
}
_INTEGERS = {"uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1)}
_POWERS = "float8_e8m0fnu"
_SMALLEST_POWER, _LARGEST_POWER = -127, 127

NAMES = frozenset({*_FLOATS, *_INTEGERS, _POWERS})


@dataclass(frozen=True, eq=False)
class Narrow:
    """A tensor of a narrow type.

    Attributes:
        numbers: its elements, float32 or int32.
        dtype: name of its type.
    """

    numbers: Any
    dtype: str

    @property
    def shape(self) -> tuple[int | None, ...]:
        return tuple(self.numbers.shape)


def limits(dtype: str) -> tuple[int, int] | None:
    """The smallest and the largest number of an integer type; None for other types."""
    if dtype in _INTEGERS:
        return _INTEGERS[dtype]
    if dtype in NAMES or "int" not in dtype:
        return None
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def carrier(dtype: str) -> str:
    """The type that holds the numbers of a narrow one."""
    return "int32" if dtype in _INTEGERS else "float32"


def wide(x: Any) -> Any:
    """The numbers of a tensor in a type that can be computed in."""
    if isinstance(x, Narrow):
        return x.numbers
    if isinstance(x, np.ndarray) and x.dtype.name in NAMES:
        return x.astype(carrier(x.dtype.name))
    return x


def type_of(x: Any) -> str | None:
    """The narrow type of a tensor, or None."""
    if isinstance(x, Narrow):
        return x.dtype
    return x.dtype.name if isinstance(x, np.ndarray) and x.dtype.name in NAMES else None


def narrowed(x: Any, dtype: str, *, saturate: bool = True, round_mode: str = "up") -> Narrow:
    """A tensor of floats or integers in a narrow type."""
    if dtype in _INTEGERS:
        return Narrow(_wrapped(x, *_INTEGERS[dtype]), dtype)
    if dtype == _POWERS:
        return Narrow(_power(ops.cast(x, "float32"), round_mode), dtype)
    return Narrow(_rounded(ops.cast(x, "float32"), _FLOATS[dtype], saturate), dtype)


def _wrapped(x: Any, low: int, high: int) -> Any:
    """Integers modulo the size of a range; fractions are cut."""
    whole = ops.cast(x, "int32")
    return ops.cast(ops.add(ops.mod(ops.subtract(whole, low), high - low + 1), low), "int32")


def _exponent(x: Any) -> Any:
    """The exponent bits of float32 numbers."""
    return ops.bitwise_and(ops.bitwise_right_shift(ops.view(x, "int32"), 23), 255)


def _two_to(exponent: Any) -> Any:
    """Powers of two by their exponent bits."""
    return ops.view(ops.bitwise_left_shift(ops.cast(exponent, "int32"), 23), "float32")


def _rounded(x: Any, form: _Float, saturate: bool) -> Any:
    """Numbers rounded to the nearest of a type, of two equally near to the even one."""
    step = _two_to(ops.subtract(ops.maximum(_exponent(x), form.lowest + 127), form.mantissa))
    y = ops.multiply(ops.round(ops.divide(x, step)), step)
    beyond = form.largest if saturate else form.beyond
    over = ops.greater(ops.abs(y), form.largest)
    y = ops.where(over, ops.multiply(ops.sign(x), np.float32(beyond)), y)
    return ops.cast(ops.where(ops.isnan(x), np.float32(form.nan), y), "float32")


def _power(x: Any, round_mode: str) -> Any:
    """Powers of two: the next above, below, or the nearest."""
    bits = _exponent(x)
    below = _two_to(bits)
    exact = ops.equal(x, below)
    if round_mode == "down":
        up = ops.zeros_like(exact)
    elif round_mode == "nearest":
        up = ops.greater_equal(x, ops.multiply(below, 1.5))
    else:
        up = ops.logical_not(exact)
    exponent = ops.add(ops.subtract(bits, 127), ops.cast(up, "int32"))
    exponent = ops.clip(exponent, _SMALLEST_POWER, _LARGEST_POWER)
    # 2**-127 has no exponent bits in float32, so it is half of 2**-126.
    normal = _two_to(ops.add(ops.maximum(exponent, _SMALLEST_POWER + 1), 127))
    y = ops.where(ops.equal(exponent, _SMALLEST_POWER), np.float32(2.0**-127), normal)
    y = ops.where(ops.less_equal(x, 0), np.float32(2.0**-127), y)
    return ops.where(ops.isfinite(x), y, np.float32("nan"))
