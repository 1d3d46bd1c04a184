"""Graphs that compute in half precision, in single: which parameter is which does not depend on it.

Enters: a flat ``ir.Model``. Leaves: the same model, changed, if it is only what it computes in, and not what it stores
or takes, that is of half precision, as under a mixed policy.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def in_single(model: Any) -> bool:
    """Let a graph compute in float32; whether anything was changed."""
    import onnx_ir as ir

    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    graph = model.graph
    if any(value.dtype in half for value in (*graph.inputs, *graph.initializers.values())):
        return False
    changed = False
    for node in graph.all_nodes():
        for name, attribute in list(node.attributes.items()):
            if node.op_type == "Cast" and name == "to" and attribute.value in half:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
                changed = True
            elif attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in half:
                single = ir.tensor(attribute.value.numpy().astype(np.float32))
                node.attributes[name] = ir.AttrTensor(name, single)
                changed = True
    for value in (value for node in graph.all_nodes() for value in node.outputs):
        if value.dtype in half:
            value.dtype = ir.DataType.FLOAT
    return changed
