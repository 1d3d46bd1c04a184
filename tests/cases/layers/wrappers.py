"""Layers around layers: one application a time step, and recurrent convolutions."""

from __future__ import annotations

from typing import Any

import keras
from cases.layers import LayerCase, mask, x
from keras import layers, ops

FRAMES = (x("b", "t", "h", "w", 2),)
SCAN = {"holds": ("Scan",), "lacks": ("Loop",)}


def _sequential(*children: Any) -> Any:
    return lambda: layers.TimeDistributed(keras.Sequential([child() for child in children]))


class Weighted(layers.Layer):
    """A layer that takes a mask and reads sizes."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        weight = ops.ones_like(inputs[:, :, 0]) if mask is None else ops.cast(mask, "float32")
        return ops.sum(inputs * weight[:, :, None], axis=1) / ops.cast(ops.shape(inputs)[1], "float32")

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], *shape[2:])


def _lstm(rank: int, **options: Any) -> Any:
    cls = getattr(layers, f"ConvLSTM{rank}D")
    return lambda: cls(2, 2, **options)


# Keras wants fixed sizes in space here.
CONV = {1: (x("b", "t", 5, 2),), 2: (x("b", "t", 5, 4, 2),), 3: (x("b", "t", 4, 3, 5, 2),)}

CASES = [
    LayerCase("TimeDistributed", lambda: layers.TimeDistributed(layers.Dense(3))),
    LayerCase("TimeDistributed", lambda: layers.TimeDistributed(layers.Dense(3)), (x("b", 5, 4),), "static"),
    LayerCase("TimeDistributed", lambda: layers.TimeDistributed(layers.Conv2D(3, 2)), FRAMES, "convolution"),
    LayerCase(
        "TimeDistributed",
        _sequential(lambda: layers.Conv2D(3, 2), layers.BatchNormalization, layers.GlobalMaxPooling2D),
        FRAMES,
        "model",
    ),
    LayerCase(
        "TimeDistributed", lambda: layers.TimeDistributed(layers.LSTM(3)), (x("b", "t", "n", 4),), "recurrent"
    ),
    LayerCase(
        "TimeDistributed", lambda: layers.TimeDistributed(layers.Flatten()), (x("b", "t", "n", 4),), "flatten"
    ),
    LayerCase(
        "TimeDistributed",
        lambda: layers.TimeDistributed(layers.Embedding(10, 3)),
        (x("b", "t", "n", dtype="int32", low=0, high=9),),
        "embedding",
    ),
    LayerCase(
        "TimeDistributed",
        lambda: layers.TimeDistributed(layers.Dense(3)),
        (x("b", "t", 4), mask("b", "t")),
        "mask",
        call=lambda layer, a, m: layers.GlobalAveragePooling1D()(layer(a, mask=m), mask=m),
    ),
    LayerCase(
        "TimeDistributed",
        lambda: layers.TimeDistributed(Weighted()),
        (x("b", "t", "n", 4), x("b", "t", "n", dtype="bool")),
        "mask_inside",
        call=lambda layer, a, m: layer(a, mask=m),
        **SCAN,  # nobody knows whether a layer of one's own mixes examples
    ),
    LayerCase(
        "TimeDistributed",
        lambda: layers.TimeDistributed(layers.TimeDistributed(layers.Dense(3))),
        (x("b", "t", "n", 4),),
        "nested",
    ),
    *[
        row
        for rank in (1, 2, 3)
        for row in (
            LayerCase(f"ConvLSTM{rank}D", _lstm(rank), CONV[rank], **SCAN),
            LayerCase(
                f"ConvLSTM{rank}D",
                _lstm(rank, padding="same", return_sequences=True, return_state=True, go_backwards=True),
                CONV[rank],
                "same",
                **SCAN,
            ),
            LayerCase(
                f"ConvLSTM{rank}D",
                _lstm(rank, return_sequences=True),
                (*CONV[rank], mask("b", "t")),
                "mask",
                call=lambda layer, a, m: layer(a, mask=m),
                backends=(
                    "tensorflow",
                    "torch",
                ),  # JAX's loop broadcasts the mask against the channels, and fails
                **SCAN,
            ),
        )
    ],
    LayerCase(
        "ConvLSTM2D", _lstm(2, strides=2, dropout=0.2, recurrent_dropout=0.2), CONV[2], "strided", **SCAN
    ),
    LayerCase(
        "Bidirectional",
        lambda: layers.Bidirectional(layers.ConvLSTM2D(2, 2, return_sequences=True)),
        CONV[2],
        "convolution",
        **SCAN,
    ),
]
