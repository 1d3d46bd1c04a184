"""Keras' guide, the trap of HDF5: a nested layer's `trainable` reorders ``weights``; files are read by name."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop


class NestedDenseLayer(keras.layers.Layer):
    def __init__(self, units: int, name: str):
        super().__init__(name=name)
        self.dense_1 = keras.layers.Dense(units, name="dense_1")
        self.dense_2 = keras.layers.Dense(units, name="dense_2")

    def call(self, x):
        return self.dense_2(self.dense_1(x))


def nested():
    return keras.Sequential([keras.Input((10,)), NestedDenseLayer(10, "nested")])


def shuffled(model):
    """What the guide does to the order."""
    model.get_layer("nested").dense_1.trainable = False
    return model


X = np.random.default_rng(0).random((3, 10), "float32")


def test_trainable_changes_the_order_of_weights():
    model = nested()
    legacy = [v.path for v in (*model.trainable_weights, *model.non_trainable_weights)]
    shuffled(model)
    after = [v.path for v in (*model.trainable_weights, *model.non_trainable_weights)]
    assert legacy != after
    assert set(legacy) == set(after)


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5", "w.safetensors", "w.npz", "ckpt"])
@pytest.mark.parametrize(
    ("before", "after"), [(nested, lambda: shuffled(nested())), (lambda: shuffled(nested()), nested)]
)
def test_files_are_read_by_name(tmp_path, name, before, after):
    saved, fresh = before(), after()
    interop.save_weights(saved, tmp_path / name)
    interop.load_weights(fresh, tmp_path / name).assert_consumed()
    assert np.array_equal(*(keras.ops.convert_to_numpy(model(X)) for model in (saved, fresh)))


def test_files_of_keras_too(tmp_path):
    saved, fresh = nested(), shuffled(nested())
    saved.save_weights(tmp_path / "w.weights.h5")
    interop.load_weights(fresh, tmp_path / "w.weights.h5").assert_consumed()
    assert np.array_equal(*(keras.ops.convert_to_numpy(model(X)) for model in (saved, fresh)))
