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
    """Each model after three epochs, and its next two losses, from a process of each other backend."""
    folder = tmp_path_factory.mktemp("elsewhere")
    running = {}
    for other in OTHERS:
        (folder / other).mkdir()
        path = f"{Path(__file__).parent}{os.pathsep}{Path(__file__).parent.parent}"
        env = {**os.environ, "KERAS_BACKEND": other, "PYTHONPATH": path}
        command = [sys.executable, "-c", _SAVE, str(folder / other)]
        running[other] = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for other, process in running.items():
        errors = process.communicate()[1].decode()
        assert process.returncode == 0, f"{other}: {errors[-2000:]}"
    return folder


OTHERS = [name for name in ("jax", "tensorflow", "torch") if name != keras.backend.backend()]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_curve_goes_on_from_another_backend(name, other, saved_elsewhere):
    resumed = interop.load_model(saved_elsewhere / other / f"{name}.interop")
    expected = np.load(saved_elsewhere / other / f"{name}.npy")
    np.testing.assert_allclose(epochs(resumed, 2), expected, rtol=2e-4, atol=1e-6)


def continues(part: keras.Model, whole: list[float], path: Path, **objects: object) -> keras.Model:
    """Train three epochs, save, load, train two more: the curve is that of five; returns the loaded model."""
    assert epochs(part, 3) == whole[:3]
    interop.save_model(part, path)
    resumed = interop.load_model(path, custom_objects=objects)
    assert epochs(resumed, 2) == whole[3:]
    return resumed


SPECIAL = {
    "gradient accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "clipped": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1),
    "scaled loss": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05, momentum=0.9), initial_scale=256.0, dynamic_growth_steps=4
    ),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_optimizers_go_on(name, tmp_path):
    whole = epochs(model(SPECIAL[name]()), 5)
    resumed = continues(model(SPECIAL[name]()), whole, tmp_path / "part")
    if name == "scaled loss":
        scaled = resumed.optimizer
        assert (
            float(keras.ops.convert_to_numpy(scaled.dynamic_scale)) == 256.0 * 2**3
        )  # 15 steps, doubled each 4
        assert int(scaled.inner_optimizer.iterations) == 15


def test_arguments_that_keras_forgets_are_kept(tmp_path):
    """Their `get_config()` leaves these out: what Keras saves and loads has another loss."""
    losses, metrics = keras.losses, keras.metrics
    kept = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3, kernel_initializer=keras.initializers.Identity(2.0))]
    )
    x = np.arange(12, dtype="float32").reshape(4, 3)
    for loss in (losses.Huber(0.2), losses.CosineSimilarity(axis=0)):
        kept.compile("sgd", loss, metrics=[metrics.CosineSimilarity(axis=0), metrics.AUC(7)])
        interop.save_model(kept, tmp_path / "m")
        loaded = interop.load_model(tmp_path / "m")
        assert loaded.layers[0].kernel_initializer.gain == 2.0
        y = np.clip(x / 20, 0, 1)
        np.testing.assert_allclose(
            loaded.evaluate(x, y, verbose=0), kept.evaluate(x, y, verbose=0), rtol=1e-6
        )


def test_an_activation_of_keras_ops_is_not_taken_for_its_namesake(tmp_path):
    """Keras writes ``keras.ops.gelu``, an approximation, as "gelu", which it reads as the exact activation."""
    layers = keras.layers
    kept = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation=keras.ops.gelu),
            layers.Dense(8, activation="gelu"),
            layers.Activation(keras.ops.sin),
            layers.Activation(keras.ops.gelu),
        ]
    )
    kept.compile("sgd", keras.losses.Huber(0.2))
    x = np.linspace(-4, 4, 15, dtype="float32").reshape(3, 5)
    wanted = keras.ops.convert_to_numpy(kept(x))
    interop.save_model(kept, tmp_path / "m")
    loaded = interop.load_model(tmp_path / "m")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(x)), wanted)
    interop.export_onnx(kept, tmp_path / "m.onnx")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(interop.import_onnx(tmp_path / "m.onnx")(x)), wanted
    )


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_converted_files_of_keras_say_what_keras_leaves_out(ending, tmp_path):
    kept = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, activation=keras.ops.gelu)])
    kept.compile("sgd", keras.losses.Huber(0.2))
    x = np.linspace(-4, 4, 15, dtype="float32").reshape(3, 5)
    wanted = keras.ops.convert_to_numpy(kept(x))
    interop.save_model(kept, tmp_path / "m")
    interop.convert(tmp_path / "m", tmp_path / f"m.{ending}")
    opened = keras.models.load_model(tmp_path / f"m.{ending}")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(opened(x)), wanted)
    y = np.zeros((3, 8), "float32")
    np.testing.assert_allclose(opened.evaluate(x, y, verbose=0), kept.evaluate(x, y, verbose=0), rtol=1e-6)


def test_averaged_weights_are_kept(tmp_path):
    """Every slot is compared, not the curve: Keras puts the averages into the model at the end of each fit."""
    part = model(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9))
    epochs(part, 1)
    interop.save_model(part, tmp_path / "m")
    resumed = interop.load_model(tmp_path / "m")
    assert any("average" in variable.path for variable in resumed.optimizer.variables)
    for mine, theirs in zip(resumed.optimizer.variables, part.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(mine), keras.ops.convert_to_numpy(theirs))
    assert np.isfinite(epochs(resumed, 1)).all()


def test_mixed_precision_goes_on(tmp_path):
    """The policy of each layer, float32 variables, and the loss scale that compile chose."""

    def mixed() -> keras.Model:
        keras.utils.set_random_seed(3)
        stack = [keras.Input((5,)), keras.layers.Dense(6, "tanh", dtype="mixed_float16", name="half")]
        made = keras.Sequential([*stack, keras.layers.Dense(1, dtype="float32")])
        made.compile(
            keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), initial_scale=128.0), "mse"
        )
        return made

    resumed = continues(mixed(), epochs(mixed(), 5), tmp_path / "m")
    half = resumed.get_layer("half")
    assert (half.compute_dtype, half.variable_dtype) == ("float16", "float32")


def test_a_rate_assigned_after_compile_stays(tmp_path):
    def slowed() -> keras.Model:
        made = model(keras.optimizers.Adam(0.01))
        made.optimizer.learning_rate = 0.002
        return made

    resumed = continues(slowed(), epochs(slowed(), 5), tmp_path / "m")
    assert float(keras.ops.convert_to_numpy(resumed.optimizer.learning_rate)) == pytest.approx(0.002)


def test_flags_changed_after_compile_stay(tmp_path):
    """The optimizer has slots for what was trainable when it was built; the flags are those of now."""
    part = model(keras.optimizers.Adam(0.01))
    epochs(part, 1)
    part.get_layer("first").trainable = False
    interop.save_model(part, tmp_path / "m")
    resumed = interop.load_model(tmp_path / "m")
    assert not resumed.get_layer("first").trainable
    assert resumed.get_layer("out").trainable
    for mine, theirs in zip(resumed.optimizer.variables, part.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(mine), keras.ops.convert_to_numpy(theirs))


@keras.saving.register_keras_serializable(package="resume")
class Tracking(keras.Model):
    """Keeps a running mean of its own."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(1, name="dense")
        self.seen = keras.metrics.Mean(name="seen")

    def call(self, x):
        return self.dense(x)


def test_a_metric_that_is_an_attribute_keeps_its_state(tmp_path):
    tracked = Tracking(name="tracking")
    tracked(X[:2])
    tracked.seen.update_state([2.0, 4.0])
    interop.save_model(tracked, tmp_path / "m")
    again = interop.load_model(tmp_path / "m")
    assert float(again.seen.result()) == 3.0


def test_what_was_frozen_trains_again(tmp_path):
    interop.save_model(model("sgd"), tmp_path / "m")
    again = interop.load_model(tmp_path / "m")
    again.get_layer("frozen").trainable = True
    again.get_layer("norm").gamma.trainable = True
    again.compile("sgd", "mse")
    before = again.get_weights()
    epochs(again, 1)
    assert [np.array_equal(a, b) for a, b in zip(before, again.get_weights(), strict=True)].count(True) == 0


@keras.saving.register_keras_serializable("tests")
class Adversaries(keras.Model):
    """Two optimizers that no config records: `compile` takes them and keeps them in attributes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.maker, self.judge = keras.layers.Dense(3, name="maker"), keras.layers.Dense(1, name="judge")

    def call(self, x):
        return self.judge(self.maker(x))

    def compile(self, makes, judges):
        super().compile(loss="mse")
        self.makes, self.judges = makes, judges

    def step(self):
        for optimizer, layer in ((self.makes, self.maker), (self.judges, self.judge)):
            gradients = [keras.ops.sin(v + 1.0) for v in layer.trainable_variables]
            optimizer.apply(gradients, layer.trainable_variables)


@pytest.mark.filterwarnings("ignore:.*compile.* was not called as part of model loading")
@pytest.mark.parametrize("passed", [{}, {"Adversaries": Adversaries}])
def test_optimizers_in_attributes_go_on(passed, tmp_path):
    part = Adversaries(name="adversaries")
    part(X[:2])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    part.compile(keras.optimizers.Adam(schedule), keras.optimizers.SGD(0.05, momentum=0.9))
    for _ in range(3):
        part.step()
    interop.save_model(part, tmp_path / "m.interop")
    again = interop.load_model(tmp_path / "m.interop", custom_objects=passed)
    assert int(again.makes.iterations.numpy()) == 3
    for resumed in (part, again):
        resumed.step()
    for a, b in zip(part.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    interop.save_model(again, tmp_path / "again.interop")
    assert int(interop.load_model(tmp_path / "again.interop").judges.iterations.numpy()) == 4
    assert not hasattr(interop.load_model(tmp_path / "m.interop", compile=False), "makes")


def test_the_optimizer_of_a_model_inside_goes_on(tmp_path):
    """Compiled alone and frozen in the outer model, as the judge of an adversarial network is."""
    inner = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)], name="inner")
    inner.compile(keras.optimizers.Adam(0.01), "mse")
    epochs(inner, 1)
    inner.trainable = False
    start = keras.Input((5,))
    outer = keras.Model(start, inner(start), name="outer")
    interop.save_model(outer, tmp_path / "m")
    again = interop.load_model(tmp_path / "m").get_layer("inner")
    for resumed in (inner, again):
        resumed.trainable = True
    assert int(again.optimizer.iterations.numpy()) == 3
    assert epochs(again, 2) == epochs(inner, 2)
