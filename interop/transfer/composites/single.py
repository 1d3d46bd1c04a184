"""Tensors that a graph computes of two or three parameters, found and put in the place of these.

Enters: a flat ``ir.Model``. Leaves: the same model, changed, and a ``Composite`` for each tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from interop.transfer.arithmetic import static_shape
from interop.transfer.composites import normalised, spectral
from interop.transfer.composites.composite import Composite
from interop.transfer.composites.evaluation import OfParameters, spec_of, stand_in, without_idle

_MOST = 3


def single(
    model: Any, names: Sequence[str], only: Callable[[str], bool] = lambda name: True
) -> list[Composite]:
    """Put one initializer in the place of each tensor whose parts are known; the graph is changed.

    Args:
        model: a flat ``ir.Model``.
        names: of the initializers that are parameters.
        only: which tensors, by the name that they get.
    """
    graph = model.graph
    of = OfParameters(graph, names)
    found: list[Composite] = []
    for node in list(graph):
        made, *others = node.outputs
        owners, shape = of.owners(made), static_shape(made)
        if others or not owners or not 1 < len(owners) <= _MOST or shape is None:
            continue
        parts = {name: spec_of(graph.initializers[name]) for name in sorted(owners)}
        for one in (*normalised.readings(of, made, shape, parts), *spectral.readings(of, made, shape, parts)):
            (name,) = one.makes
            if only(name) and name not in graph.initializers:
                value = stand_in(graph, name, graph.initializers[next(iter(one.parts))].dtype, shape)
                made.replace_all_uses_with(value)
                found.append(one)
    without_idle(graph, [name for one in found for name in one.parts])
    return [one for one in found if not one.parts.keys() & graph.initializers.keys()]
