"""Tensors that a graph computes of parameters alone, as one tensor each.

==============  ==========================================================================
``composite``   what all of them are: parts, what they make, and back; models with them
``normalised``  a direction and a length; ``spectral`` a matrix over its norm
``folded``      a layer and what scales and shifts each of its features
``evaluation``  what a graph computes of parameters, for drawn numbers
``single``      finds the first two in a graph, ``folding`` the third
==============  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from interop.transfer.composites.composite import Composite, apart, collected, in_one
from interop.transfer.composites.folded import Folded
from interop.transfer.composites.folding import fold
from interop.transfer.composites.normalised import Normalised
from interop.transfer.composites.single import single
from interop.transfer.composites.spectral import Spectral
from interop.transfer.named import Named

Finder = Callable[[Any, Sequence[str], Callable[[str], bool]], Sequence[Composite]]
FINDERS: tuple[Finder, ...] = (single, fold)
_KINDS: dict[str, type[Composite]] = {one.kind: one for one in (Normalised, Spectral, Folded)}

__all__ = ["FINDERS", "Composite", "Finder", "apart", "collected", "fold", "from_json", "in_one", "single"]


def from_json(value: Any) -> Composite:
    """What ``Composite.to_json`` gave; a KeyError, TypeError or ValueError if it is something else."""
    parts, makes = (
        {name: Named.from_json(spec) for name, spec in value[side].items()} for side in ("parts", "makes")
    )
    return _KINDS[value["kind"]].read_from(parts, makes, value)
