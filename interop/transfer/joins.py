"""Tensors that both models put beside each other, in another order: a skip connection first, or what was upsampled.

Enters: two skeletons and the sites that are paired. Leaves: for nodes of the target the order that the source has. To
what follows, up to the next product, it means only that its elements stand elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable

import numpy as np

from interop.transfer.alignment import Pair
from interop.transfer.skeleton import Place, Site, Skeleton

Part = frozenset[Hashable]


def orders_of_joins(source: Skeleton, target: Skeleton, pairs: Iterable[Pair]) -> dict[str, tuple[int, ...]]:
    """The place in the source of each tensor that a node of the target joins, for nodes where it is another."""
    partner: dict[Hashable, Hashable] = {pair.target: pair.source for pair in pairs}
    waiting: dict[frozenset[Part], list[list[Part]]] = defaultdict(list)
    for parts in _from_sites(source):
        waiting[frozenset(parts)].append(parts)
    found: dict[str, tuple[int, ...]] = {}
    for name, parts in zip(target.joins, _from_sites(target), strict=True):
        known = [frozenset(partner.get(place, place) for place in part) for part in parts]
        alike = waiting.get(frozenset(known))
        if alike and len(alike[0]) == len(known) == len(set(known)):
            order = tuple(map(alike.pop(0).index, known))
            if order != tuple(range(len(order))):
                found[name] = order
    return found


def _from_sites(skeleton: Skeleton) -> list[list[Part]]:
    """Of each node that joins, the sites and inputs that every tensor comes from."""
    known: dict[Place, Part] = {}

    def origins(place: Place) -> Part:
        if place not in known:
            before = {} if isinstance(place, Site) else place.feeds
            own: Part = frozenset([place if isinstance(place, Site) else place.kind])
            known[place] = _all(map(origins, before)) if before else own
        return known[place]

    return [[_all(map(origins, part)) for part in parts] for parts in skeleton.joins.values()]


def _all(parts: Iterable[Part]) -> Part:
    return frozenset[Hashable]().union(*parts)


def same_outputs(one: Skeleton, other: Skeleton) -> bool:
    """Whether the elements of all outputs stand where they stood."""
    return all(np.array_equal(a.places, b.places) for a, b in zip(one.outputs, other.outputs, strict=True))
