"""Half types where an operator has none, in a graph that a framework's exporter made.

Enters: a flat ``ir.Model``. Leaves: the same model, in which what ONNX or ONNX Runtime has in float32 only is computed
so, between casts (``graph/runnable.py`` does it to our own recordings). Weights stay as they are.

Invariant: a result is rounded to its type after every operator, as frameworks do it.
"""

from __future__ import annotations

from typing import Any

from interop.graph.kernels import HALF_TYPES, lacks_half_type
from interop.graph.passes.bodies import graphs, nodes
from interop.graph.passes.names import Names
from interop.graph.typecodes import dtype_name, onnx_type_code


def with_half_kernels(model: Any, opset: int) -> Any:
    """Put casts around what has no half type, in place."""
    if not _has_halves(model):
        return model
    if any(value.dtype is None for node in nodes(model.graph) for value in node.outputs):
        from onnx_ir.passes.common import ShapeInferencePass

        ShapeInferencePass()(model)
    names = Names(model)
    for graph in graphs(model.graph):
        wide: dict[Any, Any] = {}
        for node in list(graph):
            if node.domain or any(attribute.type.name == "GRAPH" for attribute in node.attributes.values()):
                continue
            operands, results = ([_dtype(v) for v in values] for values in (node.inputs, node.outputs))
            perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
            if lacks_half_type(node.op_type, opset, operands, results, perm):
                _between_casts(graph, node, wide, names)
    return model


def _has_halves(model: Any) -> bool:
    given = [*model.graph.inputs, *model.graph.initializers.values()]
    made = (value for node in nodes(model.graph) for value in node.outputs)
    return any(_dtype(value) in HALF_TYPES for values in (given, made) for value in values)


def _dtype(value: Any) -> str | None:
    return None if value is None or value.dtype is None else dtype_name(value.dtype)


def _between_casts(graph: Any, node: Any, wide: dict[Any, Any], names: Names) -> None:
    """Cast what reaches a node, and what leaves it; `wide` holds what its graph has cast already."""
    import onnx_ir as ir

    for place, value in enumerate(node.inputs):
        if _dtype(value) in HALF_TYPES:
            if value not in wide:
                cast = _cast(value, ir.DataType.FLOAT, names.unique(f"{value.name}/float32"))
                graph.insert_before(node, cast)
                wide[value] = cast.outputs[0]
            node.replace_input_with(place, wide[value])
    for value in node.outputs:
        if _dtype(value) in HALF_TYPES:
            name, users = value.name, list(value.uses())
            value.name = names.unique(f"{name}/float32")
            cast = _cast(value, value.dtype, name)
            graph.insert_after(node, cast)
            for user, place in users:
                user.replace_input_with(place, cast.outputs[0])
            for index, output in enumerate(graph.outputs):
                if output is value:
                    graph.outputs[index] = cast.outputs[0]
            value.type = ir.TensorType(ir.DataType.FLOAT)
    if "dtype" in node.attributes and dtype_name(node.attributes["dtype"].as_int()) in HALF_TYPES:
        node.attributes["dtype"] = ir.AttrInt64("dtype", onnx_type_code("float32"))


def _cast(value: Any, dtype: Any, name: str) -> Any:
    import onnx_ir as ir

    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(dtype))], name=name)
    node.outputs[0].name = name
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), value.shape
    return node
