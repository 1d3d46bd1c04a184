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


def roberta(kinds: Any, hub: Any) -> tuple[Any, Any]:
    """Positions count what is no padding, and a vector of the one type of tokens is added to all of them."""
    config = kinds.RobertaConfig(
        **_SIZES, vocab_size=50, intermediate_size=40, max_position_embeddings=34, pad_token_id=1,
        type_vocab_size=1, layer_norm_eps=1e-5,
    )  # fmt: skip
    backbone = hub.RobertaBackbone(50, 2, 3, 24, 40, max_sequence_length=32)
    return backbone, kinds.RobertaModel(config, add_pooling_layer=False)


def opt(kinds: Any, hub: Any) -> tuple[Any, Any]:
    """Positions count what the mask leaves."""
    config = kinds.OPTConfig(
        **_SIZES, vocab_size=50, ffn_dim=40, max_position_embeddings=32, word_embed_proj_dim=24, use_cache=False,
        pad_token_id=1, dropout=0.0,
    )  # fmt: skip
    return hub.OPTBackbone(50, 2, 3, 24, 40, max_sequence_length=32), kinds.OPTModel(config)


def gpt2(kinds: Any, hub: Any) -> tuple[Any, Any]:
    sizes = {"vocab_size": 50, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32}
    config = kinds.GPT2Config(**sizes, use_cache=False, bos_token_id=0, eos_token_id=0)
    return hub.GPT2Backbone(50, 2, 3, 24, 96, max_sequence_length=32), kinds.GPT2Model(config)


def llama(kinds: Any, hub: Any) -> tuple[Any, Any]:
    config = kinds.LlamaConfig(
        **_SIZES, vocab_size=50, num_key_value_heads=1, intermediate_size=40, use_cache=False, pad_token_id=0
    )
    return hub.LlamaBackbone(50, 2, 3, 24, 40, 1, layer_norm_epsilon=1e-6), kinds.LlamaModel(config)


def t5(kinds: Any, hub: Any) -> tuple[Any, Any]:
    """Encoder and decoder, each with a table of relative positions that all of its layers share."""
    sizes = {"vocab_size": 50, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3}
    config = kinds.T5Config(**sizes, use_cache=False, attn_implementation="eager")
    options = {"tie_embedding_weights": True, "activation": "relu", "use_gated_activation": False}
    return hub.T5Backbone(50, 2, 3, 24, 40, key_value_dim=8, **options), kinds.T5Model(config)


def bloom(kinds: Any, hub: Any) -> tuple[Any, Any]:
    sizes = {"vocab_size": 50, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    config = kinds.BloomConfig(**sizes, use_cache=False)
    return hub.BloomBackbone(50, 2, 4, 32, 128, max_sequence_length=32), kinds.BloomModel(config)


def phi3(kinds: Any, hub: Any) -> tuple[Any, Any]:
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = kinds.Phi3Config(
        **sizes, num_key_value_heads=2, intermediate_size=40, use_cache=False, pad_token_id=0
    )
    return hub.Phi3Backbone(50, 2, 32, 40, 4, 2, layer_norm_epsilon=1e-5), kinds.Phi3Model(config)


def gemma(kinds: Any, hub: Any) -> tuple[Any, Any]:
    sizes = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = kinds.GemmaConfig(
        **sizes, num_key_value_heads=1, head_dim=8, intermediate_size=20, use_cache=False, pad_token_id=0
    )
    return hub.GemmaBackbone(50, 2, 4, 1, 24, 40, 8, layer_norm_epsilon=1e-6), kinds.GemmaModel(config)


def vit(kinds: Any, hub: Any) -> tuple[Any, Any]:
    config = kinds.ViTConfig(**_SIZES, intermediate_size=40, image_size=32, patch_size=8)
    backbone = hub.ViTBackbone((32, 32, 3), 8, 2, 3, 24, 40, layer_norm_epsilon=1e-12)
    return backbone, kinds.ViTModel(config, add_pooling_layer=False)


def _told(*names: str) -> dict[str, Any]:
    return {"other": {name: {"shape": (None, 8), "dtype": "int64"} for name in names}}


_TOKENS = ("token_ids", "padding_mask")
_BERT = ("input_ids", "attention_mask", "token_type_ids")
_HUB_T5 = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")
_T5 = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")

PAIRS = [
    Pair("KerasHub Bert", _pair(bert), tokens=50, shapes=((8,),) * 3, named=((*_TOKENS, "segment_ids"), _BERT),
         signatures=_told(*_BERT), output="sequence_output"),
    Pair("KerasHub Roberta", _pair(roberta), tokens=50, least=2, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:1]),
         signatures=_told("input_ids")),
    Pair("KerasHub OPT", _pair(opt), tokens=50, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:2]),
         signatures=_told(*_BERT[:2])),
    Pair("KerasHub GPT2", _pair(gpt2), tokens=50, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:1]),
         signatures=_told("input_ids")),
    Pair("KerasHub Llama", _pair(llama), tokens=50, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:1]),
         signatures=_told("input_ids")),
    Pair("KerasHub T5", _pair(t5), tokens=50, shapes=((8,),) * 4, named=(_HUB_T5, _T5), signatures=_told(*_T5),
         output="decoder_sequence_output"),
    Pair("KerasHub Bloom", _pair(bloom), tokens=50, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:2]),
         signatures=_told(*_BERT[:2])),
    Pair("KerasHub Phi3", _pair(phi3), tokens=50, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:1]),
         signatures=_told("input_ids")),
    Pair("KerasHub Gemma", _pair(gemma), tokens=50, shapes=((8,),) * 2, named=(_TOKENS, _BERT[:1]),
         signatures=_told("input_ids")),
    Pair("KerasHub ViT", _pair(vit), shapes=((32, 32, 3),), first=True),
]  # fmt: skip
