"""Training goes on where it stopped: same backend exactly, across backends within tolerance."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import interop

OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.01),
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.02, 4, 0.5)),
}
X = np.random.default_rng(0).standard_normal((24, 5)).astype("float32")
Y = np.sin(X[:, :1] * 2)


def model(optimizer) -> keras.Model:
    keras.utils.set_random_seed(3)
    stack = [
        keras.Input((5,), name="x"),
        keras.layers.Dense(6, activation="tanh", name="first"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dense(6, name="frozen", trainable=False),
        keras.layers.Dense(1, name="out"),
    ]
    built = keras.Sequential(stack, name="resumed")
    built.get_layer("norm").gamma.trainable = False
    built.compile(optimizer, "mse", metrics=["mae"])
    return built


def epochs(trained: keras.Model, count: int) -> list[float]:
    return trained.fit(X, Y, batch_size=8, epochs=count, shuffle=False, verbose=0).history["loss"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_curve_goes_on(name, tmp_path):
    whole = epochs(model(OPTIMIZERS[name]()), 5)
    part = model(OPTIMIZERS[name]())
    assert epochs(part, 3) == whole[:3]
    interop.save_model(part, tmp_path / "part")
    resumed = interop.load_model(tmp_path / "part")
    assert epochs(resumed, 2) == whole[3:]
    assert not resumed.get_layer("frozen").trainable
    assert not resumed.get_layer("norm").gamma.trainable
    assert resumed.get_layer("norm").beta.trainable
    assert int(resumed.optimizer.iterations.numpy()) == 15


_SAVE = """
import sys, numpy as np
from test_resume import OPTIMIZERS, epochs, model
import interop
for name in OPTIMIZERS:
    part = model(OPTIMIZERS[name]())
    epochs(part, 3)
    interop.save_model(part, f"{sys.argv[1]}/{name}.interop")
    np.save(f"{sys.argv[1]}/{name}.npy", epochs(part, 2))
"""


@pytest.fixture(scope="module")
def saved_elsewhere(tmp_path_factory) -> Path:
    """Each model after three epochs, and its next two losses, from another backend's process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    here = keras.backend.backend()
    other = {"jax": "torch", "torch": "tensorflow", "tensorflow": "jax"}[here]
    env = {**os.environ, "KERAS_BACKEND": other, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", _SAVE, str(folder)], check=True, env=env, capture_output=True)
    return folder


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_curve_goes_on_from_another_backend(name, saved_elsewhere):
    resumed = interop.load_model(saved_elsewhere / f"{name}.interop")
    expected = np.load(saved_elsewhere / f"{name}.npy")
    np.testing.assert_allclose(epochs(resumed, 2), expected, rtol=2e-4, atol=1e-6)
