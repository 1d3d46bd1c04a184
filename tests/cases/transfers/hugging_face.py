"""Language models and a vision transformer of ``transformers``, which no extra brings, and those of KerasHub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cases.transfers import Pair

_SIZES: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}


def _pair(make: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[Any], tuple[Any, Any]]:
    def both(_: Any) -> tuple[Any, Any]:
        hub = pytest.importorskip("keras_hub").models
        return make(pytest.importorskip("transformers"), hub)

    return both


def bert(kinds: Any, hub: Any) -> tuple[Any, Any]:
    config = kinds.BertConfig(
        **_SIZES, vocab_size=50, intermediate_size=40, max_position_embeddings=32, hidden_act="gelu_new"
    )
    return hub.BertBackbone(50, 2, 3, 24, 40, max_sequence_length=32), kinds.BertModel(config)


def gpt2(kinds: Any, hub: Any) -> tuple[Any, Any]:
    sizes = {"vocab_size": 50, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32}
    config = kinds.GPT2Config(**sizes, use_cache=False, bos_token_id=0, eos_token_id=0)
    return hub.GPT2Backbone(50, 2, 3, 24, 96, max_sequence_length=32), kinds.GPT2Model(config)


def llama(kinds: Any, hub: Any) -> tuple[Any, Any]:
    config = kinds.LlamaConfig(
        **_SIZES, vocab_size=50, num_key_value_heads=1, intermediate_size=40, use_cache=False, pad_token_id=0
    )
    return hub.LlamaBackbone(50, 2, 3, 24, 40, 1, layer_norm_epsilon=1e-6), kinds.LlamaModel(config)


def vit(kinds: Any, hub: Any) -> tuple[Any, Any]:
    config = kinds.ViTConfig(**_SIZES, intermediate_size=40, image_size=32, patch_size=8)
    backbone = hub.ViTBackbone((32, 32, 3), 8, 2, 3, 24, 40, layer_norm_epsilon=1e-12)
    return backbone, kinds.ViTModel(config, add_pooling_layer=False)


def _told(*names: str) -> dict[str, Any]:
    return {"other": {name: {"shape": (None, 8), "dtype": "int64"} for name in names}}


_TOKENS = ("token_ids", "padding_mask")
_BERT = ("input_ids", "attention_mask", "token_type_ids")

PAIRS = [
    Pair("KerasHub Bert", _pair(bert), tokens=50, shapes=((8,),) * 3, named=((*_TOKENS, "segment_ids"), _BERT),
         signatures=_told(*_BERT), output="sequence_output"),
    Pair("KerasHub GPT2", _pair(gpt2), tokens=50, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:1]),
         signatures=_told("input_ids")),
    Pair("KerasHub Llama", _pair(llama), tokens=50, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:1]),
         signatures=_told("input_ids")),
    Pair("KerasHub ViT", _pair(vit), shapes=((32, 32, 3),), first=True),
]  # fmt: skip
