"""The object graph of a checkpoint: which stored tensor belongs to which attribute of which object.

Enters: the bytes stored under `OBJECT_GRAPH`. Leaves: nodes with named children, values and slot variables; and
the way back.

Invariants: every number of a node is valid; a node's children have unique names. Keys are only ever looked up in the
graph, never taken apart: TensorFlow names a variable by whichever path it found first.

Spec: tensorflow/core/protobuf/trackable_object_graph.proto
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from interop.errors import FormatError
from interop.formats.tensorbundle import schema

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The key under which the graph is stored."""

VARIABLE_VALUE = "VARIABLE_VALUE"
"""The attribute of a variable's node that is its value."""

VALUE_SUFFIX = f"/.ATTRIBUTES/{VARIABLE_VALUE}"
"""What the key of a variable's value ends in."""


class Value(NamedTuple):
    """A stored tensor of an object: its key, and the variable's name at that time (for people)."""

    key: str
    full_name: str = ""


class SlotVariable(NamedTuple):
    """What an optimizer keeps for a variable; both are numbers of nodes."""

    variable: int
    name: str
    node: int


@dataclass
class Node:
    """One object.

    Attributes:
        children: name of the attribute to number of a node.
        values: name to stored tensor; a variable has `VARIABLE_VALUE`.
        slots: of an optimizer of Keras 2.
    """

    children: dict[str, int] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    slots: list[SlotVariable] = field(default_factory=list)

    @property
    def key(self) -> str | None:
        """The key of a variable's value; None if the node is no variable."""
        value = self.values.get(VARIABLE_VALUE)
        return None if value is None else value.key


@dataclass
class ObjectGraph:
    """All objects; the first is the root."""

    nodes: list[Node]

    @classmethod
    def parse(cls, data: bytes, source: str) -> ObjectGraph:
        """Read a graph; `source` names the file in errors.

        Raises:
            FormatError: the bytes are no object graph, or refer to nodes that do not exist.
        """
        message = schema.parse("ObjectGraph", data, f"{source}: {OBJECT_GRAPH}")
        count = len(message.nodes)
        if not count:
            raise FormatError(f"{source}: {OBJECT_GRAPH} has no objects")
        graph = cls([_node(node) for node in message.nodes])
        for number, node in enumerate(graph.nodes):
            referred = [*node.children.values(), *(n for s in node.slots for n in (s.variable, s.node))]
            for other in referred:
                if not 0 <= other < count:
                    raise FormatError(
                        f"{source}: object {number} of {OBJECT_GRAPH} refers to {other} of {count}"
                    )
        return graph

    def serialize(self) -> bytes:
        """The bytes to store."""
        holding = self._holding_values()
        message = schema.message("ObjectGraph")
        for number, node in enumerate(self.nodes):
            added = message.nodes.add()
            for name, child in node.children.items():
                added.children.add(node_id=child, local_name=name)
            for name, value in node.values.items():
                added.attributes.add(name=name, full_name=value.full_name, checkpoint_key=value.key)
            for slot in node.slots:
                added.slot_variables.add(
                    original_variable_node_id=slot.variable,
                    slot_name=slot.name,
                    slot_variable_node_id=slot.node,
                )
            added.has_checkpoint_values.SetInParent()
            added.has_checkpoint_values.value = number in holding
        data: bytes = message.SerializeToString(deterministic=True)
        return data

    def reachable(self, start: int = 0) -> set[int]:
        """Numbers of the nodes under one, itself included."""
        found, pending = {start}, [start]
        while pending:
            new = set(self.nodes[pending.pop()].children.values()) - found
            found |= new
            pending += new
        return found

    def _holding_values(self) -> set[int]:
        """Nodes with a value at or under them."""
        parents: dict[int, list[int]] = {}
        for number, node in enumerate(self.nodes):
            for child in node.children.values():
                parents.setdefault(child, []).append(number)
        holding = {number for number, node in enumerate(self.nodes) if node.values or node.slots}
        pending = list(holding)
        while pending:
            new = set(parents.get(pending.pop(), ())) - holding
            holding |= new
            pending += new
        return holding


def escaped(name: str) -> str:
    """A name as it stands in a key, where ``/`` separates names.

    >>> escaped("a/b.c")
    'a.Sb..c'
    """
    return name.replace(".", "..").replace("/", ".S")


def key_of(path: Iterable[str], value: str = VARIABLE_VALUE) -> str:
    """The key of a value by the names that lead to its object.

    >>> key_of(["layer-0", "kernel"])
    'layer-0/kernel/.ATTRIBUTES/VARIABLE_VALUE'
    """
    return "/".join([*map(escaped, path), ".ATTRIBUTES", value])


def _node(message: Any) -> Node:
    return Node(
        {child.local_name: child.node_id for child in message.children},
        {a.name: Value(a.checkpoint_key, a.full_name) for a in message.attributes},
        [
            SlotVariable(s.original_variable_node_id, s.slot_name, s.slot_variable_node_id)
            for s in message.slot_variables
        ],
    )
