"""``python old.py FOLDER``: the same few models, written by whatever Keras is installed, back to Keras 1.2.

Stands alone and runs on Python 3.6, for the environments are old: Keras 1.2.2 and 2.2.4 on TensorFlow 1.13, and
TensorFlow 2.3, 2.6, 2.9 and 2.12. Beside every file lies ``NAME.npz``: inputs, outputs, and for compiled models what
one more training step gives.
"""

import os
import sys

import numpy as np

tf = None
try:
    import tensorflow as tf

    MODERN = int(tf.__version__.split(".")[0]) > 1
except ImportError:
    MODERN = False
if MODERN:
    from tensorflow import keras
else:
    import keras
L = keras.layers
VERSION = tuple(
    int(part)
    for part in getattr(keras, "__version__", getattr(tf, "__version__", "")).split("-")[0].split(".")[:2]
)
FIRST = VERSION < (2, 0)


def convnet():  # noqa: ANN201
    """Convolutions, pooling, BatchNormalization, one after the other."""
    model = keras.models.Sequential()
    if FIRST:
        model.add(L.Convolution2D(4, 3, 3, border_mode="same", input_shape=(8, 8, 3), activation="relu"))
        model.add(L.MaxPooling2D((2, 2)))
        model.add(L.BatchNormalization())
        model.add(L.Convolution2D(3, 2, 2, subsample=(2, 2), bias=False, init="he_normal"))
        model.add(L.Flatten())
        model.add(L.Dropout(0.3))
        model.add(L.Dense(5, activation="hard_sigmoid", W_regularizer="l2"))
    else:
        model.add(L.Conv2D(4, 3, padding="same", input_shape=(8, 8, 3), activation="relu"))
        model.add(L.MaxPooling2D((2, 2)))
        model.add(L.BatchNormalization())
        model.add(L.DepthwiseConv2D(2, strides=2, use_bias=False))
        model.add(L.Flatten())
        model.add(L.Dropout(0.3))
        model.add(L.Dense(5, activation="hard_sigmoid", kernel_regularizer="l2"))
    return model


def recurrent():  # noqa: ANN201
    """LSTM and GRU with the defaults of their time."""
    x = L.Input(shape=(5, 3), name="x")
    y = L.LSTM(4, return_sequences=True)(x)
    y = L.Bidirectional(L.GRU(3, return_sequences=True))(y)
    y = L.TimeDistributed(L.Dense(2))(y)
    return _model(x, L.SimpleRNN(3)(y))


def embedding():  # noqa: ANN201
    """An embedding with a mask."""
    model = keras.models.Sequential()
    model.add(L.Embedding(6, 4, mask_zero=True, input_length=5))
    model.add(L.LSTM(3))
    return model


def shared():  # noqa: ANN201
    """Shared layers and a nested model, called twice."""
    inner = keras.models.Sequential(name="inner")
    inner.add(L.Dense(4, activation="tanh", input_shape=(3,)))
    inner.add(L.LeakyReLU(alpha=0.2))
    inner.add(L.Dense(3))
    a, b = L.Input(shape=(3,), name="a"), L.Input(shape=(3,), name="b")
    left, right = inner(a), inner(b)
    merged = L.merge([left, right], mode="concat") if FIRST else L.concatenate([left, right])
    return _model([a, b], [L.Dense(2, name="d")(merged), right])


def compiled():  # noqa: ANN201
    """Trained with an optimizer whose learning rate decays."""
    x = L.Input(shape=(4,), name="x")
    model = _model(x, L.Dense(2, name="head")(L.Dense(3, activation="tanh", name="trunk")(x)))
    if VERSION < (2, 10):
        optimizer = keras.optimizers.Adam(0.01, decay=0.1)
    else:
        optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, "mse")
    return model


def operations():  # noqa: ANN201
    """Operations of TensorFlow in a functional model."""
    x = L.Input(shape=(4,), name="x")
    y = tf.nn.relu(L.Dense(4)(x) * 2.0 + 1.0)
    return _model(x, tf.concat([y, tf.reduce_sum(y, axis=-1, keepdims=True), x[:, 1:3]], axis=-1))


def _learned(name, data, **settings):  # noqa: ANN001, ANN003, ANN202
    """A preprocessing layer that learned from data."""
    layer = _preprocessing(name)(**settings)
    layer.adapt(np.array(data))
    return layer


def _preprocessing(name):  # noqa: ANN001, ANN202
    return getattr(L, name, None) or getattr(L.experimental.preprocessing, name)


def words():  # noqa: ANN201
    """Text, its words weighted."""
    x = L.Input(shape=(1,), name="x", dtype="string")
    mode = "tf_idf" if VERSION >= (2, 6) else "tf-idf"
    text = _learned("TextVectorization", TEXTS, output_mode=mode)
    return _model(x, L.Dense(2)(text(x)))


def numbers():  # noqa: ANN201
    """A vocabulary of numbers."""
    x = L.Input(shape=(3,), name="x", dtype="int64")
    return _model(x, _learned("IntegerLookup", [[3], [1], [3], [4]])(x))


def buckets():  # noqa: ANN201
    """Numbers of buckets."""
    x = L.Input(shape=(3,), name="x", dtype="int64")
    return _model(x, _preprocessing("Hashing")(7)(x))


def boundaries():  # noqa: ANN201
    """Ranges of numbers, learned where that was possible."""
    x = L.Input(shape=(3,), name="x")
    if VERSION < (2, 6):
        return _model(x, _preprocessing("Discretization")(bins=[-0.5, 0.0, 0.5])(x))
    return _model(x, _learned("Discretization", np.linspace(-2, 2, 50)[:, None], num_bins=4)(x))


TEXTS = ["the cat sat", "the dog", "a cat", "über the moon"]
LEARNED = [words, numbers, buckets, boundaries]


def _model(inputs, outputs):  # noqa: ANN001, ANN202
    make = keras.models.Model
    return make(input=inputs, output=outputs) if FIRST else make(inputs, outputs)


def main(folder, only=""):  # noqa: ANN001, ANN201
    """Write every model, or those whose names contain `only`."""
    if not os.path.isdir(folder):
        os.makedirs(folder)
    rows = [convnet, recurrent, embedding, shared, compiled] + ([operations, *LEARNED] if MODERN else [])
    for row in [row for row in rows if only in row.__name__]:
        keras.backend.clear_session()
        np.random.seed(1)
        model = row()
        endings = [".h5"]
        if row in (words, numbers):
            endings = [""]  # Keras refuses to write HDF5 of them
        elif MODERN and row in (shared, compiled):
            endings.append("")
        if VERSION >= (2, 12) and row in (convnet, recurrent, shared, compiled):
            endings.append(".keras")
        if row not in LEARNED:
            randomize(model)
        for ending in endings:
            write(model, os.path.join(folder, row.__name__ + ending))


def randomize(model):  # noqa: ANN001, ANN201
    """Random weights; what starts as ones, scales and variances, stays positive."""
    rng = np.random.RandomState(3)
    values = []
    for value in model.get_weights():
        noise = rng.standard_normal(value.shape)
        ones = value.ndim == 1 and (value == 1).all()
        values.append((abs(noise) + 0.5 if ones else 0.5 * noise).astype("float32"))
    model.set_weights(values)


def write(model, path):  # noqa: ANN001, ANN201
    """Save one model, and what it answers."""
    rng = np.random.RandomState(4)
    inputs, fed = {}, []
    for tensor in model.inputs:
        name = tensor.name.split(":")[0]
        shape = [2, *[int(size) for size in tensor.shape[1:]]]
        whole = any(layer.__class__.__name__ == "Embedding" for layer in model.layers)
        if tensor.dtype == "string":
            inputs[name] = rng.choice([*TEXTS, "unheard cat"], shape)
        elif whole or tensor.dtype == "int64":
            inputs[name] = rng.randint(0, 6, shape).astype("int64" if tensor.dtype == "int64" else "int32")
        else:
            inputs[name] = rng.standard_normal(shape).astype("float32")
        fed.append(inputs[name])
    fed = fed[0] if len(fed) == 1 else fed
    arrays = {"input/" + name: value for name, value in inputs.items()}
    trained = getattr(model, "optimizer", None) is not None
    target = None
    if trained:
        target = rng.standard_normal(model.predict(fed).shape).astype("float32")
        arrays["target/0"] = target
        for _ in range(2):
            model.train_on_batch(fed, target)
    options = {}
    if "." not in os.path.basename(path):
        options = {"save_format": "tf"}
        if VERSION >= (2, 6):
            options["save_traces"] = False  # they only take space
    model.save(path, **options)
    arrays.update(("output/" + str(i), value) for i, value in enumerate(_list(model.predict(fed))))
    if trained:
        arrays["loss"] = np.asarray(model.train_on_batch(fed, target))
        arrays.update(("resumed/" + str(i), value) for i, value in enumerate(_list(model.predict(fed))))
    np.savez_compressed(path + ".npz", **arrays)


def _list(value):  # noqa: ANN001, ANN202
    return value if isinstance(value, list) else [value]


if __name__ == "__main__":
    main(*sys.argv[1:])
