"""Nodes before a loop, for what is computed inside it and no step changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interop.transfer.nodes import constant

_SMALL = 1024


def infer(node: Any, opset: int) -> None:
    """Give the outputs of a node the types that ONNX infers."""
    import onnx
    import onnx_ir as ir

    proto = ir.serde.serialize_node(node)
    types, data = {}, {}
    for value in node.inputs:
        if value is None or value.dtype is None or value.shape is None:
            continue
        types[value.name] = ir.serde.serialize_value(value).type
        array = constant(value)
        if array is not None and array.size < _SMALL:
            data[value.name] = onnx.numpy_helper.from_array(array, value.name)
    schema = onnx.defs.get_schema(node.op_type, opset)
    made = onnx.shape_inference.infer_node_outputs(schema, proto, types, data)
    for value in node.outputs:
        if value.name in made:
            ir.serde.deserialize_value_info_proto(
                onnx.helper.make_value_info(value.name, made[value.name]), value
            )


class Outside:
    """Nodes before the loop."""

    def __init__(self, graph: Any, node: Any) -> None:
        self._graph, self._node = graph, node
        self._made: list[Any] = []

    def node(self, op_type: str, inputs: Sequence[Any], attributes: Any = (), outputs: int = 1) -> Any:
        """A node before the loop; its outputs have the shapes that ONNX infers."""
        import onnx_ir as ir

        made = ir.Node("", op_type, inputs, attributes, num_outputs=outputs)
        for index, value in enumerate(made.outputs):
            value.name = f"{self._node.outputs[0].name}/{op_type}_{len(self._made)}_{index}"
        made.name = made.outputs[0].name
        infer(made, self._graph.opset_imports.get("", 20))
        self._graph.insert_before(self._node, made)
        self._made.append(made)
        return made

    def removed(self) -> None:
        """Take the nodes away again."""
        for node in reversed(self._made):
            self._graph.remove(node, safe=True)

    def __call__(self, op_type: str, *inputs: Any, **attributes: Any) -> Any:
        """The result of a node."""
        import onnx_ir as ir

        return self.node(op_type, inputs, ir.convenience.convert_attributes(attributes)).outputs[0]

    def ints(self, *numbers: int) -> Any:
        return self.constant(np.array(numbers, np.int64))

    def constant(self, array: Any) -> Any:
        import onnx_ir as ir

        return self("Constant", value=ir.tensor(array))

    def copy(self, node: Any, inputs: Sequence[Any]) -> list[Any]:
        """A node of the body that depends on nothing in it."""
        return list(
            self.node(node.op_type, inputs, tuple(node.attributes.values()), len(node.outputs)).outputs
        )
