"""Encoders, decoders and sequence-to-sequence models of text."""

from __future__ import annotations

from typing import Any

from cases.hub import VOCABULARY, HubCase, hub, padding, tokens
from cases.ops import Input

PADDED = {"token_ids": tokens(), "padding_mask": padding()}
SEGMENTS = {**PADDED, "segment_ids": tokens(high=1)}
PAIR = {
    "encoder_token_ids": tokens("e"),
    "encoder_padding_mask": padding("e"),
    "decoder_token_ids": tokens(),
    "decoder_padding_mask": padding(),
}
POSITIONS = {"mask_positions": Input(("b", 3), "int32", low=0, high=5)}

#: Widths that most constructors share.
SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
TEXT = {"vocabulary_size": VOCABULARY, **SMALL}
PLACED = {**TEXT, "max_sequence_length": 32}
#: Decoders whose keys and values have fewer heads than the queries.
GROUPED = {
    "vocabulary_size": VOCABULARY,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
}
HEADED = {**GROUPED, "head_dim": 4}

BACKBONES: dict[str, tuple[dict[str, Any], dict[str, Input]]] = {
    "Albert": ({**PLACED, "embedding_dim": 4}, SEGMENTS),
    "Bert": (PLACED, SEGMENTS),
    "DebertaV3": ({**PLACED, "bucket_size": 8}, PADDED),
    "DistilBert": (PLACED, PADDED),
    "ESM": ({**TEXT, "position_embedding_type": "rotary"}, {"token_ids": tokens()}),
    "Electra": (
        {"vocab_size": VOCABULARY, **SMALL, "embedding_dim": 8, "max_sequence_length": 32},
        SEGMENTS,
    ),
    "FNet": (
        {"vocabulary_size": VOCABULARY, "num_layers": 2, "hidden_dim": 8, "intermediate_dim": 16},
        {"token_ids": tokens(), "segment_ids": tokens(high=1)},
    ),
    "Roberta": (PLACED, PADDED),
    "RoformerV2": ({**TEXT, "head_size": 4}, {"token_ids": tokens(), "segment_ids": tokens(high=1)}),
    "XLMRoberta": (PLACED, PADDED),
    "XLNet": (TEXT, SEGMENTS),
    "Bloom": (TEXT, PADDED),
    "Falcon": (
        {
            "vocabulary_size": VOCABULARY,
            "num_layers": 2,
            "num_attention_heads": 2,
            "hidden_dim": 8,
            "intermediate_dim": 32,
        },
        PADDED,
    ),
    "GPT2": (PLACED, PADDED),
    "GPTNeoX": ({**PLACED, "rotary_percentage": 0.5}, PADDED),
    "Gemma": (HEADED, PADDED),
    "Gemma3": ({**HEADED, "image_size": 16}, PADDED),
    "GptOss": ({**GROUPED, "num_experts": 3, "sliding_window": 4}, PADDED),
    "Llama": (GROUPED, PADDED),
    "Llama3": (GROUPED, PADDED),
    "Mistral": ({**GROUPED, "sliding_window": 4}, PADDED),
    "Mixtral": ({**GROUPED, "num_experts": 3, "sliding_window": 4}, PADDED),
    "OPT": (PLACED, PADDED),
    "Phi3": (GROUPED, PADDED),
    "Qwen": (GROUPED, PADDED),
    "Qwen3": (HEADED, PADDED),
    "Qwen3Moe": ({**HEADED, "moe_intermediate_dim": 12, "num_experts": 4, "top_k": 2}, PADDED),
    "Qwen3_5": (
        {
            **GROUPED,
            "head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 4,
            "linear_value_head_dim": 4,
        },
        PADDED,
    ),
    "QwenMoe": (
        {
            **GROUPED,
            "moe_intermediate_dim": 12,
            "shared_expert_intermediate_dim": 12,
            "num_experts": 4,
            "top_k": 2,
        },
        PADDED,
    ),
    "SmolLM3": (
        {
            "vocabulary_size": VOCABULARY,
            "num_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_dim": 16,
            "intermediate_dim": 24,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "rope_layer_enabled_list": [True, False],
            "layer_types": ["full_attention", "full_attention"],
            "mlp_bias": False,
            "layer_norm_epsilon": 1e-6,
            "max_position_embeddings": 64,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0,
        },
        PADDED,
    ),
    "Bart": (PLACED, PAIR),
    "EdRec": (
        {
            "vocab_size": VOCABULARY,
            "num_layers_enc": 2,
            "num_layers_dec": 2,
            "hidden_dim": 8,
            "intermediate_dim": 16,
            "num_heads": 2,
        },
        {
            **PAIR,
            "encoder_padding_mask": padding("e", "bool"),
            "decoder_padding_mask": padding("t", "bool"),
        },
    ),
    "T5": (TEXT, PAIR),
    "T5Gemma": (
        {
            "vocabulary_size": VOCABULARY,
            **{
                f"{side}_{key}": value
                for side in ("encoder", "decoder")
                for key, value in {
                    "hidden_dim": 16,
                    "intermediate_dim": 24,
                    "num_layers": 2,
                    "num_attention_heads": 4,
                    "num_key_value_heads": 2,
                    "head_dim": 4,
                    "layer_types": ["sliding_attention", "full_attention"],
                }.items()
            },
            "sliding_window": 4,
        },
        PAIR,
    ),
    "Gemma4": (
        {**HEADED, "image_size": 16, "sliding_window_size": 4, "sliding_window_pattern": 2},
        {**PADDED, "position_ids": tokens(high=5)},
    ),
    "Gemma3n": (
        {
            "text_vocab_size": VOCABULARY,
            "text_hidden_size": 8,
            "num_hidden_layers": 2,
            "pad_token_id": 0,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 4,
            "intermediate_size": [16, 16],
            "hidden_activation": "gelu_approximate",
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 4,
            "rope_theta": 10000.0,
            "max_position_embeddings": 32,
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 2,
            "altup_num_inputs": 2,
            "laurel_rank": 1,
        },
        {"token_ids": tokens(), "padding_mask": padding("t", "bool")},
    ),
}
BACKBONES["T5Gemma2"] = BACKBONES["T5Gemma"]

QUICK = ("Bert", "Llama")
#: Families with a layer that is raw code on TensorFlow: a Python loop over the steps, or calls of another framework.
RAW = ("DebertaV3", "Gemma4", "Qwen3_5")
#: Logits of ten and more.
LOUD = {"EdRecSeq2SeqLM": 1e-4}


def backbone(family: str, **options: Any) -> Any:
    """The backbone of a family in its small configuration."""
    return hub(f"{family}Backbone", **{**BACKBONES[family][0], **options})


def _row(family: str, variant: str = "", **options: Any) -> HubCase:
    quick = family in QUICK and not variant
    return HubCase(
        f"{family}Backbone",
        lambda: backbone(family, **options),
        BACKBONES[family][1],
        variant,
        quick=quick,
        named=family in RAW,
    )


def _head(task: str, family: str, inputs: dict[str, Input] | None = None, **options: Any) -> HubCase:
    given = {**BACKBONES[family][1], **(inputs or {})}
    return HubCase(
        task,
        lambda: hub(task, backbone=backbone(family), **options),
        given,
        atol=LOUD.get(task, 1e-5),
        named=family in RAW,
    )


CASES = [
    *[_row(family) for family in BACKBONES],
    *[
        _head(f"{family}CausalLM", family)
        for family in (
            *("Bloom", "Falcon", "GPT2", "GPTNeoX", "Gemma", "GptOss", "Llama", "Llama3", "Mistral"),
            *("Mixtral", "OPT", "Phi3", "Qwen", "Qwen3", "Qwen3Moe", "Qwen3_5", "QwenMoe", "SmolLM3"),
        )
    ],
    *[
        _head(f"{family}TextClassifier", family, num_classes=3)
        for family in (
            "Albert",
            "Bert",
            "DebertaV3",
            "DistilBert",
            "FNet",
            "Roberta",
            "RoformerV2",
            "XLMRoberta",
        )
    ],
    *[
        _head(f"{family}MaskedLM", family, POSITIONS)
        for family in ("Albert", "Bert", "DebertaV3", "DistilBert", "FNet", "Roberta", "XLMRoberta")
    ],
    _head("Gemma3CausalLM", "Gemma3", preprocessor=None),
    *[_head(f"{family}Seq2SeqLM", family) for family in ("Bart", "EdRec", "T5", "T5Gemma")],
    _row(
        "Gemma",
        "window",
        use_sliding_window_attention=True,
        sliding_window_size=4,
        attention_logit_soft_cap=5.0,
    ),
    _row(
        "Gemma3", "window", use_sliding_window_attention=True, sliding_window_size=4, final_logit_soft_cap=5.0
    ),
    _row(
        "Llama3",
        "scaled",
        rope_frequency_adjustment_factor=8.0,
        rope_low_freq_factor=1.0,
        rope_high_freq_factor=4.0,
        rope_pretraining_sequence_length=16,
    ),
    _row(
        "Qwen", "untied", tie_word_embeddings=False, use_sliding_window_attention=True, sliding_window_size=4
    ),
    _row("T5", "untied", tie_embedding_weights=False, use_gated_activation=False, key_value_dim=6),
]
