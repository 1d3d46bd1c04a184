"""Layers that only do something in training: at inference their inputs pass."""

from __future__ import annotations

from cases.layers import LayerCase, x
from keras import layers

CASES = [
    LayerCase("ActivityRegularization", lambda: layers.ActivityRegularization(l1=0.1, l2=0.1)),
    LayerCase("AlphaDropout", lambda: layers.AlphaDropout(0.5)),
    LayerCase("Dropout", lambda: layers.Dropout(0.5)),
    LayerCase("Dropout", lambda: layers.Dropout(0.5, noise_shape=(None, 1, 4)), variant="noise_shape"),
    LayerCase("GaussianDropout", lambda: layers.GaussianDropout(0.5)),
    LayerCase("GaussianNoise", lambda: layers.GaussianNoise(0.5)),
    LayerCase("SpatialDropout1D", lambda: layers.SpatialDropout1D(0.5)),
    LayerCase("SpatialDropout2D", lambda: layers.SpatialDropout2D(0.5), (x("b", "h", "w", 3),)),
    LayerCase("SpatialDropout3D", lambda: layers.SpatialDropout3D(0.5), (x("b", "t", "h", "w", 2),)),
]
