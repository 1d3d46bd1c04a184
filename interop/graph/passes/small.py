"""Weights as small as they are: no second copy of one is written, and none in a wider type.

Enters: a flat ``ir.Model`` with its weights at hand. Leaves: which nodes of constants are not to be folded. A table
that looks words up and, transposed, gives their scores is one weight with two uses: folded, the transposed one would be
a second weight as large, and whoever trains the graph would find two. A weight of bfloat16 whose product is computed in
float32 would take twice the bytes. Runtimes fold both when they open the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from interop.graph.passes.bodies import graphs, nodes

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_LARGE = 1024
"""Elements; fewer are not worth a node."""


def copying(model: Any) -> set[int]:
    """Identities of the nodes whose results would be written beside the weight they come from, or be twice its size."""
    constant = {
        id(value)
        for graph in graphs(model.graph)
        for value in graph.initializers.values()
        if value.const_value is not None
    }
    folded: set[int] = set()
    widening: set[int] = set()
    for node in nodes(model.graph):
        given = [value for value in node.inputs if value is not None]
        if node.op_type != "Constant" and not (given and all(id(value) in constant for value in given)):
            continue
        if _widens(node) and _is_large(node):
            widening.add(id(node))
        else:
            folded.add(id(node))
            constant |= {id(value) for value in node.outputs}
    return widening | {
        id(user)
        for graph in graphs(model.graph)
        for value in graph.initializers.values()
        if value.const_value is not None and value.const_value.size > _LARGE
        for users in [value.consumers()]
        if value.is_graph_output() or any(id(user) not in folded for user in users)
        for user in users
        if id(user) in folded and _is_large(user)
    }


def _widens(node: Any) -> bool:
    """Whether a float of two bytes becomes one of more."""
    if node.op_type != "Cast" or node.domain or node.inputs[0].dtype not in _HALVES:
        return False
    return ir.DataType(node.attributes["to"].as_int()) in (ir.DataType.FLOAT, ir.DataType.DOUBLE)


def _is_large(node: Any) -> bool:
    """Whether a result has many elements, or a number of them that is not known."""
    shapes = [value.shape for value in node.outputs]
    return any(
        shape is None or not shape.is_static() or np.prod(shape.numpy(), dtype=np.int64) > _LARGE
        for shape in shapes
    )
