"""Dead code: nodes whose results reach no output are dropped from a recording."""

from __future__ import annotations

from interop.graph.record import Node, Recording, Scope, Value


def prune(recording: Recording) -> Recording:
    """Drop unused nodes, empty scopes and unused variables, in place; graph inputs always stay."""
    live: set[Value] = {value for _, value in recording.outputs}
    kept: set[int] = set()
    for node in reversed(list(recording.root.all_nodes())):
        if any(value in live for value in node.outputs):
            kept.add(id(node))
            live.update(value for value in node.inputs if value is not None)
            for body in node.bodies.values():
                live.update(body.outputs)
    for scope in reversed(list(recording.root.walk())):
        scope.items = [item for item in scope.items if _stays(item, kept)]
    recording.variables = {key: value for key, value in recording.variables.items() if value in live}
    return recording


def _stays(item: Node | Scope, kept: set[int]) -> bool:
    return bool(item.items) if isinstance(item, Scope) else id(item) in kept
