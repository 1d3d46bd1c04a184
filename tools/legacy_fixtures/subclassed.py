"""Classes of a user; `tests/legacy_classes.py` has the same for Keras 3."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras import layers as L


@keras.saving.register_keras_serializable("zoo")
class Scale(L.Layer):
    """A layer with a weight and a setting of its own."""

    def __init__(self, factor: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.factor = factor

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],))

    def call(self, x: Any) -> Any:
        return x * self.scale * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("zoo")
class Block(keras.Model):
    """A model of layers in attributes and in a list."""

    def __init__(self, units: int = 3, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = units
        self.head = L.Dense(2)
        self.blocks = [L.Dense(units, "tanh"), L.Dense(units, "tanh")]
        self.scale = Scale(2.0)

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(self.scale(x))

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units}


@keras.saving.register_keras_serializable("zoo")
def cube(x: Any) -> Any:
    """An activation."""
    return x * x * x


@keras.saving.register_keras_serializable("zoo")
class Step(L.Layer):
    """A recurrent cell."""

    def __init__(self, units: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))

    def call(self, x: Any, states: Any) -> Any:
        y = x @ self.kernel + states[0] * 0.5
        return y, [y]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def custom_layers() -> Any:
    """A functional model with registered layers and functions."""
    x = keras.Input((4,), name="x")
    return keras.Model(x, Scale(3.0, name="scale")(L.Dense(3, cube)(x)))


def custom_cell() -> Any:
    """A cell inside an RNN."""
    x = keras.Input((5, 3), name="x")
    return keras.Model(x, L.RNN(Step(4))(x))


def block() -> Any:
    """A subclassed model."""
    model = Block(4)
    model(tf.zeros((1, 3)))
    return model
