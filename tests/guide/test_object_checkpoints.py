"""Keras' guide, object-based checkpoints: named objects, restored into others, by TensorFlow and by us."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop
from interop.errors import FormatError, WeightsError

X = np.random.default_rng(0).random((8, 3)).astype("float32")
Y = np.ones((8, 2), "float32")


def array(x):
    return np.array(keras.ops.convert_to_numpy(x))


def functional():
    inputs = keras.Input((784,), name="digits")
    x = keras.layers.Dense(64, activation="relu", name="dense_1")(inputs)
    return keras.Model(inputs, keras.layers.Dense(10, name="predictions")(x))


class Contrived(keras.Model):
    """The first and the last layer of `functional`, the last as bare weights."""

    def __init__(self):
        super().__init__()
        self.first_dense = keras.layers.Dense(64)
        self.kernel = self.add_weight(shape=(64, 10), name="kernel_of_the_last")
        self.bias = self.add_weight(shape=(10,), name="bias_of_the_last")

    def call(self, x):
        return keras.ops.matmul(self.first_dense(x), self.kernel) + self.bias


def test_into_another_class(tmp_path):
    source = functional()
    first, last = source.layers[1], source.layers[-1]
    path = interop.Checkpoint(dense=first, kernel=last.kernel, bias=last.bias).save(tmp_path / "ckpt")
    assert path == str(tmp_path / "ckpt-1")
    target = Contrived()
    target(np.ones((1, 784)))
    restored = interop.Checkpoint(dense=target.first_dense, kernel=target.kernel, bias=target.bias)
    status = restored.restore(path).assert_consumed()
    assert status.loaded == ("bias", "dense/bias", "dense/kernel", "kernel")
    assert np.array_equal(array(target.kernel), array(last.kernel))
    assert np.array_equal(array(target.first_dense.kernel), array(first.kernel))
    # Saves are counted on from those that were restored; the folder knows the newest.
    assert restored.save(tmp_path / "ckpt") == str(tmp_path / "ckpt-2")
    interop.Checkpoint(dense=first).restore(tmp_path)


def test_before_build(tmp_path):
    source = keras.layers.Dense(4)
    source.build((None, 3))
    path = interop.Checkpoint(layer=source).save(tmp_path / "ckpt")
    target = keras.layers.Dense(4)
    status = interop.Checkpoint(layer=target).restore(path)
    assert len(status.deferred) == 2
    target(X)
    status.assert_consumed()
    assert np.array_equal(array(target.kernel), array(source.kernel))


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.q = keras.layers.Dense(3)
        self.v = keras.layers.Dense(3)
        self.blocks = [keras.layers.Dense(3) for _ in range(2)]
        self.named = {"x": keras.layers.Dense(3)}
        self.norm = keras.layers.BatchNormalization()
        self.drop = keras.layers.Dropout(0.1)
        self.memory = keras.layers.LSTM(2)

    def call(self, x, training=False):
        x = self.q(x) - self.v(x)
        for block in self.blocks:
            x = block(x)
        return self.memory(self.drop(self.norm(self.named["x"](x), training=training))[:, None])


def sequential():
    stack = [keras.layers.Dense(4, name="a"), keras.layers.Dropout(0.1), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((3,)), *stack, keras.layers.Dense(2)])


def compiled(make, *, epochs: int):
    model = make()
    model.compile(
        "adam", "mse", run_eagerly=keras.backend.backend() == "tensorflow"
    )  # it compiles for longer
    if epochs:
        model.fit(X, Y, epochs=epochs, verbose=0)
    return model


def everything(model):
    return [*(array(v.value) for v in model.weights), *(array(v.value) for v in model.optimizer.variables)]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("make", [sequential, Net])
def test_training_state(tmp_path, make):
    """Weights, optimizer with slots and step, metrics, seeds, lists and dicts; also before anything is built."""
    source, kept = (
        compiled(make, epochs=2),
        {"list": [keras.Variable([1.0]), {"deep": keras.Variable(2, trainable=False)}]},
    )
    mean = keras.metrics.Mean()
    mean.update_state([1.0, 5.0])
    seeds = keras.random.SeedGenerator(3)
    path = interop.Checkpoint(net=source, state=kept, mean=mean, seeds=seeds).save(tmp_path / "c")
    other = {"list": [keras.Variable([0.0]), {"deep": keras.Variable(0, trainable=False)}]}
    fresh_mean, fresh_seeds = keras.metrics.Mean(), keras.random.SeedGenerator(4)
    built, unbuilt = compiled(make, epochs=1), compiled(make, epochs=0)
    checkpoint = interop.Checkpoint(net=built, state=other, mean=fresh_mean, seeds=fresh_seeds)
    checkpoint.restore(path).assert_consumed()
    assert same(everything(built), everything(source))
    assert np.array_equal(built.predict(X, verbose=0), source.predict(X, verbose=0))
    assert (float(array(fresh_mean.result())), array(other["list"][1]["deep"].value)) == (3.0, 2)
    assert np.array_equal(array(fresh_seeds.state.value), array(seeds.state.value))
    status = interop.Checkpoint(net=unbuilt, state=other, mean=mean, seeds=seeds).restore(path)
    assert status.deferred
    unbuilt(X)
    unbuilt.optimizer.build(unbuilt.trainable_variables)
    status.assert_consumed()
    assert same(everything(unbuilt), everything(source))


@pytest.mark.framework("tensorflow")
@pytest.mark.parametrize("make", [sequential, Net, functional])
def test_tensorflow_restores_what_we_save(tmp_path, make):
    import tensorflow as tf

    source = compiled(make, epochs=2) if make is not functional else make()
    plain = tf.Variable([1.0, 2.0])
    path = interop.Checkpoint(net=source, plain=plain).save(tmp_path / "c")
    assert tf.train.latest_checkpoint(tmp_path) == path
    target = compiled(make, epochs=1) if make is not functional else make()
    zeros = tf.Variable([0.0, 0.0])
    status = tf.train.Checkpoint(net=target, plain=zeros).restore(path)
    status.assert_existing_objects_matched()
    if (
        make is not Net
    ):  # TensorFlow does not see what Keras 3 keeps in lists and dicts, but through its optimizer
        status.assert_consumed()
    assert zeros.numpy().tolist() == [1.0, 2.0]
    assert same([array(v.value) for v in target.weights], [array(v.value) for v in source.weights])
    if make is not functional:
        assert same(everything(target), everything(source))


@pytest.mark.framework("tensorflow")
@pytest.mark.parametrize("make", [sequential, Net])
def test_we_restore_what_tensorflow_saves(tmp_path, make):
    import tensorflow as tf

    source = compiled(make, epochs=2)
    path = tf.train.Checkpoint(net=source, plain=tf.Variable([1.0, 2.0])).save(str(tmp_path / "c"))
    target, zeros = compiled(make, epochs=1), tf.Variable([0.0, 0.0])
    status = interop.Checkpoint(net=target, plain=zeros).restore(path)
    # Statistics of a layer that only a list holds are in no file of TensorFlow; here there is none.
    status.assert_consumed()
    assert zeros.numpy().tolist() == [1.0, 2.0]
    assert same(everything(target), everything(source))


@pytest.mark.framework("tensorflow")
def test_modules_of_tensorflow(tmp_path):
    """TensorFlow's own objects on the one side, Keras 3 on the other."""
    import tensorflow as tf

    class Dense(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(np.arange(6, dtype="float32").reshape(3, 2))
            self.bias = tf.Variable([1.0, 2.0])

    path = tf.train.Checkpoint(dense=Dense(), extra={"a": [tf.Variable(3.0)]}).save(str(tmp_path / "c"))
    layer, extra = keras.layers.Dense(2), {"a": [keras.Variable(0.0)]}
    layer.build((None, 3))
    interop.Checkpoint(dense=layer, extra=extra).restore(path).assert_consumed()
    assert array(layer.kernel).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert float(extra["a"][0]) == 3.0
    ours, module = interop.Checkpoint(dense=layer).save(tmp_path / "ours"), Dense()
    module.kernel.assign(tf.zeros((3, 2)))
    tf.train.Checkpoint(dense=module).restore(ours).assert_consumed()
    assert module.kernel.numpy().tolist() == [[0, 1], [2, 3], [4, 5]]


def test_what_raises(tmp_path):
    layer = keras.layers.Dense(2)
    with pytest.raises(WeightsError, match="has a variable yet"):
        interop.Checkpoint(layer=layer).save(tmp_path / "c")
    layer.build((None, 3))
    path = interop.Checkpoint(layer=layer).save(tmp_path / "c")
    wide = keras.layers.Dense(2)
    wide.build((None, 4))
    with pytest.raises(WeightsError, match=r"layer/kernel is float32\(3, 2\), expected float32\(4, 2\)"):
        interop.Checkpoint(layer=wide).restore(path)
    with pytest.raises(WeightsError, match=r"nothing in .* belongs"):
        interop.Checkpoint(other=layer).restore(path)
    twice = interop.Checkpoint(one=layer, other=layer).save(tmp_path / "twice")
    apart = {name: keras.layers.Dense(2) for name in ("one", "other")}
    for each in apart.values():
        each.build((None, 3))
    with pytest.raises(WeightsError, match=r"one value where there are several.*Nothing was loaded$"):
        interop.Checkpoint(**apart).restore(twice)
    with pytest.raises(WeightsError, match="takes layers, optimizers"):
        interop.Checkpoint(layer=3)
    with pytest.raises(FileNotFoundError):
        interop.Checkpoint(layer=layer).restore(tmp_path / "none")
    (tmp_path / "checkpoint").write_text("")
    with pytest.raises(FormatError, match="does not name a newest"):
        interop.Checkpoint(layer=layer).restore(tmp_path)
