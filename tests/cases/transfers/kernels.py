"""Convolutions of every kind, one at a time and one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from cases.transfers import Pair

L = keras.layers


def _chain(
    shape: tuple[int, ...], keras_layers: Callable[[], list[Any]], torch_layers: Callable[[Any], list[Any]]
):  # type: ignore[no-untyped-def]
    def make(nn: Any) -> tuple[Any, Any]:
        return keras.Sequential([keras.Input(shape), *keras_layers()]), nn.Sequential(*torch_layers(nn))

    return make


def separable(nn: Any) -> tuple[Any, Any]:
    """One layer in Keras, two in PyTorch."""
    layers = [nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.Conv2d(8, 5, 1), nn.ReLU()]
    model = keras.Sequential(
        [
            keras.Input((9, 10, 4)),
            L.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu"),
            L.Conv2D(3, 1),
        ]
    )
    return model, nn.Sequential(*layers, nn.Conv2d(5, 3, 1))


PAIRS = [
    Pair("depthwise", _chain((9, 10, 4), lambda: [L.DepthwiseConv2D(3, 2, depth_multiplier=3), L.Conv2D(5, 2)],
         lambda nn: [nn.Conv2d(4, 12, 3, 2, groups=4), nn.Conv2d(12, 5, 2)]), first=True),
    Pair("depthwise 1d", _chain((12, 4), lambda: [L.DepthwiseConv1D(3, depth_multiplier=2), L.Conv1D(5, 2)],
         lambda nn: [nn.Conv1d(4, 8, 3, groups=4), nn.Conv1d(8, 5, 2)]), first=True),
    Pair("grouped", _chain((9, 10, 6), lambda: [L.Conv2D(12, 3, groups=3, dilation_rate=2), L.Conv2D(4, 3, groups=2)],
         lambda nn: [nn.Conv2d(6, 12, 3, groups=3, dilation=2), nn.Conv2d(12, 4, 3, groups=2)]), first=True),
    Pair("separable", separable, first=True),
    Pair("transposed 1d", _chain((8, 4), lambda: [L.Conv1DTranspose(6, 3, 2), L.Conv1DTranspose(3, 3)],
         lambda nn: [nn.ConvTranspose1d(4, 6, 3, 2), nn.ConvTranspose1d(6, 3, 3)]), first=True),
    Pair("transposed 2d", _chain((6, 5, 4), lambda: [L.Conv2DTranspose(6, 3, 2), L.Conv2DTranspose(3, (2, 3))],
         lambda nn: [nn.ConvTranspose2d(4, 6, 3, 2), nn.ConvTranspose2d(6, 3, (2, 3))]), first=True),
    Pair("transposed 3d", _chain((3, 4, 5, 2), lambda: [L.Conv3DTranspose(3, 2, 2), L.Conv3D(4, (1, 2, 3))],
         lambda nn: [nn.ConvTranspose3d(2, 3, 2, 2), nn.Conv3d(3, 4, (1, 2, 3))]), first=True),
    Pair("grouped 1d", _chain((12, 6), lambda: [L.Conv1D(8, 3, groups=2), L.Conv1D(4, 1)],
         lambda nn: [nn.Conv1d(6, 8, 3, groups=2), nn.Conv1d(8, 4, 1)]), first=True),
    Pair("grouped 3d", _chain((5, 6, 7, 4), lambda: [L.Conv3D(8, 2, 2, groups=2), L.Conv3D(4, 1)],
         lambda nn: [nn.Conv3d(4, 8, 2, 2, groups=2), nn.Conv3d(8, 4, 1)]), first=True),
]  # fmt: skip
