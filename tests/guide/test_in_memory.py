"""Keras' guide, "APIs for in-memory weight transfer": between layers, and between models of other kinds."""

from __future__ import annotations

import keras
import numpy as np


def dense():
    layer = keras.layers.Dense(64, activation="relu", name="dense_2")
    layer.build((None, 784))
    return layer


class Perceptron(keras.Model):
    """The same layers as `functional`, as a class."""

    def __init__(self, output_dim: int, *, dropout: float = 0.0):
        super().__init__()
        self.dense_1 = keras.layers.Dense(64, activation="relu")
        self.dense_2 = keras.layers.Dense(64, activation="relu")
        self.dropout = keras.layers.Dropout(dropout)
        self.predictions = keras.layers.Dense(output_dim)

    def call(self, x):
        return self.predictions(self.dropout(self.dense_2(self.dense_1(x))))


def functional(*, dropout: bool = False):
    inputs = keras.Input((784,), name="digits")
    x = keras.layers.Dense(64, activation="relu")(inputs)
    x = keras.layers.Dense(64, activation="relu")(x)
    if dropout:
        x = keras.layers.Dropout(0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


X = np.random.default_rng(0).random((3, 784), "float32")


def answers(model):
    return keras.ops.convert_to_numpy(model(X))


def test_from_one_layer_to_another():
    first, second = dense(), dense()
    second.set_weights(first.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def test_from_a_functional_model_to_a_class():
    source, target = functional(), Perceptron(10)
    answers(target)
    target.set_weights(source.get_weights())
    assert np.array_equal(answers(source), answers(target))


def test_layers_without_state_change_nothing():
    source, target = functional(), functional(dropout=True)
    target.set_weights(source.get_weights())
    assert np.array_equal(answers(source), answers(target))
    other = Perceptron(10, dropout=0.5)
    answers(other)
    other.set_weights(target.get_weights())
    assert np.array_equal(answers(source), answers(other))
