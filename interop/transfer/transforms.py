"""The transform of an entry in a few words: what a reader of the table wants to know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from interop.transfer.pieces import Piece


def described(pieces: Sequence[Piece], shapes: Mapping[str, tuple[int, ...]], target: tuple[int, ...]) -> str:
    """What the pieces do, as ``transpose(3, 2, 0, 1)``, ``sum of 2``, ``3 parts``."""
    if not pieces:
        return "nothing"
    copies = [piece for piece in pieces if not piece.adds]
    if all(piece.source is None or piece.zeros for piece in pieces):
        return "zeros"
    if len(copies) < len(pieces) and len(copies) == 1:
        return f"sum of {len(pieces)}"
    if len(pieces) > 1:
        sums = ", sums" if len(copies) < len(pieces) else ""
        return f"{len(copies)} parts{sums}"
    (piece,) = pieces
    assert piece.source is not None
    source = shapes[piece.source]
    words = ["negate"] if piece.sign < 0 else []
    if piece.count < math.prod(source):
        words.append("part")
    order = sorted(range(len(piece.sizes)), key=lambda k: -abs(piece.source_steps[k]))
    straight = order == list(range(len(order)))
    if any(step < 0 for step in (*piece.source_steps, *piece.target_steps)):
        words.append("flip")
    if not straight:
        words.append(_transposed(piece, source, target))
    elif source != target:
        words.append("reshape")
    if piece.count < math.prod(target):
        words.append("into part")
    return ", ".join(words) or "copy"


def _transposed(piece: Piece, source: tuple[int, ...], target: tuple[int, ...]) -> str:
    """The permutation of axes, where it is one of whole axes."""
    steps = [math.prod(source[axis + 1 :]) for axis in range(len(source))]
    if piece.count == math.prod(source) == math.prod(target) and len(source) == len(target):
        wide = [axis for axis, size in enumerate(source) if size != 1]
        loops = {abs(step): size for step, size in zip(piece.source_steps, piece.sizes, strict=True)}
        if all(loops.get(steps[axis]) == source[axis] for axis in wide) and len(wide) == len(source):
            order = [steps.index(abs(step)) for step in piece.source_steps]
            if [source[axis] for axis in order] == list(target):
                return f"transpose({', '.join(map(str, order))})"
    return "transpose" if math.prod(source) == math.prod(target) else "transposed"
