"""Models of images: classifiers, pyramids, segmenters, detectors, depth and autoencoders."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases.hub import HubCase, hub
from cases.ops import Input

FREE = (None, None, 3)
#: Pictures of any size, and of sizes that networks with upsampling paths can halve five times.
ODD = Input(("b", "height", "width", 3))
EVEN = Input(("b", "tall", "wide", 3))


def square(size: int) -> Input:
    """Pictures of the one size a model was built for."""
    return Input(("b", size, size, 3))


#: Sums of thousands of float32 terms, in another order, on values of a few units.
DEEP = 1e-4
TRANSFORMER = {"patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "image_shape": (16, 16, 3)}
WIDE = {**TRANSFORMER, "intermediate_dim": 16}
RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 16, 24, 32],  # Keras wants 64 first
    "stackwise_num_blocks": [1, 1, 2, 1],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
    "image_shape": FREE,
}
MIT = {
    "layerwise_depths": [1, 2],
    "image_shape": (32, 32, 3),
    "hidden_dims": [4, 8],
    "num_layers": 2,
    "layerwise_num_heads": [1, 2],
    "layerwise_sr_ratios": [4, 2],
    "max_drop_path_rate": 0.1,
    "layerwise_patch_sizes": [7, 3],
    "layerwise_strides": [4, 2],
}
DINO = {
    "patch_size": 14,
    "num_layers": 4,
    "hidden_dim": 8,
    "num_heads": 2,
    "intermediate_dim": 16,
    "image_shape": (126, 126, 3),
    "position_embedding_shape": (98, 98, 3),
}
HGNET = {
    "stem_channels": [3, 8, 8],
    "stackwise_stage_filters": [[8, 8, 16, 1, 1, 3], [16, 8, 32, 1, 1, 3]],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, True],
    "depths": [1, 1],
    "hidden_sizes": [16, 32],
    "embedding_size": 8,
    "use_learnable_affine_block": True,
    "hidden_act": "relu",
    "image_shape": FREE,
    "out_features": ["stem", "stage1", "stage2"],
}

BACKBONES: dict[str, tuple[dict[str, Any], Any]] = {
    "CSPNet": (
        {
            "stem_filters": 8,
            "stem_kernel_size": 3,
            "stem_strides": 1,
            "stackwise_strides": 2,
            "stackwise_depth": [1, 2],
            "stackwise_num_filters": [8, 16],
            "down_growth": True,
            "bottle_ratio": (0.5, 1.0),
            "block_ratio": (1.0, 0.5),
            "expand_ratio": (2.0, 1.0),
            "block_type": "dark_block",
            "stage_type": "csp",
            "stem_padding": "same",
        },
        ODD,
    ),
    "DINOV2": (DINO, {"images": square(126)}),
    "DINOV3": (
        {**WIDE, "patch_size": 8, "image_shape": (32, 32, 3)},
        {"pixel_values": square(32)},
    ),
    "DeiT": (WIDE, square(16)),
    "DenseNet": ({"stackwise_num_repeats": [1, 2, 2, 1], "growth_rate": 4}, ODD),
    "EfficientNet": (
        {
            "stackwise_kernel_sizes": [3, 3, 5],
            "stackwise_num_repeats": [1, 2, 2],
            "stackwise_input_filters": [8, 8, 16],
            "stackwise_output_filters": [8, 16, 24],
            "stackwise_expansion_ratios": [1, 4, 4],
            "stackwise_squeeze_and_excite_ratios": [0.0, 0.25, 0.25],
            "stackwise_strides": [1, 2, 2],
            "stackwise_block_types": ["fused", "unfused", "unfused"],
            "stackwise_force_input_filters": [0, 0, 0],
            "stackwise_nores_option": [False, False, False],
            "num_features": 32,
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
        },
        ODD,
    ),
    "HGNetV2": (HGNET, ODD),
    "MiT": (MIT, square(32)),
    "MobileNet": (
        {
            "stackwise_expansion": [[8, 16], [24, 32]],
            "stackwise_num_blocks": [2, 2],
            "stackwise_num_filters": [[8, 8], [16, 16]],
            "stackwise_kernel_size": [[3, 3], [5, 5]],
            "stackwise_num_strides": [[2, 1], [2, 1]],
            "stackwise_se_ratio": [[None, None], [0.25, 0.25]],
            "stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"], ["hard_swish"]],
            "stackwise_padding": [[1, 1], [2, 2]],
            "output_num_filters": 32,
            "depthwise_filters": 8,
            "depthwise_stride": 2,
            "depthwise_residual": False,
            "squeeze_and_excite": 0.5,
            "last_layer_filter": 32,
        },
        ODD,
    ),
    "MobileNetV5": (
        {
            "stackwise_block_types": [["er"], ["uir", "uir"]],
            "stackwise_num_blocks": [1, 2],
            "stackwise_num_filters": [[8], [16, 16]],
            "stackwise_strides": [[2], [2, 1]],
            "stackwise_act_layers": [["relu"], ["relu", "relu"]],
            "stackwise_exp_ratios": [[4.0], [6.0, 6.0]],
            "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
            "stackwise_dw_kernel_sizes": [[0], [5, 5]],
            "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
            "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
            "stackwise_exp_kernel_sizes": [[3], [0, 0]],
            "stackwise_pw_kernel_sizes": [[1], [0, 0]],
            "stackwise_num_heads": [[0], [0, 0]],
            "stackwise_key_dims": [[0], [0, 0]],
            "stackwise_value_dims": [[0], [0, 0]],
            "stackwise_kv_strides": [[0], [0, 0]],
            "stackwise_use_cpe": [[False], [False, False]],
            "image_shape": (32, 32, 3),
            "stem_size": 8,
            "use_msfa": False,
        },
        square(32),
    ),
    "ResNet": (RESNET, ODD),
    "SwinTransformer": (
        {
            "image_shape": (32, 32, 3),
            "embed_dim": 8,
            "depths": (2, 2),
            "num_heads": (2, 4),
            "window_size": 4,
        },
        square(32),
    ),
    "VGG": ({"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [8, 16]}, ODD),
    "ViT": (
        {**TRANSFORMER, "mlp_dim": 16},
        square(16),
    ),
    "ViTDet": (
        {
            "image_shape": (16, 16, 3),
            "patch_size": 2,
            "hidden_size": 8,
            "num_layers": 2,
            "global_attention_layer_indices": [1],
            "intermediate_dim": 16,
            "num_heads": 2,
            "num_output_channels": 8,
            "window_size": 3,
        },
        square(16),
    ),
    "Xception": (
        {
            "stackwise_conv_filters": [[8, 16], [24, 24], [32, 32]],
            "stackwise_pooling": [False, True, False],
            "image_shape": FREE,
        },
        ODD,
    ),
}


def backbone(family: str, **options: Any) -> Any:
    """The backbone of a family in its small configuration."""
    return hub(f"{family}Backbone", **{**BACKBONES[family][0], **options})


def _row(family: str, variant: str = "", inputs: Any = None, **options: Any) -> HubCase:
    return HubCase(
        f"{family}Backbone",
        lambda: backbone(family, **options),
        BACKBONES[family][1] if inputs is None else inputs,
        variant,
        atol=DEEP,
        quick=family == "ViT" and not variant,
    )


def _tinted(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Images of noise, each with a colour of its own."""
    return rng.uniform(-2, 2, shape) + rng.uniform(-3, 3, (shape[0], 1, 1, shape[-1]))


def _classifier(family: str, given: Input | None = None, **options: Any) -> HubCase:
    task = f"{family}ImageClassifier"
    return HubCase(
        task,
        lambda: hub(task, backbone=backbone(family), num_classes=5, **options),
        given or BACKBONES[family][1],
        atol=DEEP,
    )


def _deeplab() -> Any:
    return hub(
        "DeepLabV3Backbone",
        image_encoder=backbone("ResNet"),
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        dilation_rates=[2, 4, 6],
        upsampling_size=4,
        projection_filters=4,
    )


def _retinanet() -> Any:
    return hub("RetinaNetBackbone", image_encoder=backbone("ResNet"), min_level=3, max_level=6, use_p5=True)


def _basnet() -> Any:
    encoder = backbone("ResNet", stackwise_num_filters=[64, 128, 256, 512], stackwise_num_blocks=[1, 1, 1, 1])
    return hub("BASNetBackbone", image_encoder=encoder, num_classes=1)


def _detector() -> Any:
    from keras_hub.layers import AnchorGenerator

    anchors = AnchorGenerator("yxyx", 3, 6, num_scales=3, aspect_ratios=[0.5, 1.0, 2.0], anchor_size=4)
    from keras_hub.src.models.retinanet.retinanet_label_encoder import RetinaNetLabelEncoder

    return hub(
        "RetinaNetObjectDetector",
        backbone=_retinanet(),
        anchor_generator=anchors,
        label_encoder=RetinaNetLabelEncoder(bounding_box_format="yxyx", anchor_generator=anchors),
        num_classes=4,
        bounding_box_format="yxyx",
    )


def _depth() -> Any:
    return hub(
        "DepthAnythingBackbone",
        image_encoder=backbone("DINOV2", apply_layernorm=True),
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[4, 8, 8, 12],
        fusion_hidden_dim=8,
        head_hidden_dim=4,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    )


def _dfine() -> Any:
    return hub(
        "DFineBackbone",
        backbone=backbone("HGNetV2", out_features=["stage1", "stage2"]),
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_denoising=10,
        num_labels=4,
        hidden_dim=16,
        learn_initial_query=False,
        num_queries=10,
        anchor_image_size=(32, 32),
        feat_strides=[4, 8],
        num_feature_levels=2,
        encoder_in_channels=[16, 32],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=32,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=16,
        num_lqe_layers=2,
        out_features=["stage1", "stage2"],
        image_shape=(32, 32, 3),
        seed=0,
    )


def _vae() -> Any:
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone

    return VAEBackbone(
        encoder_num_filters=[32, 32],
        encoder_num_blocks=[1, 1],
        decoder_num_filters=[32, 32],
        decoder_num_blocks=[1, 1],
        sampler_method="mode",
        image_shape=FREE,
    )


#: It resizes by a function of TensorFlow, of which tf2onnx gives a graph that does not say its types.
RAW_RESIZE = {"tensorflow": "does not tell the dtype"}

CASES = [
    *[_row(family) for family in BACKBONES],
    _row("ResNet", "bottleneck", block_type="bottleneck_block"),
    _row("ResNet", "preactivation", block_type="basic_block", use_pre_activation=True),
    _row(
        "ResNet",
        "vd",
        block_type="bottleneck_block_vd",
        input_conv_filters=[8, 8, 64],
        input_conv_kernel_sizes=[3, 3, 3],
    ),
    _row("ViT", "no_class_token", use_class_token=False),
    _row("DINOV2", "registers", num_register_tokens=4, use_swiglu_ffn=True),
    *[
        _classifier(family)
        for family in (
            *("CSPNet", "DeiT", "DenseNet", "EfficientNet", "MiT", "MobileNet", "ResNet"),
            *("SwinTransformer", "VGG", "ViT", "Xception"),
        )
    ],
    # A mean over all places evens out noise.
    _classifier("HGNetV2", Input(ODD.shape, make=_tinted), preprocessor=None),
    HubCase("DeepLabV3Backbone", _deeplab, EVEN, atol=DEEP),
    HubCase(
        "DeepLabV3ImageSegmenter",
        lambda: hub("DeepLabV3ImageSegmenter", backbone=_deeplab(), num_classes=3),
        EVEN,
        atol=DEEP,
    ),
    HubCase("RetinaNetBackbone", _retinanet, EVEN, atol=DEEP),
    HubCase("RetinaNetObjectDetector", _detector, EVEN, atol=DEEP),
    HubCase("BASNetImageSegmenter", lambda: hub("BASNetImageSegmenter", backbone=_basnet()), EVEN, atol=DEEP),
    HubCase(
        "SegFormerBackbone",
        lambda: hub("SegFormerBackbone", image_encoder=backbone("MiT"), projection_filters=8),
        square(32),
        atol=DEEP,
    ),
    HubCase(
        "SegFormerImageSegmenter",
        lambda: hub(
            "SegFormerImageSegmenter",
            backbone=hub("SegFormerBackbone", image_encoder=backbone("MiT"), projection_filters=8),
            num_classes=3,
        ),
        square(32),
    ),
    # Sums of sums: an element in ten thousand is off by 1.3e-4 on JAX.
    HubCase("DepthAnythingBackbone", _depth, {"images": square(126)}, atol=2 * DEEP, refused=RAW_RESIZE),
    # Each decoder layer refines the boxes of the one before, and with them where it looks.
    HubCase("DFineBackbone", _dfine, square(32), rtol=1e-2, atol=5e-3),
    HubCase("VAEBackbone", _vae, EVEN, atol=DEEP),
]
