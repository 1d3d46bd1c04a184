"""What layers keep beside their variables comes back: learned vocabularies, files of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import interop
from interop.artifact.bundle import open_bundle
from interop.capture.keras.assets import restore_assets
from interop.errors import ParityError, RebuildError

WORDS = np.asarray([["red", "blue"], ["red", "a b"], ["red", "blue"], ["green", ""]])
INTEGERS = np.asarray([[7, 3], [7, 9], [3, 7], [5, 7]])


def learned(layer: keras.Layer, data: np.ndarray) -> keras.Layer:
    layer.adapt(data)
    return layer


LAYERS = {
    "strings": (lambda: learned(keras.layers.StringLookup(), WORDS), WORDS),
    "broken_lines": (
        lambda: learned(keras.layers.StringLookup(), np.asarray([["x\ny"], ["z "]])),
        [["x\ny"], ["z "]],
    ),
    "integers": (lambda: learned(keras.layers.IntegerLookup(output_mode="multi_hot"), INTEGERS), INTEGERS),
    "weights": (lambda: learned(keras.layers.StringLookup(output_mode="tf_idf"), WORDS), WORDS),
    "padded": (
        lambda: learned(
            keras.layers.StringLookup(output_mode="tf_idf", max_tokens=9, pad_to_max_tokens=True), WORDS
        ),
        WORDS,
    ),
    "text": (lambda: learned(keras.layers.TextVectorization(), WORDS[:, :1]), WORDS[:, :1]),
    "text_weights": (
        lambda: learned(keras.layers.TextVectorization(output_mode="tf_idf"), WORDS[:, 1:]),
        WORDS[:, 1:],
    ),
    "in_config": (lambda: keras.layers.StringLookup(vocabulary=["red", "blue"]), WORDS),
}


def around(layer: keras.Layer, columns: int, dtype: str) -> keras.Model:
    x = keras.Input((columns,), dtype=dtype, name="x")
    return keras.Model(x, keras.layers.Identity(name="y")(layer(x)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_vocabulary_comes_back(name: str, tmp_path: Path) -> None:
    make, data = LAYERS[name]
    data = np.asarray(data)
    layer = make()
    model = around(layer, data.shape[1], "int64" if data.dtype.kind == "i" else "string")
    interop.save_model(model, tmp_path / "m")
    again = interop.load_model(tmp_path / "m").layers[1]
    assert again.get_vocabulary() == layer.get_vocabulary()
    wanted, got = (keras.ops.convert_to_numpy(each(data)) for each in (layer, again))
    assert np.unique(wanted).size > 1
    np.testing.assert_array_equal(got, wanted)
    graph = interop.load_graph(tmp_path / "m")
    np.testing.assert_allclose(
        graph(data.astype(object) if data.dtype.kind == "U" else data), wanted, rtol=1e-6
    )


@keras.saving.register_keras_serializable("assets")
class Scaled(keras.layers.Layer):
    """A layer with a file of its own."""

    def __init__(self, factor: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def save_assets(self, folder: str) -> None:
        Path(folder, "deep").mkdir()
        Path(folder, "deep", "factor.json").write_text(json.dumps(self.factor))

    def load_assets(self, folder: str) -> None:
        self.factor = json.loads(Path(folder, "deep", "factor.json").read_text())


def test_files_of_a_layer_come_back(tmp_path: Path) -> None:
    layer = Scaled(name="scaled")
    layer.factor = 2.5  # as if it had been learned
    x = keras.Input((3,))
    interop.save_model(keras.Model(x, layer(x)), tmp_path / "m.interop")
    assert interop.load_model(tmp_path / "m.interop").get_layer("scaled").factor == 2.5
    with open_bundle(tmp_path / "m.interop", verify_digest=True) as bundle:
        assert list(bundle.config["model"]["assets"]) == ["scaled"]


@pytest.mark.parametrize(
    ("assets", "message"),
    [
        ({"scaled": {"files": {"../out": ""}}}, "not the name of a file in its own folder"),
        ({"scaled": {"files": {"/out": ""}}}, "not the name of a file in its own folder"),
        ({"scaled": {"files": {"deep/factor.json": "?"}}}, "not base64"),
        ({"scaled": {"vocabulary": ["a"]}}, "cannot take its stored assets"),
        ({"other": {"files": {}}}, "a layer 'other', which the model does not have"),
    ],
)
def test_assets_that_do_not_fit(assets: Any, message: str, tmp_path: Path) -> None:
    x = keras.Input((3,))
    with pytest.raises(RebuildError, match=message):
        restore_assets(keras.Model(x, Scaled(name="scaled")(x)), assets)


def test_strings_are_compared_where_keras_has_them(tmp_path: Path) -> None:
    model = around(keras.layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="one_hot"), 1, "string")
    if keras.backend.backend() == "tensorflow":
        interop.export_onnx(model, tmp_path / "m.onnx")
        return
    with pytest.raises(ParityError, match=r"has no strings.*Compare on TensorFlow"):
        interop.export_onnx(model, tmp_path / "m.onnx")
    interop.export_onnx(model, tmp_path / "m.onnx", verify=False)
