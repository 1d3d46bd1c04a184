"""Models by their structure: nested and shared models, operations of TensorFlow, call arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras import layers as L

SEQUENCE = (5, 3)


def _sequential() -> Any:
    return keras.Sequential([keras.Input((4,)), L.Dense(4, "relu"), L.BatchNormalization(), L.Dense(2)])


def _sequential_deferred() -> Any:
    model = keras.Sequential([L.Dense(4, "relu"), L.Dense(2)])
    model.build((None, 4))
    return model


def _nested() -> Any:
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, "tanh"), L.Dense(4)], name="inner")
    x = keras.Input((4,), name="x")
    y = keras.Input((4,), name="y")
    core = keras.Model(y, [L.Dense(4)(y), inner(y)], name="core")
    a, b = core(x)
    return keras.Model(x, L.Dense(2)(a * b))


def _shared() -> Any:
    dense = L.Dense(4, "tanh", name="shared")
    inner = keras.Sequential([L.Dense(4), L.Dense(3)], name="inner")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    left, right = inner(dense(a)), inner(dense(dense(b)))
    return keras.Model([a, b], [L.concatenate([left, right]), right])


def _shared_deep() -> Any:
    """A model that is called twice, with a model inside that is called twice, and layers of one shape."""
    x = keras.Input((3,), name="u")
    innermost = keras.Sequential([keras.Input((3,)), L.Dense(3, "tanh"), L.Dense(3)], name="innermost")
    inner = keras.Model(x, innermost(L.Dense(3)(innermost(x))), name="inner")
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    return keras.Model([a, b], {"out": inner(a) - inner(b), "raw": L.Dense(3, name="raw")(a)})


def _frozen() -> Any:
    """Layers inside that were frozen one by one: Keras 2 stores what is trainable first."""
    x = keras.Input((3,), name="u")
    first, second = L.Dense(3, name="first"), L.Dense(3, name="second")
    first.trainable = False
    inner = keras.Model(x, second(first(x)), name="inner")
    start = keras.Input((3,), name="x")
    return keras.Model(start, L.Dense(2)(inner(start)))


def _wrapped_model() -> Any:
    inner = keras.Sequential([keras.Input((3,)), L.Dense(4, "relu"), L.Dense(2)], name="inner")
    x = keras.Input(SEQUENCE, name="x")
    return keras.Model(x, L.TimeDistributed(inner)(x))


def _dict_inputs() -> Any:
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((3,), name="b")}
    return keras.Model(inputs, {"sum": inputs["a"] + inputs["b"], "dense": L.Dense(2, name="d")(inputs["a"])})


def _operators() -> Any:
    x = keras.Input((5, 4), name="x")
    y = (x + 1.0) * 2.0 - x / 3.0
    y = -y + 3.0 - (2.0 / (x * x + 1.0)) + 2.0**x
    y = tf.abs(y) ** 0.5 + x @ tf.transpose(x, [0, 2, 1]) @ x
    y = tf.where(y > 1.0, y, x) // 0.7 + (x % 0.9)
    return keras.Model(x, y)


def _slices() -> Any:
    x = keras.Input((5, 4), name="x")
    return keras.Model(x, [x[:, 1:4:2], x[:, -1], x[..., tf.newaxis, 0], x[:, ::-1, 1:]])


def _math() -> Any:
    x = keras.Input((5, 4), name="x")
    y = tf.concat([tf.sin(x), tf.exp(-x), tf.math.log(tf.square(x) + 1.0)], axis=-1)
    y = tf.reduce_mean(y, axis=1, keepdims=True) + tf.reduce_max(y, axis=-1, keepdims=True)
    y = tf.clip_by_value(y, -1.0, 1.5) + tf.math.sigmoid(y) + tf.nn.relu(y) + tf.math.rsqrt(tf.abs(y) + 1.0)
    return keras.Model(
        x, tf.nn.softmax(tf.reduce_sum(y, axis=[2]), axis=-1) + tf.maximum(tf.reduce_min(y, 2), 0.1)
    )


def _shaping() -> Any:
    x = keras.Input((6, 4), name="x")
    y = tf.reshape(x, [-1, 3, 8])
    y = tf.stack([y, tf.tile(y, [1, 1, 1])], axis=1)
    y = tf.squeeze(tf.expand_dims(y, -1), axis=[-1])
    a, b = tf.split(y, 2, axis=-1)
    c, d = tf.unstack(a, axis=1)
    return keras.Model(
        x,
        [tf.pad(c, [[0, 0], [1, 0], [0, 2]]), tf.cast(tf.argmax(b, axis=-1), "float32"), tf.reverse(d, [1])],
    )


def _batch_size() -> Any:
    """The size of the batch, read from the input while the model runs."""
    x = keras.Input((6,), name="x")
    size = tf.shape(x)[0]
    y = tf.reshape(x, (size, 2, 3))
    return keras.Model(x, L.Dense(2)(y))


def _gather() -> Any:
    x, i = keras.Input((5, 4), name="x"), keras.Input((), name="i", dtype="int32")
    y = tf.gather(x, [0, 2], axis=1) * tf.reshape(tf.one_hot(i % 4, 4), [-1, 1, 4])
    return keras.Model([x, i], [y, tf.linalg.matmul(x, x, transpose_b=True)])


def _backend() -> Any:
    """Functions of `keras.backend`, which are operations of their own in a config."""
    K = keras.backend
    x = keras.Input((5, 4), name="x")
    y = (
        K.mean(x, axis=1, keepdims=True)
        + K.square(K.exp(x))
        + K.batch_dot(x, K.permute_dimensions(x, (0, 2, 1)))[:, :, :4]
    )
    return keras.Model(x, K.concatenate([K.l2_normalize(y, axis=-1), K.relu(x, alpha=0.1)]))


def _add_metric() -> Any:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, L.Dense(2)(x))
    model.layers[-1].trainable = False
    return model


def _convnet() -> Any:
    """A small residual network, as image classifiers of Keras 2 are."""
    x = keras.Input((8, 8, 3), name="x")
    y = L.Conv2D(4, 3, 2, "same", use_bias=False, name="stem")(x)
    y = L.ReLU(6.0)(L.BatchNormalization(epsilon=1e-3, momentum=0.999)(y))
    z = L.DepthwiseConv2D(3, padding="same", use_bias=False)(L.ZeroPadding2D(((0, 1), (0, 1)))(y)[:, :4, :4])
    z = L.Activation("swish")(L.BatchNormalization()(z))
    s = L.Reshape((1, 1, 4))(L.GlobalAveragePooling2D()(z))
    z = L.multiply([z, L.Conv2D(4, 1, activation="sigmoid")(L.Conv2D(2, 1, activation="relu")(s))])
    y = L.Dropout(0.2, noise_shape=(None, 1, 1, 1))(L.add([y, z]))
    return keras.Model(x, L.Dense(3, "softmax")(L.GlobalAveragePooling2D()(y)))


STRUCTURES: dict[str, Callable[[], Any]] = {
    "sequential": _sequential,
    "sequential_deferred": _sequential_deferred,
    "nested": _nested,
    "shared": _shared,
    "shared_deep": _shared_deep,
    "frozen_inside": _frozen,
    "frozen_layer": _add_metric,
    "wrapped_model": _wrapped_model,
    "dict_inputs": _dict_inputs,
    "convnet": _convnet,
}

OPERATIONS: dict[str, Callable[[], Any]] = {
    "tf_operators": _operators,
    "tf_slices": _slices,
    "tf_math": _math,
    "tf_shaping": _shaping,
    "tf_batch_size": _batch_size,
    "tf_gather": _gather,
    "tf_backend": _backend,
}
