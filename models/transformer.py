"""A small causal language model, subclassed: learned positions, pre-norm blocks, tied to no fixed length.

``Split`` and ``Merge`` of the heads in ``SelfAttention`` go through ``ops.shape`` and ``ops.reshape``,
``Block`` uses Keras' own MultiHeadAttention with a causal mask, so both ways of writing one are covered.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

VOCABULARY = 64
MAX_LENGTH = 32


class SelfAttention(keras.Layer):
    """Causal attention written by hand on ``keras.ops``."""

    def __init__(self, heads: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        self.qkv = layers.Dense(3 * width, use_bias=False, name="qkv")
        self.qkv.build(input_shape)
        self.out = layers.Dense(width, name="out")
        self.out.build(input_shape)

    def call(self, x: Any) -> Any:
        batch, length, width = ops.shape(x)
        size = width // self.heads
        qkv = ops.reshape(self.qkv(x), (batch, length, 3, self.heads, size))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), axis=0)
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / size**0.5
        position = ops.arange(length)
        scores = ops.where(position[:, None] >= position[None, :], scores, -1e9)
        mixed = ops.transpose(ops.matmul(ops.softmax(scores), v), (0, 2, 1, 3))
        return self.out(ops.reshape(mixed, (batch, length, width)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


class Block(keras.Layer):
    """Pre-norm: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, heads: int = 2, by_hand: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.by_hand = by_hand

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        self.norm_1 = layers.LayerNormalization(epsilon=1e-5)
        self.norm_1.build(input_shape)
        if self.by_hand:
            self.attention = SelfAttention(self.heads)
            self.attention.build(input_shape)
        else:
            self.attention = layers.MultiHeadAttention(self.heads, width // self.heads)
            self.attention.build(input_shape, input_shape)
        self.norm_2 = layers.LayerNormalization(epsilon=1e-5)
        self.norm_2.build(input_shape)
        self.mlp = keras.Sequential([layers.Dense(4 * width, activation="gelu"), layers.Dense(width)])
        self.mlp.build(input_shape)

    def call(self, x: Any) -> Any:
        h = self.norm_1(x)
        x = x + (self.attention(h) if self.by_hand else self.attention(h, h, use_causal_mask=True))
        return x + self.mlp(self.norm_2(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "by_hand": self.by_hand}


class CausalTransformer(keras.Model):
    """Token ids (batch, length <= 32) in, logits (batch, length, vocabulary) out."""

    def __init__(self, depth: int = 2, width: int = 16, heads: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.depth, self.width, self.heads = depth, width, heads
        self.tokens = layers.Embedding(VOCABULARY, width)
        self.positions = layers.Embedding(MAX_LENGTH, width)
        self.blocks = [Block(heads, by_hand=i % 2 == 1) for i in range(depth)]
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        self.head = layers.Dense(VOCABULARY, use_bias=False)

    def call(self, tokens: Any) -> Any:
        x = self.tokens(tokens) + self.positions(ops.arange(ops.shape(tokens)[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "depth": self.depth, "width": self.width, "heads": self.heads}


CUSTOM_OBJECTS: dict[str, Any] = {
    "SelfAttention": SelfAttention,
    "Block": Block,
    "CausalTransformer": CausalTransformer,
}
