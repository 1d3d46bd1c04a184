"""One part of a tensor that becomes one part of another: nested loops over both.

A ``Piece`` says ``target[t0 + i*t1 + j*t2 ...] = source[s0 + i*s1 + j*s2 ...]`` over flat elements: whatever
transposes, slices, splits and reshapes is one piece, or a few. It reads the same in both directions.

Invariant: a piece never reaches outside its tensors; ``Piece.checked`` says so before anything is copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from interop.errors import WeightsError
from interop.transfer.elements import Numbering, Numbers, is_phantom, numbered, offset, radix
from interop.transfer.skeleton import Site

Array = NDArray[Any]
_Loops = list[tuple[int, int]]


@dataclass(frozen=True)
class Piece:
    """Part of a target that is part of a source.

    Attributes:
        source: name of the source; None: zeros.
        target: name of the target.
        sizes: of the loops, outermost first.
        source_start: first element, flat.
        source_steps: of the loops.
        target_start: first element, flat.
        target_steps: of the loops.
        adds: whether it is added to what is there.
        zeros: whether zeros are written; the source is what takes this in when the piece is turned around.
        sign: 1, or -1 if the source is negated.
    """

    source: str | None
    target: str
    sizes: tuple[int, ...]
    source_start: int
    source_steps: tuple[int, ...]
    target_start: int
    target_steps: tuple[int, ...]
    adds: bool = False
    zeros: bool = False
    sign: int = 1

    @property
    def count(self) -> int:
        """How many elements."""
        return math.prod(self.sizes)

    @property
    def covers(self) -> int:
        """How many elements of the target it writes; what is the same for each row is written again and again."""
        return math.prod(size for size, step in zip(self.sizes, self.target_steps, strict=True) if step)

    @property
    def place(self) -> tuple[Any, ...]:
        """Where in the target it goes."""
        return (self.target, self.target_start, self.sizes, self.target_steps)

    def reversed(self) -> Piece:
        """The same in the other direction: what was added to another is zero, and what was zero is added."""
        assert self.source is not None
        return Piece(
            self.target,
            self.source,
            self.sizes,
            self.target_start,
            self.target_steps,
            self.source_start,
            self.source_steps,
            adds=self.zeros,
            zeros=self.adds,
            sign=self.sign,
        )

    def checked(self, source_size: int, target_size: int) -> Piece:
        """The piece, if it stays inside tensors of these sizes.

        Raises:
            WeightsError: it does not.
        """
        ends = (
            (self.source, self.source_start, self.source_steps, source_size),
            (self.target, self.target_start, self.target_steps, target_size),
        )
        for name, start, steps, size in ends:
            if name is None:
                continue
            reach = [(n - 1) * step for n, step in zip(self.sizes, steps, strict=True)]
            low = start + sum(r for r in reach if r < 0)
            high = start + sum(r for r in reach if r > 0)
            if min(self.sizes, default=1) < 1 or low < 0 or high >= size:
                raise WeightsError(
                    f"the plan reaches from element {low} to {high} of {name!r}, which has {size}. It was made for "
                    "another model, or was edited"
                )
        return self

    def copy(self, source: Array | None, target: Array) -> None:
        """Write into a flat target what a flat source has."""
        to = _strided(target, self.target_start, self.sizes, self.target_steps)
        if source is None or self.zeros:
            to[...] = 0
            return
        given = _strided(source, self.source_start, self.sizes, self.source_steps)
        given = given if self.sign > 0 else -given
        if self.adds:
            to += given.astype(target.dtype)
        else:
            to[...] = given

    def mark(self, target: NDArray[np.bool_]) -> None:
        """Set what it writes of a flat target."""
        _strided(target, self.target_start, self.sizes, self.target_steps)[...] = True

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        made: dict[str, Any] = {"source": self.source, "target": self.target, "sizes": list(self.sizes)}
        made["from"] = [self.source_start, list(self.source_steps)]
        made["to"] = [self.target_start, list(self.target_steps)]
        made |= {key: True for key in ("adds", "zeros") if getattr(self, key)}
        return {**made, "sign": self.sign} if self.sign != 1 else made

    @classmethod
    def from_json(cls, value: Any) -> Piece:
        """Read a piece.

        Raises:
            WeightsError: it is none.
        """
        try:
            (source_start, source_steps), (target_start, target_steps) = value["from"], value["to"]
            lists = [
                tuple(int(n) for n in numbers) for numbers in (value["sizes"], source_steps, target_steps)
            ]
            if len({len(numbers) for numbers in lists}) != 1:
                raise ValueError("loops of different depth")
            if not isinstance(value["target"], str) or not isinstance(value["source"], str | None):
                raise ValueError("source or target is no name")
            return cls(
                value["source"],
                value["target"],
                lists[0],
                int(source_start),
                lists[1],
                int(target_start),
                lists[2],
                bool(value.get("adds", False)),
                bool(value.get("zeros", False)),
                -1 if int(value.get("sign", 1)) < 0 else 1,
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise WeightsError(f"{value!r:.120} is no piece of a plan: {error}") from error


def _strided(flat: Array, start: int, sizes: Sequence[int], steps: Sequence[int]) -> Array:
    return as_strided(flat[start:], tuple(sizes), [step * flat.itemsize for step in steps])


def pieces_of(source: Site, target: Site, sides: tuple[Numbering, Numbering]) -> list[Piece]:
    """How a site of the source becomes one of the target.

    Of two sums, summands of one sign go to each other in the order of the parameters. One that is left on the side of
    the source is added to another, one that is left on the side of the target becomes zero.
    """
    signs = source.all_signs, target.all_signs
    order = [
        sorted(range(len(site.terms)), key=lambda k, s=site: _rank(s.terms[k]))  # type: ignore[misc]
        for site in (source, target)
    ]
    partner: dict[int, int] = {}
    for alike in (True, False):
        for i in order[0]:
            free = [
                j for j in order[1] if j not in partner.values() and (signs[1][j] == signs[0][i]) == alike
            ]
            if i not in partner and free:
                partner[i] = free[0]
    pairs = [(i, j, "copy") for i, j in partner.items()]
    pairs += [(i, _like(sign, signs[1]), "adds") for i, sign in enumerate(signs[0]) if i not in partner]
    taken = set(partner.values())
    pairs += [(_like(sign, signs[0]), j, "zeros") for j, sign in enumerate(signs[1]) if j not in taken]
    return [
        replace(piece, adds=how == "adds", zeros=how == "zeros", sign=signs[0][i] * signs[1][j])
        for i, j, how in pairs
        for piece in _between(source.terms[i], target.terms[j], source, target, sides)
    ]


def _rank(numbers: Numbers) -> tuple[bool, int]:
    """What has an element for each place first, then by the parameters."""
    repeats = any(size > 1 and not step for size, step in zip(numbers.shape, numbers.strides, strict=True))
    return repeats, offset(numbers) if is_phantom(numbers) else int(numbers.flat[0])


def _like(sign: int, signs: Sequence[int]) -> int:
    """The first summand of a sign, or the first."""
    return signs.index(sign) if sign in signs else 0


def _between(
    left: Numbers, right: Numbers, source: Site, target: Site, sides: tuple[Numbering, Numbering]
) -> Iterator[Piece]:
    if _one_owner(left, sides[0]) and _one_owner(right, sides[1]):
        loops = _refined(_grouped(left, source.groups), _grouped(right, target.groups))
        if loops is not None:
            names = sides[0].owner(offset(left)), sides[1].owner(offset(right))
            yield _piece(names, loops, (offset(left), offset(right)), sides)
            return
    first, second = numbered(left).reshape(-1), numbered(right).reshape(-1)
    known = (first >= 0) & (second >= 0)
    first, second = first[known], second[known]
    owners = [
        np.searchsorted(side.starts, numbers, side="right")
        for side, numbers in zip(sides, (first, second), strict=True)
    ]
    for pair in np.unique(np.stack(owners), axis=1).T:
        here = (owners[0] == pair[0]) & (owners[1] == pair[1])
        names = sides[0].names[int(pair[0]) - 1], sides[1].names[int(pair[1]) - 1]
        yield from _listed(names, first[here], second[here], sides)


def _one_owner(numbers: Numbers, side: Numbering) -> bool:
    if not is_phantom(numbers) or numbers.size == 0:
        return False
    reach = [(n - 1) * step for n, step in zip(numbers.shape, numbers.strides, strict=True)]
    start = offset(numbers)
    return side.owner(start + sum(r for r in reach if r < 0)) == side.owner(
        start + sum(r for r in reach if r > 0)
    )


def _listed(
    names: tuple[str, str],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    sides: tuple[Numbering, Numbering],
) -> Iterator[Piece]:
    """Pieces for two lists of elements: the longest loops that give both, again and again."""
    order = np.argsort(second, kind="stable")
    first, second = first[order], second[order]
    while len(first):
        loops, count = _leading(first, second)
        yield _piece(names, loops, (int(first[0]), int(second[0])), sides)
        first, second = first[count:], second[count:]


def _leading(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[list[tuple[int, int, int]], int]:
    """Loops that give the beginning of both lists, and how many elements they give."""
    whole = radix(first), radix(second)
    if whole[0] is not None and whole[1] is not None:
        loops = _refined([list(zip(*whole[0][1:], strict=True))], [list(zip(*whole[1][1:], strict=True))])
        if loops is not None:
            return loops, len(first)
    if len(first) == 1:
        return [(1, 1, 1)], 1
    steps = int(first[1] - first[0]), int(second[1] - second[0])
    breaks = np.flatnonzero((np.diff(first) != steps[0]) | (np.diff(second) != steps[1]))
    count = int(breaks[0]) + 1 if breaks.size else len(first)
    rows = len(first) // count
    if rows > 1:
        a, b = first[: rows * count].reshape(rows, count), second[: rows * count].reshape(rows, count)
        whole_rows = np.all(a - a[:, :1] == a[0] - a[0, 0], axis=1) & np.all(
            b - b[:, :1] == b[0] - b[0, 0], axis=1
        )
        outer = int(a[1, 0] - a[0, 0]), int(b[1, 0] - b[0, 0])
        even = (np.diff(a[:, 0]) == outer[0]) & (np.diff(b[:, 0]) == outer[1]) & whole_rows[1:]
        stop = np.flatnonzero(~even)
        rows = int(stop[0]) + 1 if stop.size else rows
        if rows > 1:
            return [(rows, *outer), (count, *steps)], rows * count
    return [(count, *steps)], count


def _piece(
    names: tuple[str, str],
    loops: Sequence[tuple[int, int, int]],
    starts: tuple[int, int],
    sides: tuple[Numbering, Numbering],
) -> Piece:
    loops = _merged(loops)
    sizes, source_steps, target_steps = zip(*loops, strict=True) if loops else ((1,), (1,), (1,))
    return Piece(
        names[0],
        names[1],
        tuple(sizes),
        starts[0] - sides[0].start(names[0]),
        tuple(source_steps),
        starts[1] - sides[1].start(names[1]),
        tuple(target_steps),
    )


def _merged(loops: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Loops in the order of the target, those that are one joined."""
    ordered = sorted((loop for loop in loops if loop[0] != 1), key=lambda loop: -abs(loop[2]))
    made: list[tuple[int, int, int]] = []
    for size, a, b in ordered:
        if made and made[-1][1] == size * a and made[-1][2] == size * b:
            made[-1] = (made[-1][0] * size, a, b)
        else:
            made.append((size, a, b))
    return made


def _grouped(numbers: Numbers, groups: Sequence[int]) -> list[_Loops]:
    made, at = [], 0
    for count in groups:
        made.append(list(zip(numbers.shape[at : at + count], numbers.strides[at : at + count], strict=True)))
        at += count
    return made


def _refined(left: Sequence[_Loops], right: Sequence[_Loops]) -> list[tuple[int, int, int]] | None:
    """Loops that are those of both, or None if their sizes do not nest."""
    made: list[tuple[int, int, int]] = []
    for a, b in zip(left, right, strict=True):
        inner: list[tuple[int, int, int]] = []
        one, two = [x for x in a if x[0] != 1], [x for x in b if x[0] != 1]
        while one and two:
            (n, s), (m, t) = one.pop(), two.pop()
            size = min(n, m)
            if max(n, m) % size:
                return None
            inner.insert(0, (size, s, t))
            if n > size:
                one.append((n // size, s * size))
            if m > size:
                two.append((m // size, t * size))
        if one or two:
            return None
        made += inner
    return made
