"""``python -m tools.legacy_fixtures.traced FOLDER``: SavedModels with traced functions and without Keras' metadata.

Of tf_keras models (``tf.saved_model.save``, which leaves it out), of Keras 3 models (``export``), and of a
``tf.Module``. Runs where TensorFlow, tf_keras and Keras 3 are installed. Beside every folder lies ``NAME.npz``: the
inputs by name, and what the signature computes from them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

from tools.legacy_fixtures import graphs, layers, training


def trained(name: str) -> Callable[[], Any]:
    """With an optimizer that has slots."""

    def build() -> Any:
        model = training.OPTIMIZERS[name]()
        x = np.ones((2, *model.input_shape[1:]), "float32")
        model.train_on_batch(x, np.ones_like(model(x)))
        return model

    return build


LAYERS = {name: build for family in layers.FAMILIES for name, build in family.items()}
OLD: dict[str, Callable[[], Any]] = {
    "convnet": graphs.STRUCTURES["convnet"],
    "shared": graphs.STRUCTURES["shared"],
    "adam": training.OPTIMIZERS["adam"],
    "legacy_adam": trained("legacy_adam"),
    "lstm": LAYERS["lstm"],
    "multi_head_attention": LAYERS["multi_head_attention"],
}


def exported_convnet() -> Any:
    """A Functional model of Keras 3 that was trained, with statistics and a seed."""
    x = keras.Input((6, 6, 3), name="x")
    y = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    y = keras.layers.BatchNormalization(name="norm")(y)
    y = keras.layers.Dropout(0.5)(keras.layers.MaxPooling2D()(y))
    model = keras.Model(
        x, keras.layers.Dense(3, activation="softmax", name="head")(keras.layers.Flatten()(y))
    )
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.random((8, 6, 6, 3), "float32"), rng.random((8, 3), "float32"), verbose=0)
    return model


def exported_two() -> Any:
    """Two inputs and two outputs, by name."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    y = keras.layers.Dense(3, name="left")(a) * keras.layers.Dense(3, name="right")(b)
    return keras.Model({"a": a, "b": b}, {"product": y, "scaled": keras.layers.Dense(2, name="last")(y)})


class Module(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Variables in attributes and lists, without names of their own."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        sizes = [(4, 5), (5, 3)]
        self.kernels = [tf.Variable(rng.standard_normal(size).astype("float32")) for size in sizes]
        self.biases = {str(i): tf.Variable(rng.random(size[1], "float32")) for i, size in enumerate(sizes)}
        self.counted = tf.Variable(0, trainable=False)

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def run(self, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # TensorFlow would read the types
        """Two layers."""
        for i, kernel in enumerate(self.kernels):
            x = tf.nn.tanh(x @ kernel + self.biases[str(i)])
        return x


def main(folder: Path) -> None:
    """Write every fixture into `folder`."""
    for name, build in OLD.items():
        tf.random.set_seed(0)
        model = build()
        write(folder / f"keras_2_{name}", partial(tf.saved_model.save, model))
    for name, make in {"convnet": exported_convnet, "two": exported_two}.items():
        keras.utils.set_random_seed(0)
        exported = make()
        write(folder / f"keras_3_{name}", partial(exported.export, verbose=False))
    module = Module()
    write(folder / "module", partial(tf.saved_model.save, module, signatures=module.run))


def write(path: Path, save: Callable[[str], Any]) -> None:
    """Save one, packed as a zip, and write down what it answers."""
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as kept:
        save(made)
        shutil.copytree(
            made, kept, ignore=shutil.ignore_patterns("fingerprint.pb", "assets"), dirs_exist_ok=True
        )
        if Path(kept, "keras_metadata.pb").exists():
            raise SystemExit(f"{path} has metadata of Keras")
        shutil.make_archive(str(path), "zip", kept)
        run = tf.saved_model.load(kept).signatures["serving_default"]
        rng = np.random.default_rng(7)
        inputs = {
            name: rng.standard_normal([size or 2 for size in spec.shape]).astype("float32")
            for name, spec in run.structured_input_signature[1].items()
        }
        answers = run(**{name: tf.constant(value) for name, value in inputs.items()})
        arrays = {f"input/{name}": value for name, value in inputs.items()}
        arrays |= {f"output/{name}": value.numpy() for name, value in answers.items()}
        np.savez_compressed(path.with_name(f"{path.name}.npz"), allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
