"""The guide's ``tf.saved_model.load``: a model without its classes, as a graph that predicts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop


@pytest.mark.parametrize("name", ["my_model", "my_model.interop"])
def test_no_custom_objects(tmp_path, name):
    class Scaled(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), initializer="random_normal")

        def call(self, x):
            return x * self.scale

    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((4,), name="b")}
    x = Scaled()(inputs["a"]) + keras.layers.Dense(4)(inputs["b"])
    model = keras.Model(inputs, {"sum": x, "class": keras.layers.Softmax(name="class")(x)})
    interop.save_model(model, tmp_path / name)
    del Scaled
    graph = interop.load_graph(tmp_path / name)
    assert {(i.name, i.dtype) for i in graph.inputs} == {("a", "float32"), ("b", "float32")}
    assert {(o.name, o.dtype) for o in graph.outputs} == {("sum", "float32"), ("class", "float32")}
    data = {key: np.random.default_rng(0).random((5, 4), "float32") for key in inputs}
    expected = model.predict(data, verbose=0)
    for answers in (graph(data), graph.predict(data, batch_size=2)):
        assert answers.keys() == expected.keys()
        for key in expected:
            np.testing.assert_allclose(answers[key], expected[key], rtol=1e-5, atol=1e-6)
