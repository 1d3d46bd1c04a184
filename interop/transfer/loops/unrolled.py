"""A loop of a few steps as its steps, one after the other: layers in a stack of parameters, and cells of no known kind.

Enters: a ``Loop`` or ``Scan`` whose number of steps is fixed. Leaves: copies of its body in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interop.transfer.arithmetic import put_for
from interop.transfer.loops.forms import NoMatch, is_same
from interop.transfer.loops.outside import Outside
from interop.transfer.nodes import constant

_DIRECTIONS = {side: f"scan_{side}_directions" for side in ("input", "output")}
_NODES = 4096  # that the steps have together, at most


def unroll(graph: Any, node: Any) -> None:
    """Put the steps of a loop in its place.

    Raises:
        NoMatch: their number is not fixed, or they are too many.
    """
    body = node.attributes["body"].value
    outside = Outside(graph, node)
    steps = _steps_of_loop(node, body) if node.op_type == "Loop" else _steps_of_scan(node, body)
    if steps * len(body) > _NODES:
        raise NoMatch(f"it has {steps} steps of {len(body)} nodes")
    is_loop = node.op_type == "Loop"
    carried = len(node.inputs) - 2 if is_loop else len(node.inputs) - _scanned(node)
    states, collected = list(node.inputs[2:] if is_loop else node.inputs[:carried]), []
    for step in reversed(range(steps)) if _is_backward(node, "input") else range(steps):
        if is_loop:
            given = [
                outside.constant(np.array(step, np.int64)),
                node.inputs[1] or outside.constant(np.array(True)),
            ]
            made = _copied(graph, node, body, [*given, *states], step)[1:]
        else:
            at = outside.constant(np.array(step, np.int64))
            elements = [outside("Gather", sequence, at, axis=0) for sequence in node.inputs[carried:]]
            made = _copied(graph, node, body, [*states, *elements], step)
        states = made[:carried]
        collected.append(made[carried:])
    if _is_backward(node, "output"):
        collected.reverse()
    results = [
        outside("Concat", *(outside("Unsqueeze", value, outside.ints(0)) for value in values), axis=0)
        for values in zip(*collected, strict=True)
    ]
    for old, new in zip(node.outputs, [*states, *results], strict=True):
        put_for(old, outside("Identity", new) if old.is_graph_output() else new)
    graph.remove(node, safe=True)


def _steps_of_loop(node: Any, body: Any) -> int:
    trips, begins, goes_on = constant(node.inputs[0]), constant(node.inputs[1]), constant(body.outputs[0])
    known = node.inputs[1] is None or (begins is not None and bool(begins))
    if trips is None or not known or not (is_same(body.outputs[0], body.inputs[1]) or goes_on):
        raise NoMatch("the number of its steps is not fixed")
    return int(trips)


def _steps_of_scan(node: Any, body: Any) -> int:
    count = _scanned(node)
    sequences = node.inputs[len(node.inputs) - count :]
    axes = [
        *node.attributes.get_ints("scan_input_axes", []),
        *node.attributes.get_ints("scan_output_axes", []),
    ]
    shape = sequences[0].shape
    mixed = any(len(set(node.attributes.get_ints(name, []))) > 1 for name in _DIRECTIONS.values())
    if any(axes) or mixed or shape is None or not isinstance(shape[0], int):
        raise NoMatch("the number of its steps is not fixed, or it does not run along the first axis")
    return int(shape[0])


def _scanned(node: Any) -> int:
    return int(node.attributes["num_scan_inputs"].as_int())


def _is_backward(node: Any, side: str) -> bool:
    """Whether a loop reads its inputs, or writes its outputs, from the last to the first."""
    return bool(node.op_type == "Scan" and any(node.attributes.get_ints(_DIRECTIONS[side], [])))


def _copied(graph: Any, node: Any, body: Any, given: Sequence[Any], step: int) -> list[Any]:
    """The results of a copy of the body that takes these values."""
    copy = body.clone(allow_outer_scope_values=True)
    prefix = f"{node.outputs[0].name}/{step}"
    known = dict(zip(copy.inputs, given, strict=True))
    results = [known.get(value, value) for value in copy.outputs]
    copy.outputs.clear()
    for inside, value in known.items():
        inside.replace_all_uses_with(value)
    for name, value in list(copy.initializers.items()):
        del copy.initializers[name]
        value.name = f"{prefix}/{name}"
        graph.register_initializer(value)
    nodes = list(copy)
    copy.remove(nodes)
    for inner in nodes:
        for value in inner.outputs:
            value.name = f"{prefix}/{value.name}" if value.name else value.name
        inner.name = inner.outputs[0].name
    graph.insert_before(node, nodes)
    return results
