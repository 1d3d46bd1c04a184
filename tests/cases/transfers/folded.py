"""Layers with a normalisation after them, and those into which it was folded."""

from __future__ import annotations

from typing import Any

import keras
from cases.transfers import Pair

L = keras.layers


def _layers(*, normalised: bool, epsilon: float = 1e-3) -> list[Any]:
    """Every kind of layer, with a bias and without one, before normalisations with and without scale and offset."""

    def norm(**options: Any) -> list[Any]:
        return [L.BatchNormalization(epsilon=epsilon, **options)] if normalised else []

    bias = {"use_bias": not normalised}
    return [
        keras.Input((12, 10, 3)),
        *(L.Conv2D(4, 3, **bias), *norm(), L.ReLU()),
        *(L.DepthwiseConv2D(3, depth_multiplier=2), *norm(scale=False)),
        *(L.Conv2DTranspose(6, 3, **bias), *norm(center=False)),
        *(L.Conv2D(8, 3, groups=2), *norm(), L.ReLU()),
        *(L.Conv2D(6, 1, **bias), *norm()),
        *(L.Flatten(), L.Dense(5, **bias), *norm(), L.Dense(3)),
    ]


def _body(nn: Any, *, normalised: bool) -> list[Any]:
    def norm(count: int) -> list[Any]:
        return [nn.BatchNorm2d(count)] if normalised else []

    bias = not normalised
    return [
        *(nn.Conv2d(3, 4, 3, bias=bias), *norm(4), nn.ReLU()),
        *(nn.Conv2d(4, 8, 3, groups=4), *norm(8)),
        *(nn.ConvTranspose2d(8, 6, 3, bias=bias), *norm(6)),
        *(nn.Conv2d(6, 8, 3, groups=2), *norm(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, 1, bias=bias), *norm(6)),
        *(nn.Flatten(), nn.Linear(6 * 8 * 6, 5, bias=bias), *([nn.BatchNorm1d(5)] if normalised else [])),
        nn.Linear(5, 3),
    ]


def into_torch(nn: Any) -> tuple[Any, Any]:
    return keras.Sequential(_layers(normalised=False)), nn.Sequential(*_body(nn, normalised=True))


def into_keras(nn: Any) -> tuple[Any, Any]:
    return keras.Sequential(_layers(normalised=True)), nn.Sequential(*_body(nn, normalised=False))


def grouped_transposed(nn: Any) -> tuple[Any, Any]:
    """Both in PyTorch: Keras has no such layer."""
    plain = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 4, 3, 2, groups=2), nn.ReLU())
    norm = nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.ConvTranspose2d(6, 4, 3, 2, groups=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
    )
    return plain, norm


def some_of_them(nn: Any) -> tuple[Any, Any]:
    """One of two is folded, one layer is used twice, and what one side does not fold keeps its statistics."""

    def model(*, normalised: bool) -> Any:
        inputs = [keras.Input((9, 8, 3)), keras.Input((9, 8, 3))]
        stem, scaled = L.Conv1D(6, 3, use_bias=not normalised), L.Dense(5)
        norm = [L.BatchNormalization(), L.BatchNormalization()]

        def shared(x: Any) -> Any:
            y = stem(keras.ops.reshape(x, (-1, 72, 3)))
            return norm[1](scaled(L.ReLU()(norm[0](y) if normalised else y)))

        one, other = map(shared, inputs)
        return keras.Model(inputs, keras.ops.abs(one - 2 * other))

    return model(normalised=False), model(normalised=True)


def adapted(nn: Any) -> tuple[Any, Any]:
    """Constants that layers derive from variables: statistics of the last axis and of another, and back from them."""

    def model() -> Any:
        made = [
            L.Normalization(),
            L.Dense(6, "tanh"),
            L.Normalization(axis=1),
            L.Dense(4),
            L.Normalization(invert=True),
        ]
        return keras.Sequential([keras.Input((5, 3)), *made])

    return model(), model()


PAIRS = [
    Pair("normalisations folded, PyTorch has them", into_torch, first=True, quick=True),
    Pair("normalisations folded, Keras has them", into_keras, first=True, quick=True),
    Pair("normalisation folded, grouped transposed", grouped_transposed, shapes=((3, 7, 6),),
         signatures={"one": [(None, 3, 7, 6)]}),
    Pair("normalisations folded, some of them", some_of_them, quick=True),
    Pair("normalisations of what was adapted", adapted, quick=True),
]  # fmt: skip
