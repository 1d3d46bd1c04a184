"""Saving: the same bytes each time, nothing written on failure, and a summary that is right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import interop
from interop.capture.keras.describe import canonical, describe
from interop.errors import CaptureError

ROOT = Path(__file__).parent.parent


def compiled() -> keras.Model:
    keras.utils.set_random_seed(0)
    shared = keras.layers.Dense(4, name="shared")
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Dense(1, name="y")(shared(shared(x))), name="m")
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 5), name="adam"),
        "mse",
        metrics=["mae"],
    )
    return model


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_twice_gives_the_same_bytes(tmp_path):
    model = compiled()
    for name in "ab":
        interop.save_model(model, tmp_path / name)
        interop.save_model(model, tmp_path / f"{name}.interop")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "a.interop").read_bytes() == (tmp_path / "b.interop").read_bytes()


SAVE = """
import sys
from test_saving import compiled
import interop
model = compiled()
model.optimizer.build(model.trainable_variables)
for form in ("m", "m.interop"):
    interop.save_model(model, f"{sys.argv[1]}/{form}")
"""


def test_two_processes_write_the_same_bytes(tmp_path):
    """Each with its own order of hashes, from another folder, and at another time."""
    running = []
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SAVE, str(tmp_path / seed)]
        running.append(subprocess.Popen(command, env=env, cwd=tmp_path / seed, stderr=subprocess.PIPE))
    for process in running:
        assert process.communicate()[1] is not None
        assert process.returncode == 0
    a, b = (tmp_path / seed for seed in ("1", "2"))
    assert (a / "m.interop").read_bytes() == (b / "m.interop").read_bytes()
    assert contents(a / "m") == contents(b / "m")
    assert "optimizer.safetensors" in contents(a / "m")


def test_what_is_no_model(tmp_path):
    for wrong in ("model.keras", None, keras.layers.Dense, [compiled()]):
        with pytest.raises(CaptureError, match="a Keras model"):
            interop.save_model(wrong, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_another_process_describes_the_same():
    code = "from test_saving import *; sys.stdout.write(canonical(describe(compiled()).config))"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    text = subprocess.run(
        [sys.executable, "-c", code], check=True, env=env, capture_output=True
    ).stdout.decode()
    assert text == canonical(describe(compiled()).config)
    assert str(ROOT) not in text


def test_summary(tmp_path):
    model = compiled()
    summary = interop.save_model(model, tmp_path / "m")
    assert summary.parameters == model.count_params()
    assert summary.files == {file.name: file.stat().st_size for file in (tmp_path / "m").iterdir()}
    assert summary.size_bytes == sum(summary.files.values())
    assert summary.opset == 20


def test_without_optimizer(tmp_path):
    model = compiled()
    summary = interop.save_model(model, tmp_path / "m", include_optimizer=False)
    assert "optimizer.safetensors" not in summary.files
    assert not interop.load_model(tmp_path / "m", compile=False).compiled
    assert int(interop.load_model(tmp_path / "m").optimizer.iterations.numpy()) == 0


class Unportable(keras.Layer):
    """Cannot be called any more: whatever operations are supported, there is no graph of it."""

    portable = True

    def call(self, x):
        if not self.portable:
            raise RuntimeError("no graph of this")
        return x * 2.0


def test_a_model_that_cannot_be_captured_writes_nothing(tmp_path):
    model = keras.Sequential([Unportable(name="raw")])
    model.build((None, 3))
    model.get_layer("raw").portable = False
    with pytest.raises(CaptureError, match=r"raw[\s\S]*Nothing was written[\s\S]*save_weights"):
        interop.save_model(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_calls_of_a_layer_in_two_models_are_counted_for_each(tmp_path):
    shared = keras.layers.Dense(3, activation="tanh", name="shared")
    once = keras.Sequential([keras.Input((3,)), shared], name="once")
    x = keras.Input((3,))
    twice = keras.Model(x, [shared(shared(x)), shared(once(x))], name="twice")
    y = keras.Input((3,))
    model = keras.Model(y, [once(y), *twice(y), *twice(once(y))])
    interop.save_model(model, tmp_path / "m")
    again = interop.load_model(tmp_path / "m")
    data = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    for made, expected in zip(again(data), model(data), strict=True):
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (made, expected)), rtol=1e-6, atol=1e-6)
    assert len(again.weights) == 2
