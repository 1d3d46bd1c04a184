"""What a matcher says of a file and a model.

Made by ``object_paths``, ``object_graph`` and ``keras_layout``, used by ``loading``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Pair(NamedTuple):
    """A stored tensor and the variable it belongs to; `name` is the variable's, for the status."""

    key: str
    name: str
    variable: Any


@dataclass
class Matched:
    """How the tensors of a file and the variables that a model has now belong together.

    Attributes:
        pairs: what belongs together; shapes are not compared yet.
        missing: names of variables that no stored tensor belongs to.
        ambiguous: keys of stored tensors that could belong to several variables.
        unexpected: keys of stored tensors that belong to nothing.
        deferred: keys of stored tensors for what is not built yet.
    """

    pairs: list[Pair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)

    def renamed(self, keys: Mapping[str, str]) -> Matched:
        """With other keys: new ones by old ones."""
        return Matched(
            [Pair(keys[pair.key], pair.name, pair.variable) for pair in self.pairs],
            list(self.missing),
            *([keys[key] for key in listed] for listed in (self.ambiguous, self.unexpected, self.deferred)),
        )
