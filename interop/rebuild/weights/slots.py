"""Which stored slot of an optimizer belongs to which variable.

Enters: an optimizer's node in the graph of a checkpoint, and which variables' nodes are known. Leaves: the node of each
variable's slot.

A file says it in one of four ways, tried in this order:

- ``slot_variables`` of the node (the first optimizers of Keras 2): variable, slot, its node;
- a list of slots beside the list ``_trainable_variables`` (Keras 3, and this toolkit);
- a list of slots alone (Keras 2.11 and later): a slot's name ends in that of its variable, ``Adam/m/dense/kernel``;
- one list of everything (those too, where weights were loaded before the optimizer was built): by the same names.

Invariant: the order of a list alone says nothing: models of the same structure order their variables differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interop.capture.keras import trackable
from interop.formats.tensorbundle.objects import VARIABLE_VALUE, Node, ObjectGraph


def slot_nodes(
    graph: ObjectGraph, node: Node, names: tuple[str, ...], pairs: Mapping[int, Any]
) -> dict[int, int]:
    """Identity of a variable to the number of the node of its slot.

    Args:
        graph: of the file.
        node: the optimizer's.
        names: of the list of slots, the best first.
        pairs: number of a variable's node to variable.
    """
    told = {
        id(pairs[slot.variable]): slot.node
        for slot in node.slots
        if slot.variable in pairs and names[0] in trackable.slot_lists(slot.name)
    }
    if told:
        return told
    listed = next((graph.nodes[node.children[name]].children for name in names if name in node.children), {})
    if trackable.OPTIMIZED in node.children:
        variables = graph.nodes[node.children[trackable.OPTIMIZED]].children
        return {
            id(pairs[number]): listed[place]
            for place, number in variables.items()
            if number in pairs and place in listed
        }
    if not listed and trackable.EVERYTHING in node.children:
        everything = graph.nodes[node.children[trackable.EVERYTHING]].children
        return _by_name(graph, everything, pairs, names[0])
    return _by_name(graph, listed, pairs)


def _by_name(
    graph: ObjectGraph, listed: Mapping[str, int], pairs: Mapping[int, Any], wanted: str = ""
) -> dict[int, int]:
    """By the names that slots and variables had when they were stored; what two variables share tells nothing.

    `wanted` is the list of Keras 3's optimizer whose slots are looked for, if others are listed too.
    """
    variables: dict[str, list[Any]] = {}
    for number, variable in pairs.items():
        variables.setdefault(_full_name(graph, number), []).append(variable)
    found: dict[int, int] = {}
    for number in listed.values():
        segments = _full_name(graph, number).split("/")
        at = next((at for at in range(1, len(segments)) if "/".join(segments[at:]) in variables), 0)
        owners = variables["/".join(segments[at:])] if at else []
        if len(owners) == 1 and (not wanted or wanted in trackable.slot_lists(segments[at - 1])):
            found[id(owners[0])] = number
    return found


def _full_name(graph: ObjectGraph, number: int) -> str:
    value = graph.nodes[number].values.get(VARIABLE_VALUE)
    return "" if value is None else value.full_name
