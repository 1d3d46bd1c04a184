"""A tensor as a plan knows it, and how messages speak of several.

Enters: names, element types and shapes. Leaves: texts, and the tensors that are most like one. Invariant: no values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any


@dataclass(frozen=True)
class Named:
    """A tensor of one side: its dtype by name, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    def to_json(self) -> list[Any]:
        """Plain values."""
        return [self.dtype, list(self.shape)]

    @classmethod
    def from_json(cls, value: Any) -> Named:
        """What ``to_json`` gave; a TypeError or ValueError if it is something else."""
        dtype, shape = value
        if not isinstance(dtype, str) or not all(type(size) is int and size >= 0 for size in shape):
            raise TypeError(f"{value!r:.80} is no dtype and shape")
        return cls(dtype, tuple(shape))


class Specified:
    """What is told by the ``spec`` of a tensor."""

    spec: Named

    @property
    def dtype(self) -> str:
        return self.spec.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape


def nearest(name: str, spec: Named, others: Mapping[str, Named]) -> tuple[str, ...]:
    """The tensors that are most like one: of its sizes, of its size, of which it may be a part, of its name."""

    def alike(known: Callable[[Named], bool]) -> list[str]:
        found = [other for other in others if known(others[other])]
        return sorted(found, key=lambda other: -SequenceMatcher(None, name, other).ratio())

    def within(one: Named, other: Named) -> bool:
        sizes = [size for size in one.shape if size > 1]
        return len(sizes) > 1 and one.size < other.size and not Counter(sizes) - Counter(other.shape)

    ranked = [
        *alike(lambda one: sorted(one.shape) == sorted(spec.shape)),
        *alike(lambda one: one.size == spec.size),
        *alike(lambda one: within(spec, one) or within(one, spec)),
        *get_close_matches(name, others, n=3, cutoff=0.5),
        *alike(lambda one: len(one.shape) == len(spec.shape)),
        *get_close_matches(name, others, n=3, cutoff=0.3),
    ]
    return tuple(f"{n} {others[n]}" for n in list(dict.fromkeys(ranked))[:3])


def some(names: Sequence[Any], shown: int = 8) -> str:
    """The first of them, and how many more there are."""
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(str(name) for name in names[:shown]) + more
