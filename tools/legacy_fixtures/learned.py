"""Models of layers that learned from data, in tables of TensorFlow's or beside their variables."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tf_keras import layers as L

from tools.legacy_fixtures.layers import stack

WORDS = ("the", "cat", "dog", "sat", "unheard")
"""What inputs of text are made of; the last is in no vocabulary."""
_TEXTS = ["the cat sat", "the dog", "a cat", "über the moon"]
_NUMBERS = [[3], [1], [3], [7], [1], [3]]


def _adapted(make: Callable[[], Any], data: Any) -> Callable[[], Any]:
    def adapted() -> Any:
        layer = make()
        layer.adapt(np.array(data))
        return layer

    return adapted


def _from_file() -> Any:
    """A vocabulary that the SavedModel has as a file of its own."""
    file = Path(tempfile.mkdtemp()) / "words.txt"
    file.write_text("dog\ncat\nthe\n")
    return L.StringLookup(vocabulary=str(file), num_oov_indices=2)


def _text(**settings: Any) -> Callable[[], Any]:
    return _adapted(lambda: L.TextVectorization(**settings), _TEXTS)


def _numbers(**settings: Any) -> Callable[[], Any]:
    return _adapted(lambda: L.IntegerLookup(**settings), _NUMBERS)


def _strings(**settings: Any) -> Callable[[], Any]:
    return _adapted(lambda: L.StringLookup(**settings), [[word] for text in _TEXTS for word in text.split()])


LEARNED: dict[str, Callable[[], Any]] = {
    "learned_strings": stack((2,), _strings(mask_token=""), dtype="string"),
    "learned_strings_counted": stack(
        (3,), _strings(output_mode="count", num_oov_indices=2), lambda: L.Dense(2), dtype="string"
    ),
    "learned_integers": stack((3,), _numbers(num_oov_indices=2, mask_token=0), dtype="int64"),
    "learned_integers_hot": stack((3,), _numbers(output_mode="multi_hot"), lambda: L.Dense(2), dtype="int64"),
    "learned_text": stack((1,), _text(output_sequence_length=4), lambda: L.Embedding(9, 2), dtype="string"),
    "learned_text_tf_idf": stack((1,), _text(output_mode="tf_idf"), lambda: L.Dense(2), dtype="string"),
    "learned_boundaries": stack(
        (2,), _adapted(lambda: L.Discretization(num_bins=4, epsilon=0.05), np.linspace(-2, 2, 50)[:, None])
    ),
}
IN_A_FILE: dict[str, Callable[[], Any]] = {"vocabulary_file": stack((2,), _from_file, dtype="string")}
