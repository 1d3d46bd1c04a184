"""Pooling over windows, over everything, and to a given size."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases.layers import LayerCase, mask, x
from keras import layers


def _spread(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Examples whose largest values differ."""
    return rng.uniform(-1, 1, shape) * rng.uniform(1, 4, (shape[0], *[1] * (len(shape) - 1)))


def _inputs(*shape: int | str) -> tuple[Any, ...]:
    return (x(*shape, make=_spread),)


SERIES, IMAGE, VOLUME = _inputs("b", "t", 3), _inputs("b", "h", "w", 3), _inputs("b", "t", "h", "w", 2)
INPUTS = {1: SERIES, 2: IMAGE, 3: VOLUME}
FIRST = {1: _inputs("b", 3, "t"), 2: _inputs("b", 3, "h", "w"), 3: _inputs("b", 2, "t", "h", "w")}
# An adaptive pool of a dynamic size has windows that depend on it; Keras computes them when the layer is traced.
FIXED = {1: _inputs("b", 7, 3), 2: _inputs("b", 7, 10, 3), 3: _inputs("b", 4, 7, 5, 2)}


def _pool(name: str, rank: int, variant: str, inputs: Any = None, **options: Any) -> LayerCase:
    cls = getattr(layers, f"{name}{rank}D")
    return LayerCase(f"{name}{rank}D", lambda: cls(**options), inputs or INPUTS[rank], variant)


CASES = [
    *[
        row
        for name in ("AveragePooling", "MaxPooling")
        for rank in (1, 2, 3)
        for row in (
            _pool(name, rank, "", pool_size=2),
            _pool(name, rank, "same", pool_size=3, strides=2, padding="same"),
            _pool(name, rank, "overlap", pool_size=3, strides=1),
            _pool(name, rank, "gaps", pool_size=2, strides=3),
            _pool(name, rank, "same_gaps", pool_size=2, strides=3, padding="same"),
            _pool(name, rank, "channels_first", FIRST[rank], pool_size=2, data_format="channels_first"),
        )
    ],
    *[
        row
        for name in ("GlobalAveragePooling", "GlobalMaxPooling")
        for rank in (1, 2, 3)
        for row in (
            _pool(name, rank, ""),
            _pool(name, rank, "keepdims", keepdims=True),
            _pool(name, rank, "channels_first", FIRST[rank], data_format="channels_first"),
        )
    ],
    LayerCase(
        "GlobalAveragePooling1D",
        layers.GlobalAveragePooling1D,
        (x("b", "t", 3), mask("b", "t")),
        "mask",
        call=lambda layer, a, m: layer(a, mask=m),
    ),
    *[
        row
        for name in ("AdaptiveAveragePooling", "AdaptiveMaxPooling")
        for rank in (1, 2, 3)
        for row in (
            _pool(name, rank, "", FIXED[rank], output_size=3),
            _pool(name, rank, "one", output_size=1),
        )
    ],
    _pool("AdaptiveAveragePooling", 2, "dynamic", output_size=(3, 2)),
    _pool("AdaptiveMaxPooling", 1, "dynamic", output_size=4),
]
