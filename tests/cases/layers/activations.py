"""Activations that are layers."""

from __future__ import annotations

from cases.layers import LayerCase, mask, x
from keras import layers

CASES = [
    LayerCase("ELU", lambda: layers.ELU(alpha=0.7)),
    LayerCase("LeakyReLU", lambda: layers.LeakyReLU(negative_slope=0.2)),
    LayerCase("PReLU", layers.PReLU, (x("b", 4, 3),)),
    LayerCase("PReLU", lambda: layers.PReLU(shared_axes=[1]), variant="shared_axes"),
    LayerCase("PReLU", lambda: layers.PReLU(shared_axes=[1, 2]), (x("b", "h", "w", 3),), "image"),
    LayerCase("ReLU", layers.ReLU),
    LayerCase(
        "ReLU", lambda: layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2), variant="options"
    ),
    LayerCase("Softmax", layers.Softmax),
    LayerCase("Softmax", lambda: layers.Softmax(axis=1), variant="axis"),
    LayerCase("Softmax", lambda: layers.Softmax(axis=[1, 2]), variant="axes"),
    LayerCase(
        "Softmax",
        layers.Softmax,
        (x("b", "t"), mask("b", "t")),
        "mask",
        call=lambda layer, a, m: layer(a, mask=m),
    ),
]
