"""What Keras' lookup and text layers have learned, and how they are set. Nothing here changes anything."""

from __future__ import annotations

from typing import Any

import numpy as np


def lookup_table(layer: Any) -> dict[Any, Any]:
    """The table of an IntegerLookup or StringLookup, its mask token included, by key; strings as ``str``."""
    keys, values = ((_plain(column)) for column in layer.lookup_table.export())
    table = dict(zip(keys, values, strict=True))
    if layer.mask_token is not None:
        table[_plain(layer._mask_key)] = _plain(layer._mask_value)
    return dict(sorted(table.items()))  # TensorFlow's tables have an order of their own in every process


def _plain(tensor: Any) -> Any:
    """A TensorFlow tensor as Python numbers or strings."""
    items = tensor.numpy()
    decoded = np.vectorize(lambda item: item.decode() if isinstance(item, bytes) else item, otypes="O")(items)
    return decoded.tolist()


def lookup_default(layer: Any) -> Any:
    """What a lookup layer gives for a key that its table lacks."""
    return layer._default_value


def lookup_depth(layer: Any) -> int:
    """How many columns a lookup layer's encoded output has."""
    layer._ensure_known_vocab_size()
    return int(layer.max_tokens if layer.pad_to_max_tokens else layer._frozen_vocab_size)


def lookup_first_unknown(layer: Any) -> int:
    """The index of a lookup layer's first bucket for unknown keys."""
    return int(layer._oov_start_index())


def lookup_weights(layer: Any) -> np.ndarray[Any, Any]:
    """Inverse document frequencies of a lookup layer."""
    return np.asarray(layer.idf_weights_const.numpy())


def text_settings(layer: Any) -> tuple[Any, Any, tuple[int, ...] | None, Any, int | None]:
    """TextVectorization's standardize, split, ngrams, lookup layer and output_sequence_length."""
    length = layer._output_sequence_length
    return layer._standardize, layer._split, layer._ngrams, layer._lookup_layer, length


def is_ragged(layer: Any) -> bool:
    """Whether a TextVectorization gives ragged tensors."""
    return bool(layer._ragged)
