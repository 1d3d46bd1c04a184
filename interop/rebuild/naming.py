"""Names that Keras takes, made of names that ONNX allows, and back.

Invariants: a name is unique within a model; one that is legal and free stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class Names:
    """Gives out names."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, wanted: str) -> str:
        """A legal, free name that is as like `wanted` as can be."""
        name = legal(wanted)
        free, count = name, 0
        while free.lower() in self._taken:  # files of some systems have no case
            count += 1
            free = f"{name}_{count}"
        self._taken.add(free.lower())
        return free


def legal(name: str) -> str:
    """Letters, digits, ``_`` and ``-``, beginning with a letter or digit: TensorFlow's scopes; torch has no dots."""
    name = re.sub(r"[^A-Za-z0-9_\-]", "_", name)
    return name if re.match(r"[A-Za-z0-9]", name) else f"v{name}"


def scope_of(names: Sequence[str]) -> str:
    """What the names of a layer's weights have in common: ``fc.weight`` and ``fc.bias`` are of ``fc``."""
    common: list[str] = []
    for parts in zip(*(re.split(r"[./]", name)[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
