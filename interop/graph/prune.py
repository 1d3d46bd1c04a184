"""Dead code: nodes whose results reach no output are dropped from a recording."""

from __future__ import annotations

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


def used_nodes(recording: Recording) -> set[int]:
    """Identities of the nodes that the outputs of the graph need."""
    return _used(recording, {value for _, value in recording.outputs})[1]


def _used(recording: Recording, wanted: set[Value]) -> tuple[set[Value], set[int]]:
    live, kept = set(wanted), set[int]()
    for node in reversed(list(recording.root.all_nodes())):
        if any(value in live for value in node.outputs):
            kept.add(id(node))
            live.update(value for value in node.inputs if value is not None)
            for body in node.bodies.values():
                live.update(body.outputs)
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
