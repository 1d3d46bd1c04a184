"""Code that makes the last layer first numbers the layers backwards: names then say one thing, the order another."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5
from keras.src.utils.naming import reset_uids

import interop
from interop.errors import FormatError, WeightsError
from interop.formats import npz, safetensors

ENDINGS = ["w.safetensors", "w.npz", "w.weights.h5", "w.h5", "w.interop", "folder"]
X = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
Dense = keras.layers.Dense


@pytest.fixture(autouse=True)
def counted_anew():
    reset_uids()


def in_order(units: int):
    return keras.Sequential([keras.Input((3,)), Dense(units, "tanh"), Dense(3)])


def inside_out(units: int):
    x = keras.Input((3,))
    return keras.Model(x, Dense(3)(Dense(units, "tanh")(x)))


def one_after_the_other(units: int):
    x = keras.Input((3,))
    hidden = Dense(units, "tanh")(x)
    return keras.Model(x, Dense(3)(hidden))


def nested(model):
    """In a container of its own, beside a layer of the same class."""
    return keras.Sequential([keras.Input((3,)), model, Dense(3)])


def predicted(model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(X))


def save(model, path) -> None:
    if path.name == "folder":
        interop.save_model(model, path)
    elif path.name == "keras.h5":
        save_model_to_hdf5(model, str(path))
    else:
        interop.save_weights(model, path)


@pytest.mark.parametrize("name", [*ENDINGS, "keras.h5"])
@pytest.mark.parametrize(("saved", "loaded"), [(in_order, inside_out), (inside_out, in_order)])
def test_equal_shapes_are_ambiguous(tmp_path, name, saved, loaded):
    model = saved(3)
    save(model, tmp_path / name)
    reset_uids()
    for _ in range(2):  # the second has other numbers
        other = loaded(3)
        before = predicted(other)
        with pytest.raises(WeightsError, match=r"another order.*dense.*by_order=True"):
            interop.load_weights(other, tmp_path / name)
        assert np.array_equal(predicted(other), before)
        interop.load_weights(other, tmp_path / name, by_order=True).assert_consumed()
        np.testing.assert_allclose(predicted(other), predicted(model), atol=1e-6)


@pytest.mark.parametrize("name", [*ENDINGS, "keras.h5"])
@pytest.mark.parametrize(("saved", "loaded"), [(in_order, inside_out), (inside_out, in_order)])
def test_other_shapes_tell(tmp_path, name, saved, loaded):
    model = saved(5)
    save(model, tmp_path / name)
    reset_uids()
    other = loaded(5)
    interop.load_weights(other, tmp_path / name).assert_consumed()
    np.testing.assert_allclose(predicted(other), predicted(model), atol=1e-6)


@pytest.mark.parametrize("name", [*ENDINGS, "ckpt", "keras.h5"])
@pytest.mark.parametrize("make", [in_order, inside_out, lambda units: nested(inside_out(units))])
def test_the_same_code_is_right_in_any_order(tmp_path, name, make):
    model = make(3)
    save(model, tmp_path / name)
    for _ in range(2):  # numbers go on
        other = make(3)
        interop.load_weights(other, tmp_path / name).assert_consumed()
        np.testing.assert_allclose(predicted(other), predicted(model), atol=1e-6)


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz", "w.weights.h5", "w.h5", "w.interop"])
def test_nested_models_too(tmp_path, name):
    model = nested(inside_out(3))
    save(model, tmp_path / name)
    reset_uids()
    other = nested(one_after_the_other(3))
    with pytest.raises(WeightsError, match="another order"):
        interop.load_weights(other, tmp_path / name)
    interop.load_weights(other, tmp_path / name, by_order=True).assert_consumed()
    np.testing.assert_allclose(predicted(other), predicted(model), atol=1e-6)


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_files_that_do_not_say_go_by_name(tmp_path, name):
    """Whoever writes such a file by hand gives names of the model that takes them."""
    model = inside_out(3)
    interop.save_weights(model, tmp_path / name)
    with interop.load_tensors(tmp_path / name) as stored:
        tensors = {key: np.array(value) for key, value in stored.items()}
    if name.endswith(".npz"):
        np.savez(tmp_path / name, **tensors)
    else:
        from safetensors.numpy import save_file

        save_file(tensors, tmp_path / name)
    reset_uids()
    other = inside_out(3)
    interop.load_weights(other, tmp_path / name).assert_consumed()
    assert np.array_equal(predicted(other), predicted(model))


def test_texts_beside_tensors(tmp_path):
    model = inside_out(3)
    for name in ("w.safetensors", "w.npz"):
        interop.save_weights(model, tmp_path / name)
        with interop.load_tensors(tmp_path / name) as stored:
            assert stored.metadata == {"layer_order": '["dense_1","dense"]'}
    for text in ("no JSON", '{"a": 1}', "[1]"):
        for write, name in ((safetensors.write, "w.safetensors"), (npz.write, "w.npz")):
            with (tmp_path / name).open("wb") as file:
                write(file, {}, {"layer_order": text})
            with pytest.raises(FormatError, match="layer_order"):
                interop.load_weights(model, tmp_path / name)


def test_many_long_names_in_a_file_of_keras(tmp_path):
    """HDF5 keeps at most 64 KiB in one attribute: Keras writes a long list of names in pieces."""
    names = [f"{'long_' * 40}{i}" for i in range(350)]
    model = keras.Sequential(
        [keras.Input((1,)), *(keras.layers.Rescaling(1.0, name=n) for n in names), Dense(2)]
    )
    save_model_to_hdf5(model, str(tmp_path / "keras.h5"))
    interop.save_weights(model, tmp_path / "own.h5")
    kernel = model.layers[-1].kernel
    value = keras.ops.convert_to_numpy(kernel)
    for name, load in (
        ("keras.h5", interop.load_weights),
        ("own.h5", interop.load_weights),
        ("own.h5", keras.Model.load_weights),
    ):
        kernel.assign(0 * value)
        load(model, tmp_path / name)
        assert np.array_equal(keras.ops.convert_to_numpy(kernel), value)


class Held(keras.Model):
    """A Sequential in an attribute."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def functional(*layers):
    outputs = inputs = keras.Input((3,))
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


STACKS = {
    "plain": lambda: [Dense(3, "tanh"), Dense(3, "relu"), Dense(3)],
    "first has none": lambda: [keras.layers.Rescaling(2.0), Dense(3, "tanh"), Dense(3)],
    "last has none": lambda: [Dense(3, "tanh"), Dense(3), keras.layers.Dropout(0.1)],
    "one between has none": lambda: [Dense(3), keras.layers.Activation("tanh"), Dense(3)],
}


@pytest.mark.parametrize("name", ["ckpt", "w.safetensors", "w.weights.h5", "w.h5"])
@pytest.mark.parametrize("make", [functional, lambda *layers: keras.Sequential([keras.Input((3,)), *layers])])
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("held", [False, True])
def test_a_sequential_that_is_not_built(tmp_path, name, make, stack, held):
    """A Functional counts its input as a layer, a Sequential does not."""
    model, other = make(*stack()), keras.Sequential(stack())
    expected = predicted(model)
    if held:
        model, other = Held(model), Held(other)
        model(X)
    interop.save_weights(model, tmp_path / name)
    status = interop.load_weights(other, tmp_path / name)
    assert status.deferred
    np.testing.assert_allclose(predicted(other), expected, atol=1e-6)
    status.assert_consumed()
    assert len(status.loaded) >= len(model.weights)


def test_a_sequential_of_which_some_layers_are_built(tmp_path):
    model, trunk = functional(Dense(3), Dense(3), Dense(3)), Dense(3)
    trunk(X)
    interop.save_weights(model, tmp_path / "ckpt")
    other = keras.Sequential([trunk, Dense(3), Dense(3)])
    status = interop.load_weights(other, tmp_path / "ckpt")
    assert status.deferred
    assert not status.missing
    np.testing.assert_allclose(predicted(other), predicted(model), atol=1e-6)
    status.assert_consumed()


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz", "w.weights.h5", "w.h5"])
def test_unbuilt_layers_have_an_order_too(tmp_path, name):
    model = inside_out(3)
    interop.save_weights(model, tmp_path / name)
    for _ in range(2):
        reset_uids()
        other = keras.Sequential([Dense(3, "tanh"), Dense(3)])
        with pytest.raises(WeightsError, match="another order"):
            interop.load_weights(other, tmp_path / name)
        status = interop.load_weights(other, tmp_path / name, by_order=True)
        np.testing.assert_allclose(predicted(other), predicted(model), atol=1e-6)
        status.assert_consumed()


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_seeds_find_their_layers_by_number_too(tmp_path, stack, held, turned):
    models = [functional(*stack()), keras.Sequential([keras.Input((3,)), *stack()])]
    model, other = (Held(m) if held else m for m in models[:: -1 if turned else 1])
    expected = predicted(model)
    predicted(other)
    interop.save_weights(model, tmp_path / "ckpt")
    interop.load_weights(other, tmp_path / "ckpt").assert_consumed()
    np.testing.assert_allclose(predicted(other), expected, atol=1e-6)
