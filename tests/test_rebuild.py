"""From an artifact to layers: what comes back, what is refused, and what is said about it."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

import interop
from interop.capture.keras import paths
from interop.errors import MissingClassError, RebuildError, WeightsError
from interop.rebuild.classes import Resolver
from interop.rebuild.from_config import rebuild
from models import guide, text, transformer

CUSTOM = {**guide.CUSTOM_OBJECTS, **transformer.CUSTOM_OBJECTS}


def built(name: str) -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(1)
    if name == "text":
        return text.text_classifier(), text.padded_tokens()
    if name == "transformer":
        return transformer.CausalTransformer(), np.arange(10, dtype="int32").reshape(2, 5)
    build, shape = guide.MODELS[name]
    return build(), np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")


@pytest.mark.parametrize("name", [*guide.MODELS, "text", "transformer"])
def test_a_rebuilt_model_is_the_same(name, tmp_path):
    model, x = built(name)
    expected = keras.ops.convert_to_numpy(model(x))
    interop.save_model(model, tmp_path / "m.interop")
    report = []
    again = interop.load_model(tmp_path / "m.interop", custom_objects=CUSTOM, report=report)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(x)), expected)
    assert set(report[0].assert_consumed().loaded) >= set(paths.named_variables(model))
    assert type(again) is type(model)
    assert again.name == model.name


def test_all_missing_classes_are_named_at_once(tmp_path):
    model, _ = built("custom_model")
    interop.save_model(model, tmp_path / "m")
    with pytest.raises(MissingClassError, match=r"2 custom .*ScaledLinear.*custom_activation.*load_graph"):
        interop.load_model(tmp_path / "m", revive=False)


@pytest.mark.parametrize(
    ("reference", "missing"),
    [
        (
            {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
            "system",
        ),
        (
            {"module": "antigravity", "class_name": "Flying", "config": {}, "registered_name": "Flying"},
            "Flying",
        ),
        (
            {
                "module": "keras.utils",
                "class_name": "function",
                "config": "get_file",
                "registered_name": None,
            },
            "get_file",
        ),
        (
            {"module": "keras.src.utils.io_utils", "class_name": "path_to_string", "config": {}},
            "path_to_string",
        ),
    ],
    ids=["function", "module", "download", "private"],
)
def test_nothing_a_file_names_is_imported(reference, missing):
    resolver = Resolver()
    resolver.prepare(
        {"class_name": "Dense", "module": "keras.layers", "config": {"name": "d", "activation": reference}}
    )
    with pytest.raises(MissingClassError, match=missing):
        resolver.check()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("unsafe", [False, True], ids=["safe", "unsafe-mode-on"])
def test_python_code_in_a_config_is_never_run(unsafe):
    code = {"class_name": "__lambda__", "config": {"code": "4wEA", "defaults": None, "closure": None}}
    if unsafe:
        keras.config.enable_unsafe_deserialization()
    with pytest.raises(RebuildError, match="never run"):
        Resolver().prepare(
            {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "l", "function": code}}
        )


def test_a_lambda_is_passed_in(tmp_path):
    x = keras.Input((3,), name="x")
    doubled = keras.layers.Lambda(lambda v: v * 2, name="double")(x)
    summary = interop.save_model(keras.Model(x, doubled), tmp_path / "m")
    assert "'double'" in summary.warnings[0]
    with pytest.raises(MissingClassError, match="double"):
        interop.load_model(tmp_path / "m", revive=False)
    again = interop.load_model(tmp_path / "m", custom_objects={"double": lambda v: v * 2})
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(again(np.ones((1, 3), "float32"))), np.full((1, 3), 2.0)
    )
    assert b"4wE" not in (tmp_path / "m" / "config.json").read_bytes()  # how marshalled code begins


def test_initializers_do_not_run(tmp_path, monkeypatch):
    model, _ = built("mlp_functional")
    interop.save_model(model, tmp_path / "m")
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", _fail)
    interop.load_model(tmp_path / "m")


def _fail(*args, **kwargs):
    raise AssertionError("an initializer ran")


def test_no_patch_stays_behind(tmp_path):
    model, _ = built("mlp_functional")
    interop.save_model(model, tmp_path / "m")
    before = (keras.Variable._initialize_with_initializer, keras.Layer._post_build)
    interop.load_model(tmp_path / "m")
    assert (keras.Variable._initialize_with_initializer, keras.Layer._post_build) == before
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    assert float(np.abs(keras.ops.convert_to_numpy(dense.kernel)).sum()) > 0


def artifact(tmp_path):
    from interop.artifact.bundle import open_bundle

    model, _ = built("mlp_functional")
    interop.save_model(model, tmp_path / "m")
    with open_bundle(tmp_path / "m", verify_digest=True) as bundle:
        return bundle.config, {key: np.array(value) for key, value in bundle.weights.items()}


def test_what_does_not_match_is_listed(tmp_path):
    config, weights = artifact(tmp_path)
    variables = [v for v in config["variables"] if v["key"] != "dense_1/bias"]
    extra = {"key": "gone/kernel", "dtype": "float32", "shape": [1], "trainable": True, "role": "weight"}
    status = rebuild({**config, "variables": [*variables, extra]}, weights, None).status
    assert status.missing == ("dense_1/bias",)
    assert status.unexpected == ("gone/kernel",)
    with pytest.raises(WeightsError, match="missing: dense_1/bias; unexpected: gone/kernel"):
        status.assert_consumed()


def test_another_shape_raises(tmp_path):
    config, weights = artifact(tmp_path)
    weights["dense_1/bias"] = np.zeros(3, "float32")
    with pytest.raises(WeightsError, match=r"dense_1/bias is float32\(3,\), expected float32\(64,\)"):
        rebuild(config, weights, None)
