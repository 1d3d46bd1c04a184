"""What a graph says about itself without saying it, and what in it does nothing, before patterns are looked for.

Enters: an ``ir.Model`` without functions. Leaves: the same model, changed in place: values have the types and shapes
that follow from the inputs', no node hands a value on as it is, what no step of a loop changes is outside of it, and
what is split to be a sequence is only split, if nobody needs the sequence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import convenience
from onnx_ir.passes.common import ShapeInferencePass

_SPLIT_BY_INPUT = 13  # the opset since which the sizes of parts are an input

#: What may give something else every time, or has a body of its own.
_STAYS = frozenset(
    (
        *("If", "Loop", "Scan", "SequenceMap", "Dropout", "Bernoulli", "Multinomial"),
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    )
)


def simplified(model: Any) -> Any:
    """Infer types and shapes, and take nodes out that change nothing."""
    model = ShapeInferencePass(check_type=False, strict_mode=False)(model).model
    for node in list(model.graph.all_nodes()):
        given = _handed_on(node)
        if given is not None and not node.outputs[0].is_graph_output():
            convenience.replace_all_uses_with(node.outputs[0], given)
            node.graph.remove(node, safe=True)
    if model.opset_imports.get("", 0) >= _SPLIT_BY_INPUT:
        for node in list(model.graph.all_nodes()):
            if node.op_type == "SplitToSequence" and node.domain in ("", "ai.onnx"):
                _split(node)
    for node in list(model.graph):
        if node.op_type in ("Loop", "Scan") and node.domain in ("", "ai.onnx") and "body" in node.attributes:
            _hoist(node)
    return model


def _hoist(loop: Any) -> None:
    """Take what no step changes out of a body: an element of a sequence may be looked up in a part of it."""
    body = loop.attributes["body"].value
    inside = {*body.inputs, *body.initializers.values()}
    kept = {value.producer() for value in body.outputs}
    for node in list(body):
        if (
            node in kept
            or node.op_type in _STAYS
            or any(value in inside or _is_made_in(value, body) for value in node.inputs if value is not None)
        ):
            continue
        body.remove(node)
        loop.graph.insert_before(loop, node)


def _is_made_in(value: Any, graph: Any) -> bool:
    producer = value.producer()
    return producer is not None and producer.graph is graph


def _split(node: Any) -> None:
    """Put a Split in the place of a SplitToSequence whose parts are taken one by one; torch.onnx writes it so."""
    sizes = _sizes_of_parts(node)
    takers = [user for user, _ in node.outputs[0].uses()]
    if not sizes or node.outputs[0].is_graph_output():
        return
    places = []
    for taker in takers:
        tensor = convenience.get_const_tensor(taker.inputs[1]) if taker.op_type == "SequenceAt" else None
        if tensor is None or not -len(sizes) <= int(tensor.numpy()) < len(sizes):
            return
        places.append(int(tensor.numpy()) % len(sizes))
    axis = node.attributes.get_int("axis", 0)
    given = ir.node("Constant", [], {"value": ir.tensor(np.array(sizes, "int64"))})
    split = ir.node("Split", [node.inputs[0], given.outputs[0]], {"axis": axis}, num_outputs=len(sizes))
    split.name = node.name
    whole = node.inputs[0]
    for part, size in zip(split.outputs, sizes, strict=True):
        part.name = f"{node.outputs[0].name}.{part.index()}"
        part.dtype = whole.dtype
        dims = list(whole.shape)
        dims[axis] = size
        part.shape = ir.Shape(dims)
    given.outputs[0].name = f"{node.outputs[0].name}.sizes"
    node.graph.insert_before(node, [given, split])
    for taker, place in zip(takers, places, strict=True):
        convenience.replace_all_uses_with(
            taker.outputs[0], split.outputs[place], replace_graph_outputs=taker.outputs[0].is_graph_output()
        )
        taker.graph.remove(taker, safe=True)
    node.graph.remove(node, safe=True)


def _sizes_of_parts(node: Any) -> list[int] | None:
    """How long the parts are; None where that is open."""
    whole, axis = node.inputs[0], node.attributes.get_int("axis", 0)
    split = convenience.get_const_tensor(node.inputs[1]) if len(node.inputs) > 1 else None
    if split is None or whole.shape is None or not -len(whole.shape) <= axis < len(whole.shape):
        return None
    array, total = split.numpy(), whole.shape[axis]
    if not isinstance(total, int):
        return None
    if array.ndim:
        return [int(size) for size in array] if int(array.sum()) == total else None
    step = int(array)
    if step < 1:
        return None
    return [min(step, total - start) for start in range(0, total, step)]


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
