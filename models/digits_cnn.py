"""Trains the demo's model: a small CNN on scikit-learn's 1,797 handwritten digits.

    KERAS_BACKEND=jax python models/digits_cnn.py

writes ``digits_cnn.keras`` (with its optimizer) and ``digits.npz`` (uint8 images of 8 x 8 pixels
from 0 to 16, with labels: ``train_images``, ``train_labels``, ``held_out_images``,
``held_out_labels``) beside this file. Both are committed; only this script needs scikit-learn.
Weights are the same on every run on one machine.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).parent
MODEL_PATH = HERE / "digits_cnn.keras"
DATA_PATH = HERE / "digits.npz"
HELD_OUT = 360  # 20 %
EPOCHS = 20


def write_digits(path: Path = DATA_PATH) -> None:
    """Split the images by a seeded permutation and write them as uint8."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images = digits.images[order].astype("uint8")
    labels = digits.target[order].astype("uint8")
    np.savez_compressed(
        path,
        train_images=images[HELD_OUT:],
        train_labels=labels[HELD_OUT:],
        held_out_images=images[:HELD_OUT],
        held_out_labels=labels[:HELD_OUT],
    )


def load_digits_split(path: Path = DATA_PATH) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return (images, labels) to train on and held out: float32 ``(n, 8, 8, 1)`` and int32 ``(n,)``."""
    with np.load(path) as data:
        return tuple(
            (data[f"{part}_images"][..., None].astype("float32"), data[f"{part}_labels"].astype("int32"))
            for part in ("train", "held_out")
        )


def digits_cnn() -> keras.Model:
    """Images of shape (8, 8, 1) with pixels from 0 to 16 in, ten probabilities out."""
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Rescaling(1 / 16, name="unit_range")(image)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv_1")(x)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv_2")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Conv2D(32, 3, activation="relu", name="conv_3")(x)
    x = layers.Flatten(name="flat")(x)
    digit = layers.Dense(10, activation="softmax", name="digit")(x)
    return keras.Model(image, digit, name="digits_cnn")


def train() -> keras.Model:
    """Train from a fixed seed for a few seconds."""
    keras.utils.set_random_seed(0)
    (images, labels), held_out = load_digits_split()
    model = digits_cnn()
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=64, epochs=EPOCHS, validation_data=held_out, verbose=2)
    return model


def save(model: keras.Model, path: Path = MODEL_PATH) -> None:
    """Write the model so that each backend decides by itself whether to compile its training.

    Keras saves what ``jit_compile="auto"`` meant where the model was made, and torch would obey.
    """
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members.items():
            if info.filename == "config.json":
                config = json.loads(content)
                config["compile_config"]["jit_compile"] = "auto"
                content = json.dumps(config).encode()
            archive.writestr(info, content)


if __name__ == "__main__":
    write_digits()
    save(train())
    for written in (MODEL_PATH, DATA_PATH):
        print(f"wrote {written.name} ({written.stat().st_size} B)")
