"""Keras' guide, "Saving the architecture": configs and JSON make the layers anew, with fresh weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop


def sequential():
    return keras.Sequential([keras.Input((32,)), keras.layers.Dense(1)])


def functional():
    inputs = keras.Input((32,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


def test_of_a_layer():
    layer = keras.layers.Dense(3, activation="relu")
    again = keras.layers.Dense.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert not again.weights


@pytest.mark.parametrize("make", [sequential, functional])
def test_of_a_model(make):
    model = make()
    again = type(model).from_config(model.get_config())
    check_fresh(model, again)


@pytest.mark.parametrize("make", [sequential, functional])
def test_json(tmp_path, make):
    """``model_from_json``, and ``load_model`` of the same text in a file, also of a model that was compiled."""
    model = make()
    check_fresh(model, keras.models.model_from_json(model.to_json()))
    model.compile("adam", "mse")
    (tmp_path / "m.json").write_text(model.to_json())
    check_fresh(model, interop.load_model(tmp_path / "m.json"))


def check_fresh(model, again):
    """The same layers and no compile info; weights of its own."""
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    assert [tuple(v.shape) for v in again.weights] == [tuple(v.shape) for v in model.weights]
    assert not again.compiled
    kernels = [np.array(keras.ops.convert_to_numpy(m.weights[0].value)) for m in (model, again)]
    assert not np.array_equal(*kernels)


def test_a_configuration_and_weights_are_the_model(tmp_path):
    model = functional()
    (tmp_path / "m.json").write_text(model.to_json())
    interop.save_weights(model, tmp_path / "m.safetensors")
    again = interop.load_model(tmp_path / "m.json")
    interop.load_weights(again, tmp_path / "m.safetensors").assert_consumed()
    x = np.random.default_rng(0).random((4, 32), "float32")
    assert np.array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))
