"""Proof that a plan is right: both graphs run with the same weights and must give the same, site by site.

Enters: a match. Leaves: a ``Proof``. The weights are drawn, so that every element is another and signals neither fade
nor grow: a trained model proves little where its biases are zero. What the plan does not fill stays as the target has
it.

The proof must be able to fail: with one tensor of the target in another order the outputs must depart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from interop.transfer.differences import Difference, differences, named
from interop.transfer.matching import Match, exchanges, rematched
from interop.transfer.setting_aside import aside
from interop.transfer.trial import TOLERANCE, DoesNotRun, Expected, Trial

_SHUFFLED = 12  # at least
_EXCHANGED = 12  # choices at most that are tried otherwise
_ELEMENTS = 2**24  # that all of the shuffled models have together


@dataclass(frozen=True)
class Proof:
    """What running both graphs showed.

    Attributes:
        error: the largest error of an output, relative to its root mean square; None if no output is comparable.
        inner: the same over all sites whose results can be compared.
        compared: how many sites that are.
        differences: what the models do differently, by layer, where they depart.
        idle: targets that could be in another order without any effect, of those that were tried: for these it proves
            nothing.
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
    found = differences(match)
    said = [one.text for one in found]
    if departed is not None:
        said.insert(0, f"the models depart at {named(match.target, departed.target)}")
    elif not found:
        said.append("the models depart after the last layer with weights")
    with_aside = _set_aside(match, seed, found)
    worst = math.inf if with_aside is None else with_aside.errors().worst
    explained = worst <= TOLERANCE
    if explained and (open_tie := _undecided(match, seed, found)) is not None:
        said.append(f"which of {open_tie} is which does not show once that is set aside; give rules for them")
        explained = False
    idle = _idle(match, with_aside) if with_aside is not None and explained else []
    shown = worst if math.isfinite(worst) else None
    return Proof(output, inner, len(errors.sites), tuple(said), tuple(idle), shown, explained)


def _undecided(match: Match, seed: int, found: Sequence[Difference]) -> str | None:
    """Parameters that structure does not tell apart, and neither does what is still compared."""
    if not aside(found).outputs:
        return None
    for choices in islice(exchanges(match.alignment, len(match.target.skeleton.places)), _EXCHANGED):
        other = rematched(match, choices)
        trial = _set_aside(other, seed, found)
        if trial is not None and trial.errors().worst <= TOLERANCE:
            pairs = zip(match.alignment.pairs, other.alignment.pairs, strict=True)
            changed = [one.target for one, two in pairs if one.source is not two.source]
            return " and ".join(named(match.target, site) for site in changed[:2])
    return None


def _set_aside(match: Match, seed: int, found: Sequence[Difference]) -> Trial | None:
    """The target's graph doing as the source's where they differ; None if it cannot, as sizes do not fit."""
    if not found:
        return None
    wanted = aside(found)
    try:
        trial = Trial(match, Expected(match, seed, wanted.cuts), wanted)
        trial.errors()
    except DoesNotRun:
        return None
    return trial


def _idle(match: Match, trial: Trial) -> list[str]:
    """The targets that make no difference when they are shuffled, one by one; of a large model a sample."""
    names = [entry.target for entry in match.plan.entries]
    count = max(_SHUFFLED, _ELEMENTS // max(sum(value.size for value in trial.weights.values()), 1))
    found = []
    for name in names[:: max(1, len(names) // count)]:
        value = trial.weights.get(name)
        if value is None or value.size < 2 or np.all(value == value.flat[0]):
            continue
        errors = trial.errors({name: np.roll(value.reshape(-1), 1).reshape(value.shape)})
        seen = [error for _, error in errors.sites] + errors.outputs
        if all(error <= TOLERANCE for error in seen):
            found.append(name)
    return found
