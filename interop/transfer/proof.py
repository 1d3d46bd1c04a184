"""Proof that a plan is right: both graphs run with the same weights and must give the same, site by site.

Enters: a match. Leaves: a ``Proof``. The weights are drawn, so that every element is another and signals neither fade
nor grow: a trained model proves little where its biases are zero. What the plan does not fill is drawn too.

The proof must be able to fail: with one tensor of the target in another order the outputs must depart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.transfer.matching import Half, Match
from interop.transfer.setting_aside import ATTRIBUTES, changes
from interop.transfer.skeleton import Site
from interop.transfer.trial import TOLERANCE, Expected, Trial

_NEAR = (
    0.05  # where an activation or an epsilon inside a layer has another form; a wrong mapping is off by more
)
_SHUFFLED = 12


@dataclass(frozen=True)
class Proof:
    """What running both graphs showed.

    Attributes:
        error: the largest error of an output, relative to its root mean square; None if no output is comparable.
        inner: the same over all sites whose results can be compared.
        compared: how many sites that are.
        differences: what the models do differently, by layer, where they depart.
        idle: targets that could be in another order without any effect: for these it proves nothing.
        aside: the largest error once what the models do differently is set aside; None if they agree, or nothing is.
        explained: whether that is small: the mapping is right, and the models differ in what is named.
    """

    error: float | None
    inner: float
    compared: int
    differences: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    aside: float | None = None
    explained: bool = False

    @property
    def passed(self) -> bool:
        """Whether everything that was compared agrees, and something was."""
        worst = max(self.inner, self.error or 0.0)
        return bool(worst <= TOLERANCE) and (self.compared > 0 or self.error is not None)


def prove(match: Match, *, seed: int = 0) -> Proof:
    """Run both graphs with drawn weights."""
    expected = Expected(match, seed)
    trial = Trial(match, expected)
    errors = trial.errors()
    lasting = errors.lasting()
    inner = max((error for _, error in lasting), default=0.0)
    output = max(errors.outputs) if errors.outputs else None
    departed = next((pair for pair, error in lasting if not error <= TOLERANCE), None)
    if departed is None and (output is None or output <= TOLERANCE):
        return Proof(output, inner, len(errors.sites), (), tuple(_idle(match, trial)))
    del trial
    differences = tuple(_differences(match, departed))
    aside, explained = _set_aside(match, expected, differences)
    return Proof(output, inner, len(errors.sites), differences, (), aside, explained)


def _set_aside(match: Match, expected: Expected, differences: Sequence[str]) -> tuple[float | None, bool]:
    """The error with attributes of the source's nodes in the target's graph, and whether it is small enough."""
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

    named = [line for line in differences if not line.startswith("the models depart")]
    if not named:
        return None, False
    inside = [line for line in named if line.split(" of ")[0] not in ATTRIBUTES]
    try:
        worst = Trial(match, expected, changes(match.alignment.pairs)).errors().worst
    except (Fail, InvalidArgument, RuntimeException):
        return None, False  # the sizes of the two do not fit
    return worst, bool(worst <= (_NEAR if inside else TOLERANCE))


def _idle(match: Match, trial: Trial) -> list[str]:
    """Some of the targets, shuffled one by one: those that make no difference."""
    names = [entry.target for entry in match.plan.entries]
    chosen = names[:: max(1, len(names) // _SHUFFLED)]
    found = []
    for name in chosen:
        value = trial.weights.get(name)
        if value is None or value.size < 2 or np.all(value == value.flat[0]):
            continue
        errors = trial.errors({name: np.roll(value.reshape(-1), 1).reshape(value.shape)})
        seen = [error for _, error in errors.sites] + errors.outputs
        if all(error <= TOLERANCE for error in seen):
            found.append(name)
    return found


def _differences(match: Match, departed: Any) -> list[str]:
    """Attributes and activations in which paired sites differ, those where the graphs depart first."""
    partner = {pair.target: pair.source for pair in match.alignment.pairs}
    found: list[tuple[int, str]] = []
    for pair in match.alignment.pairs:
        where = f"{_named(match.target, pair.target)} (source: {_named(match.source, pair.source)})"
        for key in sorted((set(pair.source.facts) | set(pair.target.facts)) - {"node"}):
            theirs, ours = pair.source.facts.get(key), pair.target.facts.get(key)
            straight = key == "strides" and {*(theirs or (1,)), *(ours or (1,))} == {1}
            if theirs != ours and not straight:
                found.append((pair.target.index, f"{key} of {where}: source {theirs}, target {ours}"))
        for before, labels in pair.target.feeds.items():
            theirs_before = partner.get(before) if isinstance(before, Site) else None
            known = pair.source.feeds.get(theirs_before) if theirs_before is not None else None
            if known is not None and known != labels:
                said = [", ".join(sorted(some)) or "nothing" for some in (known - labels, labels - known)]
                found.append((pair.target.index, f"before {where}: source {said[0]}, target {said[1]}"))
    found.extend(_outputs_apart(match, partner))
    lines = list(dict.fromkeys(text for _, text in sorted(found)))
    if departed is not None:
        lines.insert(0, f"the models depart at {_named(match.target, departed.target)}")
    elif not lines:
        lines.append("the models depart after the last layer with weights")
    return lines


def _outputs_apart(match: Match, partner: Mapping[Any, Any]) -> list[tuple[int, str]]:
    sides = [
        [place for place in half.skeleton.places if place.kind == "output"]
        for half in (match.source, match.target)
    ]
    found = []
    for index, (one, two) in enumerate(zip(*sides, strict=False)):
        for before, labels in two.feeds.items():
            known = one.feeds.get(partner.get(before))
            if known is not None and known != labels:
                said = [", ".join(sorted(some)) or "nothing" for some in (known - labels, labels - known)]
                found.append((two.index, f"before output {index}: source {said[0]}, target {said[1]}"))
    return found


def _named(half: Half, site: Site) -> str:
    """A site by the parameters it uses."""
    return " + ".join(dict.fromkeys(name for term in site.terms for name in half.numbering.owners(term)))
