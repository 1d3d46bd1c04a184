"""Gelu, as runtimes look for it where they fuse it: of ``tf.nn.gelu``, which TensorFlow takes apart, and of TFLite."""

from __future__ import annotations

import math
from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.tf_forms.registry import Operation, form
from interop.graph.record import Value

_RAISED_ERF = "RaisedErf"  # a name of ours


def note(node: Any) -> None:
    """Make the erfc(-x / sqrt(2)) of ``tf.nn.gelu`` 1 + erf(x / sqrt(2)); the tail that goes was next to 0."""
    scaled = node.inputs[0].producer() if node.op_type == "Erfc" else None
    if scaled is None or scaled.op_type != "Mul":
        return
    for turned, factor in (scaled.inputs, reversed(scaled.inputs)):
        negated = turned.producer()
        known = factor.const_value
        if negated is None or negated.op_type != "Neg" or known is None or known.size != 1:
            continue
        if math.isclose(known.numpy().item(), math.sqrt(0.5), rel_tol=1e-2):
            node.op_type = _RAISED_ERF
            node.replace_input_with(0, negated.inputs[0])
            return


@form(_RAISED_ERF, elementwise=True)
def _raised_erf(e: Emit, node: Operation, x: Value) -> Value:
    return e.binary("Add", e.unary("Erf", e.binary("Div", x, e.like(math.sqrt(2), x))), e.like(1, x))


@form("TFL_GELU", elementwise=True)
def _gelu(e: Emit, node: Operation, x: Value) -> Value:
    half = e.binary("Mul", x, e.like(0.5, x))
    if node.get("approximate", False):
        cubed = e.binary("Mul", e.binary("Mul", x, x), e.binary("Mul", x, e.like(0.044715, x)))
        inner = e.binary("Mul", e.binary("Add", x, cubed), e.like(math.sqrt(2 / math.pi), x))
        return e.binary("Mul", half, e.binary("Add", e.unary("Tanh", inner), e.like(1, x)))
    return e.binary("Mul", half, _raised_erf(e, node, x))
