"""Rules of a user: which names go to which, and through what.

``Rule("encoder.*.qkv.weight", "encoder/*/{q,k,v}/kernel", ops=[split(3), transpose])``: each ``*`` of the source stands
for the ``*`` at the same position of the target; braces name several tensors, in order. An operation takes and returns
lists of tensors; all are movements, so that a rule can be read in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from interop.errors import WeightsError
from interop.transfer.elements import Numbering, Numbers, numbered, reshaped
from interop.transfer.named import Named, nearest, some
from interop.transfer.pieces import pieces_of
from interop.transfer.plan import Entry, Plan
from interop.transfer.skeleton import Site

Operation = Callable[[list[Numbers]], list[Numbers]]


def transpose(tensors: list[Numbers]) -> list[Numbers]:
    """Each with its axes in reverse order."""
    return [np.transpose(tensor) for tensor in tensors]


def permute(*axes: int) -> Operation:
    """Each with its axes in this order."""
    return lambda tensors: [np.transpose(tensor, axes) for tensor in tensors]


def reshape(*sizes: int) -> Operation:
    """Each in another shape; one size may be -1."""

    def apply(tensors: list[Numbers]) -> list[Numbers]:
        known = -int(np.prod(sizes))
        return [reshaped(t, [t.size // known if size == -1 else size for size in sizes]) for t in tensors]

    return apply


def split(count: int, axis: int = 0) -> Operation:
    """Each in so many equal parts."""

    def apply(tensors: list[Numbers]) -> list[Numbers]:
        made: list[Numbers] = []
        for tensor in tensors:
            size, rest = divmod(tensor.shape[axis], count)
            if rest:
                raise WeightsError(f"an axis of {tensor.shape[axis]} does not split into {count} equal parts")
            index = [slice(None)] * tensor.ndim
            for part in range(count):
                index[axis] = slice(part * size, (part + 1) * size)
                made.append(tensor[tuple(index)])
        return made

    return apply


def concat(axis: int = 0) -> Operation:
    """All of them as one."""
    return lambda tensors: [np.concatenate([numbered(tensor) for tensor in tensors], axis)]


@dataclass(frozen=True)
class Rule:
    """Names of a source, names of a target, and the operations between them.

    Attributes:
        source: pattern of names; ``*`` is any part of a name, ``{a,b}`` several.
        target: pattern with the same stars.
        ops: operations, from the source to the target.
    """

    source: str
    target: str
    ops: Sequence[Operation] = ()

    def entries(self, sources: Mapping[str, Named], targets: Mapping[str, Named]) -> list[Entry]:
        """What the rule says of these tensors.

        Raises:
            WeightsError: it matches nothing, or its operations do not give the target's shapes.
        """
        made: list[Entry] = []
        patterns = _expanded(self.source)
        for stars in dict.fromkeys(
            m.groups() for name in sources if (m := _pattern(patterns[0]).fullmatch(name))
        ):
            names = [_filled(pattern, stars) for pattern in patterns]
            goals = [_filled(pattern, stars) for pattern in _expanded(self.target)]
            for name, known in [(n, sources) for n in names] + [(n, targets) for n in goals]:
                if name not in known:
                    close = get_close_matches(name, known, n=3)
                    raise WeightsError(
                        f"{self} asks for {name!r}, which there is not; nearest: {', '.join(close)}"
                    )
            made += self._moved(names, goals, sources, targets)
        if not made:
            close = get_close_matches(patterns[0], sources, n=3, cutoff=0.3)
            raise WeightsError(f"{self} matches no name of the source; nearest: {', '.join(close)}")
        return made

    def _moved(
        self, names: list[str], goals: list[str], sources: Mapping[str, Named], targets: Mapping[str, Named]
    ) -> list[Entry]:
        sides = (
            Numbering({n: sources[n].shape for n in names}),
            Numbering({n: targets[n].shape for n in goals}),
        )
        tensors = [sides[0].of(name) for name in names]
        for op in self.ops:
            tensors = op(tensors)
        if len(tensors) != len(goals):
            raise WeightsError(
                f"{self} makes {len(tensors)} tensors of {', '.join(names)} for {', '.join(goals)}"
            )
        made = []
        for tensor, goal in zip(tensors, goals, strict=True):
            if tensor.size != targets[goal].size:
                raise WeightsError(
                    f"{self} makes {list(tensor.shape)} for {goal!r}, which is {targets[goal]}"
                )
            left = Site("rule", 0, terms=(tensor,), groups=(tensor.ndim,))
            right = Site("rule", 0, terms=(sides[1].of(goal),), groups=(len(targets[goal].shape),))
            made.append(Entry(goal, tuple(pieces_of(left, right, sides)), "rule", str(self)))
        return made

    def __str__(self) -> str:
        return f"the rule {self.source} -> {self.target}"


Rules = Sequence[Rule] | Plan | None


def ruled(rules: Rules, sources: Mapping[str, Named], targets: Mapping[str, Named]) -> list[Entry]:
    """What rules, or the entries of a plan, say of these tensors."""
    if rules is None:
        return []
    if isinstance(rules, Plan):
        for entry in rules.entries:
            for name, known, listed in [
                (entry.target, targets, rules.targets),
                *((n, sources, rules.sources) for n in entry.sources),
            ]:
                if name not in known:
                    near = some(nearest(name, listed[name], known)) or "none"
                    raise WeightsError(f"the plan has {name!r}, which the model has not; nearest: {near}")
                if known[name].shape != listed[name].shape:
                    raise WeightsError(
                        f"the plan has {name!r} as {listed[name]}; the model has {known[name]}"
                    )
        return list(rules.entries)
    return [entry for rule in rules for entry in rule.entries(sources, targets)]


def _expanded(pattern: str) -> list[str]:
    """The patterns that braces stand for."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [whole for word in found[1].split(",") for whole in _expanded(before + word.strip() + after)]


def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile("(.+?)".join(re.escape(part) for part in pattern.split("*")))


def _filled(pattern: str, stars: Sequence[str]) -> str:
    parts = pattern.split("*")
    if len(parts) - 1 > len(stars):
        raise WeightsError(f"{pattern!r} has more stars than the source of its rule")
    return "".join(part + (stars[i] if i < len(parts) - 1 else "") for i, part in enumerate(parts))
