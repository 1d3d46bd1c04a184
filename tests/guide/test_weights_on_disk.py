"""Keras' guide, "APIs for saving weights to disk": every format."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop

X = np.random.default_rng(0).random((3, 784), "float32")


def perceptron():
    inputs = keras.Input((784,), name="digits")
    x = keras.layers.Dense(64, activation="relu", name="dense_1")(inputs)
    x = keras.layers.Dense(64, activation="relu", name="dense_2")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="predictions")(x), name="3_layer_mlp")


def answers(model):
    return keras.ops.convert_to_numpy(model(X))


@pytest.mark.parametrize("name", ["ckpt", "w.h5", "w.weights.h5", "w.safetensors", "w.npz", "w.interop"])
def test_save_and_load(tmp_path, name):
    saved, fresh = perceptron(), perceptron()
    assert not np.array_equal(answers(saved), answers(fresh))
    interop.save_weights(saved, tmp_path / name)
    status = interop.load_weights(fresh, tmp_path / name)
    status.assert_consumed().assert_existing_objects_matched()
    assert np.array_equal(answers(saved), answers(fresh))
    assert len(status.loaded) == 6


def sequential():
    return keras.Sequential(
        [
            keras.Input((784,), name="digits"),
            keras.layers.Dense(64, activation="relu", name="dense_1"),
            keras.layers.Dense(64, activation="relu", name="dense_2"),
            keras.layers.Dense(10, name="predictions"),
        ]
    )


# A Functional counts its inputs among its layers, a Sequential does not.
@pytest.mark.parametrize("before", [sequential, perceptron])
@pytest.mark.parametrize("after", [sequential, perceptron])
def test_sequential_and_functional(tmp_path, before, after):
    saved, fresh = before(), after()
    interop.save_weights(saved, tmp_path / "ckpt")
    interop.load_weights(fresh, tmp_path / "ckpt").assert_consumed()
    assert np.array_equal(answers(saved), answers(fresh))
