"""Two skeletons laid side by side: which site of the one is which of the other.

Colours in the manner of Weisfeiler and Leman: a site's colour says what it is and what lies before it. Sites of one
colour are told apart by what lies after them, then by labels of the edges, each only where both models have as many
of each colour: what the two say differently cannot mislead. What is still alike is interchangeable as far as structure
goes; it is paired in the order of execution, one at a time, and so that neighbours follow.

Invariant: sites that are paired have the same kind and the same canonical shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from interop.transfer.skeleton import Labels, Place, Site, Skeleton

Colour = int
Colours = dict[Place, Colour]
Choices = Mapping[Site, Site]


@dataclass(frozen=True)
class Pair:
    """Two sites that are the same.

    Attributes:
        source: of the source.
        target: of the target.
        found: how: ``"structure"``, ``"neighbourhood"`` or ``"order"``.
        alike: how many sites the structure could not tell apart here.
    """

    source: Site
    target: Site
    found: str
    alike: int = 1


@dataclass(frozen=True)
class Tie:
    """A pair that was chosen among several that structure allows.

    Attributes:
        pair: the one chosen.
        sources: every site of the source that it allows.
    """

    pair: Pair
    sources: tuple[Site, ...]


@dataclass
class Alignment:
    """Pairs of sites, those without a partner, and the ties, in the order in which they were decided."""

    pairs: list[Pair] = field(default_factory=list)
    source_rest: list[Site] = field(default_factory=list)
    target_rest: list[Site] = field(default_factory=list)
    ties: list[Tie] = field(default_factory=list)


class _Palette:
    """One number for each thing that was ever a colour."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def __call__(self, thing: Any) -> Colour:
        return self._numbers.setdefault(thing, len(self._numbers))


_Keep = Callable[[str], bool]


def _no_label(label: str) -> bool:
    return False


# Each is tried alone and then all of them: which labels of an edge count.
_KINDS_OF_LABELS: tuple[_Keep, ...] = (
    lambda label: label in ("keys", "queries"),
    lambda label: label.startswith("part "),
    lambda label: label in ("Softmax", "Sigmoid", "Tanh", "Relu", "Erf"),
    lambda label: not label.startswith("epsilon"),
    lambda label: True,
)


def align(source: Skeleton, target: Skeleton, choices: Choices = MappingProxyType({})) -> Alignment:
    """Pair the sites of two skeletons.

    Args:
        source: of the source.
        target: of the target.
        choices: for sites of the target, which of the sites of the source that are as good is taken; by default the
            first.
    """
    return _Aligner(source, target, choices).run()


class _Aligner:
    def __init__(self, source: Skeleton, target: Skeleton, choices: Choices) -> None:
        self._choices = choices
        self._ties: list[Tie] = []
        self._sides = (source, target)
        self._after = tuple(_followers(side.places) for side in self._sides)
        self._colour = _Palette()
        self._told: dict[Place, int] = {}
        self._alike = tuple(_sharing(side.sites) for side in self._sides)
        self._pairs: list[Pair] = []

    def run(self) -> Alignment:
        open_sites = [list(side.sites) for side in self._sides]
        self._settle(open_sites, "structure", self._exact)
        for radius in (4, 2, 1):
            rest = self._rest()
            if rest[0] and rest[1]:
                self._settle(rest, "neighbourhood", lambda r=radius: self._nearby(r))  # type: ignore[misc]
        for beside in (self._after_same, self._before_same):
            self._settle_while_found(beside)
        rest = self._rest()
        self._in_order(rest)
        pairs = sorted(self._pairs, key=lambda pair: pair.target.index)
        left, right = self._rest()
        return Alignment(pairs, left, right, self._ties)

    def _rest(self) -> list[list[Site]]:
        paired = {pair.source for pair in self._pairs} | {pair.target for pair in self._pairs}
        return [[site for site in side.sites if site not in paired] for side in self._sides]

    def _settle(
        self, sites: list[list[Site]], found: str, colours: Callable[[], Iterable[tuple[Colours, Colours]]]
    ) -> None:
        """Split sites by one colouring after the other; then pair what is alike, one pair at a time."""
        while True:
            classes = [(set(sites[0]), set(sites[1]))]
            for number, (left, right) in enumerate(colours()):
                classes = [part for one in classes for part in _split(one, left, right, even=number > 0)]
            classes = [one for one in classes if one[0] and len(one[0]) == len(one[1])]
            for left_sites, right_sites in classes:
                if len(left_sites) == 1:
                    self._pair(left_sites.pop(), right_sites.pop(), found, 1)
            alike = [one for one in classes if len(one[0]) > 1]
            if not alike:
                return
            first = min(alike, key=lambda one: min(site.index for site in one[1]))
            ordered = [sorted(side, key=lambda site: site.index) for side in first]
            wanted = self._choices.get(ordered[1][0])
            chosen = wanted if wanted in first[0] else ordered[0][0]
            self._pair(chosen, ordered[1][0], found, len(ordered[0]))
            self._ties.append(Tie(self._pairs[-1], tuple(ordered[0])))
            sites = self._rest()

    def _settle_while_found(self, colours: Callable[[], Iterable[tuple[Colours, Colours]]]) -> None:
        """Pair by neighbours that are paired, which are more after each time."""
        count = -1
        while count < len(self._pairs):
            count = len(self._pairs)
            rest = self._rest()
            if rest[0] and rest[1]:
                self._settle(rest, "neighbourhood", colours)

    def _pair(self, source: Site, target: Site, found: str, alike: int) -> None:
        self._pairs.append(Pair(source, target, found, alike))
        self._told[source] = self._told[target] = len(self._pairs)
        again = [shared.get(site, ()) for shared, site in zip(self._alike, (source, target), strict=True)]
        if len(again[0]) == len(again[1]):
            for site in (*again[0], *again[1]):
                self._told.setdefault(site, -len(self._pairs))

    def _in_order(self, rest: list[list[Site]]) -> None:
        """The last resort: sites of one kind and shape, if both sides have as many."""
        groups = [_grouped(side) for side in rest]
        for key, left in groups[0].items():
            right = groups[1].get(key, [])
            if len(left) != len(right):
                continue
            for target in right:
                wanted = self._choices.get(target)
                chosen = wanted if wanted in left else left[0]
                self._pair(chosen, target, "order", len(right))
                if len(left) > 1:
                    self._ties.append(Tie(self._pairs[-1], tuple(left)))
                left.remove(chosen)

    def _base(self, place: Place) -> Any:
        return (place.kind, place.shape, self._told.get(place))

    def _exact(self) -> Iterable[tuple[Colours, Colours]]:
        before = [self._forward(side.places, _no_label) for side in self._sides]
        yield before[0], before[1]
        after = [self._backward(i, _no_label) for i in range(2)]
        yield after[0], after[1]
        for keep in _KINDS_OF_LABELS:
            before = [self._forward(side.places, keep) for side in self._sides]
            after = [self._backward(i, keep) for i in range(2)]
            yield before[0], before[1]
            yield after[0], after[1]

    def _nearby(self, radius: int) -> Iterable[tuple[Colours, Colours]]:
        colours = [{place: self._colour(self._base(place)) for place in side.places} for side in self._sides]
        for _ in range(radius):
            for i, side in enumerate(self._sides):
                old, after = colours[i], self._after[i]
                colours[i] = {
                    place: self._colour(
                        (
                            old[place],
                            tuple(sorted(old[p] for p in place.feeds)),
                            tuple(sorted(old[p] for p, _ in after[place])),
                        )
                    )
                    for place in side.places
                }
        yield colours[0], colours[1]

    def _after_same(self) -> Iterable[tuple[Colours, Colours]]:
        """What the sites take alone: what follows may be another head."""
        made = [
            {
                p: self._colour(("after", self._base(p), tuple(sorted(map(self._near, p.feeds)))))
                for p in side.places
            }
            for side in self._sides
        ]
        yield made[0], made[1]

    def _before_same(self) -> Iterable[tuple[Colours, Colours]]:
        """What takes the sites alone."""
        made = [
            {
                p: self._colour(("before", self._base(p), tuple(sorted(self._near(q) for q, _ in after[p]))))
                for p in side.places
            }
            for side, after in zip(self._sides, self._after, strict=True)
        ]
        yield made[0], made[1]

    def _near(self, place: Place) -> Colour:
        return self._colour(self._base(place))

    def _forward(self, places: Sequence[Place], keep: _Keep) -> Colours:
        colours: Colours = {}
        for place in places:
            feeds = sorted((colours[p], self._kept(labels, keep)) for p, labels in place.feeds.items())
            colours[place] = self._colour(("before", self._base(place), tuple(feeds)))
        return colours

    def _backward(self, side: int, keep: _Keep) -> Colours:
        colours: Colours = {}
        for place in reversed(self._sides[side].places):
            after = sorted((colours[p], self._kept(labels, keep)) for p, labels in self._after[side][place])
            colours[place] = self._colour(("after", self._base(place), tuple(after)))
        return colours

    def _kept(self, labels: Labels, keep: _Keep) -> tuple[str, ...]:
        return tuple(sorted(label for label in labels if keep(label)))


def _split(
    one: tuple[set[Site], set[Site]], left: Colours, right: Colours, *, even: bool
) -> list[tuple[set[Site], set[Site]]]:
    """A class by colour; with ``even`` only if both sides have as many of each."""
    parts: Mapping[Colour, tuple[set[Site], set[Site]]] = defaultdict(lambda: (set(), set()))
    for site in one[0]:
        parts[left[site]][0].add(site)
    for site in one[1]:
        parts[right[site]][1].add(site)
    if even and len(one[0]) == len(one[1]) and any(len(a) != len(b) for a, b in parts.values()):
        return [one]
    return list(parts.values())


def _followers(places: Sequence[Place]) -> dict[Place, list[tuple[Place, Labels]]]:
    after: dict[Place, list[tuple[Place, Labels]]] = {place: [] for place in places}
    for place in places:
        for before, labels in place.feeds.items():
            after[before].append((place, labels))
    return after


def _sharing(sites: Sequence[Site]) -> dict[Site, list[Site]]:
    """For each site those that use the same parameters in the same way, where there are any."""
    groups: dict[Any, list[Site]] = {}
    for site in sites:
        groups.setdefault(site.uses, []).append(site)
    return {site: group for group in groups.values() if len(group) > 1 for site in group}


def _grouped(sites: Sequence[Site]) -> dict[Any, list[Site]]:
    made: dict[Any, list[Site]] = {}
    for site in sites:
        made.setdefault((site.kind, site.shape), []).append(site)
    return made
