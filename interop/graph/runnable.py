"""Half types where an operator has none: the node is computed in float32, between casts.

Enters: a recording. Leaves: the same recording, in which every node with a float16 or bfloat16 operand or
result is one that ONNX has in that type in the recording's opset and, for bfloat16, that ONNX Runtime computes.

Invariants: a result is rounded to its type after every operator, as frameworks do it; values keep their identity,
so that scopes, functions and bodies stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from interop.graph.kernels import HALF_TYPES, lacks_half_type
from interop.graph.record import Node, Recording, Scope, Value
from interop.graph.typecodes import onnx_type_code


def runnable(recording: Recording) -> Recording:
    """Put casts around what has no half type, in place."""
    for scope in list(recording.root.walk()):
        wide: dict[Value, Value] = {}
        items: list[Node | Scope] = []
        for item in scope.items:
            items += [item] if isinstance(item, Scope) else _between_casts(item, recording.opset, wide)
        scope.items = items
    return recording


def _between_casts(node: Node, opset: int, wide: dict[Value, Value]) -> list[Node | Scope]:
    """The node, and the casts it needs before and after it; `wide` holds those its scope has already."""
    narrow = set(_without_kernel(node, opset))
    if not narrow:
        return [node]
    before: list[Node | Scope] = []
    inputs: list[Value | None] = []
    for value in node.inputs:
        if value is not None and value in narrow:
            if value not in wide:
                wide[value] = _widened(value, node.scope, before)
            value = wide[value]
        inputs.append(value)
    node.inputs = tuple(inputs)
    after: list[Node | Scope] = []
    outputs: list[Value] = []
    for value in node.outputs:
        made = value
        if value in narrow:
            made = Value("result", "float32", value.shape, scope=node.scope)
            after.append(_cast_node(made, value, node.scope))
        outputs.append(made)
    node.outputs = tuple(outputs)
    if node.attributes.get("dtype") in {onnx_type_code(dtype) for dtype in HALF_TYPES}:
        node.attributes["dtype"] = onnx_type_code("float32")
    return [*before, node, *after]


def _widened(value: Value, scope: Scope, nodes: list[Node | Scope]) -> Value:
    if value.array is not None:
        return Value("constant", "float32", value.shape, array=value.array.astype(np.float32))
    made = Value("result", "float32", value.shape, scope=scope)
    nodes.append(_cast_node(value, made, scope))
    return made


def cast(value: Value, dtype: str, scope: Scope) -> Value:
    """A value in another type, by a node at the end of a scope; itself if it has the type."""
    if value.dtype == dtype:
        return value
    made = Value("result", dtype, value.shape, scope=scope)
    scope.items.append(_cast_node(value, made, scope))
    return made


def _cast_node(source: Value, result: Value, scope: Scope) -> Node:
    return Node("Cast", "", (source,), (result,), {"to": onnx_type_code(result.dtype)}, scope)


def _without_kernel(node: Node, opset: int) -> Iterator[Value]:
    """Operands and results in a half type, of an operator that does not have it."""
    if node.domain != "" or node.bodies:
        return
    operands, results = ([None if v is None else v.dtype for v in vs] for vs in (node.inputs, node.outputs))
    if lacks_half_type(node.op_type, opset, operands, results, node.attributes.get("perm")):
        yield from (v for v in (*node.inputs, *node.outputs) if v is not None and v.dtype in HALF_TYPES)
