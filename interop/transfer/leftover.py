"""What a plan leaves: parameters of either side without a partner, and what to say of them.

Enters: halves of a match, and what was paired. Leaves: a ``Problem`` each, with the nearest candidates of the other
side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from interop.transfer.elements import numbered
from interop.transfer.models import Model
from interop.transfer.named import nearest
from interop.transfer.pieces import Piece
from interop.transfer.plan import Problem
from interop.transfer.skeleton import Site

if TYPE_CHECKING:
    from interop.transfer.matching import Half


def added_alone(half: Half, rest: Sequence[Site], other: str) -> dict[str, str]:
    """What to say of tensors that are added where the other side adds nothing."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for site in rest:
        for term in site.terms:
            for name in half.numbering.owners(term):
                kinds[name].add(site.kind)
    return {
        name: f"{half.model.tensors[name]}, added where the {other} adds nothing: the same only if it is 0"
        for name, found in kinds.items()
        if all(_adds(kind) for kind in found)
    }


def _adds(kind: str) -> bool:
    return kind in ("add", "sub") or " bias " in kind


def parts_left(
    half: Half, other: Model, side: str, rest: Sequence[Site], pieces: Sequence[Piece], left: Sequence[str]
) -> tuple[Problem, ...]:
    """Tensors of which the plan takes a part, and the computation uses more: what that is.

    Args:
        half: whose tensors.
        other: the other model.
        side: what that is called.
        rest: sites without a partner.
        pieces: what the plan takes.
        left: names of the other model's tensors without a partner.
    """
    taken: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        taken[piece.target].append(piece)
    found: dict[str, Problem] = {}
    for site in rest:
        for term in site.terms:
            for name in half.numbering.owners(term):
                if name not in taken or name in found:
                    continue
                spec = half.model.tensors[name]
                covered = np.zeros(spec.size, bool)
                for piece in taken[name]:
                    piece.mark(covered)
                inside = numbered(term).reshape(-1) - half.numbering.start(name)
                inside = inside[(inside >= 0) & (inside < spec.size)]
                count = int(np.count_nonzero(~covered[inside]))
                if count:
                    what = f"{count} of its {spec.size} elements: {site.kind} {list(site.shape)}"
                    if _adds(site.kind):
                        what += f", where the {side} adds nothing: the same only if they are 0"
                    found[name] = problem(name, half.model, other, left, what)
    return tuple(found.values())


def problem(name: str, side: Model, other: Model, rest: Sequence[str], what: str = "") -> Problem:
    """A tensor without a partner, and those on the other side that are most like it: without one too, if any is."""
    spec = side.tensors[name]
    near = nearest(name, spec, {n: other.tensors[n] for n in rest})
    near = near or tuple(f"{n} {other.tensors[n]}" for n in rest[:3])
    if not near:
        near = tuple(f"{one}, which is taken" for one in nearest(name, spec, other.tensors))
    return Problem(name, what or str(spec), near)
