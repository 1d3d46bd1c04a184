"""Special functions, the parts of a number, and its representation.

Where ONNX has no operator the formula is one that holds over the whole range of float32: no overflow
before the result does, and no cancellation. Sources: W. Press et al., Numerical Recipes, 6.2 (erfc);
M. Giles, Approximating the erfinv function, 2012; Abramowitz and Stegun 9.8.1 and 9.8.2 (i0);
S. Rump et al., Computing predecessor and successor in rounding to nearest, 2009 (nextafter).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.elementwise import choose, floating, is_float, isnan, operands
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import broadcast_shapes
from interop.capture.keras.subgraphs import loop
from interop.errors import UnsupportedOp
from interop.formats.dtypes import numpy_dtype
from interop.graph.record import Value

_ERFC = (
    *(0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807),
    *(-0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223),
)
_ERFINV_CENTRE = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
_ERFINV_TAIL = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
    *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)
_I0_CENTRE = (0.0045813, 0.0360768, 0.2659732, 1.2067492, 3.0899424, 3.5156229, 1.0)
_I0_TAIL = (
    *(0.00392377, -0.01647633, 0.02635537, -0.02057706, 0.00916281),
    *(-0.00157565, 0.00225319, 0.01328592, 0.39894228),
)


def _precise(e: Emit, x: Any) -> Value:
    """A tensor in float32 at least."""
    x = floating(e, x)
    return x if x.dtype == "float64" else e.cast(x, "float32")


def _polynomial(e: Emit, x: Value, coefficients: Sequence[float]) -> Value:
    """Coefficients from the highest power down, by Horner's rule."""
    total = e.like(coefficients[0], x)
    for coefficient in coefficients[1:]:
        total = e.binary("Add", e.binary("Mul", total, x), e.like(coefficient, x))
    return total


def _scaled(factor: float) -> Callable[[Emit, Value], Value]:
    def emit(e: Emit, x: Value) -> Value:
        x = floating(e, x)
        return e.binary("Mul", x, e.like(factor, x))

    return emit


op("Deg2rad", since=14)(_scaled(math.pi / 180))
op("Rad2deg", since=14)(_scaled(180 / math.pi))


@op("Cbrt", since=15)
def cbrt(e: Emit, x: Value) -> Value:
    x = floating(e, x)
    root = e.binary("Pow", e.unary("Abs", x), e.like(1 / 3, x))
    return e.binary("Mul", e.unary("Sign", x), root)


@op("Exp2", since=15)
def exp2(e: Emit, x: Value) -> Value:
    x = floating(e, x)
    return e.binary("Pow", e.like(2, x), x)


@op("Hypot", since=16)
def hypot(e: Emit, x1: Any, x2: Any) -> Value:
    """The longer side times sqrt(1 + ratio²): no square overflows. Equal sides have the ratio 1."""
    a, b = (e.unary("Abs", floating(e, x)) for x in (x1, x2))
    long, short = e.binary("Max", a, b), e.binary("Min", a, b)
    equal = e.binary("Equal", long, short, dtype="bool")
    ratio = choose(e, equal, e.like(1, long), e.binary("Div", short, long))
    square = e.binary("Mul", ratio, ratio)
    return e.binary("Mul", long, e.unary("Sqrt", e.binary("Add", square, e.like(1, long))))


def _log_of_sum(base: float) -> Callable[[Emit, Any, Any], Value]:
    def emit(e: Emit, x1: Any, x2: Any) -> Value:
        """The greater plus softplus(-difference); equal sides, as two infinities, differ by 0."""
        a, b = operands(e, x1, x2, e.spec.dtype)
        equal = e.binary("Equal", a, b, dtype="bool")
        gap = e.unary("Neg", e.unary("Abs", choose(e, equal, e.like(0, a), e.binary("Sub", a, b))))
        if base != math.e:
            gap = e.binary("Mul", gap, e.like(math.log(base), gap))
        more = e.unary("Softplus", gap)
        if base != math.e:
            more = e.binary("Mul", more, e.like(1 / math.log(base), more))
        return e.binary("Add", e.binary("Max", a, b), more)

    return emit


op("Logaddexp", since=16)(_log_of_sum(math.e))
op("Logaddexp2", since=16)(_log_of_sum(2.0))


@op("Sinc", since=16)
def sinc(e: Emit, x: Value) -> Value:
    x = floating(e, x)
    turn = e.binary("Mul", x, e.like(math.pi, x))
    origin = e.binary("Equal", x, e.like(0, x), dtype="bool")
    return choose(e, origin, e.like(1, x), e.binary("Div", e.unary("Sin", turn), turn))


@op("Heaviside", since=16)
def heaviside(e: Emit, x1: Any, x2: Any) -> Value:
    x, middle = floating(e, x1), floating(e, x2)
    step = e.binary("Max", e.unary("Sign", x), e.like(0, x))
    return choose(e, e.binary("Equal", x, e.like(0, x), dtype="bool"), middle, step)


@op("Erfc", since=16)
def erfc(e: Emit, x: Value) -> Value:
    """Not 1 - erf(x), which is 0 where erfc(x) is small."""
    x = _precise(e, x)
    size, one = e.unary("Abs", x), e.like(1, x)
    t = e.unary("Reciprocal", e.binary("Add", e.binary("Mul", size, e.like(0.5, x)), one))
    exponent = e.binary("Sub", _polynomial(e, t, _ERFC), e.binary("Mul", x, x))
    right = e.binary("Mul", t, e.unary("Exp", exponent))
    left = e.binary("Less", x, e.like(0, x), dtype="bool")
    return choose(e, left, e.binary("Sub", e.like(2, x), right), right)


@op("Erfinv", since=16)
def erfinv(e: Emit, x: Value) -> Value:
    x = _precise(e, x)
    one = e.like(1, x)
    product = e.binary("Mul", e.binary("Sub", one, x), e.binary("Add", one, x))
    w = e.unary("Neg", e.unary("Log", product))
    centre = _polynomial(e, e.binary("Sub", w, e.like(2.5, x)), _ERFINV_CENTRE)
    tail = _polynomial(e, e.binary("Sub", e.unary("Sqrt", w), e.like(3, x)), _ERFINV_TAIL)
    factor = choose(e, e.binary("Less", w, e.like(5, x), dtype="bool"), centre, tail)
    edge = e.binary("Equal", e.unary("Abs", x), one, dtype="bool")
    return e.binary("Mul", x, choose(e, edge, e.like(math.inf, x), factor))


@op("I0", since=16)
def i0(e: Emit, x: Value) -> Value:
    """The exponential is in two halves: it overflows before i0 does."""
    size = e.unary("Abs", _precise(e, x))
    t = e.binary("Mul", size, e.like(1 / 3.75, size))
    centre = _polynomial(e, e.binary("Mul", t, t), _I0_CENTRE)
    half = e.unary("Exp", e.binary("Mul", size, e.like(0.5, size)))
    tail = e.binary("Div", _polynomial(e, e.unary("Reciprocal", t), _I0_TAIL), e.unary("Sqrt", size))
    tail = e.binary("Mul", e.binary("Mul", tail, half), half)
    return choose(e, e.binary("Less", t, e.like(1, t), dtype="bool"), centre, tail)


@op("Ldexp", since=15)
def ldexp(e: Emit, x1: Any, x2: Any) -> Value:
    """x1 · 2^x2 in two steps, as 2^x2 alone may overflow where the product does not."""
    x = _precise(e, x1)
    limit = 2 * (1022 if x.dtype == "float64" else 126)
    power = e.tensor(x2, "int32")
    power = e.node("Clip", power, e.like(-limit, power), e.like(limit, power), shape=power.shape)
    half = e.binary("Div", power, e.like(2, power))
    for part in (half, e.binary("Sub", power, half)):
        x = e.binary("Mul", x, e.binary("Pow", e.like(2, x), e.cast(part, x.dtype)))
    return x


@op("Nextafter", since=16)
def nextafter(e: Emit, x1: Any, x2: Any) -> Value:
    """One step of a little over half a unit in the last place, which rounds to the neighbour."""
    from ml_dtypes import finfo

    a, b = operands(e, x1, x2, e.spec.dtype)
    kind = finfo(numpy_dtype(a.dtype))
    unit = float(kind.eps) / 2
    growth = e.binary("Mul", e.unary("Abs", a), e.like(unit * (1 + 2 * unit), a))
    step = e.binary("Add", growth, e.like(float(kind.smallest_subnormal), a))
    up = e.binary("Less", a, b, dtype="bool")
    moved = choose(e, up, e.binary("Add", a, step), e.binary("Sub", a, step))
    low, high = e.like(float(kind.min), a), e.like(float(kind.max), a)
    infinite = e.node("IsInf", a, dtype="bool", shape=a.shape)
    moved = choose(e, infinite, e.node("Clip", a, low, high, shape=a.shape), moved)
    return choose(e, e.binary("Equal", a, b, dtype="bool"), b, moved)


@op("Imag", since=13)
def imag(e: Emit, x: Value) -> Value:
    return e.expand(e.like(0, x), x.dims)


def signbit_of(e: Emit, x: Value) -> Value:
    """Whether a float is negative or -0: 1 / -0 is negative too."""
    zero = e.like(0, x)
    below = e.binary("Less", x, zero, dtype="bool")
    return e.binary("Or", below, e.binary("Less", e.unary("Reciprocal", x), zero, dtype="bool"))


@op("Signbit", since=13)
def signbit(e: Emit, x: Value) -> Value:
    if is_float(x.dtype):
        return signbit_of(e, x)
    number = e.cast(x, "int32") if x.dtype == "bool" else x
    return e.binary("Less", number, e.like(0, number), dtype="bool")


@op("Angle", since=16)
def angle(e: Emit, x: Value) -> Value:
    """The angle of a real number: 0 or pi; NaN stays."""
    x = floating(e, x)
    below = e.binary("Less", x, e.like(0, x), dtype="bool")
    return choose(e, isnan(e, x), x, choose(e, below, e.like(math.pi, x), e.like(0, x)))


@op("Arctan2", since=16)
def arctan2(e: Emit, x1: Any, x2: Any) -> Value:
    """The angle of (x2, x1); sides of equal size, as two zeros or infinities, are on a diagonal."""
    y, x = operands(e, x1, x2, e.spec.dtype)
    diagonal = e.binary("Equal", e.unary("Abs", y), e.unary("Abs", x), dtype="bool")
    signs = e.binary("Mul", e.unary("Sign", y), e.unary("Sign", x))
    right = e.unary("Atan", choose(e, diagonal, signs, e.binary("Div", y, x)))
    turn = choose(e, signbit_of(e, y), e.like(-math.pi, y), e.like(math.pi, y))
    return choose(e, signbit_of(e, x), e.binary("Add", right, turn), right)


def _divisor(e: Emit, x1: Any, x2: Any) -> tuple[Value, Value, Value]:
    """The sides without their signs and of one shape, and their greatest common divisor, by Euclid's loop."""
    a, b = (e.widened(x, "int32", "int64") for x in operands(e, x1, x2, e.spec.dtype))
    dims = tuple(broadcast_shapes(a.dims, b.dims))
    a, b = (e.expand(e.unary("Abs", x), dims) for x in (a, b))
    zero, one = e.like(0, a), e.like(1, a)

    def left(remainder: Value) -> Value:
        return e.binary("Greater", e.reduce("ReduceMax", remainder, None), zero, dtype="bool")

    def step(number: Value, sides: list[Value]) -> tuple[Value, list[Value], list[Value]]:
        done = e.binary("Equal", sides[1], zero, dtype="bool")
        remainder = e.binary("Mod", sides[0], choose(e, done, one, sides[1]))
        return left(remainder), [choose(e, done, *sides), remainder], []

    return a, b, loop(e, step, [a, b], condition=left(b))[0][0]


@op("Gcd", since=16)
def gcd(e: Emit, x1: Any, x2: Any) -> Value:
    return _divisor(e, x1, x2)[2]


@op("Lcm", since=16)
def lcm(e: Emit, x1: Any, x2: Any) -> Value:
    """0 where a side is: only two zeros have the divisor 0."""
    a, b, divisor = _divisor(e, x1, x2)
    return e.binary("Mul", e.binary("Div", a, e.binary("Max", divisor, e.like(1, divisor))), b)


@op("View", since=14)
def view(e: Emit, x: Value, *, dtype: str | None) -> Value:
    """The same bytes as integers of another size or sign, least significant first."""
    if dtype is None or dtype == x.dtype:
        return x
    if is_float(x.dtype) or is_float(dtype):
        raise UnsupportedOp(
            f"view of {x.dtype} as {dtype} needs the operator BitCast, which ONNX has from opset 26 on."
        )
    old, new = (np.dtype(kind).itemsize * 8 for kind in (x.dtype, dtype))
    number = e.cast(x, "int64")
    if old > new:
        parts = e.constant(1 << np.arange(0, old, new))
        number = e.unsqueeze(number, [-1])
        number = e.binary("Sub", number, e.binary("Mod", number, parts))
        number = e.binary("Div", number, parts)
    elif new > old:
        count = new // old
        number = e.reshape(number, (*x.dims[:-1], x.dims[-1] // count, count))
        number = e.binary("Mod", number, e.like(1 << old, number))
        number = e.binary("Mul", number, e.constant(1 << np.arange(0, new, old)))
        number = e.reduce("ReduceSum", number, [-1])
    if new < 64:
        # Into the range of the new dtype: casting a number outside it is not defined.
        lowest = e.like(int(np.iinfo(dtype).min) if dtype != "bool" else 0, number)
        number = e.binary("Mod", e.binary("Sub", number, lowest), e.like(1 << new, number))
        number = e.binary("Add", number, lowest)
    return e.cast(e.reshape(number, e.spec.shape), dtype)
