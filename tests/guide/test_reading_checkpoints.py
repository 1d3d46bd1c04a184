"""Keras' guide, "Deep-dive on the TF checkpoint format": what a checkpoint holds, read as named arrays."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop
from interop.errors import FormatError

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


class CustomLayer(keras.layers.Layer):
    def __init__(self, value: float):
        super().__init__()
        self.var = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(value), name="var_a", trainable=False
        )

    def call(self, x):
        return x + self.var


def perceptron():
    inputs = keras.Input((784,), name="digits")
    x = keras.layers.Dense(64, activation="relu", name="dense_1")(inputs)
    return keras.Model(inputs, keras.layers.Dense(10, name="predictions")(x))


def test_keys_are_names_of_attributes(tmp_path):
    path = interop.Checkpoint(layer=CustomLayer(5)).save(tmp_path / "custom_layer")
    with interop.load_tensors(path) as tensors:
        assert dict(tensors.dtypes) == {
            "_CHECKPOINTABLE_OBJECT_GRAPH": "string",
            f"layer/var{SUFFIX}": "float32",
            f"save_counter{SUFFIX}": "int64",
        }
        assert tensors.shapes[f"layer/var{SUFFIX}"] == ()
        assert tensors[f"layer/var{SUFFIX}"] == 5


def test_every_tensor_by_name(tmp_path):
    model = perceptron()
    interop.save_weights(model, tmp_path / "ckpt")
    for path in (tmp_path / "ckpt", tmp_path / "ckpt.index"):
        with interop.load_tensors(path) as tensors:
            assert tensors.shapes[f"layer_with_weights-0/kernel{SUFFIX}"] == (784, 64)
            assert tensors.dtypes[f"layer_with_weights-1/bias{SUFFIX}"] == "float32"
            for number, layer in enumerate(model.layers[1:]):
                for name in ("kernel", "bias"):
                    stored = tensors[f"layer_with_weights-{number}/{name}{SUFFIX}"]
                    assert np.array_equal(stored, keras.ops.convert_to_numpy(getattr(layer, name).value))
            with pytest.raises(KeyError, match="layer_with_weights-7"):
                tensors["layer_with_weights-7/kernel"]


def test_the_newest_of_a_folder(tmp_path):
    checkpoint = interop.Checkpoint(layer=CustomLayer(1))
    checkpoint.save(tmp_path / "c")
    path = checkpoint.save(tmp_path / "c")
    with interop.load_tensors(tmp_path) as newest, interop.load_tensors(path) as second:
        assert newest[f"save_counter{SUFFIX}"] == second[f"save_counter{SUFFIX}"] == 2


def test_a_changed_byte_is_told(tmp_path):
    interop.save_weights(perceptron(), tmp_path / "ckpt")
    data = tmp_path / "ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with interop.load_tensors(tmp_path / "ckpt") as tensors, pytest.raises(FormatError, match="checksum"):
        list(tensors.values())


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
