"""Nodes of a graph: what handlers see of them, what their bodies take, what they compute on constants.

Enters: nodes of an ``ir.Model``. Leaves: plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.movement import movement
from interop.transfer.values import Constant, Tensor

Move = Callable[[NDArray[Any]], list[NDArray[Any]]]
_LOOKUPS = ("Gather", "GatherElements", "GatherND")


@dataclass(frozen=True)
class Step:
    """A node as handlers see it.

    Attributes:
        op_type: the operator.
        name: of the node, or of its first output.
        attributes: by name, as plain values.
        outputs: names of the outputs; "" for one that is left out.
        shapes: of the outputs, as far as ONNX infers them.
    """

    op_type: str
    name: str
    attributes: Mapping[str, Any]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...] | None, ...]


def is_index(value: Any) -> bool:
    """Whether something is looked up at what a value holds, and nothing else is done with it."""
    uses = value.uses()
    return bool(uses) and all(
        (node.op_type in _LOOKUPS and index == 1)
        or (movement(node.op_type, {}, ()) is not None and index == 0 and all(map(is_index, node.outputs)))
        for node, index in uses
    )


def step_of(node: Any) -> Step:
    """A node as handlers see it."""
    import onnx_ir as ir

    graphs = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    attributes = {name: a.value for name, a in node.attributes.items() if a.type not in graphs}
    shapes = []
    for value in node.outputs:
        dims = None if value.shape is None else [getattr(dim, "value", dim) for dim in value.shape]
        shapes.append(tuple(dims) if dims is not None and all(isinstance(d, int) for d in dims) else None)
    names = tuple(value.name or "" for value in node.outputs)
    return Step(node.op_type, node.name or names[0], attributes, names, tuple(shapes))


def captured(node: Any, known: Mapping[Any, Tensor]) -> list[Tensor]:
    """What the bodies of a node take from outside."""
    import onnx_ir as ir

    found: list[Tensor] = []
    for attribute in node.attributes.values():
        bodies = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []
        bodies = list(attribute.value) if attribute.type == ir.AttributeType.GRAPHS else bodies
        for body in bodies:
            values = [value for inner in body.all_nodes() for value in inner.inputs]
            for value in dict.fromkeys([*values, *body.outputs]):
                tensor = known.get(value)
                if tensor is not None and not any(tensor is other for other in found):
                    found.append(tensor)
    return found


def constant(value: Any) -> Any:
    """The array that a value always is; None if it is none, or not known."""
    if value is None:
        return None
    tensor = value.const_value
    node = value.producer()
    if tensor is None and node is not None and node.op_type == "Constant" and "value" in node.attributes:
        tensor = node.attributes["value"].value
    return None if tensor is None else tensor.numpy()


def origin(value: Any) -> tuple[Any, list[Move]]:
    """What movements alone make a value of, and these movements, the first first."""
    moves: list[Move] = []
    while (node := value.producer()) is not None and len(node.outputs) == 1 and node.inputs:
        arguments = [None if given is None else constant(given) for given in node.inputs[1:]]
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        move = movement(node.op_type, attributes, arguments)
        if move is None or any(
            array is None and given is not None
            for array, given in zip(arguments, node.inputs[1:], strict=True)
        ):
            break
        moves.insert(0, move)
        value = node.inputs[0]
    return value, moves


def computed(node: Any, inputs: Sequence[Tensor | None]) -> list[NDArray[Any]]:
    """The results of a node on constants."""
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    arrays = {f"i{k}": t.array for k, t in enumerate(inputs) if isinstance(t, Constant)}
    proto = ir.serde.serialize_node(node)
    del proto.input[:], proto.output[:]
    proto.input.extend(f"i{k}" if t is not None else "" for k, t in enumerate(inputs))
    proto.output.extend(f"o{k}" for k in range(len(node.outputs)))
    given = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in arrays]
    made = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in proto.output]
    opset = node.version or _opset_of(node)
    graph = onnx.helper.make_graph([proto], "constants", given, made)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, arrays)]


def _opset_of(node: Any) -> int:
    return int(node.graph.opset_imports.get("", 20)) if node.graph is not None else 20
