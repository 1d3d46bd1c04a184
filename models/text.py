"""A masked text classifier: Embedding(mask_zero) -> Bidirectional LSTM -> GRU -> Dense.

Token 0 is padding, wherever it stands: in front, behind, in holes, or everywhere.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

VOCABULARY = 50


def text_classifier(classes: int = 3, length: int | None = None) -> keras.Model:
    """Token ids of shape (batch, length) in, ``classes`` probabilities out."""
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    x = layers.Embedding(VOCABULARY, 16, mask_zero=True, name="embedding")(tokens)
    x = layers.Bidirectional(layers.LSTM(12, return_sequences=True, name="lstm"), name="both_ways")(x)
    x = layers.GRU(10, name="gru")(x)
    return keras.Model(tokens, layers.Dense(classes, activation="softmax", name="label")(x), name="text")


def padded_tokens(length: int = 7, seed: int = 0) -> np.ndarray:
    """Six rows of token ids: unpadded, right-, left- and both-side padded, with holes, and all padding."""
    tokens = np.random.default_rng(seed).integers(1, VOCABULARY, (6, length)).astype("int32")
    tokens[1, -length // 2 :] = 0
    tokens[2, : length // 2] = 0
    tokens[3, 0] = tokens[3, -1] = 0
    tokens[4, 1::2] = 0
    tokens[5] = 0
    return tokens
