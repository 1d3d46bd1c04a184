"""Dense layers, embeddings, and what only wraps, names or passes on."""

from __future__ import annotations

from typing import Any

from cases.layers import LayerCase, x
from keras import layers, ops

TOKENS = (x("b", "t", dtype="int32", low=0, high=9),)


class Scale(layers.Layer):
    """A layer of one's own, with a weight."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, inputs: Any) -> Any:
        return ops.tanh(inputs) * self.scale + ops.mean(inputs, axis=1, keepdims=True)


class Twice(layers.Wrapper):
    """A wrapper of one's own."""

    def call(self, inputs: Any) -> Any:
        return self.layer(self.layer(inputs))


def _einsum(equation: str, shape: Any, bias: str | None = None, **options: Any) -> Any:
    return lambda: layers.EinsumDense(equation, output_shape=shape, bias_axes=bias, **options)


def _tied(layer: Any, tokens: Any) -> Any:
    return layer(layer(tokens), reverse=True)


CASES = [
    LayerCase("Activation", lambda: layers.Activation("tanh")),
    LayerCase("Activation", lambda: layers.Activation(lambda a: ops.sigmoid(a) * a), variant="function"),
    LayerCase("Dense", lambda: layers.Dense(3), (x("b", 4),)),
    LayerCase("Dense", lambda: layers.Dense(3, activation="relu"), variant="time"),
    LayerCase("Dense", lambda: layers.Dense(3, use_bias=False), (x("b", "t", "n", 4),), "no_bias"),
    LayerCase("Dense", lambda: layers.Dense(3, lora_rank=2), variant="lora"),
    LayerCase("EinsumDense", _einsum("ab,bc->ac", 3, "c"), (x("b", 4),)),
    LayerCase("EinsumDense", _einsum("abc,cd->abd", (None, 3), "d", activation="relu"), variant="time"),
    LayerCase("EinsumDense", _einsum("...x,xy->...y", 3, "y"), variant="ellipsis"),
    LayerCase("EinsumDense", _einsum("abc,cde->abde", (None, 3, 2), "de"), variant="heads"),
    LayerCase("EinsumDense", _einsum("abde,dec->abc", (None, 5)), (x("b", "t", 3, 2),), "join_heads"),
    LayerCase("EinsumDense", _einsum("abc,cd->adb", (3, None)), variant="reordered"),
    LayerCase("EinsumDense", _einsum("abc,cd->abd", (None, 3), "d", lora_rank=2), variant="lora"),
    LayerCase("Embedding", lambda: layers.Embedding(10, 3), TOKENS),
    LayerCase("Embedding", lambda: layers.Embedding(10, 3, lora_rank=2), TOKENS, "lora"),
    LayerCase(
        "Embedding",
        lambda: layers.Embedding(10, 3, mask_zero=True),
        TOKENS,
        "mask_zero",
        call=lambda layer, a: layers.GlobalAveragePooling1D()(layer(a)),
    ),
    LayerCase("Embedding", lambda: layers.Embedding(10, 3), (x("b", "t", low=0, high=9.9),), "float_tokens"),
    LayerCase("ReversibleEmbedding", lambda: layers.ReversibleEmbedding(10, 3), TOKENS),
    LayerCase(
        "ReversibleEmbedding", lambda: layers.ReversibleEmbedding(10, 3), TOKENS, "reverse", call=_tied
    ),
    LayerCase(
        "ReversibleEmbedding",
        lambda: layers.ReversibleEmbedding(10, 3, tie_weights=False, logit_soft_cap=2.0),
        TOKENS,
        "untied",
        call=_tied,
    ),
    LayerCase("Identity", layers.Identity),
    LayerCase("InputLayer", lambda: layers.Dense(2), (x("b", 4),)),
    LayerCase("Lambda", lambda: layers.Lambda(lambda a: ops.sum(a * a, axis=1))),
    LayerCase(
        "Lambda",
        lambda: layers.Lambda(lambda a, power: ops.power(ops.abs(a), power), arguments={"power": 3}),
        variant="arguments",
    ),
    LayerCase(
        "Lambda",
        lambda: layers.Lambda(
            lambda a, mask: a * ops.cast(mask, "float32")[:, :, None], output_shape=lambda shape: shape
        ),
        variant="mask",
        call=lambda layer, a: layer(layers.Masking()(a)),
    ),
    LayerCase("Layer", Scale),
    LayerCase("Wrapper", lambda: Twice(layers.Dense(4, activation="tanh"))),
    LayerCase(
        "Masking",
        lambda: layers.Masking(1.0),
        (x("b", "t", 3, dtype="float32", make=lambda rng, shape: rng.integers(0, 2, shape)),),
    ),
    LayerCase(
        "Masking",
        lambda: layers.Masking(1.0),
        (x("b", "t", 2, dtype="float32", make=lambda rng, shape: rng.integers(1, 3, shape)),),
        "mask_used",
        call=lambda layer, a: layers.GlobalAveragePooling1D()(layer(a)),
    ),
]
