"""``inspect``: what it tells of every kind of file, what it says of damaged ones, and that it needs no Keras."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from cases import artifacts
from onnx import TensorProto, helper
from test_imports import BLOCK

import interop
from interop.artifact import config as config_file
from interop.errors import ArtifactError, FormatError
from interop.formats.dtypes import BY_NAME
from interop.inspection import Summary


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """One small model in every form: artifact, ``.onnx``, ``.keras``, ``.h5``, and its tensors."""
    folder = tmp_path_factory.mktemp("inspected")
    keras.utils.set_random_seed(0)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(9, 4, name="words")(tokens)
    block = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(4, name="inner")], name="block")
    y = keras.layers.Dense(2, name="y")(block(block(x)))
    model = keras.Model(tokens, y, name="small")
    model.get_layer("words").trainable = False
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    for name in ("m", "m.interop"):
        interop.save_model(model, folder / name)
    interop.export_onnx(model, folder / "m.onnx", verify=False)
    model.save(folder / "m.keras")
    model.save_weights(folder / "m.weights.h5")
    shutil.copy(folder / "m" / "weights.safetensors", folder / "m.safetensors")
    np.savez(folder / "m.npz", a=np.zeros((2, 3), "float32"), b=np.zeros((), "int64"))
    return folder


PARAMETERS = 9 * 4 + (4 * 4 + 4) + (4 * 2 + 2)


@pytest.mark.parametrize(("name", "form"), [("m", "directory"), ("m.interop", "zip")])
def test_artifact(files, name, form):
    found = interop.inspect(files / name)
    assert (found.kind, found.parameters, found.trainable) == (
        f"artifact ({form})",
        PARAMETERS,
        PARAMETERS - 36,
    )
    assert found.facts["model"] == "small"
    assert found.facts["source"] == f"keras {keras.__version__}"
    assert found.facts["format"] == "version 1, follows the schema"
    assert found.facts["opset"] == "20 (IR version 9)"
    assert (found.facts["compiled"], found.facts["optimizer state"]) == ("yes", "yes")
    assert [str(spec) for spec in found.inputs] == ["tokens: int32[batch, tokens_1]"]
    assert found.inputs[0].bounds == (0, 8)
    assert [spec.name for spec in found.outputs] == ["y"]
    layers = {layer.path: layer for layer in found.layers}
    assert (layers["words"].class_name, layers["words"].trainable) == ("Embedding", False)
    assert (layers["block/inner"].parameters, layers["block/inner"].calls) == (20, 2)
    assert layers["block"].parameters == 0, "the weights of a layer inside it count there"
    assert found.operators["Gather"] == 1
    tensors = {tensor.name: tensor for tensor in found.tensors}
    assert (tensors["words/embeddings"].shape, tensors["words/embeddings"].size_bytes) == ((9, 4), 144)
    config = json.loads((files / "m" / "config.json").read_text())
    assert found.digest == config["digest"]
    assert {f.name: f.sha256 for f in found.files} == {
        name: record["sha256"] for name, record in config["files"].items()
    }
    path = files / name
    parts = path.iterdir() if path.is_dir() else [path]
    assert found.size_bytes == sum(part.stat().st_size for part in parts)


def test_both_forms_tell_the_same(files):
    a, b = (interop.inspect(files / name).to_json() for name in ("m", "m.interop"))
    for key in ("path", "kind", "size_bytes"):
        a.pop(key), b.pop(key)
    assert a == b


def test_onnx(files):
    found = interop.inspect(files / "m.onnx")
    assert (found.kind, found.parameters, found.digest) == ("onnx", found.parameters, None)
    assert found.parameters >= PARAMETERS
    assert found.size_bytes == (files / "m.onnx").stat().st_size
    assert [spec.name for spec in (*found.inputs, *found.outputs)] == ["tokens", "y"]
    assert found.operators["Gather"] == 1
    assert found.facts["opset"].startswith("ai.onnx 20")
    assert found.facts["Keras model"].endswith(f", keras {keras.__version__}")


@pytest.mark.parametrize(
    ("name", "kind", "tensor"),
    [
        ("m.keras", "keras", "words/0"),
        ("m.weights.h5", "h5", "words/0"),
        ("m.safetensors", "safetensors", "words/embeddings"),
    ],
)
def test_files_of_tensors(files, name, kind, tensor):
    found = interop.inspect(files / name)
    assert (found.kind, found.parameters) == (kind, PARAMETERS)
    assert {t.name: t.shape for t in found.tensors}[tensor] == (9, 4)
    if name == "m.keras":
        assert found.facts["model"] == "small (Functional)"
        assert found.facts["source"] == f"keras {keras.__version__}"
        assert found.facts["compiled"] == "yes"


def test_npz(files):
    found = interop.inspect(files / "m.npz")
    assert (found.kind, found.parameters) == ("npz", 7)
    assert [(t.name, t.dtype, t.shape, t.size_bytes) for t in found.tensors] == [
        ("a", "float32", (2, 3), 24),
        ("b", "int64", (), 8),
    ]


@pytest.mark.parametrize(
    "name", ["m", "m.interop", "m.onnx", "m.keras", "m.weights.h5", "m.safetensors", "m.npz"]
)
def test_what_is_printed_and_what_machines_get(files, name):
    found = interop.inspect(str(files / name))
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()
    text = str(found)
    assert text.startswith(f"{files / name}: {found.kind}, ")
    for tensor in found.tensors:
        assert tensor.name in text
    for layer in found.layers:
        assert layer.path.rpartition("/")[2] in text


def test_an_onnx_graph_with_little_in_it(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [None, 2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [
        helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["n", 2])
    ])  # fmt: skip
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=artifacts.OPSETS[:1]).SerializeToString())
    found = interop.inspect(path)
    assert [str(spec) for spec in found.inputs] == ["x: bfloat16[x.0, 2]"]
    assert (found.parameters, found.tensors) == (0, ())
    assert "parameters  0" in str(found)


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_an_artifact_made_without_a_framework(tmp_path, name):
    artifacts.save(tmp_path / name)
    found = interop.inspect(tmp_path / name)
    assert found.facts["compiled"] == "no"
    assert sum(t.elements for t in found.tensors if t.name in artifacts.weights()) == 12 + 3 + 48 + 16


# --- damage ---------------------------------------------------------------------------------------------


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(3000))


DAMAGED = [
    ("m.interop", _truncate, ArtifactError),
    ("m.interop", _empty, ArtifactError),
    ("m.interop", _noise, ArtifactError),
    ("m.onnx", _truncate, ArtifactError),
    ("m.onnx", _empty, ArtifactError),
    ("m.onnx", _noise, ArtifactError),
    ("m.keras", _truncate, FormatError),
    ("m.keras", _empty, FormatError),
    ("m.weights.h5", _truncate, FormatError),
    ("m.weights.h5", _noise, FormatError),
    ("m.safetensors", _truncate, FormatError),
    ("m.safetensors", _noise, FormatError),
    ("m.npz", _truncate, FormatError),
]


@pytest.mark.parametrize(
    ("name", "damage", "error"), DAMAGED, ids=lambda value: getattr(value, "__name__", value)
)
def test_damaged_files(files, tmp_path, name, damage, error):
    path = Path(shutil.copy(files / name, tmp_path / name))
    damage(path)
    with pytest.raises(error, match=f"{tmp_path}|{name}"):
        interop.inspect(path)


@pytest.mark.parametrize("part", ["config.json", "model.onnx"])
def test_a_changed_artifact(files, tmp_path, part):
    path = shutil.copytree(files / "m", tmp_path / "m")
    data = bytearray((path / part).read_bytes())
    data[len(data) // 2] ^= 1
    (path / part).write_bytes(data)
    with pytest.raises(ArtifactError, match=part.replace(".", r"\.")):
        interop.inspect(path)


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        interop.inspect(tmp_path / "m.interop")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FormatError, match=r"notes\.txt' does not end in one of"):
        interop.inspect(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="it holds none of its files"):
        interop.inspect(tmp_path / "empty")


@pytest.mark.parametrize(
    "members",
    [
        {"config.json": "[]", "metadata.json": "{}"},
        {"config.json": "{}", "metadata.json": "{}"},
        {"config.json": '{"config": 3, "class_name": "x"}', "metadata.json": "{}"},
        {"config.json": "\udcff", "metadata.json": "{}"},
        {},
    ],
    ids=["list", "no name", "odd config", "no text", "no config"],
)
def test_a_keras_file_with_an_odd_config(files, tmp_path, members):
    with zipfile.ZipFile(files / "m.keras") as good, zipfile.ZipFile(tmp_path / "m.keras", "w") as bad:
        bad.writestr("model.weights.h5", good.read("model.weights.h5"))
        for name, text in members.items():
            bad.writestr(name, text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FormatError, match=r"is not a \.keras file"):
        interop.inspect(tmp_path / "m.keras")


ODD_MODELS = [
    {"layers": 3},
    {"layers": [3]},
    {"layers": [{"path": "a"}]},
    {"layers": [{"path": "a", "variables": "b", "class": 3, "calls": 1, "trainable": None}]},
    {"name": ["x"], "compile": 0},
]


def test_a_keras_file_whose_directory_is_damaged(files, tmp_path):
    """Each byte of the zip's table of contents in turn: where a member lies may be before the file begins."""
    good = (files / "m.keras").read_bytes()
    start = good.index(b"PK\x01\x02")
    path = tmp_path / "m.keras"
    for position in range(start, len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x80]) + good[position + 1 :])
        try:
            interop.inspect(path)
        except FormatError:
            continue


@pytest.mark.parametrize("model", ODD_MODELS)
def test_a_config_that_fits_its_digest_but_not_the_schema(tmp_path, model):
    artifacts.save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text()) | {"model": model}
    (tmp_path / "m" / "config.json").write_bytes(config_file.dump(config))
    with pytest.raises(ArtifactError, match=r"config\.json (has the model's|lists the layer)"):
        interop.inspect(tmp_path / "m")


# --- without a framework --------------------------------------------------------------------------------


def test_without_keras(files):
    """With no framework (and no schema validator) to import, every file tells the same."""
    names = ["m", "m.interop", "m.onnx", "m.keras", "m.weights.h5", "m.safetensors", "m.npz"]
    blocked = {"keras", "jax", "tensorflow", "torch", "jsonschema"}
    code = BLOCK.format(blocked=sorted(blocked)) + textwrap.dedent(
        """
        import json, interop
        print(json.dumps([interop.inspect(path).to_json() for path in sys.argv[1:]]))
        """
    )
    env = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    command = [sys.executable, "-c", code, *(str(files / name) for name in names)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for name, found in zip(names, json.loads(done.stdout), strict=True):
        here = interop.inspect(files / name).to_json()
        if name in ("m", "m.interop"):
            assert found["facts"].pop("format").endswith("schema not checked (jsonschema is not installed)")
            here["facts"].pop("format")
        assert found == here


def test_sizes_are_known_for_every_dtype():
    assert all(size.itemsize > 0 for size in BY_NAME.values())
    assert Summary(Path("x"), "onnx", 0, 0).to_json()["tensors"] == []
