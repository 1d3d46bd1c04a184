"""Window functions of a length that may be a symbolic size or a traced integer."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.ops.special import i0
from interop.capture.keras.registry import function
from interop.graph.record import Value


def _cosines(e: Emit, count: Any, weights: tuple[float, ...]) -> Value:
    """A sum of cosines over ``count`` points, symmetric; 1 where there is one point."""
    places = e.cast(counting(e, count), "float32")
    gaps = _gaps(e, count)
    angle = e.binary("Div", e.binary("Mul", places, e.like(2 * np.pi, places)), gaps)
    total: Value = e.like(weights[0], places)
    for order, weight in enumerate(weights[1:], 1):
        turned = angle if order == 1 else e.binary("Mul", angle, e.like(order, angle))
        total = e.binary("Add", total, e.binary("Mul", e.unary("Cos", turned), e.like(weight, places)))
    return _one_point(e, count, total)


def _last(e: Emit, count: Any) -> Value:
    """``count - 1`` as a float32 scalar."""
    number = count if isinstance(count, Value) else e.size(count)
    number = e.cast(e.reshape(number, ()), "float32")
    return e.binary("Sub", number, e.like(1, number))


def _gaps(e: Emit, count: Any) -> Value:
    last = _last(e, count)
    return e.node("Max", last, e.like(1, last), shape=())


def _one_point(e: Emit, count: Any, window: Value) -> Value:
    last = _last(e, count)
    single = e.binary("Equal", last, e.like(0, last), dtype="bool")
    return e.node("Where", single, e.like(1, window), window, dtype="float32", shape=window.shape)


@function("hanning", since=16)
def hanning(e: Emit, x: Any) -> Value:
    return _cosines(e, x, (0.5, -0.5))


@function("hamming", since=16)
def hamming(e: Emit, x: Any) -> Value:
    return _cosines(e, x, (0.54, -0.46))


@function("blackman", since=16)
def blackman(e: Emit, x: Any) -> Value:
    return _cosines(e, x, (0.42, -0.5, 0.08))


@function("bartlett", since=16)
def bartlett(e: Emit, x: Any) -> Value:
    """1 - |2 n / (count - 1) - 1|."""
    place = e.cast(counting(e, x), "float32")
    scaled = e.binary("Div", e.binary("Mul", place, e.like(2, place)), _gaps(e, x))
    off = e.unary("Abs", e.binary("Sub", scaled, e.like(1, place)))
    return _one_point(e, x, e.binary("Sub", e.like(1, place), off))


@function("kaiser", since=16)
def kaiser(e: Emit, x: Any, beta: Any) -> Value:
    """I0(beta sqrt(1 - r^2)) / I0(beta), r from -1 to 1."""
    e.spec = compat.tensor_spec((None,), "float32")
    place = e.cast(counting(e, x), "float32")
    scaled = e.binary("Div", e.binary("Mul", place, e.like(2, place)), _gaps(e, x))
    ratio = e.binary("Sub", scaled, e.like(1, place))
    inside = e.binary("Sub", e.like(1, place), e.binary("Mul", ratio, ratio))
    width = e.tensor(beta, "float32")
    root = e.unary("Sqrt", e.node("Max", inside, e.like(0, inside), shape=inside.shape))
    return _one_point(e, x, e.binary("Div", i0(e, e.binary("Mul", width, root)), i0(e, width)))
