"""The graphs of a model: its own, and the bodies of loops and branches.

onnx-ir has the same walks, and asks every attribute of every node; here only operators that can have a body are asked.
A pipeline of passes walks a dozen times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_WITH_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Of ONNX; operators of other domains are always asked."""


def graphs(graph: Any) -> list[Any]:
    """A graph and all bodies in it, each before those inside it."""
    found = [graph]
    for node in graph:
        for body in _bodies(node):
            found += graphs(body)
    return found


def nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, each before those of its bodies."""
    for node in graph:
        yield node
        for body in _bodies(node):
            yield from nodes(body)


def _bodies(node: Any) -> list[Any]:
    if node.op_type not in _WITH_BODIES and not node.domain:
        return []
    import onnx_ir as ir

    found: list[Any] = []
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type is ir.AttributeType.GRAPHS:
            found += attribute.as_graphs()
    return found
