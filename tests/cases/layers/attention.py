"""Attention with its masks, scores and head arrangements."""

from __future__ import annotations

from typing import Any

from cases.layers import LayerCase, mask, x
from keras import layers

QV = (x("b", "t", 4), x("b", "n", 4))
QVK = (*QV, x("b", "n", 4))
SELF = (x("b", "t", 6),)
HOLED_QV = (
    x("b", "t", 3, dtype="float32", make=lambda rng, shape: rng.integers(1, 3, shape)),
    x("b", "n", 3, dtype="float32", make=lambda rng, shape: rng.integers(1, 3, shape)),
)


def _listed(layer: Any, *tensors: Any) -> Any:
    return layer(list(tensors))


def _masks(layer: Any, query: Any, value: Any, query_mask: Any, value_mask: Any) -> Any:
    return layer([query, value], mask=[query_mask, value_mask])


def _options(**options: Any) -> Any:
    return lambda layer, *tensors: layer(list(tensors), **options)


def _implicit(layer: Any, query: Any, value: Any) -> Any:
    """Masks that arrive with the tensors."""
    return layers.GlobalAveragePooling1D()(layer([layers.Masking(1.0)(query), layers.Masking(1.0)(value)]))


def _dense(name: str, build: Any) -> list[LayerCase]:
    return [
        LayerCase(name, build, QV, call=_listed),
        LayerCase(name, build, QVK, "key", call=_listed),
        LayerCase(name, build, (*QV, mask("b", "t"), mask("b", "n")), "masks", call=_masks),
        LayerCase(name, build, QV, "causal", call=_options(use_causal_mask=True)),
        LayerCase(name, build, QV, "scores", call=_options(return_attention_scores=True)),
        LayerCase(name, build, HOLED_QV, "implicit_masks", call=_implicit),
    ]


def _multi(**options: Any) -> Any:
    return lambda: layers.MultiHeadAttention(**{"num_heads": 2, "key_dim": 3, **options})


def _grouped(**options: Any) -> Any:
    given = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2, **options}
    return lambda: layers.GroupQueryAttention(**given)


def _self(layer: Any, a: Any) -> Any:
    return layer(a, a)


def _attention_mask(layer: Any, query: Any, value: Any, allowed: Any) -> Any:
    return layer(query, value, attention_mask=allowed)


def _side_masks(layer: Any, query: Any, value: Any, query_mask: Any, value_mask: Any) -> Any:
    return layer(query, value, query_mask=query_mask, value_mask=value_mask)


def _headed(name: str, build: Any) -> list[LayerCase]:
    """Rows that both layers with several heads have."""
    ones = x("b", "t", "n", dtype="bool", make=lambda rng, shape: rng.random(shape) < 0.8)
    return [
        LayerCase(name, build(), SELF, call=_self),
        LayerCase(name, build(), QVK, "cross", call=lambda layer, q, v, k: layer(q, v, key=k)),
        LayerCase(name, build(), SELF, "causal", call=lambda layer, a: layer(a, a, use_causal_mask=True)),
        LayerCase(name, build(), (*QV, ones), "attention_mask", call=_attention_mask),
        LayerCase(name, build(), (*QV, mask("b", "t"), mask("b", "n")), "side_masks", call=_side_masks),
        LayerCase(
            name,
            build(),
            SELF,
            "scores",
            call=lambda layer, a: layer(a, a, return_attention_scores=True, use_causal_mask=True),
        ),
        LayerCase(name, build(use_bias=False), SELF, "no_bias", call=_self),
        LayerCase(
            name,
            build(),
            (x("b", "t", 3, dtype="float32", make=lambda rng, shape: rng.integers(1, 3, shape)),),
            "implicit_mask",
            call=lambda layer, a: _self(layer, layers.Masking(1.0)(a)),
        ),
        LayerCase(name, build(dropout=0.3), SELF, "dropout", call=_self),
        LayerCase(name, build(flash_attention=False), SELF, "no_flash", call=_self),
        LayerCase(name, build(use_gate=True), SELF, "gate", call=_self),
    ]


CASES = [
    *_dense("Attention", layers.Attention),
    LayerCase("Attention", lambda: layers.Attention(use_scale=True), QV, "scale", call=_listed),
    LayerCase("Attention", lambda: layers.Attention(score_mode="concat"), QV, "concat", call=_listed),
    LayerCase(
        "Attention",
        lambda: layers.Attention(use_scale=True, score_mode="concat"),
        QV,
        "concat_scale",
        call=_listed,
    ),
    LayerCase("Attention", lambda: layers.Attention(dropout=0.4), QV, "dropout", call=_listed),
    *_dense("AdditiveAttention", layers.AdditiveAttention),
    LayerCase(
        "AdditiveAttention", lambda: layers.AdditiveAttention(use_scale=False), QV, "no_scale", call=_listed
    ),
    *_headed("MultiHeadAttention", _multi),
    LayerCase(
        "MultiHeadAttention",
        _multi(value_dim=5, output_shape=7),
        SELF,
        "sizes",
        call=_self,
        backends=(
            "tensorflow",
            "torch",
        ),  # Keras on JAX reshapes the values by the size of the keys, and fails
    ),
    LayerCase("MultiHeadAttention", _multi(attention_axes=(2,)), (x("b", "t", "n", 4),), "axis", call=_self),
    LayerCase(
        "MultiHeadAttention", _multi(attention_axes=(1, 2)), (x("b", "t", "n", 4),), "axes", call=_self
    ),
    LayerCase(
        "MultiHeadAttention",
        _multi(attention_axes=(1, 2)),
        (x("b", "t", "n", 4),),
        "axes_scores",
        call=lambda layer, a: layer(a, a, return_attention_scores=True),
    ),
    *_headed("GroupQueryAttention", _grouped),
    LayerCase("GroupQueryAttention", _grouped(num_key_value_heads=1), SELF, "one_group", call=_self),
]
