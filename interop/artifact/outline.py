"""The nodes of a model as tuples, each field of a message read once.

What enters: a parsed ``ModelProto``. What leaves: its `Outline`, for whoever checks, counts or inlines: to ask a
message for a field takes longer than what is done with the answer.

Invariant: nothing is checked here; graphs inside nodes are left as messages.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Key = tuple[str, str, str]
"""What identifies an operator or a local function: domain ("" for ONNX's own), name, overload."""


class Step(NamedTuple):
    """One node: its message, what it applies, its name, the values it takes and makes, its attributes."""

    node: Any
    key: Key
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: Any


class Outline(NamedTuple):
    """The steps of the main graph, and of each function."""

    graph: list[Step]
    functions: dict[Key, list[Step]]


def outline_of(model: Any) -> Outline:
    """The outline of a ``ModelProto``; of two functions with one key, the last is taken."""
    return Outline(steps(model.graph), {key_of(function): steps(function) for function in model.functions})


def steps(scope: Any) -> list[Step]:
    """The steps of a graph or a function."""
    return [
        Step(
            node,
            ("" if (domain := node.domain) == "ai.onnx" else domain, node.op_type, node.overload),
            node.name,
            node.input[:],
            node.output[:],
            node.attribute or (),
        )
        for node in scope.node
    ]


def graphs_of(attribute: Any) -> list[Any]:
    """The graphs that an attribute holds."""
    return [*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs]


def key_of(function: Any) -> Key:
    """What a node applies that calls a function."""
    return "" if function.domain == "ai.onnx" else function.domain, function.name, function.overload


def free_name(name: str, taken: set[str]) -> str:
    """A name that is not in use, or one like it; it is in use from now on."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def shown(key: Key) -> str:
    """A key for a message."""
    return "::".join(part for part in key if part)
