"""Other ways to read two graphs, tried where the first leaves parameters without a partner.

Enters: two halves of a match. Leaves: the same halves with other graphs or other skeletons, or None where that would
change nothing. Invariant: a graph that was read is not changed; another is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from interop.transfer.loops.steps import each_by_itself, has_layers, stepped
from interop.transfer.reading import read_skeleton

if TYPE_CHECKING:
    from interop.transfer.matching import Half

Orders = Sequence[Sequence[tuple[int, ...]]]
Way = Callable[["Half", "Half", Orders], "tuple[Half, Half] | None"]


def in_steps(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """Recurrent layers as their steps: one side has a layer, the other a loop in plain code."""
    if has_layers(source.graph) == has_layers(target.graph):
        return None
    made = []
    for half, order in zip((source, target), orders, strict=True):
        graph = stepped(half.graph.clone(), half.numbering.shapes)
        made.append(replace(half, graph=graph, skeleton=read_skeleton(graph, half.numbering, order)))
    return made[0], made[1]


def in_parts(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """What tensors that are beside each other are multiplied with as a matrix for each."""
    made = []
    for half, order in zip((source, target), orders, strict=True):
        graph = each_by_itself(half.graph.clone(), half.numbering.shapes)
        made.append(replace(half, graph=graph, skeleton=read_skeleton(graph, half.numbering, order)))
    return made[0], made[1]


WAYS: tuple[Way, ...] = (in_steps, in_parts)
