"""Keras' guide, "APIs for saving weights to disk": every format, the status, and reading a checkpoint."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop
from interop.errors import WeightsError

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


def test_sequential_checkpoint(tmp_path):
    def sequential():
        return keras.Sequential(
            [
                keras.Input((784,), name="digits"),
                keras.layers.Dense(64, activation="relu", name="dense_1"),
                keras.layers.Dense(64, activation="relu", name="dense_2"),
                keras.layers.Dense(10, name="predictions"),
            ]
        )

    saved, fresh = sequential(), sequential()
    interop.save_weights(saved, tmp_path / "ckpt")
    interop.load_weights(fresh, tmp_path / "ckpt").assert_consumed()
    assert np.array_equal(answers(saved), answers(fresh))


def test_status(tmp_path):
    interop.save_weights(perceptron(), tmp_path / "ckpt")
    inputs = keras.Input((784,))
    trunk = keras.Model(inputs, keras.layers.Dense(64, name="dense_1")(inputs))
    status = interop.load_weights(trunk, tmp_path / "ckpt")
    assert status.loaded == ("dense_1/bias", "dense_1/kernel")
    assert len(status.unexpected) == 4
    status.assert_existing_objects_matched()
    assert status.expect_partial() is status
    with pytest.raises(WeightsError, match="unexpected"):
        status.assert_consumed()


class CustomLayer(keras.layers.Layer):
    def __init__(self, value: float):
        super().__init__()
        self.var = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(value), name="var_a", trainable=False
        )

    def call(self, x):
        return x + self.var


def test_keys_are_names_of_attributes(tmp_path):
    path = interop.Checkpoint(layer=CustomLayer(5)).save(tmp_path / "custom_layer")
    with interop.load_tensors(path) as tensors:
        assert dict(tensors.dtypes) == {
            "_CHECKPOINTABLE_OBJECT_GRAPH": "string",
            "layer/var/.ATTRIBUTES/VARIABLE_VALUE": "float32",
            "save_counter/.ATTRIBUTES/VARIABLE_VALUE": "int64",
        }
        assert tensors.shapes["layer/var/.ATTRIBUTES/VARIABLE_VALUE"] == ()
        assert tensors["layer/var/.ATTRIBUTES/VARIABLE_VALUE"] == 5


@pytest.mark.framework("tensorflow")
def test_tensorflow_lists_the_same(tmp_path):
    import tensorflow as tf

    interop.save_weights(perceptron(), tmp_path / "ckpt")
    theirs = tf.train.load_checkpoint(str(tmp_path / "ckpt"))
    with interop.load_tensors(tmp_path / "ckpt") as tensors:
        assert theirs.get_variable_to_shape_map() == {
            key: list(shape) for key, shape in tensors.shapes.items()
        }
        dtypes = {key: dtype.name for key, dtype in theirs.get_variable_to_dtype_map().items()}
        assert dtypes == dict(tensors.dtypes)
