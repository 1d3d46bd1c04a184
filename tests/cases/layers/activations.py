"""Activations that are layers."""

from __future__ import annotations

from functools import partial

import keras
from cases.layers import LayerCase, mask, x
from keras import layers

NAMES = [
    name
    for name, function in sorted(vars(keras.activations).items())
    if callable(function) and name not in ("get", "serialize", "deserialize", "threshold")
]
"""Every function that ``activation="..."`` can name; ``threshold`` has arguments without which it does not run."""

CASES = [
    *(LayerCase("Activation", partial(layers.Activation, name), variant=name) for name in NAMES),
    *(
        LayerCase("Activation", partial(layers.Activation, function), variant=variant)
        for variant, function in {
            "relu with options": lambda a: keras.activations.relu(a, 0.1, 1.5, 0.2),
            "gelu of tanh": lambda a: keras.activations.gelu(a, approximate=True),
            "threshold": lambda a: keras.activations.threshold(a, 0.3, -1.0),
            "glu of time": lambda a: keras.activations.glu(keras.ops.transpose(a, (0, 2, 1)), axis=1),
            "leaky_relu steep": lambda a: keras.activations.leaky_relu(a, negative_slope=0.4),
            "elu of alpha": lambda a: keras.activations.elu(a, alpha=0.3),
            "celu of alpha": lambda a: keras.activations.celu(a, alpha=0.3),
            "soft_shrink of 0.2": lambda a: keras.activations.soft_shrink(a, 0.2),
            "hard_shrink of 0.2": lambda a: keras.activations.hard_shrink(a, 0.2),
        }.items()
    ),
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
