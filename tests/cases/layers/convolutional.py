"""Convolutions, depthwise, separable and transposed."""

from __future__ import annotations

from typing import Any

from cases.layers import LayerCase, x
from keras import layers

INPUTS = {1: (x("b", "t", 4),), 2: (x("b", "h", "w", 4),), 3: (x("b", "t", "h", "w", 4),)}
FIRST = {1: (x("b", 4, "t"),), 2: (x("b", 4, "h", "w"),), 3: (x("b", 4, "t", "h", "w"),)}
# TensorFlow's CPU kernels of these take channels last only, and no dilation of a transposed convolution.
NOT_TENSORFLOW = ("jax", "torch")


def _row(name: str, rank: int, variant: str, inputs: Any = None, **options: Any) -> LayerCase:
    """The layer with its own options; ``rows_backends`` limits the backends."""
    backends = options.pop("rows_backends", ("jax", "tensorflow", "torch"))
    name = name.format(f"{rank}D")
    cls = getattr(layers, name)
    return LayerCase(name, lambda: cls(**options), inputs or INPUTS[rank], variant, backends=backends)


CASES = [
    *[
        row
        for rank in (1, 2, 3)
        for row in (
            _row("Conv{}", rank, "", filters=3, kernel_size=2),
            _row(
                "Conv{}", rank, "same", filters=3, kernel_size=3, strides=2, padding="same", activation="relu"
            ),
            _row("Conv{}", rank, "dilated", filters=3, kernel_size=2, dilation_rate=2, use_bias=False),
            _row(
                "Conv{}",
                rank,
                "channels_first",
                FIRST[rank],
                filters=3,
                kernel_size=2,
                padding="same",
                data_format="channels_first",
                rows_backends=NOT_TENSORFLOW,
            ),
            _row("Conv{}", rank, "lora", filters=3, kernel_size=2, lora_rank=2),
            _row("Conv{}Transpose", rank, "", filters=3, kernel_size=2),
            _row("Conv{}Transpose", rank, "same", filters=3, kernel_size=3, strides=2, padding="same"),
            _row("Conv{}Transpose", rank, "valid", filters=3, kernel_size=3, strides=2, use_bias=False),
            _row("Conv{}Transpose", rank, "narrow", filters=3, kernel_size=2, strides=3, padding="same"),
            _row(
                "Conv{}Transpose",
                rank,
                "output_padding",
                filters=3,
                kernel_size=3,
                strides=2,
                padding="same",
                output_padding=0,
            ),
        )
    ],
    *[
        row
        for rank in (1, 2)
        for row in (
            _row("Conv{}", rank, "groups", filters=6, kernel_size=2, groups=2),
            _row("DepthwiseConv{}", rank, "", kernel_size=2),
            _row("DepthwiseConv{}", rank, "multiplier", kernel_size=3, depth_multiplier=2, padding="same"),
            _row(
                "DepthwiseConv{}", rank, "strided", kernel_size=3, strides=2, padding="same", use_bias=False
            ),
            _row("DepthwiseConv{}", rank, "dilated", kernel_size=2, dilation_rate=2),
            _row("SeparableConv{}", rank, "", filters=3, kernel_size=2),
            _row("SeparableConv{}", rank, "same", filters=3, kernel_size=3, strides=2, padding="same"),
            _row("SeparableConv{}", rank, "multiplier", filters=3, kernel_size=2, depth_multiplier=2),
            _row("SeparableConv{}", rank, "dilated", filters=3, kernel_size=2, dilation_rate=2),
            _row(
                "DepthwiseConv{}",
                rank,
                "channels_first",
                FIRST[rank],
                kernel_size=2,
                data_format="channels_first",
                rows_backends=NOT_TENSORFLOW,
            ),
            _row(
                "SeparableConv{}",
                rank,
                "channels_first",
                FIRST[rank],
                filters=3,
                kernel_size=2,
                data_format="channels_first",
                rows_backends=NOT_TENSORFLOW,
            ),
            _row(
                "Conv{}Transpose",
                rank,
                "channels_first",
                FIRST[rank],
                filters=3,
                kernel_size=3,
                strides=2,
                padding="same",
                data_format="channels_first",
                rows_backends=NOT_TENSORFLOW,
            ),
            _row(
                "Conv{}Transpose",
                rank,
                "dilated",
                filters=3,
                kernel_size=2,
                dilation_rate=2,
                rows_backends=NOT_TENSORFLOW,
            ),
        )
    ],
    _row("Conv1D", 1, "causal", filters=3, kernel_size=3, padding="causal", dilation_rate=2),
    _row("Conv2D", 2, "rectangle", filters=3, kernel_size=(1, 3), strides=(2, 1)),
    _row(
        "Conv2D", 2, "lora_dilated", filters=3, kernel_size=3, dilation_rate=(2, 1), lora_rank=2, lora_alpha=3
    ),
]
