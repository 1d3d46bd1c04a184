"""What preprocessing layers of Keras 2 had learned becomes part of their configs: vocabularies and weights of words.

Enters: the config of a model, and what finds the words that a layer of it had. Leaves: the config with those words, so
that layers after it are made for as many.

Keras 2 lists the words of a layer in the order of their numbers, which begin after those of what is masked and of what
is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interop.rebuild.legacy.lookup_tables import Entries
from interop.rebuild.legacy.migration import class_name

LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "TextVectorization"})
INNER = ("_lookup_layer", "_index_lookup_layer")
"""Where a TextVectorization has the layer that looks words up, in newer versions and older."""
COUNTING = "_vectorize_layer"
"""Where it had the layer that counts them, before TensorFlow 2.4."""
_UNKNOWN = "[UNK]"
_ROUNDING = 1e-5
WEIGHTS = ("idf_weights", "tf_idf_weights")
"""What the weights of words are called, in newer versions and older."""
TABLES = ("lookup_table", "_table")
"""What a layer calls its table, in newer versions and older."""


Find = Callable[[tuple[str, ...], str, Mapping[str, Any]], "Words | None"]
"""The words of a layer, by the names on the way to it, its class and its config."""


@dataclass(frozen=True)
class Words:
    """A vocabulary and the weights of its words; of unknown words only where these have a weight of their own."""

    vocabulary: list[Any]
    weights: list[float] | None = None

    def config(self) -> dict[str, Any]:
        """The arguments of a layer."""
        found: dict[str, Any] = {"vocabulary": self.vocabulary}
        return found if self.weights is None else {**found, "idf_weights": self.weights}


def words_of(
    name: str, config: Mapping[str, Any], entries: Entries, weights: Sequence[float] = ()
) -> Words | None:
    """The words of a layer's table; None if they are not numbered as Keras 3 would number them.

    Args:
        name: class of the layer.
        config: arguments of the layer.
        entries: words and their numbers, or, of a layer that inverts, numbers and their words.
        weights: of all numbers, those of unknown words included.
    """
    inverted = config.get("invert") is True
    words, numbers = (entries.values, entries.keys) if inverted else (entries.keys, entries.values)
    if not all(isinstance(number, int) for number in numbers) or len(words) != len(numbers):
        return None
    first = first_number(name, config)
    ordered = sorted((pair for pair in zip(numbers, words, strict=True) if pair[0] >= first), key=_number)
    if not ordered or [number for number, _ in ordered] != list(range(first, first + len(ordered))):
        return None
    try:
        listed = [word.decode() if isinstance(word, bytes) else word for _, word in ordered]
    except UnicodeDecodeError:
        return None
    kept = [float(weight) for weight in weights[first : first + len(listed)]]
    if len(kept) != len(listed):
        return Words(listed)
    unknown = [float(weight) for weight in weights[:first]]
    if any(abs(weight - sum(kept) / len(kept)) > _ROUNDING for weight in unknown):
        # Keras 3 gives what is unknown the mean of all weights, unless the vocabulary lists it.
        return Words([config.get("oov_token", _UNKNOWN)] * first + listed, unknown + kept)
    return Words(listed, kept)


def _number(pair: tuple[int, Any]) -> int:
    return pair[0]


def first_number(name: str, config: Mapping[str, Any]) -> int:
    """The number of the first word of a layer."""
    unknown = config.get("num_oov_indices", 1)
    masked = config.get("mask_token", config.get("mask_value"))  # the latter before TensorFlow 2.4
    if name == "TextVectorization":
        unknown, masked = 1, ""
    counts = config.get("output_mode", "int") not in ("int", None)
    return (unknown if isinstance(unknown, int) else 1) + (masked is not None and not counts)


def with_words(config: Any, find: Find) -> Any:
    """A config whose lookup layers have the words that there are for them."""
    return _filled(config, find, ())


def listed_words(
    name: str, config: Mapping[str, Any], text: str, weights: Sequence[float] = ()
) -> Words | None:
    """The words of a text file that lists them, what is masked and unknown first."""
    lines: list[Any] = text.split("\n")
    if name == "IntegerLookup":
        if not all(re.fullmatch(r"-?\d{1,19}", line) for line in lines):
            return None
        lines = [int(line) for line in lines]
    return words_of(name, {**config, "invert": False}, Entries(lines, list(range(len(lines)))), weights)


def _filled(config: Any, find: Find, way: tuple[str, ...]) -> Any:
    inner = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inner, dict):
        return config
    name = class_name(config)[0].split(">")[-1]
    if name in LOOKUPS and not isinstance(inner.get("vocabulary"), list | tuple):
        words = find(way, name, inner)
        return config if words is None else {**config, "config": {**inner, **words.config()}}
    if not isinstance(inner.get("layers"), list):
        return config
    layers = [_filled(layer, find, (*way, _name(layer))) for layer in inner["layers"]]
    return {**config, "config": {**inner, "layers": layers}}


def _name(layer: Any) -> str:
    inner = layer.get("config") if isinstance(layer, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else ""
