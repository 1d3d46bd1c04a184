"""What a graph says about itself without saying it, and what in it does nothing, before patterns are looked for.

Enters: an ``ir.Model`` without functions. Leaves: the same model, changed in place: values have the types and
shapes that follow from the inputs', and no node casts a value to the type that it has.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnx_ir import convenience
from onnx_ir.passes.common import ShapeInferencePass


def simplified(model: Any) -> Any:
    """Infer types and shapes, and take casts out that change nothing."""
    model = ShapeInferencePass(check_type=False, strict_mode=False)(model).model
    for node in list(model.graph.all_nodes()):
        if node.op_type not in ("Cast", "CastLike") or node.domain not in ("", "ai.onnx"):
            continue
        given, made = node.inputs[0], node.outputs[0]
        like = (
            node.inputs[1].dtype
            if node.op_type == "CastLike"
            else ir.DataType(node.attributes["to"].as_int())
        )
        if given is None or given.dtype is None or given.dtype != like:
            continue
        if made.is_graph_output():
            continue
        convenience.replace_all_uses_with(made, given)
        node.graph.remove(node, safe=True)
    return model
