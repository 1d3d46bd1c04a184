"""Weights on disk: every format, matched by name, accounted for, and never by position alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest

import interop
from interop.capture.keras import paths
from interop.capture.keras.trackable import slot_lists
from interop.errors import FormatError, WeightsError
from interop.formats.tensorbundle.files import files_of, index_of
from tools.other_keras.models import MODELS

KERAS2 = Path(__file__).parent / "fixtures" / "keras2"
KERAS3 = Path(__file__).parent / "fixtures" / "keras3"
ENDINGS = ["w.safetensors", "w.npz", "w.weights.h5", "w.h5", "ckpt", "w.interop"]
SMALL = ["w.safetensors", "w.weights.h5", "ckpt"]


def values(model) -> dict[str, np.ndarray]:
    """By key; automatic names in the order of their numbers."""
    named = paths.named_variables(model)
    keys = sorted(named, key=lambda key: re.sub(r"\d+", lambda number: number[0].zfill(9), key))
    return {key: np.array(keras.ops.convert_to_numpy(named[key].value)) for key in keys}


def scrambled(model, seed: int = 1):
    """Other values for every variable, seeds included."""
    rng = np.random.default_rng(seed)
    for variable in paths.named_variables(model).values():
        is_float = "float" in str(variable.dtype)
        variable.assign(
            rng.uniform(0.1, 1, variable.shape) if is_float else rng.integers(1, 99, variable.shape)
        )
    return model


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """The same values in the same order; automatic names may have other numbers."""
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def functional():
    x = inputs = keras.Input((3,))
    x = keras.layers.Dense(4, name="first")(x)
    x = keras.layers.Dropout(0.1)(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(4)(x)))


class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.layers_in_a_list = [keras.layers.Dense(3), keras.layers.Dense(3)]
        self.by_name = {"x": keras.layers.Dense(3)}
        self.factor = self.add_weight(shape=(3,), name="something_else")
        self.memory = keras.layers.LSTM(2, dropout=0.1)

    def call(self, x):
        for layer in self.layers_in_a_list:
            x = layer(x)
        return self.memory((self.by_name["x"](x) * self.factor)[:, None])


class Network(keras.Model):
    def __init__(self, units: int = 2):
        super().__init__()
        self.block = Block()
        self.query = keras.layers.Dense(units)
        self.value = keras.layers.Dense(units)

    def call(self, x):
        x = self.block(x)
        return self.query(x) * self.value(x)


X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def subclassed():
    model = Network()
    model(X)
    return model


MADE = {"functional": functional, "subclassed": subclassed}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", MADE)
def test_round_trip(tmp_path, kind, ending):
    saved, other = scrambled(MADE[kind]()), MADE[kind]()
    path = tmp_path / ending
    if ending != "w.interop":
        interop.save_weights(scrambled(MADE[kind](), 2), path)  # replaced by what follows
    assert interop.save_weights(saved, path) == path
    status = interop.load_weights(other, path).assert_consumed()
    assert same(values(saved), values(other))
    assert len(status.loaded) == len(values(other))
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    # The same values are there for those who want tensors alone.
    with interop.load_tensors(path) as tensors:
        assert {"first/kernel", "block/factor"} & set(tensors) or ending == "ckpt"


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_not_built_waits(tmp_path, ending):
    saved, other = scrambled(subclassed()), Network()
    interop.save_weights(saved, tmp_path / ending)
    status = interop.load_weights(other, tmp_path / ending)
    assert len(status.deferred) > 5
    with pytest.raises(WeightsError, match="deferred"):
        status.assert_consumed()
    status.assert_existing_objects_matched()
    other(X)
    status.assert_consumed()
    mine, theirs = values(other), values(saved)
    assert all(
        np.array_equal(mine[key], theirs[key]) for key in theirs if "seed" not in key
    )  # a call moves seeds


def test_what_waits_is_checked_when_it_is_built(tmp_path):
    interop.save_weights(scrambled(subclassed()), tmp_path / "w.safetensors")
    for skip in (False, True):
        other = Network(units=5)
        status = interop.load_weights(other, tmp_path / "w.safetensors", skip_mismatch=skip)
        if skip:
            other(X)
        else:  # Keras drops the error where it can build the model in another way
            with (
                pytest.warns(UserWarning, match=r"is float32\(2,\), expected float32\(5,\)"),
                suppress(WeightsError),
            ):
                other(X)
            other(X)
        keys = {mismatch.key for mismatch in status.mismatched}
        assert keys == {"query/bias", "query/kernel", "value/bias", "value/kernel"}
        with pytest.raises(WeightsError, match="query/bias is"):
            status.assert_existing_objects_matched()
        assert "block/factor" in status.loaded


@pytest.mark.parametrize("ending", SMALL)
def test_only(tmp_path, ending):
    saved = scrambled(functional())
    saved.get_layer("first").trainable = False
    trainable = {key for key, v in paths.named_variables(saved).items() if v.trainable}
    for only, expected in (
        ("trainable", trainable),
        ("first/", {"first/bias", "first/kernel"}),
        (re.compile("kernel$"), {key for key in values(saved) if key.endswith("kernel")}),
        (
            lambda key, variable: len(variable.shape) == 2,
            {k for k, v in values(saved).items() if v.ndim == 2},
        ),
    ):
        interop.save_weights(saved, tmp_path / ending, only=only)
        fresh = keras.models.clone_model(saved)
        status = interop.load_weights(fresh, tmp_path / ending)
        assert set(status.loaded) == expected
        assert not status.unexpected
        assert all(np.array_equal(values(fresh)[key], values(saved)[key]) for key in expected)
    with pytest.raises(WeightsError, match="has no variables to save that only='nothing' selects"):
        interop.save_weights(saved, tmp_path / ending, only="nothing")
    with pytest.raises(WeightsError, match="is no regular expression"):
        interop.save_weights(saved, tmp_path / ending, only="(")


def stack(*units: int, names: tuple[str, ...] = ()):
    layers = [
        keras.layers.Dense(n, name=name) for n, name in zip(units, names or [None] * len(units), strict=True)
    ]
    return keras.Sequential([keras.Input((4,)), *layers])


@pytest.mark.parametrize("ending", ["w.safetensors", "w.weights.h5", "w.h5", "ckpt"])
def test_a_wrong_shape_raises_and_changes_nothing(tmp_path, ending):
    interop.save_weights(scrambled(stack(4, 4, names=("a", "b"))), tmp_path / ending)
    other = scrambled(stack(4, 5, names=("a", "b")), 2)
    before = values(other)
    with pytest.raises(WeightsError, match=r"b/bias is float32\(4,\), expected float32\(5,\)"):
        interop.load_weights(other, tmp_path / ending)
    assert same(values(other), before)
    status = interop.load_weights(other, tmp_path / ending, skip_mismatch=True)
    assert status.loaded == ("a/bias", "a/kernel")
    assert [mismatch.key for mismatch in status.mismatched] == ["b/bias", "b/kernel"]
    assert np.array_equal(values(other)["b/bias"], before["b/bias"])
    assert not np.array_equal(values(other)["a/bias"], before["a/bias"])


@pytest.mark.parametrize("ending", ["w.safetensors", "w.weights.h5", "w.h5", "ckpt"])
def test_nothing_matched_raises(tmp_path, ending):
    trunk = scrambled(stack(4, 3, names=("a", "b")))
    interop.save_weights(trunk, tmp_path / ending)
    around = keras.Sequential([keras.Input((4,)), stack(4, 3, names=("a", "b")), keras.layers.Dense(2)])
    before = values(around)
    with pytest.raises(WeightsError, match=r"nothing in .* belongs to this model|could belong to several"):
        interop.load_weights(around, tmp_path / ending)
    assert same(values(around), before)
    interop.load_weights(around.layers[0], tmp_path / ending).assert_consumed()


@pytest.mark.parametrize("ending", ["w.safetensors", "w.weights.h5", "w.h5"])
def test_missing_and_unexpected_are_listed(tmp_path, ending):
    interop.save_weights(scrambled(stack(4, 4, names=("a", "old"))), tmp_path / ending)
    status = interop.load_weights(stack(4, 4, names=("a", "new")), tmp_path / ending)
    assert status.loaded == ("a/bias", "a/kernel")
    assert status.missing == ("new/bias", "new/kernel")
    assert len(status.unexpected) == 2
    assert all("old" in key or "dense_1" in key for key in status.unexpected)
    for check in (status.assert_consumed, status.assert_existing_objects_matched):
        with pytest.raises(WeightsError, match="new/bias"):
            check()
    assert status.expect_partial() is status


@pytest.mark.parametrize("ending", ["w.safetensors", "w.weights.h5", "w.h5", "keras.weights.h5"])
def test_layers_of_one_shape_are_told_by_name(tmp_path, ending):
    saved = scrambled(stack(4, 4, names=("a", "b")))
    path = tmp_path / ending
    saved.save_weights(path) if ending.startswith("keras") else interop.save_weights(saved, path)
    other = stack(4, 4, names=("b", "a"))
    interop.load_weights(other, path).assert_consumed()
    assert same(values(saved), values(other))


def test_numbers_of_a_checkpoint_that_contradict_names(tmp_path):
    interop.save_weights(scrambled(stack(4, 4, names=("a", "b"))), tmp_path / "ckpt")
    with pytest.raises(WeightsError, match="could belong to several variables"):
        interop.load_weights(stack(4, 4, names=("b", "a")), tmp_path / "ckpt")


AUTOMATIC = [
    (["dense", "dense_1"], ["dense_5", "dense_6"], {"dense": "dense_5", "dense_1": "dense_6"}),
    (["dense_1", "dense_2"], ["dense_2", "dense_3"], {"dense_1": "dense_2", "dense_2": "dense_3"}),
    (["dense_9", "dense_10"], ["dense_1", "dense_2"], {"dense_9": "dense_1", "dense_10": "dense_2"}),
    (["dense_1"], ["dense_1", "dense_2"], {"dense_1": "dense_1"}),
    (["dense_1", "dense_2"], ["dense_2"], {"dense_2": "dense_2"}),
    (["dense", "dense_1"], ["dense_1", "dense_2", "dense_3"], None),
    (["head", "dense"], ["head", "dense_4"], {"head": "head", "dense": "dense_4"}),
]


@pytest.mark.parametrize(("stored", "here", "expected"), AUTOMATIC)
def test_automatic_names(tmp_path, stored, here, expected):
    saved = scrambled(stack(*[4] * len(stored), names=tuple(stored)))
    other = scrambled(stack(*[4] * len(here), names=tuple(here)), 2)
    interop.save_weights(saved, tmp_path / "w.safetensors")
    if expected is None:
        with pytest.raises(WeightsError, match="could belong to several variables"):
            interop.load_weights(other, tmp_path / "w.safetensors")
        return
    status = interop.load_weights(other, tmp_path / "w.safetensors")
    assert len(status.loaded) == 2 * len(expected)
    for old, new in expected.items():
        assert np.array_equal(values(saved)[f"{old}/kernel"], values(other)[f"{new}/kernel"])


class Swapped(keras.Model):
    """Keras numbers the layers of attributes that sort after ``layers``."""

    def __init__(self, order: str):
        super().__init__()
        for name in order:
            setattr(self, name, keras.layers.Dense(4))

    def call(self, x):
        return self.q(x) - 2 * self.v(x)


def made(model, x=X):
    model(x)
    return model


def test_numbered_layers_of_a_keras_file_are_not_guessed(tmp_path):
    saved, other = scrambled(made(Swapped("qv"))), scrambled(made(Swapped("vq")), 2)
    saved.save_weights(tmp_path / "keras.weights.h5")
    before = values(other)
    for target in (other, made(Swapped("qv"))):
        with pytest.raises(WeightsError, match=r"apart by number only: layers/dense.*by_order=True"):
            interop.load_weights(target, tmp_path / "keras.weights.h5")
    assert same(values(other), before)
    again = made(Swapped("qv"))
    interop.load_weights(again, tmp_path / "keras.weights.h5", by_order=True).assert_consumed()
    assert same(values(saved), values(again))  # as Keras does, of the class as it was
    interop.save_weights(saved, tmp_path / "own.weights.h5")
    interop.load_weights(other, tmp_path / "own.weights.h5").assert_consumed()
    assert same(values(saved), values(other))


@pytest.mark.parametrize("kind", MADE)
def test_keras_reads_what_is_written(tmp_path, kind):
    saved, other = scrambled(MADE[kind]()), MADE[kind]()
    interop.save_weights(saved, tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")
    assert np.array_equal(keras.ops.convert_to_numpy(saved(X)), keras.ops.convert_to_numpy(other(X)))
    if kind == "functional":
        interop.save_weights(saved, tmp_path / "w.h5")
        other = MADE[kind]()
        other.load_weights(tmp_path / "w.h5")
        assert np.array_equal(keras.ops.convert_to_numpy(saved(X)), keras.ops.convert_to_numpy(other(X)))


def test_what_keras_writes(tmp_path):
    saved = scrambled(functional())
    saved.compile("adam", "mse", metrics=["mae"])
    saved.fit(X, np.ones((4, 2)), verbose=0)
    saved.save_weights(tmp_path / "w.weights.h5")
    saved.save(tmp_path / "m.keras")
    for name in ("w.weights.h5", "m.keras"):
        other = functional()
        status = interop.load_weights(other, tmp_path / name).assert_existing_objects_matched()
        assert all(key.startswith("optimizer/vars/") for key in status.unexpected)
        mine, theirs = values(other), values(saved)
        assert all(
            np.array_equal(mine[a], theirs[b]) for a, b in zip(mine, theirs, strict=True) if "seed" not in a
        )


def test_shards_of_keras(tmp_path):
    """Several files with an index, the optimizer's state in more than one."""

    def wide():
        made = keras.Sequential(
            [keras.Input((8,)), *(keras.layers.Dense(64, name=name) for name in ("a", "b"))]
        )
        made.compile("adam", "mse")
        made.optimizer.build(made.trainable_variables)
        return made

    saved, other = scrambled(wide()), wide()
    slot = saved.optimizer.variables[5]
    slot.assign(np.ones(slot.shape, "float32"))
    saved.save_weights(tmp_path / "m.weights.json", max_shard_size=2e-5)
    assert len(list(tmp_path.glob("*.weights.h5"))) > 2
    interop.load_weights(other, tmp_path / "m.weights.json").assert_consumed()
    assert same(values(saved), values(other))
    slots = ([np.array(v.value) for v in made.optimizer.variables] for made in (saved, other))
    assert all(np.array_equal(*pair) for pair in zip(*slots, strict=True))
    with interop.load_tensors(tmp_path / "m.weights.json") as tensors:
        assert np.array_equal(tensors["b/0"], values(saved)["b/kernel"])
    index = json.loads((tmp_path / "m.weights.json").read_text())
    for change, message in (
        ({"/layers/dense/vars": ["../x.weights.h5"]}, "no file beside the index"),
        ({"/layers/dense/vars": ["none.weights.h5"]}, "is missing"),
        ({"/layers/lost/vars": ["m_00000.weights.h5"]}, "is not in m_00000.weights.h5"),
        ({"/layers/dense/vars": "m.txt"}, "expected names"),
    ):
        changed = {"weight_map": index["weight_map"] | change}
        (tmp_path / "bad.weights.json").write_text(json.dumps(changed))
        with pytest.raises(FormatError, match=message):
            interop.load_weights(other, tmp_path / "bad.weights.json")


@pytest.mark.parametrize("index", sorted(KERAS2.glob("*.index")), ids=lambda path: path.stem)
def test_checkpoints_of_keras_2(index):
    """Written by tf_keras (tools/other_keras/keras2.py), with what its models answered."""
    answers = np.load(KERAS2 / "answers.npz")
    case = index.stem
    model, x = MODELS[case.partition("-")[0]](keras)
    momentum = {"momentum": 0.9} if case.endswith("sgd") else {}
    model.compile((keras.optimizers.SGD if momentum else keras.optimizers.Adam)(0.5, **momentum), "mse")
    model.optimizer.build(model.trainable_variables)
    status = interop.load_weights(model, index.with_suffix("")).assert_existing_objects_matched()
    # Constants of the first optimizers were variables.
    assert all(re.search("/(beta_1|beta_2|decay|momentum)/", key) for key in status.unexpected)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), answers[case], rtol=1e-5, atol=1e-5)
    first = next(v for layer in model.layers for v in layer.trainable_variables)
    place = [v is first for v in model.trainable_variables].index(True)
    for key in (key for key in answers if key.startswith(f"{case}:")):
        lists = [getattr(model.optimizer, n, None) for n in slot_lists(key.partition(":")[2])]
        slots = next(found for found in lists if found is not None)
        assert np.array_equal(keras.ops.convert_to_numpy(slots[place].value), answers[key])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize("path", sorted(KERAS2.glob("*.h5")), ids=lambda path: path.stem)
def test_h5_of_keras_2(path):
    model, x = MODELS[path.stem.partition("-")[0]](keras)
    interop.load_weights(model, path).assert_consumed()
    answer = np.load(KERAS2 / "answers.npz")[path.stem]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), answer, rtol=1e-5, atol=1e-5)


def test_h5_of_keras_2_that_does_not_fit(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(WeightsError, match="nothing in"):
        interop.load_weights(model, KERAS2 / "functional-adam.h5")
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(5, 3, name="stem")(image))
    with pytest.raises(WeightsError, match=r"stem/bias is float32\(4,\), expected float32\(5,\)"):
        interop.load_weights(model, KERAS2 / "functional-adam.h5")


@pytest.mark.parametrize(
    "path", sorted(KERAS3.glob("*.h5")), ids=lambda path: path.name.removesuffix(".weights.h5")
)
def test_files_of_older_keras_3(path):
    """Written by Keras 3.0, 3.3, 3.7, 3.10 and 3.13 (tools/other_keras/keras3.py)."""
    version, name = path.name.removesuffix(".weights.h5").split("-")
    model, x = MODELS[name](keras)
    interop.load_weights(model, path).assert_consumed()
    answer = np.load(KERAS3 / f"{version}-{name}.npy")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), answer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "path", sorted(KERAS3.glob("*.keras")), ids=lambda path: path.name.removesuffix(".keras")
)
@pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`")  # Keras stored single inputs as lists
def test_models_of_older_keras_3(path):
    """The same, whole: with the state of an optimizer, which nothing is lost of."""
    reports = []
    model = interop.load_model(path, report=reports)
    _, x = MODELS[path.stem.rpartition("-")[2]](keras)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(x)), np.load(f"{path}.npy"), rtol=1e-5, atol=1e-5
    )
    assert not reports[0].assert_consumed().lost
    assert int(model.optimizer.iterations) == 1
    assert any(np.any(keras.ops.convert_to_numpy(slot.value)) for slot in model.optimizer._momentums)
    status = interop.load_weights(model, path).assert_consumed()
    assert len(status.loaded) >= len(model.weights) + len(model.optimizer.variables)


@pytest.mark.parametrize("path", sorted(KERAS3.glob("optimizers/*.keras")), ids=lambda path: path.stem)
def test_optimizers_of_older_keras_3(path):
    """The same, of optimizers that listed their variables in another order, or with other dtypes."""
    answers = np.load(f"{path}.npz")
    reports = []
    model = interop.load_model(path, report=reports)
    assert not reports[0].assert_consumed().lost
    fresh = keras.models.clone_model(model)
    fresh.compile(type(model.optimizer)(), "mse")
    interop.load_weights(fresh, path).assert_consumed()
    for each in (model, fresh):
        each.train_on_batch(answers["x"], np.ones((4, 2), "float32"))
        y = keras.ops.convert_to_numpy(each(answers["x"]))
        np.testing.assert_allclose(y, answers["y"], rtol=1e-5, atol=1e-5)


def test_attributes_with_underscores(tmp_path):
    """Keras 2 calls a group ``_key_dense`` where Keras 3 has ``key_dense``, and the other way round."""
    x = keras.Input((5, 8))
    saved, fresh = (keras.Model(x, keras.layers.MultiHeadAttention(2, 4)(x, x)) for _ in range(2))
    saved.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        found = []
        file.visit(lambda path: found.append(path) if path.endswith("_dense") else None)
        for path in found:
            owner, _, name = path.rpartition("/")
            file.move(path, f"{owner}/{name.lstrip('_') if name.startswith('_') else f'_{name}'}")
    assert len(found) == 4
    interop.load_weights(fresh, tmp_path / "m.weights.h5").assert_consumed()
    assert same(values(saved), values(fresh))


def test_lora(tmp_path):
    """Keras stores kernels with the factors of LoRA added to them, and no factors."""

    def adapted(rank: int):
        dense = keras.layers.Dense(4, name="a")
        model = keras.Sequential([keras.Input((6,)), dense, keras.layers.EinsumDense("ab,bc->ac", 5)])
        for layer in model.layers if rank else ():
            layer.enable_lora(rank)
        return model

    saved, x = scrambled(adapted(2)), np.ones((2, 6), "float32")
    answer = saved.predict(x, verbose=0)
    saved.save_weights(tmp_path / "keras.weights.h5")
    for rank in (0, 2):
        model = scrambled(adapted(rank), 2)
        interop.load_weights(model, tmp_path / "keras.weights.h5").assert_consumed()
        np.testing.assert_allclose(model.predict(x, verbose=0), answer, rtol=1e-5)
    for name in ENDINGS:
        interop.save_weights(saved, tmp_path / name)
        model = scrambled(adapted(2), 2)
        interop.load_weights(model, tmp_path / name).assert_consumed()
        assert same(values(model), values(saved)), name
    model.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(model.predict(x, verbose=0), answer, rtol=1e-5)


def test_other_dtypes(tmp_path):
    saved = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16", name="d")])
    scrambled(saved)
    for name in SMALL:
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16", name="d")])
        interop.save_weights(saved, tmp_path / name)
        interop.load_weights(other, tmp_path / name).assert_consumed()
        assert values(other)["d/kernel"].dtype == ml_dtypes.bfloat16
        assert same(values(saved), values(other))
        wider = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        interop.load_weights(wider, tmp_path / name).assert_consumed()
        assert np.array_equal(values(wider)["d/kernel"], values(saved)["d/kernel"].astype("float32"))
    for name, message in (("w.npz", r"\.npz cannot hold"), ("w.h5", r"\.h5 cannot hold")):
        with pytest.raises(FormatError, match=message):
            interop.save_weights(saved, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_format_that_the_ending_does_not_tell(tmp_path):
    saved, other = scrambled(functional()), functional()
    for format in ("safetensors", "npz", "h5", "tf"):
        interop.save_weights(saved, tmp_path / f"{format}.weights", format=format)
        interop.load_weights(other, tmp_path / f"{format}.weights", format=format).assert_consumed()
    interop.save_weights(saved, tmp_path / "folder", format="interop")
    interop.load_weights(other, tmp_path / "folder").assert_consumed()


BAD = [
    (lambda m, p: interop.save_weights(m, p / "w.pt"), FormatError, "are not saved as .pt"),
    (lambda m, p: interop.save_weights(m, p / "w", format="pickle"), FormatError, "format is one of"),
    (lambda m, p: interop.save_weights(m, p / "m.keras"), FormatError, "holds a whole model"),
    (lambda m, p: interop.save_weights(Swapped("qv"), p / "w.npz"), WeightsError, "call or build it first"),
    (lambda m, p: interop.save_weights(m, p / "w.interop", only="a"), WeightsError, "holds all weights"),
    (lambda m, p: interop.save_weights(m, p / "none" / "w.npz"), FileNotFoundError, "none"),
    (
        lambda m, p: interop.load_weights(m, p / "none"),
        FileNotFoundError,
        "nor a checkpoint of that prefix: ",
    ),
    (lambda m, p: interop.save_weights(m, p / "w.npz", only=3), WeightsError, "only is 'trainable'"),
    (
        lambda m, p: interop.save_weights({"a": m}, p / "w.npz"),
        WeightsError,
        "Received: dict",
    ),
    (
        lambda m, p: interop.load_weights(None, p / "w.npz"),
        WeightsError,
        "Received: NoneType",
    ),
    (lambda m, p: interop.load_weights(m, p / "w.npz"), FileNotFoundError, "w.npz"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_arguments(tmp_path, call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(stack(2), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["w.safetensors", "w.npz", "w.weights.h5", "w.h5", "ckpt"])
def test_a_save_that_fails_leaves_what_was_there(tmp_path, ending, monkeypatch):
    saved, other = scrambled(functional()), functional()
    interop.save_weights(saved, tmp_path / ending)
    before = sorted(path.name for path in tmp_path.iterdir())

    def fail(*arguments):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("interop.artifact.publish.Staging.publish", fail)
        with pytest.raises(OSError, match="the disk is full"):
            interop.save_weights(other, tmp_path / ending)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    interop.load_weights(other, tmp_path / ending).assert_consumed()
    assert same(values(saved), values(other))


def test_a_checkpoint_is_replaced_in_one_step(tmp_path, monkeypatch):
    """Killed between the data and the index, the old checkpoint is there; then, the new one."""
    from interop.artifact import checkpoints

    first, second, other = scrambled(functional()), scrambled(functional(), 2), functional()
    interop.save_weights(first, tmp_path / "ckpt")
    with monkeypatch.context() as patch:

        def killed(*arguments):
            raise KeyboardInterrupt

        patch.setattr(checkpoints, "write_file", killed)
        with pytest.raises(KeyboardInterrupt):
            interop.save_weights(second, tmp_path / "ckpt")
    interop.load_weights(other, tmp_path / "ckpt").assert_consumed()
    assert same(values(first), values(other))
    interop.save_weights(second, tmp_path / "ckpt")
    interop.load_weights(other, tmp_path / "ckpt").assert_consumed()
    assert same(values(second), values(other))
    shards = {
        path.name.rpartition("-of-")[2] for path in files_of(tmp_path / "ckpt") if ".data-" in path.name
    }
    assert len(shards) == 1


def test_a_checkpoint_without_objects(tmp_path):
    from interop.formats.tensorbundle.writer import write_index

    index_of(tmp_path / "c").write_bytes(write_index({}))
    with pytest.raises(FormatError, match="has no object graph"):
        interop.load_weights(stack(2), tmp_path / "c")


def test_an_object_path_given_twice(tmp_path):
    interop.save_weights(stack(4, names=("a",)), tmp_path / "w.weights.h5")
    with h5py.File(tmp_path / "w.weights.h5", "r+") as file:
        file["layers/dense/vars/1"].attrs["object_path"] = "a/kernel"
    with pytest.raises(WeightsError, match="one object path to several"):
        interop.load_weights(stack(4, names=("a",)), tmp_path / "w.weights.h5")


@pytest.mark.parametrize("name", ["ckpt", "w.h5", "w.weights.h5", "w.npz", "keras.weights.h5"])
def test_a_model_built_layer_by_layer_is_matched_once(tmp_path, monkeypatch, name):
    """Each layer is matched alone when it is built: matching the model again every time is quadratic."""
    from interop.rebuild.weights.loading import _Loading

    def stack():
        return keras.Sequential([keras.layers.Dense(3, name=f"d{i}") for i in range(8)])

    whole, assign = [], _Loading.assign
    monkeypatch.setattr(_Loading, "assign", lambda *args: (whole.append(1), assign(*args))[1])
    saved, fresh, x = stack(), stack(), np.ones((2, 3), "float32")
    saved(x)
    saved.save_weights(tmp_path / name) if name.startswith("keras") else interop.save_weights(
        saved, tmp_path / name
    )
    status = interop.load_weights(fresh, tmp_path / name)
    assert len(status.deferred) == 16
    assert np.array_equal(*(keras.ops.convert_to_numpy(model(x)) for model in (saved, fresh)))
    status.assert_consumed()
    assert len(status.loaded) == 16
    assert len(whole) <= 2


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="nothing tells beforehand whether there is room"
)
@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_no_room_for_hdf5(tmp_path, name):
    """In a process of its own: HDF5's library crashes some time after a write has failed."""
    code = f"""
import keras, interop, resource
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(500)])
interop.save_weights(model, {str(tmp_path / name)!r})
before = open({str(tmp_path / name)!r}, "rb").read()
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    interop.save_weights(model, {str(tmp_path / name)!r})
except OSError as error:
    print(type(error).__name__)
assert open({str(tmp_path / name)!r}, "rb").read() == before
interop.load_weights(model, {str(tmp_path / name)!r}).assert_consumed()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == "OSError"
