"""What one model has as parameters and the other has not: a bias before a normalisation that subtracts a mean."""

from __future__ import annotations

from typing import Any

import keras
from cases.transfers import Pair

L = keras.layers


def bias(nn: Any) -> tuple[Any, Any]:
    """In Keras before both normalisations, in PyTorch before none: what it adds is part of the mean."""
    layers = [L.Conv2D(6, 3), L.BatchNormalization(epsilon=1e-5), L.ReLU(), L.Conv2D(4, 1)]
    norms = [nn.BatchNorm2d(6), nn.BatchNorm2d(4)]
    convs = [nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 4, 1, bias=False)]
    body = [convs[0], norms[0], nn.ReLU(), convs[1], norms[1]]
    return (
        keras.Sequential([keras.Input((8, 8, 3)), *layers, L.BatchNormalization(epsilon=1e-5)]),
        nn.Sequential(*body),
    )


PAIRS = [Pair("bias before a norm", bias, first=True, quick=True)]
