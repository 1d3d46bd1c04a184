"""The forms of TensorFlow's operations, by the name they have in ``tf.raw_ops``; the files beside this one fill it.

A form is a function ``(e, node, *values)``: an ``Emit``, the `Operation`, and its inputs in order. It returns the
outputs. Most call the emitter of an operation of Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import find_op
from interop.errors import UnsupportedOp
from interop.graph.record import Value
from interop.graph.typecodes import dtype_name

Form = Callable[..., Any]
F = TypeVar("F", bound=Form)

COMPLEX = {"complex64": "float32", "complex128": "float64"}
"""Complex dtypes, and those of their parts."""

FORMS: dict[str, Form] = {}
COMPLEX_FORMS: dict[str, Form] = {}
"""Operators that tf2onnx made, where their tensors are complex."""

ELEMENTWISE: set[str] = set()
"""Operations that need not know a rank."""


class Operation:
    """An operation as a form sees it.

    Attributes:
        node: the ``ir.Node``.
        dtypes: of its outputs; of a complex one, that of its parts.
    """

    def __init__(self, node: Any) -> None:
        self.node = node
        self.dtypes = [COMPLEX.get(dtype, dtype) for dtype in map(dtype_of, node.outputs)]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; texts are decoded."""
        attribute = self.node.attributes.get(name)
        value = default if attribute is None else attribute.value
        return value.decode() if isinstance(value, bytes) else value


def form(*names: str, elementwise: bool = False) -> Callable[[F], F]:
    """Register a form."""

    def decorate(function: F) -> F:
        FORMS.update(dict.fromkeys(names, function))
        if elementwise:
            ELEMENTWISE.update(names)
        return function

    return decorate


def on_complex(*names: str) -> Callable[[F], F]:
    """Register what an ONNX operator is on complex tensors."""

    def decorate(function: F) -> F:
        COMPLEX_FORMS.update(dict.fromkeys(names, function))
        return function

    return decorate


def dtype_of(value: Any) -> str:
    """The name of a value's dtype; empty where it is not known."""
    if value.dtype is None or not int(value.dtype):
        return ""
    name = str(value.dtype.name).lower()
    return name if name in COMPLEX else dtype_name(int(value.dtype))


def keras_form(e: Emit, key: str, *values: Any, **attributes: Any) -> Any:
    """What the emitter of an operation of Keras makes."""
    emitter = find_op(key, e.opset)
    assert emitter is not None
    return emitter.function(e, *values, **attributes)


def where(e: Emit, condition: Value, yes: Value, no: Value) -> Value:
    """``yes`` where the condition holds, else ``no``."""
    return e.node("Where", condition, yes, no, dtype=no.dtype)


def known(value: Value, what: str) -> np.ndarray[Any, Any]:
    """The values of a constant; `what` it is, for the error that says it is none."""
    if value.array is None:
        raise UnsupportedOp(f"{what} must be a constant to be exported")
    return value.array
