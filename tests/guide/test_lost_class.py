"""The guide to saving: a model of a class that is deleted before it is loaded."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop


def test_a_deleted_class(tmp_path):
    class CustomModel(keras.Model):
        def __init__(self, hidden_units):
            super().__init__()
            self.hidden_units = hidden_units
            self.dense_layers = [keras.layers.Dense(u) for u in hidden_units]

        def call(self, inputs):
            x = inputs
            for layer in self.dense_layers:
                x = layer(x)
            return x

    model = CustomModel([16, 16, 10])
    input_arr = np.random.default_rng(0).random((1, 5)).astype("float32")
    outputs = model(input_arr)
    interop.save_model(model, tmp_path / "my_model")
    del CustomModel
    with pytest.warns(UserWarning, match="CustomModel"):
        loaded = interop.load_model(tmp_path / "my_model")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loaded(input_arr)),
        keras.ops.convert_to_numpy(outputs),
        rtol=1e-5,
        atol=1e-6,
    )
    assert [type(layer) for layer in loaded.layers] == [keras.layers.Dense] * 3
