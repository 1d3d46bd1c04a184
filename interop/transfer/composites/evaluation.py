"""What a graph computes of parameters alone, for drawn numbers: how the graph writes it is not looked at.

Enters: a flat ``ir.Model``. Leaves: which values depend on parameters only, and what they are for given parameters.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.graph.typecodes import dtype_name
from interop.transfer.arithmetic import has_body
from interop.transfer.named import Named
from interop.transfer.nodes import computed
from interop.transfer.values import Constant

Array = NDArray[Any]


class OfParameters:
    """The values of a graph that depend on parameters alone, or on nothing.

    Args:
        graph: the graph; to be read again once it was changed.
        names: of the initializers that are parameters.
    """

    def __init__(self, graph: Any, names: Container[str]) -> None:
        self._names = names
        self._owners: dict[Any, frozenset[str]] = {
            value: frozenset([name] if name in names else []) for name, value in graph.initializers.items()
        }
        for node in graph:
            given = [value for value in node.inputs if value is not None]
            if not has_body(node) and all(value in self._owners for value in given):
                owners = frozenset[str]().union(*(self._owners[value] for value in given))
                self._owners.update(dict.fromkeys(node.outputs, owners))

    def owners(self, value: Any) -> frozenset[str] | None:
        """The parameters that a value depends on; None if it depends on inputs."""
        return self._owners.get(value)

    def at(self, value: Any, drawn: Mapping[str, Array]) -> Array:
        """The value where parameters have these values."""
        known: dict[Any, Array] = {}

        def of(one: Any) -> Array:
            if one not in known:
                node = one.producer()
                if node is not None:
                    given = [None if each is None else Constant(of(each)) for each in node.inputs]
                    known.update(zip(node.outputs, computed(node, given), strict=False))
                else:
                    known[one] = drawn[one.name] if one.name in self._names else one.const_value.numpy()
            return known[one]

        return of(value)

    def takers(self, value: Any) -> set[Any]:
        """The nodes at which a value, or what is computed of it alone, meets what is of inputs; None: an output."""
        found: set[Any] = {None} if value.is_graph_output() else set()
        for node, _ in value.uses():
            alone = all(one in self._owners for one in node.outputs)
            found |= set().union(*map(self.takers, node.outputs)) if alone else {node}
        return found


def without_idle(graph: Any, names: Iterable[str]) -> None:
    """Remove the nodes whose results nothing takes, and these initializers where nothing takes them."""
    for node in reversed(graph):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    for name in names:
        if name in graph.initializers and not graph.initializers[name].uses():
            del graph.initializers[name]


def spec_of(value: Any) -> Named:
    """An initializer as plans know it."""
    return Named(dtype_name(int(value.dtype)), tuple(int(size) for size in value.shape))


def stand_in(graph: Any, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """An initializer for a tensor that is not computed yet."""
    import onnx_ir as ir

    array = np.broadcast_to(np.zeros((), dtype.numpy()), shape)
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.dtype = ir.Shape(shape), dtype
    graph.register_initializer(value)
    return value
