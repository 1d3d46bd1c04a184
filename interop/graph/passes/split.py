"""Parts of a constant are constants: what onnxscript's folding leaves, as it takes no operator of many results.

Enters: an ``ir.Model``. Leaves: the same model without a Split of a constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.graph.passes.movable import constant


def split_constants(model: Any) -> bool:
    """Replace every Split of a constant by its parts, in place; whether there was one."""
    found = False
    for graph in model.graphs():
        for node in graph:
            if node.op_type == "Split" and not node.domain and _split(graph, node):
                found = True
    return found


def _split(graph: Any, node: Any) -> bool:
    import onnx_ir as ir

    whole = constant(node.inputs[0])
    if (
        whole is None
        or whole.dtype == ir.DataType.STRING
        or any(value.is_graph_output() for value in node.outputs)
    ):
        return False
    axis = node.attributes.get_int("axis", 0)
    sizes = _sizes(node, whole.shape[axis])
    if sizes is None:
        return False
    parts = np.split(whole.numpy(), np.cumsum(sizes)[:-1], axis=axis)
    for value, part in zip(node.outputs, parts, strict=True):
        tensor = ir.tensor(np.ascontiguousarray(part), dtype=whole.dtype, name=value.name)
        made = ir.Value(
            name=value.name, type=ir.TensorType(whole.dtype), shape=tensor.shape, const_value=tensor
        )
        value.replace_all_uses_with(made)
        value.name = None
        graph.register_initializer(made)
    graph.remove(node, safe=True)
    return True


def _sizes(node: Any, total: int) -> list[int] | None:
    """How many cells each part has; None if that is not known."""
    count = len(node.outputs)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        given = constant(node.inputs[1])
        return None if given is None else [int(size) for size in given.numpy()]
    size = -(-total // count)
    return [min(size, total - size * place) for place in range(count)]
