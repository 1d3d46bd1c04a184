"""What a matcher says of a file and a model.

Made by ``object_paths``, ``object_graph`` and ``keras_layout``, used by ``loading``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from interop.capture.keras import paths


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
        zeros: names and variables that are zero in what is stored, and not stored themselves.
        unexpected: keys of stored tensors that belong to nothing.
        deferred: keys of stored tensors for what is not built yet.
        waiting: layers that are not built, by identity, of which none can be told before all are built.
        why: what makes it ambiguous.
        advice: what to do about it.
        parts: identity of a layer that is not built to a function that matches that layer alone, once it is built.
            Only what it pairs counts, and only if it leaves nothing `missing`, `ambiguous` or `unexpected`: it does
            not see the rest of the model.
    """

    pairs: list[Pair] = field(default_factory=list)
    zeros: list[tuple[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)
    waiting: dict[int, Any] = field(default_factory=dict)
    why: str = "as the file tells them apart by number only"
    advice: str = "give the layers names of their own, here and in the file, or make as many of them"
    parts: dict[int, Callable[[], Matched]] = field(default_factory=dict)

    def dispute(self) -> None:
        """Say of what is ambiguous that names and order disagree."""
        self.why = "as the layers come in another order than in the file, and their names are Keras' own"
        self.advice = (
            "by_order=True takes them by their order in the model; else give the layers names of their own, here and "
            "in the file"
        )

    def renamed(self, key_of: Callable[[str], str], name_of: Callable[[str], str] = str) -> Matched:
        """With other keys and names: new ones of old ones."""

        def later(part: Callable[[], Matched]) -> Callable[[], Matched]:
            return lambda: part().renamed(key_of, name_of)

        return replace(
            self,
            pairs=[Pair(key_of(pair.key), name_of(pair.name), pair.variable) for pair in self.pairs],
            zeros=[(name_of(name), variable) for name, variable in self.zeros],
            missing=[name_of(name) for name in self.missing],
            ambiguous=[key_of(key) for key in self.ambiguous],
            unexpected=[key_of(key) for key in self.unexpected],
            deferred=[key_of(key) for key in self.deferred],
            parts={identity: later(part) for identity, part in self.parts.items()},
        )


def keys_below(keys: Iterable[str], prefixes: Collection[str]) -> dict[str, list[str]]:
    """Each prefix that is a path, and the keys that go on from it.

    >>> keys_below(["a/b/c", "a/d"], {"a", "a/b", "e"})
    {'a': ['a/b/c', 'a/d'], 'a/b': ['a/b/c'], 'e': []}
    """
    found: dict[str, list[str]] = {prefix: [] for prefix in sorted(prefixes)}
    for key in keys:
        end = key.find("/")
        while end >= 0:
            if key[:end] in found:
                found[key[:end]].append(key)
            end = key.find("/", end + 1)
    return found


def names_below(walked: paths.ObjectPaths, layer: Any) -> dict[int, str]:
    """Identity to name of the variables of a layer, as the model calls them that was walked."""
    start = walked.layers.get(id(layer), "")
    inside = paths.object_paths(layer)
    return {identity: f"{start}/{name}" if start else name for identity, name in inside.items()}
