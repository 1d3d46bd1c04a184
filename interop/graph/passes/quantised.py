"""Quantised weights stay quantised on disk: which nodes of constants may be folded.

Enters: a flat ``ir.Model`` with its weights at hand. Leaves: a rule for constant folding.

Invariants: no tensor that is computed from a quantised weight is written, unless it is the weight in another layout
and instead of it. In a model with such weights nothing is written that takes more bytes than what it is computed
from: scales spread over their groups are as large as the weight itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

_FLOAT8 = frozenset({ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2})

_QUANTISED = _FLOAT8 | {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4}

#: What only moves elements: folding it is worth it where the weight has no other use.
_LAYOUT = frozenset({"Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def foldable(model: Any) -> Callable[[Any], bool | None]:
    """A rule for constant folding: False for a node that would write a quantised weight in a wider form."""
    weights = any(_is_quantised(value) for value in model.graph.initializers.values())
    if not weights and not any(_casts_to_float8(node) for node in model.graph):
        return lambda node: None

    def rule(node: Any) -> bool | None:
        weights = [value for value in node.inputs if value is not None and _is_quantised(value)]
        if weights and node.op_type in _LAYOUT:
            return None if all(len(value.consumers()) == 1 for value in weights) else False
        return False if weights or _grows(node) else None

    return rule


def _casts_to_float8(node: Any) -> bool:
    return node.op_type == "Cast" and node.attributes["to"].as_int() in _FLOAT8


def _is_quantised(value: Any) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.dtype in _QUANTISED and tensor.size > 1


def _grows(node: Any) -> bool:
    """Whether a node of constants spreads a matrix out over more bytes than it takes."""
    (output,) = node.outputs if len(node.outputs) == 1 else (None,)
    if output is None or node.op_type in _LAYOUT:
        return False
    taken = [value.const_value for value in node.inputs if value is not None and value.const_value]
    if output.shape is None or output.dtype is None or not output.shape.is_static():
        return any(len(tensor.shape) > 1 for tensor in taken)
    size = int(np.prod(output.shape.numpy(), dtype=np.int64)) * output.dtype.itemsize
    return len(output.shape) > 1 and size > sum(tensor.nbytes for tensor in taken)
