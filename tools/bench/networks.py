"""The models of the bench, in plain Keras: peers build them too, where nothing of ours is installed.

Weights come from NumPy: the same on every backend, and without an initialiser compiled for each shape, which
on JAX takes longer than all that is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

APPLICATIONS = ("MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121", "ConvNeXtTiny")


VOCABULARY = 30522


def application(name: str, shape: tuple[int, ...] | None = None) -> Any:
    """A model of `keras.applications`, called once: `Model.export` refuses one that never was."""
    import keras

    with _drawn_by_numpy():
        model = getattr(keras.applications, name)(weights=None, input_shape=shape)
    model(keras.Input(model.input_shape[1:]))
    return model


def gigabyte() -> Any:
    """250 Dense layers of 1024 x 1024: 1.05 GB of weights."""
    return mlp(250, 1024)


def mlp(layers: int, width: int = 64) -> Any:
    """As many Dense layers, one after the other."""
    import keras

    with _drawn_by_numpy():
        x = inputs = keras.Input((width,))
        for _ in range(layers):
            x = keras.layers.Dense(width)(x)
        return keras.Model(inputs, x)


def transformer(layers: int, width: int = 16) -> Any:
    """As many pre-norm blocks of attention and MLP, over sequences of any length."""
    import keras
    from keras.layers import Dense, LayerNormalization, MultiHeadAttention

    with _drawn_by_numpy():
        x = inputs = keras.Input((None, width))
        for _ in range(layers):
            h = LayerNormalization()(x)
            x = x + MultiHeadAttention(2, width // 2)(h, h, use_causal_mask=True)
            h = Dense(4 * width, activation="gelu")(LayerNormalization()(x))
            x = x + Dense(width)(h)
        return keras.Model(inputs, x)


def bert(layers: int, length: int, width: int = 768, heads: int = 12) -> Any:
    """BERT's encoder: token ids (batch, length) to vectors (batch, length, width)."""
    import keras
    from keras import ops
    from keras.layers import Dense, Embedding, LayerNormalization, MultiHeadAttention

    with _drawn_by_numpy():
        ids = keras.Input((length,), dtype="int64")
        positions = Embedding(512, width)(ops.cumsum(ops.ones_like(ids), axis=1) - 1)
        x = LayerNormalization(epsilon=1e-5)(Embedding(VOCABULARY, width)(ids) + positions)
        for _ in range(layers):
            x = LayerNormalization(epsilon=1e-5)(x + MultiHeadAttention(heads, width // heads)(x, x))
            h = Dense(width)(Dense(4 * width, activation="gelu")(x))
            x = LayerNormalization(epsilon=1e-5)(x + h)
        return keras.Model(ids, x)


@contextmanager
def _drawn_by_numpy() -> Iterator[None]:
    """Kernels are drawn by NumPy, seeded anew for each model.

    Their variance is 2 / fan-in: a signal that dies out would be slow, as very small numbers are.
    """
    import keras
    import numpy as np

    rng = np.random.default_rng(0)

    def draw(self: Any, shape: Any, dtype: Any = None) -> Any:
        fan_in = np.prod(
            shape[:-2] if shape[-1] == 1 else shape[:-1]
        )  # (height, width, channels, 1): depthwise
        values = rng.standard_normal(shape, dtype=np.float32) * (2 / fan_in) ** 0.5
        return keras.ops.convert_to_tensor(values, dtype)

    kind = keras.initializers.VarianceScaling
    original = kind.__call__
    kind.__call__ = draw
    try:
        yield
    finally:
        kind.__call__ = original
