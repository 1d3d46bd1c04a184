"""Keras' guide, transfer learning: trunks, heads, extracted layers, and the load that silently does nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop
from interop.errors import WeightsError

FORMATS = ["ckpt", "w.h5", "w.weights.h5", "w.safetensors"]
X = np.random.default_rng(0).random((3, 784), "float32")


def array(x):
    return np.array(keras.ops.convert_to_numpy(x))


def mlp(output_dim: int = 10):
    inputs = keras.Input((784,), name="digits")
    x = keras.layers.Dense(64, activation="relu", name="dense_1")(inputs)
    x = keras.layers.Dense(64, activation="relu", name="dense_2")(x)
    return keras.Model(inputs, keras.layers.Dense(output_dim, name="predictions")(x), name="3_layer_mlp")


def trunk_of(model):
    return keras.Model(model.inputs[0], model.layers[-1].input, name="pretrained_model")


@pytest.fixture
def pretrained():
    model = trunk_of(mlp())
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


@pytest.mark.parametrize("name", FORMATS)
def test_a_new_head(tmp_path, pretrained, name):
    interop.save_weights(pretrained, tmp_path / name)
    model = mlp(5)
    status = interop.load_weights(model, tmp_path / name)
    assert status.missing == ("predictions/bias", "predictions/kernel")
    assert not status.unexpected
    assert all(
        np.array_equal(array(a), array(b)) for a, b in zip(pretrained.weights, model.weights, strict=False)
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_sequential_around_a_pretrained_model(tmp_path, pretrained, name):
    interop.save_weights(pretrained, tmp_path / name)
    inner = trunk_of(mlp())
    model = keras.Sequential([inner, keras.layers.Dense(5, name="predictions")])
    model.build((None, 784))
    with pytest.raises(WeightsError):  # the guide's warning: Keras 2 loaded nothing, and said nothing
        interop.load_weights(model, tmp_path / name)
    assert not np.array_equal(array(inner.weights[0]), array(pretrained.weights[0]))
    interop.load_weights(inner, tmp_path / name).assert_consumed()
    assert np.array_equal(array(model.layers[0](X)), array(pretrained(X)))


def test_the_wrong_nesting_where_shapes_agree(tmp_path):
    """The head has the shapes of the trunk's second layer, and its number."""

    def stack(*layers):
        return keras.Sequential([keras.Input((4,)), *layers])

    def trunk():
        return stack(keras.layers.Dense(4, name="first"), keras.layers.Dense(4, name="second"))

    for name in FORMATS:
        interop.save_weights(trunk(), tmp_path / name)
        with pytest.raises(WeightsError):
            interop.load_weights(stack(trunk(), keras.layers.Dense(4, name="head")), tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
def test_extracted_layers(tmp_path, name):
    """The layers of the middle, saved from one model and loaded into another that has them."""
    source, target = mlp(), mlp(3)
    middle = keras.Sequential([keras.Input((784,)), source.get_layer("dense_1"), source.get_layer("dense_2")])
    interop.save_weights(middle, tmp_path / name)
    layers = [target.get_layer("dense_1"), target.get_layer("dense_2")]
    interop.load_weights(keras.Sequential([keras.Input((784,)), *layers]), tmp_path / name).assert_consumed()
    for layer in ("dense_1", "dense_2"):
        assert np.array_equal(array(source.get_layer(layer).kernel), array(target.get_layer(layer).kernel))


def test_frozen_trunk_trains_its_head_only(tmp_path, pretrained):
    interop.save_weights(pretrained, tmp_path / "w.safetensors")
    model = mlp(2)
    interop.load_weights(model, tmp_path / "w.safetensors")
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.compile("sgd", "mse")
    before = [array(w) for w in model.weights]
    model.fit(X, np.ones((3, 2)), verbose=0)
    changed = [not np.array_equal(a, array(b)) for a, b in zip(before, model.weights, strict=True)]
    assert changed == [False] * 4 + [True] * 2
    interop.save_weights(model, tmp_path / "head.npz", only="trainable")
    with interop.load_tensors(tmp_path / "head.npz") as tensors:
        assert set(tensors) == {"predictions/bias", "predictions/kernel"}
