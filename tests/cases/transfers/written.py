"""Transformers written in stock Keras layers, as a user would, and those of ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
from cases.transfers import Pair
from cases.transfers.hugging_face import _SIZES, _told

L = keras.layers
ops = keras.ops


class Positions(L.Layer):
    """A table of positions, added."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(32, shape[-1]), name="table")

    def call(self, x: Any) -> Any:
        return x + self.table[: x.shape[1]]


class ClassToken(L.Layer):
    """A vector before all others, and a table of positions."""

    def build(self, shape: Any) -> None:
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")
        self.table = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), name="table")

    def call(self, x: Any) -> Any:
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], 1) + self.table


class Rotated(L.Layer):
    """Attention whose queries and keys are turned by their position, several heads of them to one of keys."""

    def __init__(self, heads: int, groups: int, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.groups, self.size = heads, groups, size
        self.v, self.q = L.Dense(groups * size, use_bias=False), L.Dense(heads * size, use_bias=False)
        self.out, self.k = L.Dense(heads * size, use_bias=False), L.Dense(groups * size, use_bias=False)

    def build(self, shape: Any) -> None:
        for layer in (self.q, self.k, self.v):
            layer.build(shape)
        self.out.build((*shape[:-1], self.heads * self.size))

    def _turned(self, x: Any) -> Any:
        length, half = x.shape[1], self.size // 2
        angles = ops.arange(length, dtype="float32")[:, None] * 10000.0 ** (
            -ops.arange(half, dtype="float32") / half
        )
        cos, sin = ops.cos(angles)[:, None, :], ops.sin(angles)[:, None, :]
        one, two = x[..., :half], x[..., half:]
        return ops.concatenate([one * cos - two * sin, two * cos + one * sin], -1)

    def call(self, x: Any) -> Any:
        def heads(layer: Any, count: int) -> Any:
            return ops.reshape(layer(x), (-1, x.shape[1], count, self.size))

        q, k = self._turned(heads(self.q, self.heads)), self._turned(heads(self.k, self.groups))
        times = self.heads // self.groups
        k, v = ops.repeat(k, times, 2), ops.repeat(heads(self.v, self.groups), times, 2)
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k) / self.size**0.5
        length = x.shape[1]
        scores = scores + ops.triu(ops.full((length, length), -1e9), 1)
        made = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), v)
        return self.out(ops.reshape(made, (-1, length, self.heads * self.size)))


def _pair(make: Callable[[Any], tuple[Any, Any]]) -> Callable[[Any], tuple[Any, Any]]:
    return lambda _: make(pytest.importorskip("transformers"))


def bert(kinds: Any) -> tuple[Any, Any]:
    tokens = keras.Input((8,), dtype="int32")
    segments = keras.Input((8,), dtype="int32")
    h = Positions()(L.Embedding(50, 24)(tokens)) + L.Embedding(2, 24)(segments)
    h = L.LayerNormalization(epsilon=1e-12)(h)
    for _ in range(2):
        h = L.LayerNormalization(epsilon=1e-12)(h + L.MultiHeadAttention(3, 8)(h, h))
        h = L.LayerNormalization(epsilon=1e-12)(h + L.Dense(24)(L.Dense(40, "gelu")(h)))
    config = kinds.BertConfig(**_SIZES, vocab_size=50, intermediate_size=40, max_position_embeddings=32)
    return keras.Model([tokens, segments], h), kinds.BertModel(config, add_pooling_layer=False)


def gpt2(kinds: Any) -> tuple[Any, Any]:
    """With the head, whose matrix is the table of tokens."""
    tokens = keras.Input((8,), dtype="int32")
    table = L.Embedding(50, 24)
    h = Positions()(table(tokens))
    for _ in range(2):
        n = L.LayerNormalization(epsilon=1e-5)(h)
        h = h + L.MultiHeadAttention(3, 8)(n, n, use_causal_mask=True)
        n = L.LayerNormalization(epsilon=1e-5)(h)
        h = h + L.Dense(24)(L.Activation(lambda x: ops.gelu(x, approximate=True))(L.Dense(96)(n)))
    h = L.LayerNormalization(epsilon=1e-5)(h)
    logits = _Tied(table)(h)
    sizes = {"vocab_size": 50, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32}
    config = kinds.GPT2Config(**sizes, use_cache=False, bos_token_id=0, eos_token_id=0)
    return keras.Model(tokens, logits), kinds.GPT2LMHeadModel(config)


class _Tied(L.Layer):
    def __init__(self, table: Any) -> None:
        super().__init__()
        self.table = table

    def call(self, x: Any) -> Any:
        return ops.matmul(x, ops.transpose(self.table.embeddings))


def vit(kinds: Any) -> tuple[Any, Any]:
    image = keras.Input((32, 32, 3))
    h = ClassToken()(L.Reshape((16, 24))(L.Conv2D(24, 8, 8)(image)))
    for _ in range(2):
        n = L.LayerNormalization(epsilon=1e-12)(h)
        h = h + L.MultiHeadAttention(3, 8)(n, n)
        n = L.LayerNormalization(epsilon=1e-12)(h)
        h = h + L.Dense(24)(L.Dense(40, "gelu")(n))
    config = kinds.ViTConfig(**_SIZES, intermediate_size=40, image_size=32, patch_size=8)
    h = L.LayerNormalization(epsilon=1e-12)(h)
    return keras.Model(image, h), kinds.ViTModel(config, add_pooling_layer=False)


def llama(kinds: Any) -> tuple[Any, Any]:
    tokens = keras.Input((8,), dtype="int32")
    h = L.Embedding(50, 24)(tokens)
    for _ in range(2):
        h = h + Rotated(3, 1, 8)(L.RMSNormalization(epsilon=1e-6)(h))
        n = L.RMSNormalization(epsilon=1e-6)(h)
        up, gate = L.Dense(40, use_bias=False), L.Dense(40, "silu", use_bias=False)
        h = h + L.Dense(24, use_bias=False)(gate(n) * up(n))
    h = L.Dense(50, use_bias=False)(L.RMSNormalization(epsilon=1e-6)(h))
    config = kinds.LlamaConfig(
        **_SIZES, vocab_size=50, num_key_value_heads=1, intermediate_size=40, use_cache=False, pad_token_id=0
    )
    return keras.Model(tokens, h), kinds.LlamaForCausalLM(config)


PAIRS = [
    Pair("Keras Bert", _pair(bert), tokens=50, shapes=((8,), (8,)), named=((), ("input_ids", "token_type_ids")),
         signatures=_told("input_ids", "token_type_ids")),
    Pair("Keras GPT2, tied", _pair(gpt2), tokens=50, named=((), ("input_ids",)), signatures=_told("input_ids")),
    Pair("Keras ViT", _pair(vit), first=True),
    Pair("Keras Llama", _pair(llama), tokens=50, named=((), ("input_ids",)), signatures=_told("input_ids")),
]  # fmt: skip
