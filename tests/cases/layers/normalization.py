"""Normalisation by stored or measured statistics."""

from __future__ import annotations

from cases.layers import LayerCase, mask, x
from keras import layers

IMAGE = (x("b", "h", "w", 6),)

CASES = [
    LayerCase("BatchNormalization", layers.BatchNormalization, (x("b", 4),)),
    LayerCase("BatchNormalization", layers.BatchNormalization, IMAGE, "image"),
    LayerCase("BatchNormalization", layers.BatchNormalization, variant="time"),
    LayerCase(
        "BatchNormalization", lambda: layers.BatchNormalization(axis=1), (x("b", 4, "h", "w"),), "axis"
    ),
    LayerCase("BatchNormalization", lambda: layers.BatchNormalization(scale=False), IMAGE, "no_scale"),
    LayerCase(
        "BatchNormalization", lambda: layers.BatchNormalization(center=False, scale=False), IMAGE, "bare"
    ),
    LayerCase(
        "BatchNormalization",
        layers.BatchNormalization,
        (x("b", "t", 4), mask("b", "t")),
        "mask",
        call=lambda layer, a, m: layer(a, mask=m),
    ),
    LayerCase("LayerNormalization", layers.LayerNormalization, holds=("LayerNormalization",)),
    LayerCase(
        "LayerNormalization", lambda: layers.LayerNormalization(axis=[-2, -1]), (x("b", "t", 3, 4),), "axes"
    ),
    LayerCase(
        "LayerNormalization",
        lambda: layers.LayerNormalization(axis=1),
        (x("b", 4, "t"),),
        "axis",
        backends=("jax", "tensorflow"),  # PyTorch's eager layer takes the last axes only
    ),
    LayerCase(
        "LayerNormalization", lambda: layers.LayerNormalization(center=False, scale=False), variant="bare"
    ),
    LayerCase("LayerNormalization", lambda: layers.LayerNormalization(scale=False), variant="no_scale"),
    LayerCase("GroupNormalization", lambda: layers.GroupNormalization(3), IMAGE),
    LayerCase("GroupNormalization", lambda: layers.GroupNormalization(-1), IMAGE, "instance"),
    LayerCase("GroupNormalization", lambda: layers.GroupNormalization(1), variant="one"),
    LayerCase(
        "GroupNormalization", lambda: layers.GroupNormalization(2, axis=1), (x("b", 4, "h", "w"),), "axis"
    ),
    LayerCase(
        "GroupNormalization", lambda: layers.GroupNormalization(2, center=False, scale=False), variant="bare"
    ),
    LayerCase("RMSNormalization", layers.RMSNormalization),
    LayerCase("UnitNormalization", layers.UnitNormalization),
    LayerCase("UnitNormalization", lambda: layers.UnitNormalization(axis=1), variant="axis"),
    LayerCase("UnitNormalization", lambda: layers.UnitNormalization(axis=[1, 2]), variant="axes"),
    LayerCase("SpectralNormalization", lambda: layers.SpectralNormalization(layers.Dense(3))),
    LayerCase(
        "SpectralNormalization",
        lambda: layers.SpectralNormalization(layers.Conv2D(3, 2), power_iterations=2),
        IMAGE,
        "convolution",
    ),
]
