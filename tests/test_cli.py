"""The commands, run in this process: exit codes, what they print, what they write."""

import json
import shutil

import numpy as np
import pytest

from interop.cli.demo import MODELS
from interop.cli.main import main


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "digits.interop"
    assert main(["convert", str(MODELS / "digits_cnn.keras"), str(path), "--no-verify"]) == 0
    return path


@pytest.fixture
def images(tmp_path):
    with np.load(MODELS / "digits.npz") as data:
        held_out = data["held_out_images"][:10, :, :, None].astype("float32")
    np.save(tmp_path / "images.npy", held_out)
    return tmp_path / "images.npy"


@pytest.mark.parametrize("verb", ["convert", "inspect", "verify", "predict", "demo"])
def test_help_has_examples(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert f"interop {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["digits.onnx", "digits"])
def test_convert_checks_the_result(artifact, images, target, tmp_path, capsys):
    assert main(["convert", str(artifact), str(tmp_path / target), "--inputs", str(images), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"]["passed"] is True
    assert main(["verify", str(artifact), str(tmp_path / target), "--size", "batch=2,5"]) == 0


def test_predict_writes_what_the_graph_answers(artifact, images, tmp_path):
    assert main(["predict", str(artifact), str(images), str(tmp_path / "y.npz"), "--batch-size", "4"]) == 0
    with np.load(tmp_path / "y.npz") as outputs:
        assert outputs["digit"].shape == (10, 10)


def test_inspect_tells_the_layers(artifact, capsys):
    assert main(["inspect", str(artifact), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert "conv_1" in {layer["path"] for layer in summary["layers"]}
    assert summary["inputs"][0]["name"] == "image"
    assert main(["inspect", str(artifact)]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["inspect", "nowhere.interop"], 1, "nowhere.interop does not exist"),
        (["verify", "{artifact}", "{artifact}", "--size", "batch"], 2, "DIM=N,N"),
        (["predict", "{artifact}", "x.txt", "y.npy"], 1, "expected .npy"),
        (["convert", "{artifact}", "{artifact}"], 1, "the same file"),
        (["convert"], 2, "Missing argument"),
    ],
)
def test_errors_are_one_message(artifact, arguments, code, message, capsys):
    assert main([argument.format(artifact=artifact) for argument in arguments]) == code
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_a_changed_artifact_is_refused(artifact, tmp_path, capsys):
    copy = shutil.copy(artifact, tmp_path / "copy.interop")
    data = bytearray(copy.read_bytes())
    data[data.index(b'"producer"') + 1] ^= 1
    copy.write_bytes(data)
    assert main(["verify", str(artifact), str(copy)]) == 1
    assert "error:" in capsys.readouterr().err


def test_demo_passes(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] is True
    assert said["resumed"]["step_before"] > 0
    assert min(door["accuracy"] for door in said["doors"]) > 0.95
