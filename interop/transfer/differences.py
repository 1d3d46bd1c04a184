"""What two models do differently, by layer: attributes of paired sites, and what lies between them.

Enters: a match. Leaves: one ``Difference`` each, in the order in which they enter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from interop.transfer.alignment import Pair
from interop.transfer.matching import Half, Match
from interop.transfer.skeleton import Labels, Place, Site

EPSILON = "epsilon="


@dataclass(frozen=True)
class Difference:
    """One thing that the models do differently.

    Attributes:
        text: names the layer, and what either model does.
        index: the place of the target where it enters.
        fact: the attribute of the pair that differs; ``""`` where it is something that lies before.
        pair: the sites at which it enters; None before an output or where two tensors meet.
        labels: what lies before in the source alone, and in the target alone.
        output: the position of the output that it lies before.
    """

    text: str
    index: int
    fact: str = ""
    pair: Pair | None = None
    labels: tuple[Labels, Labels] = (frozenset(), frozenset())
    output: int | None = None

    @property
    def epsilons(self) -> tuple[float, float] | None:
        """The epsilon of the source and that of the target, if all that differs is that."""
        if any(
            len(some) != 1 or not all(label.startswith(EPSILON) for label in some) for some in self.labels
        ):
            return None
        one, two = (float(next(iter(some)).removeprefix(EPSILON)) for some in self.labels)
        return one, two


def differences(match: Match) -> list[Difference]:
    """What differs, that which enters first first."""
    partner = _partners(match)
    found = [
        *(one for pair in match.alignment.pairs for one in _of_facts(match, pair)),
        *_of_what_lies_between(match, partner),
        *_folded(match),
    ]
    told: dict[tuple[str, str], Difference] = {}
    for one in sorted(found, key=lambda one: (one.index, one.text)):
        node = one.pair.target.node if one.pair is not None and one.fact else ""
        told.setdefault((node, one.fact if node else one.text), one)
    return list(told.values())


def named(half: Half, site: Site) -> str:
    """A site by the parameters it uses."""
    return " + ".join(dict.fromkeys(name for term in site.terms for name in half.numbering.owners(term)))


def _partners(match: Match) -> dict[Place, Place]:
    """For each place of the target that of the source; of joints those whose operands are partners."""
    partner: dict[Place, Place] = {pair.target: pair.source for pair in match.alignment.pairs}
    free: dict[tuple[str, frozenset[Place]], list[Place]] = defaultdict(list)
    for place in match.source.skeleton.places:
        if not isinstance(place, Site):
            free[place.kind, frozenset(place.feeds)].append(place)
    for place in match.target.skeleton.places:
        if isinstance(place, Site) or any(before not in partner for before in place.feeds):
            continue
        alike = free.get((place.kind, frozenset(partner[before] for before in place.feeds)))
        if alike:
            partner[place] = alike.pop(0)
    return partner


def _of_facts(match: Match, pair: Pair) -> Iterator[Difference]:
    ours, theirs = pair.target.facts, pair.source.facts
    for key in sorted((set(theirs) | set(ours)) - {"node"}):
        one, two = theirs.get(key), ours.get(key)
        straight = key == "strides" and {*(one or (1,)), *(two or (1,))} == {1}
        if one != two and not straight:
            text = f"{key} of {_both(match, pair)}: source {one}, target {two}"
            yield Difference(text, pair.target.index, key, pair)


def _of_what_lies_between(match: Match, partner: Mapping[Place, Place]) -> Iterator[Difference]:
    outputs = [place for place in match.target.skeleton.places if place.kind == "output"]
    pairs = {pair.target: pair for pair in match.alignment.pairs}
    for place in match.target.skeleton.places:
        other, pair = partner.get(place), pairs.get(place) if isinstance(place, Site) else None
        if other is None:
            continue
        for before, labels in place.feeds.items():
            known = other.feeds.get(partner[before]) if before in partner else None
            if known is None or known == labels:
                continue
            apart = known - labels, labels - known
            said = [", ".join(sorted(some)) or "nothing" for some in apart]
            output = outputs.index(place) if place in outputs else None
            where = _both(match, pair) if pair is not None else _joint(match, place, output)
            text = f"before {where}: source {said[0]}, target {said[1]}"
            yield Difference(text, place.index, "", pair, apart, output)


def _folded(match: Match) -> Iterator[Difference]:
    """Statistics of normalisations that one side has and the other has nowhere."""
    sides = (match.source, match.alignment.source_rest), (match.target, match.alignment.target_rest)
    for (half, rest), (other, _) in (sides, sides[::-1]):
        found = [site for site in rest if site.kind == "rsqrt"]
        if found and not any(site.kind == "rsqrt" for site in other.skeleton.sites):
            names = ", ".join(dict.fromkeys(named(half, site) for site in found[:3]))
            text = (
                f"{other.model.label} has no parameters of a normalisation, as {half.model.label} has ({names}). Those "
                "right after a layer of their own would be read as part of that layer; no layer comes right before it"
            )
            yield Difference(text, 0, "folded")


def _both(match: Match, pair: Pair) -> str:
    return f"{named(match.target, pair.target)} (source: {named(match.source, pair.source)})"


def _joint(match: Match, place: Place, output: int | None) -> str:
    """An output, or a point where tensors meet, by the sites before it."""
    if output is not None:
        return f"output {output}"
    names = [named(match.target, before) for before in _sites_before(place)]
    return f"the {place.kind} of {' and '.join(names[:3]) or 'the inputs'}"


def _sites_before(place: Place) -> Iterator[Site]:
    for before in place.feeds:
        if isinstance(before, Site):
            yield before
        else:
            yield from _sites_before(before)
