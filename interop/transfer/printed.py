"""A plan as text: a table of what becomes of each tensor, and lines for what does not.

Enters: a plan. Leaves: lines that name parameters as the models do, also those that only together are a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from interop.transfer.transforms import described

if TYPE_CHECKING:
    from interop.transfer.composites import Composite
    from interop.transfer.plan import Entry, Plan


def printed(plan: Plan) -> str:
    """The table, then what is missing, unused and different, and notes."""
    rows = [("source", "target", "transform", "found by")]
    rows += [_row(plan, entry) for entry in plan.entries]
    rows += _others(plan)
    lines = _aligned(rows)
    for what in ("missing", "unexpected", "ambiguous"):
        lines += [f"{what}: {problem}" for problem in getattr(plan, what)]
    lines += [f"not used by the {name}" for name in plan.unused]
    lines += [f"different: {difference}" for difference in plan.differences]
    lines += [f"note: {note}" for note in plan.notes]
    return "\n".join(lines)


def _row(plan: Plan, entry: Entry) -> tuple[str, str, str, str]:
    shapes = {name: spec.shape for name, spec in plan.sources.items()}
    how = described(entry.pieces, shapes, plan.targets[entry.target].shape)
    makers, holders = ({name: one for one in side for name in one.makes} for side in plan.composites)
    sources: dict[str, None] = {}
    verbs: dict[str, None] = {}
    for name in entry.sources:
        for part, verb in _made_of(name, makers):
            sources[part] = None
            verbs |= dict.fromkeys(verb)
    target = entry.target
    while target in holders:
        target = holders[target].held_by(target)
    return " + ".join(sources) or "0", target, ", ".join([*verbs, how]), entry.found


def _made_of(name: str, makers: Mapping[str, Composite]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The parameters of which a tensor is made, each with what is done to it."""
    one = makers.get(name)
    if one is None:
        yield name, ()
        return
    for part in one.made_of(name):
        for inner, verbs in _made_of(part, makers):
            yield inner, (*verbs, one.verb)


def _others(plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    """Parameters of the target that hold no tensor of their own once it is written."""
    written = {entry.target for entry in plan.entries}
    for one in reversed(plan.composites[1]):
        written |= one.parts.keys() if written & one.makes.keys() else set()
        if written & one.makes.keys():
            for name, word in one.others().items():
                yield "", name, word, one.kind


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
