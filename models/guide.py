"""The models of Keras' guide to saving: functional, sequential, subclassed, custom layer, custom activation.

Custom classes are given a ``get_config`` by Keras or by hand and are not registered, so a loader has
to be handed ``CUSTOM_OBJECTS``. A model that is not built yet gets built by its first call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops


def mlp_functional() -> keras.Model:
    """784 -> 64 -> 64 -> 10, with explicit names for what the guide names."""
    inputs = keras.Input((784,), name="digits")
    x = layers.Dense(64, activation="relu", name="dense_1")(inputs)
    x = layers.Dense(64, activation="relu", name="dense_2")(x)
    outputs = layers.Dense(10, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, outputs, name="3_layer_mlp")


def mlp_sequential() -> keras.Model:
    """The same without names, built by its first call."""
    return keras.Sequential(
        [layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu"), layers.Dense(10)]
    )


class ThreeLayerMLP(keras.Model):
    """The subclassed form; its config is its constructor's arguments."""

    def __init__(self, hidden: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense_1 = layers.Dense(hidden, activation="relu", name="dense_1")
        self.dense_2 = layers.Dense(hidden, activation="relu", name="dense_2")
        self.pred_layer = layers.Dense(10, name="predictions")

    def call(self, inputs: Any) -> Any:
        return self.pred_layer(self.dense_2(self.dense_1(inputs)))


def mlp_subclassed() -> keras.Model:
    """784 -> 64 -> 64 -> 10 as a class."""
    return ThreeLayerMLP(64, name="3_layer_mlp")


class ScaledLinear(keras.Layer):
    """A custom layer on ``keras.ops``: ``x @ w + b``, scaled by a weight that is not trained."""

    def __init__(self, units: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="w")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")
        self.scale = self.add_weight(shape=(), initializer="ones", trainable=False, name="scale")

    def call(self, inputs: Any) -> Any:
        return self.scale * (ops.matmul(inputs, self.w) + self.b)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def custom_activation(x: Any) -> Any:
    """``tanh(x) ** 2``, the guide's example."""
    return ops.square(ops.tanh(x))


def custom_model() -> keras.Model:
    """A custom layer and a custom activation in a functional model."""
    inputs = keras.Input((8,), name="features")
    x = ScaledLinear(16, name="scaled_linear")(inputs)
    x = layers.Activation(custom_activation, name="custom_activation")(x)
    return keras.Model(inputs, layers.Dense(4, activation=custom_activation, name="out")(x), name="custom")


CUSTOM_OBJECTS: dict[str, Any] = {
    "ThreeLayerMLP": ThreeLayerMLP,
    "ScaledLinear": ScaledLinear,
    "custom_activation": custom_activation,
}

# Name -> (builder, shape of one example).
MODELS: dict[str, tuple[Callable[[], keras.Model], tuple[int, ...]]] = {
    "mlp_functional": (mlp_functional, (784,)),
    "mlp_sequential": (mlp_sequential, (784,)),
    "mlp_subclassed": (mlp_subclassed, (784,)),
    "custom_model": (custom_model, (8,)),
}
