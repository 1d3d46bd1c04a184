"""Tensors of initializers: by reference into a weights file, or in memory."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from interop.graph.record import Value
from interop.graph.typecodes import onnx_type_code


class Place(Protocol):
    """Where a tensor lies: a file beside the model, and a byte range in it."""

    @property
    def location(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def length(self) -> int: ...


def external_tensor(value: Value, place: Place) -> Any:
    """A reference to the bytes of a variable; nothing is read."""
    return ir.ExternalTensor(
        place.location,
        place.offset,
        place.length,
        ir.DataType(onnx_type_code(value.dtype)),
        shape=ir.Shape(list(value.dims)),
        name=value.name,
    )


def memory_tensor(value: Value, array: np.ndarray[Any, Any]) -> Any:
    """A variable's contents, not copied."""
    return ir.Tensor(np.asarray(array, order="C"), name=value.name)
