"""Keras' guide, "Whole-model saving and loading": one call saves everything, in a folder or in a single file."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import interop

RNG = np.random.default_rng(0)
X, Y = RNG.random((16, 32), "float32"), RNG.random((16, 1), "float32")


def array(x):
    return np.array(keras.ops.convert_to_numpy(x))


def trained():
    """The guide's model, after some steps."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras.optimizers.Adam(0.01), loss="mean_squared_error", metrics=["mae"])
    model.fit(X, Y, batch_size=8, verbose=0)
    return model


def check_resumes(model, loaded):
    """The same predictions, and after one more step of each, the same again."""
    assert np.array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))
    assert loaded.loss == "mean_squared_error"
    assert [type(m).__name__ for m in loaded.metrics] == [type(m).__name__ for m in model.metrics]
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) > 0
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(array(a), array(b))
    for one in (model, loaded):
        one.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), loaded.predict(X, verbose=0), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", ["my_model", "my_model.interop"])
def test_folder_and_single_file(tmp_path, name):
    model = trained()
    interop.save_model(model, tmp_path / name)
    assert (tmp_path / name).is_dir() == (name == "my_model")
    check_resumes(model, interop.load_model(tmp_path / name))


@pytest.mark.parametrize("name", ["my_model.keras", "my_model.h5", "folder"])
@pytest.mark.filterwarnings("ignore:.*saving your model as an HDF5")
def test_what_keras_saved(tmp_path, name):
    """Opened as it is; Keras 3.15 does not open the second, which it wrote."""
    model = trained()
    model.save(tmp_path / name, **({"zipped": False} if name == "folder" else {}))
    check_resumes(model, interop.load_model(tmp_path / name))
    if name == "folder":
        assert interop.convert(tmp_path / name, tmp_path / "m.interop").parity.passed
        fresh = trained()
        interop.load_weights(fresh, tmp_path / name).assert_consumed()


def test_in_and_out_through_convert(tmp_path):
    model = trained()
    expected = model.predict(X, verbose=0)
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "a.h5")
    for source in ("a.keras", "a.h5"):
        for step, (src, dst) in enumerate(
            [(source, "b"), ("b", "b.interop"), ("b.interop", "b.h5"), ("b.h5", "b.keras")]
        ):
            done = interop.convert(tmp_path / src, tmp_path / dst)
            assert done.parity is not None
            assert done.parity.passed, (source, step)
        assert np.array_equal(keras.saving.load_model(tmp_path / "b.keras").predict(X, verbose=0), expected)


def test_without_the_state_of_the_optimizer(tmp_path):
    model = trained()
    interop.save_model(model, tmp_path / "m", include_optimizer=False)
    loaded = interop.load_model(tmp_path / "m", compile=False)
    assert not loaded.compiled
    assert np.array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))
