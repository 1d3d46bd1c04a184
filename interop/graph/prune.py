"""Dead code: nodes whose results reach no output are dropped from a recording, or need not be written."""

from __future__ import annotations

from collections.abc import Mapping

from interop.graph.invocations import leaves
from interop.graph.record import Node, Recording, Scope, Value


def prune(recording: Recording) -> Recording:
    """Drop unused nodes, empty scopes and unused variables, in place; graph inputs always stay.

    A layer that has to be called as a whole (``Invocation.whole``) keeps all its results if one of them is used.
    """
    live, kept = _used(recording, {value for _, value in recording.outputs})
    while more := _whole_results(recording.root, live):
        live, kept = _used(recording, live | more)
    for scope in reversed(list(recording.root.walk())):
        scope.items = [item for item in scope.items if _stays(item, kept)]
    recording.variables = {key: value for key, value in recording.variables.items() if value in live}
    return recording


def used_nodes(recording: Recording, same: Mapping[Value, Value]) -> set[int]:
    """Identities of the nodes that the outputs need, where values stand for those they are the `same` as."""
    return _used(recording, {value for _, value in recording.outputs}, same)[1]


def undone(recording: Recording) -> dict[Value, Value]:
    """Results of Transposes that undo the one before them, but for outputs, each with the value it is the same as.

    Layers take and give channels last, whatever they apply: there are two between any two convolutions.
    """
    outputs = {value for _, value in recording.outputs}
    orders: dict[Value, tuple[Value, list[int]]] = {}
    same: dict[Value, Value] = {}
    for node in recording.root.all_nodes():
        if node.op_type != "Transpose" or node.domain or "perm" not in node.attributes:
            continue
        (given,), (result,) = node.inputs, node.outputs
        if given is None:
            continue
        given, order = same.get(given, given), list(node.attributes["perm"])
        base, before = orders.get(given, (given, []))
        if before and result not in outputs and [before[axis] for axis in order] == sorted(order):
            same[result] = base
        else:
            orders[result] = given, order
    return same


def _used(
    recording: Recording, wanted: set[Value], same: Mapping[Value, Value] | None = None
) -> tuple[set[Value], set[int]]:
    same = same or {}
    live, kept = set(wanted), set[int]()
    for node in reversed(list(recording.root.all_nodes())):
        if any(value in live for value in node.outputs):
            kept.add(id(node))
            live.update(same.get(value, value) for value in node.inputs if value is not None)
            for body in node.bodies.values():
                live.update(same.get(value, value) for value in body.outputs)
    return live, kept


def _whole_results(root: Scope, live: set[Value]) -> set[Value]:
    """Results that go with used ones and are not used yet."""
    found: set[Value] = set()
    for scope in root.walk():
        if scope.invocation is not None and scope.invocation.whole:
            results = {value for value in leaves(scope.invocation.results) if isinstance(value, Value)}
            if results & live:
                found |= results - live
    return found


def _stays(item: Node | Scope, kept: set[int]) -> bool:
    return bool(item.items) if isinstance(item, Scope) else id(item) in kept
