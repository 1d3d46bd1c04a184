"""What a graph says about itself without saying it, and what in it does nothing, before patterns are looked for.

Enters: an ``ir.Model`` without functions. Leaves: the same model, changed in place: values have the types and
shapes that follow from the inputs', and no node hands a value on as it is.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnx_ir import convenience
from onnx_ir.passes.common import ShapeInferencePass


def simplified(model: Any) -> Any:
    """Infer types and shapes, and take nodes out that change nothing."""
    model = ShapeInferencePass(check_type=False, strict_mode=False)(model).model
    for node in list(model.graph.all_nodes()):
        given = _handed_on(node)
        if given is not None and not node.outputs[0].is_graph_output():
            convenience.replace_all_uses_with(node.outputs[0], given)
            node.graph.remove(node, safe=True)
    return model


def _handed_on(node: Any) -> Any:
    """The value that a node hands on as it is; None if it makes something of it."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Identity":
        return node.inputs[0]
    if node.op_type not in ("Cast", "CastLike"):
        return None
    given = node.inputs[0]
    if node.op_type == "CastLike":
        wanted = node.inputs[1].dtype
    else:
        wanted = ir.DataType(node.attributes["to"].as_int())
    return given if given is not None and given.dtype is not None and given.dtype == wanted else None
