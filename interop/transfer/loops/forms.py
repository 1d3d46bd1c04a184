"""A loop as it is written: what it carries, reads and collects, and what no step changes.

Enters: a ``Loop`` or a ``Scan``. Leaves: a ``Loop`` of states, elements and results over the first axis of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from interop.transfer.nodes import constant

_IDLE = ("Identity", "Cast")


class NoMatch(Exception):
    """Why a loop is no recurrent layer."""


@dataclass(frozen=True)
class State:
    """What is carried from step to step: its first value, what it is inside, what it becomes, its last value."""

    first: Any
    inside: Any
    becomes: Any
    last: Any


@dataclass
class Loop:
    """A loop over the first axis of a sequence.

    Attributes:
        node: the loop.
        states: what is carried.
        elements: values inside that are the next element of a sequence outside.
        results: (value inside, value outside) of what is collected.
        backward: whether it runs from the last element to the first.
        outside: what values inside are that no step changes.
    """

    node: Any
    states: list[State]
    elements: dict[Any, Any] = field(default_factory=dict)
    results: list[tuple[Any, Any]] = field(default_factory=list)
    backward: bool = False
    outside: dict[Any, Any] = field(default_factory=dict)


def is_used(value: Any) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def of_loop(node: Any) -> Loop:
    """A ``Loop`` of a fixed number of steps: it looks up its elements by the position."""
    body = node.attributes["body"].value
    trips = constant(node.inputs[0])
    carried = len(node.inputs) - 2
    position = body.inputs[0]
    begins = node.inputs[1] is None or constant(node.inputs[1])
    if trips is None or not begins or not is_same(body.outputs[0], body.inputs[1]):
        raise NoMatch("the number of its steps is not fixed")
    loop = Loop(node, [])
    for k in range(carried):
        first, inside, becomes = node.inputs[2 + k], body.inputs[2 + k], body.outputs[1 + k]
        if is_same(becomes, inside):
            loop.outside[inside] = first
            if not node.outputs[k].is_graph_output():
                node.outputs[k].replace_all_uses_with(first)
        else:
            loop.states.append(State(first, inside, becomes, node.outputs[k]))
    loop.results = list(zip(body.outputs[1 + carried :], node.outputs[carried:], strict=True))
    for inner in body:
        if inner.op_type == "Gather" and inner.attributes.get_int("axis", 0) == 0:
            sequence, at = inner.inputs
            whole = loop.outside.get(sequence, sequence if is_outer(sequence, body) else None)
            if whole is not None and is_position(at, position):
                if whole.shape is None or whole.shape[0] != int(trips):
                    raise NoMatch("it does not read the whole sequence")
                loop.elements[inner.outputs[0]] = whole
    return loop


def of_scan(node: Any) -> Loop:
    body = node.attributes["body"].value
    count = node.attributes["num_scan_inputs"].as_int()
    carried = len(node.inputs) - count
    directions = set()
    for name, length in (("input", count), ("output", len(node.outputs) - carried)):
        axes = node.attributes.get_ints(f"scan_{name}_axes", [0] * length)
        directions |= set(node.attributes.get_ints(f"scan_{name}_directions", [0] * length))
        if any(axes):
            raise NoMatch("it runs along another axis than the first")
    if len(directions) > 1:
        raise NoMatch("it reads in one direction and writes in the other")
    loop = Loop(node, [], backward=directions == {1})
    for k in range(carried):
        first, inside, becomes = node.inputs[k], body.inputs[k], body.outputs[k]
        if is_same(becomes, inside):
            loop.outside[inside] = first
        else:
            loop.states.append(State(first, inside, becomes, node.outputs[k]))
    loop.elements = dict(zip(body.inputs[carried:], node.inputs[carried:], strict=True))
    loop.results = list(zip(body.outputs[carried:], node.outputs[carried:], strict=True))
    return loop


def is_outer(value: Any, body: Any) -> bool:
    producer = value.producer()
    return value not in set(body.inputs) and (producer is None or producer.graph is not body)


def plain(value: Any) -> Any:
    """The value before what changes nothing."""
    while (node := value.producer()) is not None and node.op_type in _IDLE:
        value = node.inputs[0]
    return value


def is_same(value: Any, other: Any) -> bool:
    return plain(value) is other


def is_position(value: Any, position: Any) -> bool:
    return plain(value) is position
