"""What onnxscript's folding of constants leaves, or takes long for: their parts, orders of their axes and shapes.

Enters: an ``ir.Model``. Leaves: the same model without a Split of a constant; and without a Transpose or Reshape of
one, which becomes a view of the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from interop.graph.passes.bodies import graphs
from interop.graph.passes.movable import constant, transposed_by

_VIEWS = frozenset({"Reshape", "Transpose"})


def view_constants(model: Any, may_fold: Callable[[Any], bool | None]) -> None:
    """Replace Transposes and Reshapes of constants by constants, in place, but where the rule says False."""
    for graph in graphs(model.graph):
        for node in graph:
            if node.op_type in _VIEWS and not node.domain and may_fold(node) is not False:
                _view(graph, node)


def _view(graph: Any, node: Any) -> None:
    value, (result,) = node.inputs[0], node.outputs
    tensor = constant(value)
    if tensor is None or tensor.dtype == ir.DataType.STRING or result.is_graph_output():
        return
    array = _viewed(node, tensor)
    if array is None:
        return
    _replace(graph, result, ir.Tensor(array, dtype=tensor.dtype, name=result.name))
    graph.remove(node, safe=True)
    if value.is_initializer() and not value.uses() and not value.is_graph_output():
        del value.graph.initializers[value.name]


def _viewed(node: Any, tensor: Any) -> Any:
    """The array that a node gives; None where its target is not known."""
    if node.op_type == "Transpose":
        return tensor.numpy().transpose(transposed_by(node, len(tensor.shape)))
    target = _known(node.inputs[1])
    if target is None or 0 in target:
        return None
    try:
        return tensor.numpy().reshape(target)
    except ValueError:  # in a branch that is never taken, perhaps: who runs the graph will say what is wrong
        return None


def _known(value: Any) -> Any:
    """A constant's numbers, that of a node whose value no pass has noted yet too; None for any other value."""
    tensor, node = constant(value), value.producer()
    if tensor is None and node is not None and node.op_type == "Constant" and "value" in node.attributes:
        tensor = node.attributes["value"].as_tensor()
    return None if tensor is None else tensor.numpy()


def _replace(graph: Any, value: Any, tensor: Any) -> None:
    """Put an initializer in the place of a value, and under its name."""
    made = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    value.replace_all_uses_with(made)
    value.name = None
    graph.register_initializer(made)


def split_constants(model: Any) -> bool:
    """Replace every Split of a constant by its parts, in place; whether there was one."""
    found = False
    for graph in graphs(model.graph):
        for node in graph:
            if node.op_type == "Split" and not node.domain and _split(graph, node):
                found = True
    return found


def _split(graph: Any, node: Any) -> bool:
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
        _replace(graph, value, tensor)
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
