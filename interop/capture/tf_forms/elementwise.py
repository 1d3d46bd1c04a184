"""Functions of each number, or of two, and norms; letters of texts."""

from __future__ import annotations

import math
from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.tf_forms.registry import Operation, form, keras_form, where
from interop.graph.record import Value


def _zero_if_zero(e: Emit, x: Value, result: Value) -> Value:
    return where(e, e.binary("Equal", x, e.like(0, x), dtype="bool"), e.like(0, result), result)


@form("Erfinv", "Expm1", "Log1p", elementwise=True)
def _same(e: Emit, node: Operation, x: Value) -> Any:
    """What Keras has under the same name."""
    return keras_form(e, node.node.op_type, x)


@form("Erfc", elementwise=True)
def _erfc(e: Emit, node: Operation, x: Value) -> Any:
    return keras_form(e, "Erfc", x)


@form("Ndtri", elementwise=True)
def _ndtri(e: Emit, node: Operation, p: Value) -> Value:
    centred = e.binary("Sub", e.binary("Mul", p, e.like(2, p)), e.like(1, p))
    return e.binary("Mul", keras_form(e, "Erfinv", centred), e.like(math.sqrt(2), p))


@form("Xlogy", elementwise=True)
def _xlogy(e: Emit, node: Operation, x: Value, y: Value) -> Value:
    return _zero_if_zero(e, x, e.binary("Mul", x, e.unary("Log", y)))


@form("Xlog1py", elementwise=True)
def _xlog1py(e: Emit, node: Operation, x: Value, y: Value) -> Value:
    return _zero_if_zero(e, x, e.binary("Mul", x, keras_form(e, "Log1p", y)))


@form("Xdivy", elementwise=True)
def _xdivy(e: Emit, node: Operation, x: Value, y: Value) -> Value:
    return _zero_if_zero(e, x, e.binary("Div", x, y))


@form("MulNoNan", elementwise=True)
def _mul_no_nan(e: Emit, node: Operation, x: Value, y: Value) -> Value:
    return _zero_if_zero(e, y, e.binary("Mul", x, y))


@form("NextAfter", elementwise=True)
def _next_after(e: Emit, node: Operation, x: Value, y: Value) -> Any:
    return keras_form(e, "Nextafter", x, y)


@form("TruncateMod", elementwise=True)
def _truncate_mod(e: Emit, node: Operation, x: Value, y: Value) -> Value:
    return e.node("Mod", x, y, fmod=1)


@form("L2Loss")
def _l2_loss(e: Emit, node: Operation, x: Value) -> Value:
    return e.binary("Mul", e.reduce("ReduceSumSquare", x, None), e.like(0.5, x))


@form("EuclideanNorm")
def _euclidean_norm(e: Emit, node: Operation, x: Value, axes: Value) -> Value:
    axes = e.node("Reshape", e.cast(axes, "int64"), [-1])
    return e.node("ReduceL2", x, axes, keepdims=int(node.get("keep_dims", False)), noop_with_empty_axes=1)


@form("Cross")
@form("FakeQuantWithMinMaxVarsPerChannel")
def _fake_quantised(e: Emit, node: Operation, x: Value, low: Value, high: Value) -> Value:
    """Source: tensorflow/core/kernels/fake_quant_ops_functor.h (Nudge)."""
    first = e.like(float(bool(node.get("narrow_range", False))), x)
    last = e.like(float(2 ** node.get("num_bits", 8) - 1), x)
    step = e.binary("Div", e.binary("Sub", high, low), e.binary("Sub", last, first))
    zero = e.binary("Sub", first, e.binary("Div", low, step))
    half_up = e.unary("Floor", e.binary("Add", zero, e.like(0.5, x)))
    zero = e.node("Min", e.node("Max", half_up, first), last)
    low, high = (e.node("Mul", e.node("Sub", end, zero), step) for end in (first, last))
    inside = e.node("Min", e.node("Max", x, low), high)
    steps = e.node("Div", e.node("Sub", inside, low), step)
    whole = e.unary("Floor", e.node("Add", steps, e.like(0.5, x)))
    return e.node("Add", e.node("Mul", whole, step), low)


@form("StringLower", "StringUpper")
def _cased(e: Emit, node: Operation, text: Value) -> Value:
    """ASCII letters only, unless UTF-8 is asked for."""
    change = node.node.op_type.removeprefix("String").upper()
    locale = "en_US.UTF-8" if node.get("encoding", "") == "utf-8" else "C"
    flat = e.node("Reshape", text, [-1])
    made = e.node("StringNormalizer", flat, case_change_action=change, locale=locale)
    return e.node("Reshape", made, e.node("Shape", text, dtype="int64"))
