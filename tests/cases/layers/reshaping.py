"""Cropping, padding, repeating and reordering."""

from __future__ import annotations

from cases.layers import LayerCase, x
from keras import layers

IMAGE, FIRST = (x("b", "h", "w", 3),), (x("b", 3, "h", "w"),)
VOLUME, VOLUME_FIRST = (x("b", "t", "h", "w", 2),), (x("b", 2, "t", "h", "w"),)

# PyTorch has no Lanczos interpolation.
CASES = [
    LayerCase("Cropping1D", lambda: layers.Cropping1D((1, 2))),
    LayerCase("Cropping1D", lambda: layers.Cropping1D((1, 0)), variant="one_side"),
    LayerCase("Cropping2D", lambda: layers.Cropping2D(((1, 2), (0, 3))), IMAGE),
    LayerCase(
        "Cropping2D", lambda: layers.Cropping2D(2, data_format="channels_first"), FIRST, "channels_first"
    ),
    LayerCase("Cropping3D", lambda: layers.Cropping3D(((1, 0), (2, 1), (0, 2))), VOLUME),
    LayerCase(
        "Cropping3D",
        lambda: layers.Cropping3D(1, data_format="channels_first"),
        VOLUME_FIRST,
        "channels_first",
    ),
    LayerCase("Flatten", layers.Flatten, (x("b", 3, 4),)),
    LayerCase("Flatten", layers.Flatten, variant="dynamic"),
    LayerCase("Flatten", layers.Flatten, (x("b"),), "vector"),
    LayerCase("Flatten", lambda: layers.Flatten(data_format="channels_first"), FIRST, "channels_first"),
    LayerCase("Permute", lambda: layers.Permute((2, 1))),
    LayerCase("Permute", lambda: layers.Permute((3, 1, 2)), IMAGE, "image"),
    LayerCase("RepeatVector", lambda: layers.RepeatVector(3), (x("b", 4),)),
    LayerCase("RepeatVector", lambda: layers.RepeatVector(2), (x("b", "n"),), "dynamic"),
    LayerCase("Reshape", lambda: layers.Reshape((2, 6)), (x("b", 3, 4),)),
    LayerCase("Reshape", lambda: layers.Reshape((-1, 2)), variant="open"),
    LayerCase("Reshape", lambda: layers.Reshape((2, -1, 2)), variant="open_middle"),
    LayerCase("Reshape", lambda: layers.Reshape((-1,)), IMAGE, "flat"),
    LayerCase("UpSampling1D", lambda: layers.UpSampling1D(3)),
    *[
        LayerCase(
            "UpSampling2D",
            lambda mode=mode: layers.UpSampling2D((2, 3), interpolation=mode),
            IMAGE,
            "" if mode == "nearest" else mode,
            backends=("jax", "tensorflow") if "lanczos" in mode else ("jax", "tensorflow", "torch"),
        )
        for mode in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
    ],
    LayerCase(
        "UpSampling2D", lambda: layers.UpSampling2D(2, data_format="channels_first"), FIRST, "channels_first"
    ),
    LayerCase("UpSampling3D", lambda: layers.UpSampling3D((1, 2, 3)), VOLUME),
    LayerCase(
        "UpSampling3D",
        lambda: layers.UpSampling3D(2, data_format="channels_first"),
        VOLUME_FIRST,
        "channels_first",
    ),
    LayerCase("ZeroPadding1D", lambda: layers.ZeroPadding1D((1, 2))),
    LayerCase("ZeroPadding2D", lambda: layers.ZeroPadding2D(((1, 2), (0, 3))), IMAGE),
    LayerCase(
        "ZeroPadding2D",
        lambda: layers.ZeroPadding2D(2, data_format="channels_first"),
        FIRST,
        "channels_first",
    ),
    LayerCase("ZeroPadding3D", lambda: layers.ZeroPadding3D(((1, 0), (2, 1), (0, 2))), VOLUME),
    LayerCase(
        "ZeroPadding3D",
        lambda: layers.ZeroPadding3D(1, data_format="channels_first"),
        VOLUME_FIRST,
        "channels_first",
    ),
]
