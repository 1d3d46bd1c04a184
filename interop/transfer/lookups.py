"""Tables looked up at what is computed from the inputs, such as positions that do not count padding.

Enters: a flat ``ir.Model``. Leaves: another, in which such a table is looked up where inputs without anything special
look it up, the tokens that leave it there, and what is to be said of it.

Invariant: only lookups whose place is the same for most inputs are changed; which tokens are special is not assumed but
seen, on inputs of two tokens each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interop.transfer.movement import movement
from interop.transfer.nodes import computed
from interop.transfer.values import Constant

_DRAWS = 24


class Lookups(NamedTuple):
    """What was found.

    Attributes:
        graph: the model with lookups at fixed places.
        tokens: for each input that is looked up in a table, by position: tokens that leave these places as they are.
        tables: names of the tables.
    """

    graph: Any
    tokens: dict[int, NDArray[np.int64]]
    tables: tuple[str, ...]


def fixed_lookups(model: Any, parameters: Mapping[str, tuple[int, ...]]) -> Lookups | None:
    """Look tables up where ordinary inputs do; None if no table is looked up at something computed.

    Args:
        model: a flat ``ir.Model`` with inputs of fixed sizes; it is not changed.
        parameters: shapes of the initializers that are, by name.
    """
    import onnx_ir as ir

    graph = model.clone()
    rows = _rows(graph.graph, parameters)
    found = {
        node: nodes
        for node in graph.graph
        if node.op_type == "Gather" and _table(node.inputs[0], parameters) is not None
        if (nodes := _before(node.inputs[1], parameters)) is not None
    }
    draws = [_drawn(graph.graph, rows, seed) for seed in range(_DRAWS)]
    tokens: dict[int, NDArray[np.int64]] = {}
    tables = []
    for node, nodes in found.items():
        places = [_computed(nodes, node.inputs[1], inputs) for inputs in draws]
        ((usual, count),) = Counter(place.tobytes() for place in places).most_common(1)
        if 2 * count <= len(places):
            continue
        ordinary = [k for k, place in enumerate(places) if place.tobytes() == usual]
        for index in rows:
            left = np.unique([draws[k][graph.graph.inputs[index]] for k in ordinary])
            tokens[index] = np.intersect1d(tokens.get(index, left), left)
        name = f"{node.outputs[0].name}/places"
        made = ir.node("Constant", [], {"value": ir.tensor(places[ordinary[0]])}, name=name)
        made.outputs[0].name = name
        made.outputs[0].shape, made.outputs[0].type = node.inputs[1].shape, node.inputs[1].type
        graph.graph.insert_before(node, made)
        node.replace_input_with(1, made.outputs[0])
        tables.append(_table(node.inputs[0], parameters) or "")
    return Lookups(graph, tokens, tuple(tables)) if tables else None


def _table(value: Any, parameters: Mapping[str, tuple[int, ...]]) -> str | None:
    while (node := value.producer()) is not None and node.op_type in ("Identity", "Cast"):
        value = node.inputs[0]
    return value.name if value.name in parameters and len(parameters[value.name]) > 1 else None


def _rows(graph: Any, parameters: Mapping[str, tuple[int, ...]]) -> dict[int, int]:
    """For each input that is looked up as it is, how many rows the smallest table has."""
    found: dict[int, int] = {}
    inputs = {value: k for k, value in enumerate(graph.inputs)}
    for node in graph:
        if node.op_type != "Gather" or (table := _table(node.inputs[0], parameters)) is None:
            continue
        value = node.inputs[1]
        while (made := value.producer()) is not None and movement(made.op_type, {}, ()) is not None:
            value = made.inputs[0]
        if value in inputs:
            index = inputs[value]
            found[index] = min(found.get(index, 2**62), parameters[table][0])
    return found


def _before(value: Any, parameters: Mapping[str, tuple[int, ...]]) -> list[Any] | None:
    """The nodes that compute a value from the inputs, in order; None if they move inputs only, or take parameters."""
    nodes: dict[Any, None] = {}
    waiting, depends = [value], False
    while waiting:
        one = waiting.pop()
        node = one.producer()
        if node is None:
            if one.name in parameters and np.issubdtype(one.dtype.numpy(), np.floating):
                return None
            depends = depends or one.is_graph_input()
        elif node not in nodes:
            nodes[node] = None
            waiting += [given for given in node.inputs if given is not None]
    computes = any(movement(node.op_type, {}, ()) is None and node.op_type != "Constant" for node in nodes)
    if not depends or not computes:
        return None
    return [node for node in value.producer().graph if node in nodes]


def _drawn(graph: Any, rows: Mapping[int, int], seed: int) -> dict[Any, NDArray[Any]]:
    """Inputs: of those that are looked up two tokens only, all others are ones, as masks without padding are."""
    rng = np.random.default_rng(seed)
    made = {}
    for index, value in enumerate(graph.inputs):
        sizes = tuple(int(dim) for dim in value.shape)
        array = np.ones(sizes, value.dtype.numpy())
        if index in rows:
            array = rng.choice(rng.integers(0, rows[index], 2), sizes).astype(array.dtype)
        made[value] = array
    return made


def _computed(nodes: list[Any], value: Any, inputs: Mapping[Any, NDArray[Any]]) -> NDArray[Any]:
    known = dict(inputs)

    def read(one: Any) -> Constant | None:
        if one is None:
            return None
        return Constant(known[one] if one in known else one.const_value.numpy())

    for node in nodes:
        known.update(zip(node.outputs, computed(node, [read(one) for one in node.inputs]), strict=False))
    return np.asarray(known[value])
