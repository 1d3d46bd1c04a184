"""Layers that draw random numbers where they train: what they draw, as mean and deviation of every element."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras
from tf_keras import layers as L

DRAWS = 2000

Row = tuple[tuple[int, ...], Callable[[], Any]]

DRAWN: dict[str, Row] = {
    "dropout": ((4, 6), lambda: L.Dropout(0.3, noise_shape=(None, 1, 6))),
    "spatial_dropout": ((2, 3, 4), lambda: L.SpatialDropout2D(0.4, data_format="channels_first")),
    "alpha_dropout": ((20,), lambda: L.AlphaDropout(0.3)),
    "gaussian_dropout": ((20,), lambda: L.GaussianDropout(0.4)),
    "noise": ((20,), lambda: L.GaussianNoise(0.7)),
    "strong_noise": ((20,), lambda: L.GaussianNoise(5.0)),
    "flip": ((4, 5, 2), lambda: L.RandomFlip("horizontal_and_vertical", seed=3)),
    "flip_vertical": ((4, 5, 2), lambda: L.RandomFlip("vertical")),
    "contrast": ((4, 5, 2), lambda: L.RandomContrast(0.4)),
    "contrast_pair": ((4, 5, 2), lambda: L.RandomContrast((0.2, 0.7))),
    "brightness": ((4, 5, 2), lambda: L.RandomBrightness((-0.1, 0.3), value_range=(0, 1))),
    "rotation": ((6, 6, 2), lambda: L.RandomRotation(0.1)),
    "zoom": ((6, 6, 2), lambda: L.RandomZoom((-0.1, 0.4), 0.2)),
    "translation": ((6, 6, 2), lambda: L.RandomTranslation(0.3, (-0.2, 0.1), fill_mode="constant")),
}


def write(path: Path, shape: tuple[int, ...], make: Callable[[], Any]) -> None:
    """Write the model's JSON, and beside it a sample and the moments of what becomes of it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(len(path.stem))
    x = keras.Input(shape, name="x")
    model = keras.Model(x, make()(x))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(model.to_json())
    sample = np.random.default_rng(7).uniform(0.2, 0.8, (1, *shape)).astype("float32")
    drawn = np.concatenate([model(sample, training=True).numpy() for _ in range(DRAWS)])
    np.savez_compressed(
        path.with_name(f"{path.name}.npz"), input=sample, mean=drawn.mean(0), deviation=drawn.std(0)
    )
