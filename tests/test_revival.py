"""Models whose classes are lost: saved by a process that has them, on another backend, and opened here without."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import interop
from interop.capture.keras import paths
from interop.errors import InteropError, MissingClassError
from interop.rebuild.revived import RevivedLayer, RevivedModel

ROOT = Path(__file__).parents[1]
WRITTEN_BY = {"jax": "torch", "tensorflow": "torch", "torch": "tensorflow"}
RTOL, ATOL = 1e-4, 1e-5

# Model -> paths that are revived, and a path that is a layer of Keras inside one of them.
REVIVED: dict[str, tuple[set[str], str | None]] = {
    "guide": ({""}, "dense_layers/1"),
    "layers": (
        {"scaled", "dense", "nested/deep", "square", "double"},
        None,
    ),
    "nested": (
        {"", "blocks/first", "blocks/second", "blocks/first/inner", "blocks/second/inner", "tail/scaled"},
        "blocks/first/norm",
    ),
    "structured": ({""}, "b"),
    "halves": ({"", "blocks/0", "blocks/1"}, "blocks/0/one"),
    "shared": ({"scaled"}, None),
    "averaged": ({"averaged"}, None),
    "masked": ({"pooled", "attending"}, "attending/attention"),
    "tied": ({"tied", "noisy"}, "embedding"),
    "dispensable": ({"scaled"}, None),
    "functional": ({"", "scaled"}, "hidden"),
    "half": ({"block", "block/inner", "scaled"}, "block/norm"),
    "cell": ({"rnn", "rnn/cell"}, "rnn/cell/dense"),
    "timed": ({"timed"}, None),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``tests.cases.lost`` writes."""
    folder = tmp_path_factory.mktemp("lost")
    env = {**os.environ, "KERAS_BACKEND": WRITTEN_BY[keras.backend.backend()], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cases.lost", str(folder)],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "tests.cases.lost" not in sys.modules
    return folder


def calls(name: str, folder: Path, model: Any) -> list[tuple[Any, list[np.ndarray]]]:
    """(input in the model's structure, outputs) of both sizes."""
    held = np.load(folder / f"{name}.npz")
    found = []
    for i in range(2):
        leaves = [held[key] for key in sorted(held) if key.startswith(f"x{i}_")]
        outputs = [held[key] for key in sorted(held) if key.startswith(f"y{i}_")]
        given: Any = leaves[0] if len(leaves) == 1 else leaves
        if name == "structured":
            given = dict(zip(("left", "right"), leaves, strict=True))
        found.append((given, outputs))
    return found


def outputs_of(model: Any, given: Any) -> list[np.ndarray]:
    """As arrays, through the model's compiled function: eager JAX has no masks."""
    model.compile(run_eagerly=False)
    return [np.asarray(leaf) for leaf in keras.tree.flatten(model.predict(given, verbose=0))]


def check_outputs(model: Any, name: str, folder: Path) -> None:
    """The same as where the classes were; half floats agree to their precision."""
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if name == "half" else {"rtol": RTOL, "atol": ATOL}
    for given, expected in calls(name, folder, model):
        found = outputs_of(model, given)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, **tolerance)


@pytest.mark.parametrize("name", REVIVED)
def test_a_lost_class_is_revived(name: str, saved: Path, tmp_path: Path) -> None:
    report: list[Any] = []
    path = saved / f"{name}.interop"
    model = interop.load_model(path, report=report)
    status = report[0].assert_consumed()
    expected, real = REVIVED[name]
    assert {revived.path for revived in status.revived} == expected
    assert isinstance(model, RevivedModel) == ("" in expected)
    found = {path: layer for layer, path in paths_of(model)}
    assert all(isinstance(found[path], RevivedLayer | RevivedModel) for path in expected)
    assert real is None or type(found[real]).__module__.startswith("keras.src.")
    assert set(paths.named_variables(model)) == set(np.load(saved / f"{name}.npz")["keys"])
    check_outputs(model, name, saved)
    again = check_training(model, name, saved)
    interop.save_model(model, tmp_path / "again.interop")
    reloaded = interop.load_model(tmp_path / "again.interop", report=report)
    assert {
        revived.path for revived in report[1].revived
    } <= expected  # a layer in a loop is not called as one
    assert set(paths.named_variables(reloaded)) == set(paths.named_variables(model))
    for one, other in zip(outputs_of(reloaded, again), outputs_of(model, again), strict=True):
        np.testing.assert_allclose(one, other, rtol=RTOL, atol=ATOL)
    if name != "half":  # compared by verify elsewhere; half floats are too coarse for a graph of two
        assert interop.verify(model, tmp_path / "again.interop").passed


def paths_of(model: Any) -> list[tuple[Any, str]]:
    """Every layer with its path."""
    from interop.capture.keras import compat

    return compat.layers_with_paths(model, paths.layer_paths(model))


def loss_of(model: Any, given: Any, target: Any) -> float:
    """At inference: dropout makes the loss of a training step rise and fall."""
    loss = model.test_on_batch(given, target)
    return float(loss[0] if isinstance(loss, list) else loss)


def check_training(model: Any, name: str, folder: Path) -> Any:
    """The loss falls and every trainable weight moves; returns the inputs."""
    given, expected = calls(name, folder, model)[1]
    target = keras.tree.pack_sequence_as(model(given), [np.zeros_like(leaf) for leaf in expected])
    before = {key: np.array(keras.ops.convert_to_numpy(v)) for key, v in paths.named_variables(model).items()}
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(1e-3), loss=keras.tree.map_structure(lambda _: "mse", target))
    first = loss_of(model, given, target)
    for _ in range(20):
        model.train_on_batch(given, target)
    assert loss_of(model, given, target) < first
    for key, variable in paths.named_variables(model).items():
        moved = not np.array_equal(keras.ops.convert_to_numpy(variable), before[key])
        if variable.trainable:
            assert moved, key
        elif "moving" in key:
            assert moved, f"{key}: BatchNormalization inside updates its statistics"
    return given


def test_without_revival_all_missing_classes_are_named(saved: Path) -> None:
    with pytest.raises(MissingClassError, match=r"Nested"):
        interop.load_model(saved / "nested.interop", revive=False)


def test_one_message_lists_all(saved: Path) -> None:
    with pytest.warns(UserWarning, match=r"taken from the graph: .*Block.*Nested") as caught:
        interop.load_model(saved / "nested.interop")
    assert sum(each.category is UserWarning for each in caught) == 1


def test_a_lost_loss_loads_uncompiled_with_a_report(saved: Path) -> None:
    report: list[Any] = []
    model = interop.load_model(saved / "dispensable.interop", report=report)
    assert not model.compiled
    told = " ".join(str(change) for change in report[0].changes)
    assert "my_loss" in told
    assert "my_regularizer" in told
    assert "my_initializer" in told
    assert {change.what for change in report[0].lost} == {
        "uses my_loss",
        "kernel_regularizer=my_regularizer",
    }


@pytest.mark.parametrize(("name", "lost"), [("measured", "OwnMetric"), ("optimized", "OwnAdam")])
def test_a_lost_metric_or_optimizer_loads_uncompiled_with_a_report(name: str, lost: str, saved: Path) -> None:
    report: list[Any] = []
    model = interop.load_model(saved / f"{name}.interop", report=report)
    assert not model.compiled
    assert not report[0].revived
    assert lost in " ".join(str(change) for change in report[0].changes)
    check_outputs(model, name, saved)


def test_a_lost_layer_is_quantized_as_it_was(saved: Path, tmp_path: Path) -> None:
    report: list[Any] = []
    model = interop.load_model(saved / "quantized.interop", report=report)
    assert {revived.path for revived in report[0].revived} == {"own", "holding"}
    assert {variable.dtype for variable in paths.named_variables(model).values()} >= {"int8", "float32"}
    check_outputs(model, "quantized", saved)
    interop.save_model(model, tmp_path / "again.interop")
    check_outputs(interop.load_model(tmp_path / "again.interop", report=report), "quantized", saved)


def test_what_trains_and_what_does_not_is_told(saved: Path) -> None:
    """Layers inside that are real drop out and take statistics; what lost code did is reported."""
    report: list[Any] = []
    nested = interop.load_model(saved / "nested.interop", report=report)
    x = calls("nested", saved, nested)[0][0]
    still, trained = (keras.ops.convert_to_numpy(nested(x, training=flag)) for flag in (False, True))
    assert np.abs(still - trained).max() > 0.1 * np.abs(still).max()
    block = next(revived for revived in report[0].revived if revived.path == "blocks/first")
    assert "layers inside it do as ever" in " ".join(block.notes)
    tied = interop.load_model(saved / "tied.interop", report=report)
    noisy = next(revived for revived in report[1].revived if revived.path == "noisy")
    assert "no longer updates" in " ".join(noisy.notes)
    assert "draws no random numbers" in " ".join(noisy.notes)
    assert "add_loss" in " ".join(noisy.notes)
    x = calls("tied", saved, tied)[0][0]
    one, other = (keras.ops.convert_to_numpy(tied(x, training=flag)) for flag in (False, True))
    np.testing.assert_array_equal(one, other)


AGAIN = ("nested", "masked", "tied", "timed")


def test_what_was_revived_is_saved_for_another_backend(saved: Path, tmp_path: Path) -> None:
    """And opened there, where no class is known either."""
    for name in AGAIN:
        interop.save_model(
            interop.load_model(saved / f"{name}.interop", report=[]), tmp_path / f"{name}.interop"
        )
    code = f"""
        import pathlib, sys
        import interop
        from tests.test_revival import check_outputs
        for name in {AGAIN!r}:
            model = interop.load_model(pathlib.Path({str(tmp_path)!r}) / f"{{name}}.interop", report=[])
            check_outputs(model, name, pathlib.Path({str(saved)!r}))
        assert "tests.cases.lost" not in sys.modules
    """
    env = {**os.environ, "KERAS_BACKEND": WRITTEN_BY[keras.backend.backend()], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def without(*keys: Any) -> Callable[[Any], None]:
    """Takes an entry out."""

    def damage(config: Any) -> None:
        for key in keys[:-1]:
            config = config[key]
        del config[keys[-1]]

    return damage


def having(value: Any, *keys: Any) -> Callable[[Any], None]:
    """Puts another value in."""

    def damage(config: Any) -> None:
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    return damage


DAMAGED = {
    "functions that are no base64": having("!!", "functions"),
    "functions that are no ONNX": having("AAECAwQFBgc=", "functions"),
    "no invocations": without("invocations"),
    "no way to call it": without("how", "parameters"),
    "no dtype": without("how", "dtype"),
    "a function that is not there": having("gone", "invocations", 0, "function"),
    "too few variables": having([], "invocations", 0, "variables"),
    "a variable without a shape": without("variables", 0, "shape"),
    "a variable of no type": having("float31", "variables", 0, "dtype"),
    "a shape that is none": having(["x"], "variables", 0, "shape"),
    "places that are none": having(3, "places"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_config_is_an_error(damage: Callable[[Any], None], saved: Path) -> None:
    layer = interop.load_model(saved / "shared.interop", report=[]).get_layer("scaled")
    config = copy.deepcopy(layer.get_config())
    damage(config["revived"])
    with pytest.raises(InteropError, match="the config of a revived layer is broken"):
        RevivedLayer.from_config(config)


def test_no_code_is_in_the_artifact(saved: Path) -> None:
    content = (saved / "layers.interop").read_bytes()
    assert b"__lambda__" in content
    assert b"lambda t" not in content
    assert b"marshal" not in content


def test_the_class_brings_the_original_back(saved: Path, tmp_path: Path) -> None:
    """A model that was revived and saved is the original where the class is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = interop.load_model(saved / "guide.interop")
    interop.save_model(model, tmp_path / "m.interop")
    revived = interop.load_model(saved / "shared.interop", report=[])
    interop.save_model(revived, tmp_path / "shared.interop")

    class Scaled(keras.layers.Layer):
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape: Any) -> None:
            self.w = self.add_weight(shape=(input_shape[-1], self.units), name="w")
            self._scale = self.add_weight(shape=(), initializer="ones", trainable=False, name="scale")

        def call(self, x: Any) -> Any:
            return self._scale * keras.ops.matmul(x, self.w)

    again = interop.load_model(tmp_path / "shared.interop", custom_objects={"Scaled": Scaled})
    assert type(again.get_layer("scaled")) is Scaled
    check_outputs(again, "shared", saved)


def test_a_revived_model_saves_as_keras_does(saved: Path, tmp_path: Path) -> None:
    model = interop.load_model(saved / "nested.interop", report=[])
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    check_outputs(again, "nested", saved)
