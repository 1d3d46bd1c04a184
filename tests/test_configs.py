"""Odd values in ``get_config``: they come back as they were, or saving says which one JSON cannot hold."""

from __future__ import annotations

import json
import math
from typing import Any

import keras
import numpy as np
import pytest

import interop
from interop.errors import CaptureError, InteropError, RebuildError


@keras.saving.register_keras_serializable(package="odd")
class Odd(keras.layers.Layer):
    """Keeps one value in its config."""

    def __init__(self, value: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = value

    def call(self, x: Any) -> Any:
        return x * 2.0

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"value": self.value}


def saved(value: Any, path: Any) -> Any:
    x = keras.Input((3,), name="x")
    interop.save_model(keras.Model(x, Odd(value, name="odd")(x)), path)
    return interop.load_model(path).get_layer("odd").value


KEPT = {
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "in a list": [1.5, math.inf],
    "nested": {"a": {"b": [None, True, -(2**70), "ü\n", ""]}},
    "tiny": 5e-324,
    "long integer": 2**200,
    "float": 0.1,
    "a name of ours": {"class_name": "x"},
    "tuple": (1, (2, "a")),
    "numpy array": np.arange(3),
    "bytes": b"\x00a",
    "numpy float": np.float32(0.5),
    "numpy integer": np.int64(7),
    "numpy bool": np.bool_(True),
}


@pytest.mark.parametrize("what", KEPT)
def test_what_comes_back(what, tmp_path):
    """As from a ``.keras`` file: a default ``from_config`` gets what Keras makes of the value in JSON."""
    value = KEPT[what]
    x = keras.Input((3,), name="x")
    keras.Model(x, Odd(value, name="odd")(x)).save(tmp_path / "m.keras")
    expected = keras.saving.load_model(tmp_path / "m.keras").get_layer("odd").value
    found = saved(value, tmp_path / "m")
    assert (type(found), found) == (type(expected), expected)
    if type(value) in (int, float, list, dict):
        assert found == value


def test_not_a_number(tmp_path):
    assert math.isnan(saved(float("nan"), tmp_path / "m"))


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, b"\xff"])
def test_what_json_lacks_is_named(value, tmp_path):
    with pytest.raises(CaptureError, match=r"the config of .*get_config\(\)"):
        saved(value, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_claims_too_much(tmp_path):
    """A stored class whose constructor does not take its config is an error that says so."""

    @keras.saving.register_keras_serializable(package="odd")
    class Refusing(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x + 1.0

        def get_config(self) -> dict[str, Any]:
            return super().get_config() | {"unknown": 3}

    x = keras.Input((3,), name="x")
    interop.save_model(keras.Model(x, Refusing(name="refusing")(x)), tmp_path / "m")
    with pytest.raises(InteropError, match=r"could not be made from its config[\s\S]*load_graph"):
        interop.load_model(tmp_path / "m")


@keras.saving.register_keras_serializable("configs")
class Nameless(keras.layers.Layer):
    """Its config has no name; nor does its constructor take one."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="random_normal")

    def call(self, x):
        return x * self.scale * self.factor

    def get_config(self):
        return {"factor": self.factor}


@keras.saving.register_keras_serializable("configs")
class Undescribed(Nameless):
    """It has no config of its own, and takes a name."""

    def __init__(self, factor=1.0, **options):
        keras.layers.Layer.__init__(self, **options)
        self.factor = factor

    get_config = keras.layers.Layer.get_config


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_layers_keep_names_that_their_configs_lack(tmp_path, kind):
    """Whatever names Keras has given away since: the loaded layers are found by the keys of their weights."""
    layers = [Nameless(), Nameless(2.0), Undescribed(3.0), Undescribed(name="mine")]
    inputs = keras.Input((3,))
    if kind == "sequential":
        model = keras.Sequential([inputs, *layers])
    else:
        x = inputs
        for layer in layers:
            x = layer(x)
        model = keras.Model(inputs, x)
    interop.save_model(model, tmp_path / "m")
    loaded = interop.load_model(tmp_path / "m")
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert {type(layer) for layer in loaded.layers} >= {Nameless, Undescribed}
    x = np.arange(6, dtype="float32").reshape(2, 3)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(("key", "value"), [("seed", {}), ("scale", "x")])
def test_an_initializer_that_cannot_run(key, value, tmp_path):
    """Nothing is stored in a JSON config, so all of them run."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="he_normal")])
    config = json.loads(model.to_json())
    initializer = config["config"]["layers"][1]["config"]["kernel_initializer"]
    initializer["class_name"], initializer["config"] = "VarianceScaling", {key: value}
    (tmp_path / "m.json").write_text(json.dumps(config))
    with pytest.raises(RebuildError, match=r"kernel|initializer"):
        interop.load_model(tmp_path / "m.json")
