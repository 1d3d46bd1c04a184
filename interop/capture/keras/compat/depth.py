"""Functional models that are deeper than Python's recursion limit.

``keras.src.ops.function._build_map_helper`` (Keras 3.10 to 3.15) calls itself once an operation when a Functional
model is made; nothing else on the way from a file to a model recurses over the depth of a graph. From Python 3.11 on
such calls take no C stack, so the limit is raised while they run, by what the graph at hand can need.

The limit is the process's. Invariant: each block takes back what it added, so blocks in several threads add up, and the
limit is what it was when the last one ends.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

_LOCK = threading.Lock()


def functional(inputs: Any, outputs: Any, name: str | None, cls: type[keras.Model] = keras.Model) -> Any:
    """A Functional model, however long its chains of operations are.

    Keras numbers operations by itself: one that has the name of a layer, or of another operation, gets one of its own.
    """
    nodes = _behind(keras.tree.flatten(outputs))
    _separate({id(node.operation): node.operation for node in nodes}.values())
    with _followed(len(nodes)):
        return cls(inputs=inputs, outputs=outputs, name=name)


def _separate(operations: Iterable[Any]) -> None:
    ordered = sorted(operations, key=lambda operation: not isinstance(operation, keras.Layer))
    taken: set[str] = set()
    for operation in ordered:
        wanted, count = operation.name, 0
        while operation.name in taken and not isinstance(operation, keras.Layer):
            count += 1
            operation.name = f"{wanted}_{count}"
        taken.add(operation.name)


@contextmanager
def following(config: Any) -> Iterator[None]:
    """A block in which Keras can make the Functional models of a config, however deep they are."""
    with _followed(_count_in(config)):
        yield


def depth(model: Any) -> int:
    """How many operations of a Functional model come one after the other, at most."""
    inner = getattr(model, "_functional", None) or model
    return len(inner._nodes_by_depth)


@contextmanager
def _followed(operations: int) -> Iterator[None]:
    _raise_limit(2 * operations)
    try:
        yield
    finally:
        _raise_limit(-2 * operations)


def _raise_limit(calls: int) -> None:
    with _LOCK:
        sys.setrecursionlimit(sys.getrecursionlimit() + calls)


def _behind(tensors: list[Any]) -> dict[Any, None]:
    """The nodes that made some symbolic tensors, the last first."""
    seen: dict[Any, None] = {}
    waiting = list(tensors)
    while waiting:
        operation, index, _ = waiting.pop()._keras_history
        node = operation._inbound_nodes[index]
        if node not in seen:
            seen[node] = None
            waiting.extend(node.input_tensors)
    return seen


def _count_in(config: Any) -> int:
    """How many calls of layers and operations the Functional models of a config have."""
    count = 0
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            nodes = item.get("inbound_nodes")
            count += len(nodes) if isinstance(nodes, list) else 0
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
    return count
