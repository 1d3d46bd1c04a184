"""Other ways to read two graphs, tried where the first leaves parameters without a partner.

Enters: two halves of a match. Leaves: the same halves with other graphs or other skeletons, or None where that would
change nothing. Invariant: a graph that was read is not changed; another is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interop.transfer.alignment import align
from interop.transfer.arithmetic import arranged
from interop.transfer.composites import Finder, fold, in_one, single
from interop.transfer.elements import Numbering
from interop.transfer.lookups import fixed_lookups
from interop.transfer.loops.steps import has_layers, stepped
from interop.transfer.reading import read_skeleton
from interop.transfer.sums import each_by_itself

if TYPE_CHECKING:
    from interop.transfer.matching import Half
    from interop.transfer.models import Model

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


def with_single_numbers(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """Single numbers of a graph, which may be constants, as parameters where the other side has such a parameter."""
    halves = source, target
    doubtful = [half.model.doubtful.keys() - half.model.tensors.keys() for half in halves]
    made = [with_numbers(*each) for each in zip(halves, orders, doubtful, strict=True)]
    kept: list[set[str]] = [set(), set()]
    for pair in align(made[0].skeleton, made[1].skeleton).pairs:
        for half, site, names, paired in zip(made, (pair.source, pair.target), doubtful, kept, strict=True):
            paired |= names & half.owners(site)
    if not any(kept):
        return None
    found = [with_numbers(*each) for each in zip(halves, orders, kept, strict=True)]
    return found[0], found[1]


def as_they_are_used(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """Parts of a tensor, such as a direction and a length, as the tensor that they make: the other side has that."""
    return _either(source, target, orders, single)


def in_one_layer(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """A layer and the affine steps after it as one layer, where the other side has one."""
    made = _either(source, target, orders, fold)
    if made is None:
        return None
    kept = _apart_on_one_side(made)
    halves = [
        composed(half, order, fold, names.__contains__)
        for half, order, names in zip((source, target), orders, kept, strict=True)
    ]
    return (halves[0], halves[1]) if any(kept) else None


def _apart_on_one_side(halves: tuple[Half, Half]) -> list[set[str]]:
    """What folded layers of either side make whose partner is not folded alike, and what that is made of."""
    makers = [{name: one for one in half.composites for name in one.makes} for half in halves]
    kept: list[set[str]] = [set(), set()]
    for pair in align(halves[0].skeleton, halves[1].skeleton).pairs:
        own = [
            {
                name: known[name]
                for term in site.terms
                for name in half.numbering.owners(term)
                if name in known
            }
            for half, site, known in zip(halves, (pair.source, pair.target), makers, strict=True)
        ]
        if {one.form for one in own[0].values()} != {one.form for one in own[1].values()}:
            kept = [names | some.keys() for names, some in zip(kept, own, strict=True)]
    for names, known in zip(kept, makers, strict=True):
        waiting = list(names)
        while waiting:
            one = known[waiting.pop()]
            waiting += [name for name in one.parts if name in known and name not in names]
            names |= one.makes.keys() | {name for name in one.parts if name in known}
    return kept


def _either(source: Half, target: Half, orders: Orders, find: Finder) -> tuple[Half, Half] | None:
    made = [composed(half, order, find) for half, order in zip((source, target), orders, strict=True)]
    return None if made[0] is source and made[1] is target else (made[0], made[1])


def composed(
    half: Half,
    orders: Sequence[tuple[int, ...]],
    find: Finder,
    only: Callable[[str], bool] = lambda name: True,
) -> Half:
    """A half with tensors in the place of the parameters that they are made of; itself, if there are none.

    Args:
        half: one side.
        orders: of the axes of its inputs.
        find: changes the graph.
        only: which tensors, by name.
    """
    captured = half.captured.clone()
    found = tuple(find(captured, list(half.numbering.shapes), only))
    if not found:
        return half
    made = _reread(half, in_one(half.model, found), captured, orders)
    return replace(made, composites=(*half.composites, *found))


def with_numbers(half: Half, orders: Sequence[tuple[int, ...]], names: Collection[str]) -> Half:
    """A half of which these single numbers are parameters too; itself, if there are none."""
    if not names:
        return half
    more = {name: spec for name, spec in half.model.doubtful.items() if name in names}
    model = replace(half.model, tensors=half.model.tensors | more)
    return _reread(half, model, half.captured, orders)


def _reread(half: Half, model: Model, captured: Any, orders: Sequence[tuple[int, ...]]) -> Half:
    from onnx_ir.passes.common import ShapeInferencePass

    graph = arranged(captured.clone(), model.tensors)
    ShapeInferencePass(check_type=False)(graph)
    numbering = Numbering(model.shapes_of(graph.graph.initializers))
    skeleton = read_skeleton(graph, numbering, orders, sums=half.sums)
    for place, before in zip(skeleton.inputs, half.skeleton.inputs, strict=True):
        place.kind = before.kind
    return replace(half, model=model, captured=captured, graph=graph, numbering=numbering, skeleton=skeleton)


def in_parts(source: Half, target: Half, orders: Orders) -> tuple[Half, Half] | None:
    """What tensors that are beside each other are multiplied with as a matrix for each."""
    made = []
    for half, order in zip((source, target), orders, strict=True):
        graph = each_by_itself(half.graph.clone(), half.numbering.shapes)
        made.append(
            replace(half, graph=graph, skeleton=read_skeleton(graph, half.numbering, order, sums=half.sums))
        )
    return made[0], made[1]


WAYS: tuple[Way, ...] = (
    with_single_numbers,
    as_they_are_used,
    in_one_layer,
    in_steps,
    at_usual_places,
    as_one_sum,
    in_parts,
)
