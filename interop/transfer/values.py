"""What is known of a tensor while a graph is read for matching.

A tensor is a ``Constant``, a ``Weight`` (parameters, moved or combined with each other) or a ``Flow`` (it depends on
the inputs). A flow has a *layout*: for each element its place in a canonical order, which is the same in any framework,
with channels last or first, heads beside or before tokens.

Invariants: a layout is never changed in place; -1 in it is an element that padding added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.elements import Numbers
from interop.transfer.skeleton import Joint, Labels, Place, Site

Layout = NDArray[np.int64]
Feeds = dict[Place, Labels]
REDUCED = "reduced"


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that depends on neither parameters nor inputs."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


@dataclass(frozen=True, eq=False)
class Term:
    """Parameters in one role: ``""`` as they are, else what is done with them.

    In the role ``REDUCED`` one number stands for many, as the norm of a matrix does: not to be matched element by
    element, which the use of the elements themselves allows.

    Attributes:
        numbers: of the elements.
        role: what is done with them.
        facts: what else the result depends on, such as an epsilon that is added.
    """

    numbers: Numbers
    role: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def moved(self, numbers: Numbers) -> Term:
        """The same with its elements moved."""
        return replace(self, numbers=numbers)


@dataclass(frozen=True, eq=False)
class Weight:
    """A tensor that depends on parameters alone; every term has its shape."""

    terms: tuple[Term, ...]
    shape: tuple[int, ...]


@dataclass(eq=False)
class Frame:
    """The features that one product or convolution makes.

    Attributes:
        key: the node's name.
        features: how many; a place of the canonical order modulo this is the feature.
        parts: which features are used apart from each other; none if all are used together.
    """

    key: str
    features: int
    parts: tuple[NDArray[np.int64], ...] = ()


@dataclass(frozen=True, eq=False)
class Run:
    """Factors, or summands, that follow each other: their order means nothing."""

    kind: str
    before: Feeds
    sites: tuple[Place, ...]


@dataclass(frozen=True, eq=False)
class Pairing:
    """A product of two flows: which row of the one and which column of the other an element belongs to."""

    place: Joint
    operands: tuple[NDArray[np.int64], NDArray[np.int64]]
    feeds: tuple[Feeds, Feeds]


@dataclass(frozen=True, eq=False)
class Flow:
    """A tensor that depends on the inputs.

    Attributes:
        shape: its sizes.
        layout: canonical places, or None where they are not known.
        feeds: the places it comes from.
        frame: the features it consists of, if nothing else was mixed in.
        partial: whether it may hold some of the features only.
        run: the factors or summands that it ends with.
        pairing: the product it is, up to arithmetic on each element.
    """

    shape: tuple[int, ...]
    layout: Layout | None
    feeds: Feeds
    frame: Frame | None = None
    partial: bool = False
    run: Run | None = None
    pairing: Pairing | None = None

    def places(self) -> Layout:
        """The layout; of a tensor whose order is not known, that of its elements."""
        if self.layout is not None:
            return self.layout
        return np.arange(int(np.prod(self.shape)), dtype=np.int64).reshape(self.shape)

    def labelled(self, *labels: str) -> Flow:
        """The same, after an operation that a label names."""
        return replace(self, feeds=labelled(self.feeds, *labels), run=None)

    def features(self) -> NDArray[np.int64] | None:
        """Which features of its frame it holds; None: all."""
        if self.frame is None or not self.partial or self.layout is None:
            return None
        found = np.unique(self.layout[self.layout >= 0] % self.frame.features)
        return None if len(found) == self.frame.features else found

    def ordered_features(self) -> tuple[int, ...]:
        """The features of its frame in the order in which it has them; none if it has no frame."""
        if self.frame is None or self.layout is None:
            return ()
        places = self.layout.reshape(-1)
        places = places[places >= 0]
        row = (
            places[places // self.frame.features == places[0] // self.frame.features]
            if places.size
            else places
        )
        return tuple(dict.fromkeys((row % self.frame.features).tolist()))


Tensor = Constant | Weight | Flow


@dataclass
class Uses:
    """Which features of each frame are used together, and in which order where that means something.

    Attributes:
        found: by the frame's key, for each use the features and their order; None for all, and for no order.
    """

    found: dict[str, list[tuple[NDArray[np.int64] | None, tuple[int, ...] | None]]] = field(
        default_factory=dict
    )

    def record(self, flow: Flow, *, ordered: bool = False) -> None:
        """The flow is taken by something that mixes its elements, or leaves the graph.

        Args:
            flow: what is taken.
            ordered: whether its axes have the features in an order that does not depend on how they are stored.
        """
        if flow.frame is not None:
            order = flow.ordered_features() if ordered else None
            self.found.setdefault(flow.frame.key, []).append((flow.features(), order))

    def parts(self) -> dict[str, tuple[NDArray[np.int64], ...]]:
        """For each frame that is used in parts, these: the largest sets, if they do not overlap.

        One that is used whole is a part too, if what takes it has the features in another order than they are stored.
        """
        made: dict[str, tuple[NDArray[np.int64], ...]] = {}
        for key, uses in self.found.items():
            orders = {frozenset(order): order for _, order in uses if order}
            agreed = all(not order or orders[frozenset(order)] == order for _, order in uses)
            if any(use is None for use, _ in uses):
                whole = set(uses[0][1] or ())
                same = all(order == uses[0][1] for _, order in uses)
                if whole and same and list(uses[0][1] or ()) != sorted(whole):
                    made[key] = (np.array(uses[0][1], np.int64),)
                continue
            sets = {tuple(use.tolist()) for use, _ in uses if use is not None}
            largest = [set(a) for a in sets if not any(set(a) < set(b) for b in sets)]
            if len(largest) > 1 and sum(map(len, largest)) == len(set().union(*largest)):
                told = orders if agreed else {}
                made[key] = tuple(
                    np.array(told.get(frozenset(part), tuple(sorted(part))), np.int64)
                    for part in sorted(largest, key=min)
                )
        return made


def labelled(feeds: Feeds, *labels: str) -> Feeds:
    """The places, each with more labels."""
    added = frozenset(labels)
    return {place: found | added for place, found in feeds.items()}


def united(all_feeds: Iterable[Feeds]) -> Feeds:
    """The places of several flows; inputs count only where there is nothing else."""
    made: Feeds = {}
    for feeds in all_feeds:
        for place, labels in feeds.items():
            made[place] = made.get(place, frozenset()) | labels
    inner = {place: labels for place, labels in made.items() if not place.kind.startswith("input")}
    return inner or made


def within(feeds: Feeds, frame: Frame, features: NDArray[np.int64]) -> Feeds:
    """The places without those of the frame's parts that none of the features is in."""
    hit = {i for i, part in enumerate(frame.parts) if np.isin(features, part).any()}
    return {
        place: labels
        for place, labels in feeds.items()
        if not isinstance(place, Site)
        or place.block is None
        or place.block[0] != frame.key
        or place.block[1] in hit
    }
