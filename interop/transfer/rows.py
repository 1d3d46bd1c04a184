"""Rows that inputs of one size do not reach: they go where those before them go.

Enters: the pieces of a target that is filled as far as the captured graphs use it. Leaves: pieces that fill the rest
too, where both sides have more rows, as tables of positions have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from interop.transfer.named import Named
from interop.transfer.pieces import Piece

Unused = Callable[[str, int], bool]


def with_other_rows(
    pieces: tuple[Piece, ...], source: Named, target: Named, unused: tuple[Unused, Unused]
) -> tuple[Piece, ...]:
    """The pieces, over as many rows as both sides have.

    Args:
        pieces: of one target; the first copies rows of one source, others add to each of them alike.
        source: of the first piece.
        target: what they fill.
        unused: for either side, whether nothing uses the elements of a tensor from one on.
    """
    first, *others = pieces
    width = math.prod(target.shape[1:])
    if len(target.shape) < 2 or source.shape[1:] != target.shape[1:] or first.zeros or first.adds:
        return pieces
    if (first.sizes, first.source_steps, first.target_steps) != ((first.count,), (1,), (1,)):
        return pieces
    if any(number % width for number in (first.count, first.source_start, first.target_start)):
        return pieces
    rows = first.count // width
    sides = (first.source_start, source), (first.target_start, target)
    most = min((spec.size - start) // width for start, spec in sides)
    starts = first.source_start + first.count, first.target_start + first.count
    names = first.source or "", first.target
    alike = all(
        (one.adds or one.zeros)
        and one.target_start == first.target_start
        and (one.sizes, one.source_steps, one.target_steps) == ((rows, width), (0, 1), (width, 1))
        for one in others
    )
    if rows == most or not alike or not all(map(lambda f, n, k: f(n, k), unused, names, starts)):
        return pieces
    whole = replace(first, sizes=(most * width,))
    return (whole, *(replace(one, sizes=(most, width)) for one in others))
