"""The state of an optimizer beside weights: every format holds it, and training goes on as if it had not stopped."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from test_resume import OPTIMIZERS, SPECIAL, X, epochs, model

import interop
from interop.capture.keras import paths
from interop.errors import DigestError, WeightsError

MADE = {name: {**OPTIMIZERS, **SPECIAL}[name] for name in ("adam", "sgd", "scaled loss")}
ENDINGS = ["w.safetensors", "w.npz", "w.weights.h5", "w.h5", "ckpt", "w.interop"]


def compiled(name: str) -> keras.Model:
    """A model before its first step."""
    made = model(MADE[name]())
    made.run_eagerly = keras.backend.backend() == "tensorflow"  # it compiles for longer
    return made


def fresh(name: str) -> keras.Model:
    """The same with other values."""
    made = compiled(name)
    for variable in made.weights:
        variable.assign(keras.ops.add(variable, 1))
    return made


def state(trained: keras.Model) -> dict[str, np.ndarray]:
    return {
        key: np.array(keras.ops.convert_to_numpy(variable.value))
        for key, variable in paths.optimizer_variables(trained).items()
    }


def check_same(mine: keras.Model, theirs: keras.Model) -> None:
    mine, theirs = state(mine), state(theirs)
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


@pytest.fixture(scope="module")
def trained():
    """Each optimizer: a model after three epochs, and the losses of the next two."""
    made = {name: (compiled(name), epochs(compiled(name), 5)) for name in MADE}
    for source, whole in made.values():
        assert epochs(source, 3) == whole[:3]
    return made


ROWS = [
    *(("adam", ending) for ending in ENDINGS),
    *((name, ending) for name in ("sgd", "scaled loss") for ending in ("w.npz", "w.weights.h5", "ckpt")),
]


@pytest.mark.parametrize(("name", "ending"), ROWS)
def test_training_goes_on(tmp_path, trained, name, ending):
    source, whole = trained[name]
    interop.save_weights(source, tmp_path / ending, include_optimizer=True)
    resumed = fresh(name)
    status = interop.load_weights(resumed, tmp_path / ending).assert_consumed()
    assert any(key.startswith("optimizer:") and key.endswith("iterations") for key in status.loaded)
    check_same(resumed, source)
    if ending == "ckpt":
        assert epochs(resumed, 2) == whole[3:]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_model_that_is_not_compiled(tmp_path, trained, ending):
    """Nothing could take the state; an artifact has it in a file of its own."""
    source, _ = trained["adam"]
    interop.save_weights(source, tmp_path / ending, include_optimizer=True)
    bare = keras.Sequential.from_config(source.get_config())
    status = interop.load_weights(bare, tmp_path / ending).assert_existing_objects_matched()
    assert len(status.loaded) == len(source.weights)
    assert bool(status.unexpected) == (ending != "w.interop")
    assert all(key.startswith("optimizer") for key in status.unexpected)
    with pytest.raises(WeightsError, match="is not compiled"):
        interop.save_weights(bare, tmp_path / ending, include_optimizer=True)
    interop.save_weights(source, tmp_path / ending)
    interop.load_weights(bare, tmp_path / ending).assert_consumed()


@pytest.mark.parametrize("ending", ["w.safetensors", "w.weights.h5", "ckpt"])
def test_a_file_without_state_changes_none(tmp_path, trained, ending):
    source, _ = trained["sgd"]
    interop.save_weights(source, tmp_path / ending)
    other = fresh("sgd")
    other.optimizer.build(other.trainable_variables)
    before = state(other)
    interop.load_weights(other, tmp_path / ending).assert_consumed()
    assert all(np.array_equal(before[key], value) for key, value in state(other).items())


@pytest.mark.parametrize("ending", ["w.safetensors", "w.weights.h5", "w.h5", "ckpt"])
def test_another_optimizer_is_told(tmp_path, trained, ending):
    source, _ = trained["sgd"]
    interop.save_weights(source, tmp_path / ending, include_optimizer=True)
    status = interop.load_weights(fresh("adam"), tmp_path / ending)
    assert any(key.startswith("optimizer:") and "velocity" in key for key in status.missing)
    with pytest.raises(WeightsError, match="optimizer:"):
        status.assert_consumed()


@pytest.mark.parametrize("ending", ["w.safetensors", "ckpt"])
def test_state_waits_for_a_model_that_is_not_built(tmp_path, ending):
    def lazy() -> keras.Model:
        layers = [keras.layers.Dense(4, "tanh", name="first"), keras.layers.Dense(1, name="out")]
        made = keras.Sequential(layers)
        made.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=keras.backend.backend() == "tensorflow")
        return made

    source, other = lazy(), lazy()
    epochs(source, 1)
    interop.save_weights(source, tmp_path / ending, include_optimizer=True)
    status = interop.load_weights(other, tmp_path / ending)
    assert status.deferred
    assert epochs(other, 1) == epochs(source, 1)
    status.assert_consumed()
    check_same(other, source)


def pair(names: tuple[str, str]) -> keras.Model:
    """Two layers of one shape."""
    made = keras.Sequential([keras.Input((5,)), *(keras.layers.Dense(5, name=name) for name in names)])
    made.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return made


@pytest.mark.parametrize("ending", ["w.safetensors", "w.weights.h5", "w.h5", "w.interop"])
@pytest.mark.parametrize("names", [("b", "a"), ("dense_98", "dense_99")])
def test_state_follows_its_variable(tmp_path, ending, names):
    """Layers in another order, or with other automatic names."""
    source = pair(("a", "b") if names[0] == "b" else ("dense_3", "dense_4"))
    source.fit(X, X, verbose=0)
    interop.save_weights(source, tmp_path / ending, include_optimizer=True)
    other = pair(names)
    interop.load_weights(other, tmp_path / ending).assert_consumed()
    moved = dict(
        zip([layer.name for layer in source.layers], names if names[0] != "b" else ("a", "b"), strict=True)
    )
    there = state(source)
    for key, value in state(other).items():
        layer, _, rest = key.partition("/")
        old = next((old for old, new in moved.items() if new == layer), layer)
        np.testing.assert_array_equal(value, there[f"{old}/{rest}" if rest else layer], err_msg=key)


def test_order_in_a_file_of_keras(tmp_path):
    """Keras lists the state without names: only where the layers are those of the file does it belong to them."""
    source = pair(("a", "b"))
    source.fit(X, X, verbose=0)
    source.save_weights(tmp_path / "w.weights.h5")
    same, swapped = pair(("a", "b")), pair(("b", "a"))
    interop.load_weights(same, tmp_path / "w.weights.h5").assert_consumed()
    check_same(same, source)
    status = interop.load_weights(swapped, tmp_path / "w.weights.h5")
    assert all(key.startswith("optimizer/vars/") for key in status.unexpected)
    assert any(key.startswith("optimizer:") for key in status.missing)
    assert not any(np.any(value) for key, value in state(swapped).items() if key.endswith("momentum"))


def test_only_some(tmp_path, trained):
    source, _ = trained["adam"]
    interop.save_weights(source, tmp_path / "w.npz", only="first/", include_optimizer=True)
    with interop.load_tensors(tmp_path / "w.npz") as tensors:
        assert set(tensors) == {
            *("first/bias", "first/kernel", "optimizer:iterations", "optimizer:learning_rate"),
            *(
                f"optimizer:first/{name}/{slot}"
                for name in ("bias", "kernel")
                for slot in ("momentum", "velocity")
            ),
        }


@pytest.mark.parametrize("name", ["adam", "scaled loss"])
def test_keras_goes_on(tmp_path, trained, name):
    """What is written, Keras restores; what Keras writes is restored here."""
    source, whole = trained[name]
    interop.save_weights(source, tmp_path / "own.weights.h5", include_optimizer=True)
    source.save_weights(tmp_path / "keras.weights.h5")
    for path, load in (("own", keras.Model.load_weights), ("keras", interop.load_weights)):
        resumed = fresh(name)
        resumed.optimizer.build(resumed.trainable_variables)
        load(resumed, tmp_path / f"{path}.weights.h5")
        check_same(resumed, source)
        if path == "keras":
            assert epochs(resumed, 2) == whole[3:]


@pytest.mark.framework("tensorflow")
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_tensorflow_goes_on(tmp_path, trained, name):
    """The same with the checkpoints of TensorFlow."""
    import tensorflow as tf

    source, whole = trained[name]
    interop.save_weights(source, tmp_path / "own", include_optimizer=True)
    theirs = tf.train.Checkpoint(source).write(str(tmp_path / "tf"))
    resumed, read = fresh(name), fresh(name)
    resumed.optimizer.build(resumed.trainable_variables)
    tf.train.Checkpoint(resumed).read(str(tmp_path / "own")).assert_consumed()
    interop.load_weights(read, theirs).assert_consumed()
    for made in (resumed, read):
        check_same(made, source)
        assert epochs(made, 2) == whole[3:]


def test_counters_are_those_of_tensorflow(tmp_path, trained):
    """Keras counts in int32 elsewhere, and TensorFlow restores nothing of another type."""
    interop.save_weights(trained["adam"][0], tmp_path / "c", include_optimizer=True)
    interop.Checkpoint(o=trained["adam"][0].optimizer).save(tmp_path / "o")
    for name, key in (("c", "optimizer/iterations"), ("o-1", "o/iterations")):
        with interop.load_tensors(tmp_path / name) as tensors:
            assert tensors.dtypes[f"{key}/.ATTRIBUTES/VARIABLE_VALUE"] == "int64"


@pytest.mark.parametrize("ending", ["w.interop", "folder"])
def test_a_flipped_byte_of_an_artifact(tmp_path, trained, ending):
    source, _ = trained["adam"]
    path = interop.save_weights(source, tmp_path / ending, format="interop", include_optimizer=True)
    for name, value in (("weights", source.layers[0].kernel), ("optimizer", source.optimizer._momentums[0])):
        file = path if path.is_file() else path / f"{name}.safetensors"
        good = file.read_bytes()
        place = good.index(keras.ops.convert_to_numpy(value.value).tobytes())
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(DigestError):
            interop.load_weights(fresh("adam"), path)
        file.write_bytes(good)
