"""Other ways to read two graphs, tried where the first leaves parameters without a partner.

Enters: two halves of a match. Leaves: the same halves with other graphs or other skeletons, or None where that would
change nothing. Invariant: a graph that was read is not changed; another is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from interop.transfer.arithmetic import arranged
from interop.transfer.elements import Numbering
from interop.transfer.lookups import fixed_lookups
from interop.transfer.loops.steps import each_by_itself, has_layers, stepped
from interop.transfer.normalised import find_normalised, in_one
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
        made.append(
            replace(half, graph=graph, skeleton=read_skeleton(graph, half.numbering, order, sums=half.sums))
        )
    return made[0], made[1]


def at_usual_places(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """Tables looked up where inputs without padding look them up: one side counts what is no padding."""
    made, changed = [], False
    for side, half, order in zip(("source", "target"), (source, target), orders, strict=True):
        found = fixed_lookups(half.graph, half.numbering.shapes)
        if found is not None:
            notes = tuple(
                f"where {name} is looked up depends on what the inputs of the {side} hold; matched for those that "
                "leave it where most do, such as inputs without padding"
                for name in found.tables
            )
            skeleton = read_skeleton(found.graph, half.numbering, order, sums=half.sums)
            half = replace(half, graph=found.graph, skeleton=skeleton, tokens=found.tokens, notes=notes)
            changed = True
        made.append(half)
    return (made[0], made[1]) if changed else None


def as_one_sum(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """What is added to a table's rows as part of the table: one side has a vector for all rows, the other none."""
    made = []
    for half, order in zip((source, target), orders, strict=True):
        skeleton = read_skeleton(half.graph, half.numbering, order, sums=True)
        made.append(replace(half, skeleton=skeleton, sums=True))
    counts = [len(half.skeleton.sites) for half in (source, target, *made)]
    return (made[0], made[1]) if counts[:2] != counts[2:] else None


def as_they_are_used(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """A direction and a length for each unit as the tensor that they make: the other side has that."""
    from onnx_ir.passes.common import ShapeInferencePass

    made, changed = [], False
    for half, order in zip((source, target), orders, strict=True):
        graph = half.captured.clone()
        found = find_normalised(graph, half.numbering.shapes, half.model.read)
        if found:
            model = in_one(half.model, found)
            ShapeInferencePass(check_type=False)(arranged(graph, model.tensors))
            names = {
                name: spec.shape for name, spec in model.tensors.items() if name in graph.graph.initializers
            }
            numbering = Numbering(names)
            skeleton = read_skeleton(graph, numbering, order, sums=half.sums)
            half = replace(
                half,
                model=model,
                graph=graph,
                numbering=numbering,
                skeleton=skeleton,
                normalised=tuple(found),
            )
            changed = True
        made.append(half)
    return (made[0], made[1]) if changed else None


def in_parts(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """What tensors that are beside each other are multiplied with as a matrix for each."""
    made = []
    for half, order in zip((source, target), orders, strict=True):
        graph = each_by_itself(half.graph.clone(), half.numbering.shapes)
        made.append(
            replace(half, graph=graph, skeleton=read_skeleton(graph, half.numbering, order, sums=half.sums))
        )
    return made[0], made[1]


WAYS: tuple[Way, ...] = (as_they_are_used, in_steps, at_usual_places, as_one_sum, in_parts)
