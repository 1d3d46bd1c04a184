"""Models that Keras 2 and Keras 3 can both make: what checkpoints of the one are loaded into on the other.

Enters: ``keras``, either ``tf_keras`` or Keras 3. Leaves: a model and inputs of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Made = tuple[Any, NDArray[np.float32]]


def inputs(*shape: int) -> NDArray[np.float32]:
    """The same numbers in every process."""
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def slots(model: Any) -> list[float]:
    """The sizes of what Adam keeps for each variable, which Keras 2 and 3 list in another order."""
    kept = [*model.optimizer._momentums, *model.optimizer._velocities]
    return sorted(float(abs(np.array(slot.numpy())).sum()) for slot in kept)


def functional(keras: Any) -> Made:
    """Convolutions, normalisation, dropout and two branches."""
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="stem")(image)
    x = layers.BatchNormalization()(x)
    left = layers.DepthwiseConv2D(3, padding="same")(x)
    right = layers.SeparableConv2D(4, 3, padding="same")(x)
    x = layers.Concatenate()([left, right])
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(3, name="head")(x)), inputs(4, 8, 8, 3)


def recurrent(keras: Any) -> Made:
    """A Sequential of recurrent layers."""
    layers = keras.layers
    stack = [
        keras.Input((5, 3)),
        layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
        layers.GRU(3),
        layers.Dense(2),
    ]
    return keras.Sequential(stack), inputs(4, 5, 3)


def nested(keras: Any) -> Made:
    """A model in a model, and a layer that is used twice."""
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="in"), layers.LayerNormalization()], name="inner"
    )
    x = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    return keras.Model(x, layers.Dense(2)(shared(inner(shared(x))))), inputs(4, 4)


def subclassed(keras: Any) -> Made:
    """Attributes, lists and dicts of layers, and a weight of the model's own."""

    class Block(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.norm = keras.layers.LayerNormalization()
            self.attention = keras.layers.MultiHeadAttention(2, 4)

        def call(self, x: Any) -> Any:
            normed = self.norm(x)
            return x + self.attention(normed, normed)

    class Network(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embed = keras.layers.Dense(4)
            self.blocks = [Block(), Block()]
            self.heads = {"out": keras.layers.Dense(2)}
            self.scale = self.add_weight(name="factor", shape=(4,), initializer="ones")

        def call(self, x: Any) -> Any:
            x = self.embed(x)
            for block in self.blocks:
                x = block(x)
            return self.heads["out"](x[:, 0] * self.scale)

    model, x = Network(), inputs(4, 3, 5)
    model(x)
    return model, x


MODELS: dict[str, Callable[[Any], Made]] = {
    "functional": functional,
    "recurrent": recurrent,
    "nested": nested,
    "subclassed": subclassed,
}
