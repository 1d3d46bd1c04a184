"""What has no meaning in Keras 3, or is not in the file: refused by name, or reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras import layers as L

from tools.legacy_fixtures.layers import SEQUENCE, stack


def _added_loss() -> Any:
    x = keras.Input((4,), name="x")
    y = L.Dense(2)(x)
    model = keras.Model(x, y)
    model.add_loss(tf.reduce_mean(y))
    return model


def _lambda() -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, L.Lambda(lambda t: t * 2.0, name="double")(x))


def _lambda_loss() -> Any:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, L.Dense(2)(x))
    model.compile("sgd", lambda a, b: tf.reduce_mean(a - b))
    return model


def _unknown_operation() -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model(x, tf.math.bessel_i0e(x))


REFUSED: dict[str, Callable[[], Any]] = {
    "added_loss": _added_loss,
    "lambda": _lambda,
    "lambda_loss": _lambda_loss,
    "unknown_operation": _unknown_operation,
    "locally_connected": stack(SEQUENCE, lambda: L.LocallyConnected1D(3, 2)),
    "time_major": stack(SEQUENCE, lambda: L.LSTM(3, time_major=True)),
    "virtual_batches": stack((4,), lambda: L.BatchNormalization(virtual_batch_size=2)),
    "several_axes": stack(SEQUENCE, lambda: L.BatchNormalization(axis=[1, 2])),
    "causal_separable": stack(SEQUENCE, lambda: L.SeparableConv1D(2, 2, padding="causal")),
    "area": stack((4, 4, 1), lambda: L.UpSampling2D(interpolation="area")),
    "falling_contrast": stack((8, 8, 3), lambda: L.RandomContrast((0.6, 0.2))),
    "random_height": stack((8, 8, 3), lambda: L.RandomHeight(0.2)),
}
