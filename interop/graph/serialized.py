"""The serialised graph of an artifact becomes a model of ``onnx_ir``.

Enters: bytes. Leaves: a model whose initializers are still external, or a `GraphError`.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from interop.errors import GraphError


def deserialized(graph: bytes) -> Any:
    """The model in the bytes of a ``model.onnx``.

    Raises:
        GraphError: they are none.
    """
    try:
        return ir.from_proto(onnx.load_model_from_string(graph))
    except (DecodeError, ValueError, TypeError, KeyError, ir.serde.SerdeError) as error:
        raise GraphError(f"model.onnx cannot be read: {error}") from error
