"""Models of more than one kind of input: pictures and text, sound and text, prompts, latents."""

from __future__ import annotations

from typing import Any

from cases.hub import VOCABULARY, HubCase, hub, padding, tokens
from cases.hub.image import DEEP
from cases.ops import Input

PICTURE = Input(("b", 16, 16, 3))
GROUPED = {
    "vocabulary_size": VOCABULARY,
    "num_layers": 2,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "head_dim": 4,
    "image_size": 16,
}
SPEECH = {"decoder_token_ids": tokens(), "decoder_padding_mask": padding()}


def _places(rng: Any, shape: tuple[int, ...]) -> Any:
    """Places of vision tokens in a text: different ones, in order."""
    return rng.permuted(rng.permuted(range(6)).reshape(1, -1).repeat(shape[0], 0), axis=1)[:, : shape[1]]


def _vision(family: str, **options: Any) -> Any:
    return hub(
        f"{family}VisionEncoder",
        patch_size=4,
        hidden_dim=8,
        num_layers=2,
        num_heads=2,
        intermediate_dim=16,
        image_shape=(16, 16, 3),
        name="vision_encoder",
        **options,
    )


def _text(family: str, width: int = 8, **options: Any) -> Any:
    return hub(
        f"{family}TextEncoder",
        vocabulary_size=VOCABULARY,
        embedding_dim=width,
        hidden_dim=width,
        num_layers=2,
        num_heads=2,
        intermediate_dim=2 * width,
        **{"name": "text_encoder", **({"max_sequence_length": 9} if family == "SigLIP" else {}), **options},
    )


def _contrastive(family: str, **options: Any) -> Any:
    def build() -> Any:
        given = {"vision_encoder": _vision(family), "text_encoder": _text(family), **options}
        return hub(f"{family}Backbone", **given)

    return build


def _sam() -> Any:
    from keras_hub.layers import SAMMaskDecoder, SAMPromptEncoder

    return hub(
        "SAMBackbone",
        image_encoder=hub(
            "ViTDetBackbone",
            hidden_size=8,
            num_layers=2,
            intermediate_dim=16,
            num_heads=2,
            global_attention_layer_indices=[1],
            patch_size=16,
            num_output_channels=16,
            window_size=2,
            image_shape=(64, 64, 3),
        ),
        prompt_encoder=SAMPromptEncoder(
            hidden_size=16, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_channels=8
        ),
        mask_decoder=SAMMaskDecoder(
            num_layers=2,
            hidden_size=16,
            intermediate_dim=16,
            num_heads=4,
            embedding_dim=16,
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=8,
        ),
    )


PROMPTS = {
    "images": Input(("b", 64, 64, 3)),
    "points": Input(("b", "n", 2), low=0, high=64),
    "labels": Input(("b", "n"), make=lambda rng, shape: rng.integers(0, 2, shape)),
    "boxes": Input(("b", 1, 2, 2), low=0, high=64),
    "masks": Input(("b", 1, 16, 16, 1)),
}


def _moonshine() -> Any:
    return hub(
        "MoonshineBackbone",
        vocabulary_size=VOCABULARY,
        filter_dim=16,
        encoder_num_layers=2,
        decoder_num_layers=2,
        hidden_dim=16,
        intermediate_dim=24,
        encoder_num_heads=2,
        decoder_num_heads=2,
    )


def _pali_gemma(**options: Any) -> Any:
    return hub(
        "PaliGemmaBackbone",
        **GROUPED,
        vit_patch_size=4,
        vit_num_layers=2,
        vit_num_heads=2,
        vit_hidden_dim=8,
        vit_intermediate_dim=16,
        **options,
    )


def _gemma3() -> Any:
    from keras_hub.src.models.gemma3.gemma3_vision_encoder import Gemma3VisionEncoder

    encoder = Gemma3VisionEncoder(
        image_size=16,
        patch_size=4,
        pool_size=2,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        output_dim=8,
    )
    return hub("Gemma3Backbone", **GROUPED, vision_encoder=encoder, use_post_ffw_norm=True)


def _parseq() -> Any:
    encoder = hub(
        "ViTBackbone",
        image_shape=(16, 32, 3),
        patch_size=(4, 8),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
        use_class_token=False,
        name="image_encoder",
    )
    return hub(
        "PARSeqBackbone",
        image_encoder=encoder,
        vocabulary_size=VOCABULARY,
        max_label_length=16,
        decoder_hidden_dim=8,
        num_decoder_layers=1,
        num_decoder_heads=2,
        decoder_mlp_dim=16,
    )


def _video(words: int) -> Any:
    return hub(
        "VideoPrismBackbone",
        num_frames=4,
        image_shape=(16, 16, 3),
        patch_size=4,
        hidden_dim=8,
        intermediate_dim=16,
        num_heads=2,
        num_spatial_layers=1,
        num_temporal_layers=1,
        num_auxiliary_layers=1,
        vocabulary_size=words,
        num_text_layers=1 if words else 0,
        attention_logit_soft_cap=50.0,
    )


VIDEO = Input(("b", 4, 16, 16, 3))


def _flux() -> Any:
    return hub(
        "FluxBackbone",
        input_channels=16,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[4, 6, 6],
        theta=10_000,
        use_bias=True,
        guidance_embed=True,
        image_shape=(16, 16),
        text_shape=(16, 16),
        image_ids_shape=(16, 3),
        text_ids_shape=(16, 3),
        y_shape=(16,),
    )


def _mmdit() -> Any:
    from keras_hub.src.models.stable_diffusion_3.mmdit import MMDiT

    return MMDiT(
        patch_size=2,
        hidden_dim=16,
        num_layers=2,
        num_heads=2,
        position_size=16,
        qk_norm="rms_norm",
        dual_attention_indices=(0,),
        latent_shape=(8, 8, 4),
        context_shape=(None, 12),
        pooled_projection_shape=(10,),
    )


BOTH = {"images": PICTURE, "token_ids": tokens()}
#: SigLIP reads texts of one length.
NINE = Input(("b", 9), "int32", low=0, high=VOCABULARY - 1)
PADDED = {"token_ids": tokens(), "padding_mask": padding()}

CASES = [
    HubCase("CLIPBackbone", _contrastive("CLIP", projection_dim=8), BOTH),
    HubCase("MetaCLIP2Backbone", _contrastive("MetaCLIP2", projection_dim=8), BOTH),
    HubCase("SigLIPBackbone", _contrastive("SigLIP"), {**BOTH, "token_ids": NINE}),
    HubCase(
        "SAMBackbone", _sam, PROMPTS, steady={"prompt_dense_positional_embeddings": "where the patches are"}
    ),
    HubCase(
        "SAMImageSegmenter",
        lambda: hub("SAMImageSegmenter", backbone=_sam()),
        PROMPTS,
        named=True,
        atol=DEEP,
    ),
    HubCase(
        "WhisperBackbone",
        lambda: hub(
            "WhisperBackbone",
            vocabulary_size=VOCABULARY,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=16,
            num_mels=6,
            max_encoder_sequence_length=40,
            max_decoder_sequence_length=32,
        ),
        {"encoder_features": Input(("b", "h", 6)), **SPEECH},
    ),
    HubCase(
        "MoonshineBackbone",
        _moonshine,
        {
            "encoder_input_values": Input(("b", "sound", 1)),
            "encoder_padding_mask": padding("sound", "bool"),
            "decoder_token_ids": tokens(),
            "decoder_padding_mask": padding("t", "bool"),
        },
    ),
    HubCase(
        "PaliGemmaBackbone", _pali_gemma, {**BOTH, "padding_mask": padding(), "response_mask": tokens(high=1)}
    ),
    HubCase(
        "Gemma3Backbone",
        _gemma3,
        {
            **PADDED,
            "images": Input(("b", 1, 16, 16, 3)),
            "vision_mask": tokens(high=1),
            "vision_indices": Input(("b", 4), "int32", make=_places),
        },
        "vision",
    ),
    HubCase("PARSeqBackbone", _parseq, {**PADDED, "images": Input(("b", 16, 32, 3))}),
    HubCase("VideoPrismBackbone", lambda: _video(0), VIDEO),
    HubCase("VideoPrismBackbone", lambda: _video(VOCABULARY), {**PADDED, "pixel_values": VIDEO}, "text"),
    HubCase(
        "FluxBackbone",
        _flux,
        {
            "image": Input(("b", 16, 16)),
            "image_ids": Input(("b", 16, 3)),
            "text": Input(("b", 16, 16)),
            "text_ids": Input(("b", 16, 3)),
            "y": Input(("b", 16)),
            "timesteps": Input(("b",), low=0, high=1),
            "guidance": Input(("b",), low=0, high=1),
        },
        atol=DEEP,
    ),
    HubCase(
        "MMDiT",
        _mmdit,
        {
            "latent": Input(("b", 8, 8, 4)),
            "context": Input(("b", "t", 12)),
            "pooled_projection": Input(("b", 10)),
            "timestep": Input(("b", 1), low=0, high=10),
        },
        atol=DEEP,
    ),
    HubCase("CLIPTextEncoder", lambda: _text("CLIP", intermediate_output_index=-2), {"token_ids": tokens()}),
    HubCase("SigLIPTextEncoder", lambda: _text("SigLIP", projection_dim=6), {"token_ids": NINE}),
]
