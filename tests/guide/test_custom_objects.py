"""Keras' guide, "Custom objects": classes and functions that are passed, in scope, or registered."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop
from interop.errors import MissingClassError

X = np.random.default_rng(0).random((4, 32), "float32")


class CustomLayer(keras.layers.Layer):
    """The guide's: a config, and state that is not in it."""

    def __init__(self, units=32, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal")
        self.b = self.add_weight(shape=(self.units,), initializer="random_normal")
        self.var = self.add_weight(shape=(), initializer="ones", name="var", trainable=False)

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.w) * self.var + self.b

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def custom_activation(x):
    return keras.ops.tanh(x) ** 2


CUSTOM = {"CustomLayer": CustomLayer, "custom_activation": custom_activation}


def custom_model():
    inputs = keras.Input((32,))
    layer = CustomLayer(16)
    outputs = keras.layers.Activation(custom_activation)(layer(inputs))
    model = keras.Model(inputs, outputs)
    layer.var.assign(2)  # state that no config has
    return model


def check(model, loaded):
    assert any(type(layer).__name__ == "CustomLayer" for layer in loaded.layers)
    assert float(keras.ops.convert_to_numpy(loaded.layers[1].var.value)) == 2
    assert np.array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))


@pytest.fixture(params=["m", "m.interop", "m.keras"])
def saved(request, tmp_path):
    """A model in a file of each kind."""
    model, path = custom_model(), tmp_path / request.param
    model.save(path) if path.suffix == ".keras" else interop.save_model(model, path)
    return model, path


def test_passed(saved):
    model, path = saved
    check(model, interop.load_model(path, custom_objects=CUSTOM))


def test_in_scope(saved):
    model, path = saved
    with keras.saving.custom_object_scope(CUSTOM):
        check(model, interop.load_model(path))


def test_registered(saved):
    model, path = saved
    registered = keras.saving.get_custom_objects()
    registered.update(CUSTOM)
    try:
        check(model, interop.load_model(path))
    finally:
        for name in CUSTOM:
            registered.pop(name)


def test_registered_under_a_package(tmp_path):
    @keras.saving.register_keras_serializable("my_package", "Doubled")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    inputs = keras.Input((32,))
    model = keras.Model(inputs, keras.layers.Dense(2)(Doubled()(inputs)))
    try:
        interop.save_model(model, tmp_path / "m")
        loaded = interop.load_model(tmp_path / "m")
        assert type(loaded.layers[1]) is Doubled
        assert np.array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))
    finally:
        keras.saving.get_custom_objects().pop("my_package>Doubled")


def test_neither_is_an_error_that_names_all(saved):
    with pytest.raises(MissingClassError, match="CustomLayer") as caught:
        interop.load_model(saved[1], revive=False)
    assert "custom_activation" in str(caught.value)


def test_layers_serialize_and_deserialize():
    layer = CustomLayer(3)
    config = keras.layers.serialize(layer)
    again = keras.layers.deserialize(config, custom_objects={"CustomLayer": CustomLayer})
    assert (type(again), again.units) == (CustomLayer, 3)


class Wrapping(keras.layers.Layer):
    """A class whose ``from_config`` makes the layer inside it."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x) + 1

    def get_config(self):
        return {**super().get_config(), "inner": keras.layers.serialize(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "inner": keras.layers.deserialize(config["inner"])})


def test_a_from_config_of_its_own(tmp_path):
    inputs = keras.Input((32,))
    model = keras.Model(inputs, Wrapping(keras.layers.Dense(3))(inputs))
    interop.save_model(model, tmp_path / "m")
    loaded = interop.load_model(tmp_path / "m", custom_objects={"Wrapping": Wrapping})
    assert type(loaded.layers[1]) is Wrapping
    assert np.array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))


def test_functions_by_name_in_compile(tmp_path):
    def custom_loss(y, p):
        return keras.ops.mean((y - p) ** 2, axis=-1)

    inputs = keras.Input((32,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", custom_loss)
    y = np.ones((4, 1), "float32")
    before = model.evaluate(X, y, verbose=0)
    interop.save_model(model, tmp_path / "m")
    loaded = interop.load_model(tmp_path / "m", custom_objects={"custom_loss": custom_loss})
    assert loaded.loss is custom_loss
    np.testing.assert_allclose(loaded.evaluate(X, y, verbose=0), before, rtol=1e-6)
