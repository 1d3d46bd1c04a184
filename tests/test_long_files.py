"""Weights of more than one piece: hashed in pieces, written before the graph is made, mapped when they are loaded."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from contextlib import closing

import keras
import numpy as np
import pytest

import interop
from interop.artifact import digest
from interop.artifact.bundle import open_bundle
from interop.errors import DigestError

FORMS = ("m", "m.interop")
X = np.random.default_rng(0).standard_normal((4, 1200)).astype("float32")


@keras.saving.register_keras_serializable("long_files")
class Scaled(keras.layers.Layer):
    """Multiplies by an array that is no variable: a constant of the graph, which nobody knows before it is traced."""

    def call(self, x):
        return x * keras.ops.convert_to_tensor(np.linspace(1, 2, 1200, dtype="float32"))


def model_of(seed: int = 0, *layers: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((1200,), name="x"),
            *layers,
            *(keras.layers.Dense(1200, name=f"d{i}") for i in range(4)),
        ],
        name="net",
    )
    model.compile("sgd", "mse")
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    model = model_of()
    for form in FORMS:
        interop.save_model(model, folder / form)
    return folder, model.predict(X, verbose=0), model


def contents(path):
    return {name: array.copy() for name, array in interop.load_tensors(path).items()}


def test_the_record_is_what_the_schema_says(saved):
    folder, _, _ = saved
    records = json.loads((folder / "m" / "config.json").read_text())["files"]
    data = (folder / "m" / "weights.safetensors").read_bytes()
    step = records["weights.safetensors"]["piece_bytes"]
    assert len(data) > step == digest.PIECE_BYTES
    pieces = [hashlib.sha256(data[at : at + step]).digest() for at in range(0, len(data), step)]
    assert records["weights.safetensors"]["sha256"] == hashlib.sha256(b"".join(pieces)).hexdigest()
    graph = (folder / "m" / "model.onnx").read_bytes()
    assert records["model.onnx"] == {"size": len(graph), "sha256": hashlib.sha256(graph).hexdigest()}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_bytes_again(saved, tmp_path, form):
    interop.save_model(saved[2], tmp_path / form)
    names = [""] if form.endswith("interop") else os.listdir(tmp_path / form)
    for name in names:
        assert (tmp_path / form / name).read_bytes() == (saved[0] / form / name).read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_training_leaves_the_file_and_a_new_save_leaves_the_model(saved, tmp_path, form):
    _, expected, _ = saved
    path = tmp_path / form
    interop.save_model(model_of(), path)
    loaded = interop.load_model(path)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-5)
    loaded.fit(X, np.zeros_like(X), epochs=2, verbose=0)
    trained = loaded.predict(X, verbose=0)
    assert not np.allclose(trained, expected)
    with open_bundle(path, verify_digest=True):
        pass
    other = interop.load_model(path)
    interop.save_model(model_of(1), path)
    np.testing.assert_allclose(other.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), trained, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("piece", [0, 1])
def test_a_changed_byte_in_any_piece(saved, tmp_path, piece):
    path = tmp_path / "m"
    interop.save_model(model_of(), path)
    with (path / "weights.safetensors").open("r+b") as file:
        file.seek(piece * digest.PIECE_BYTES + 100_000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(DigestError, match=r"weights\.safetensors has SHA-256"):
        interop.load_model(path)
    with pytest.raises(DigestError, match=r"weights\.safetensors has SHA-256"):
        interop.load_graph(path, verify_digest=True)


@pytest.mark.parametrize("form", FORMS)
def test_constants_that_are_known_after_the_trace(tmp_path, form):
    model = model_of(0, Scaled())
    interop.save_model(model, tmp_path / form)
    assert any("constant" in name or name.startswith("scaled") for name in contents(tmp_path / form))
    assert interop.verify(model, tmp_path / form).passed
    np.testing.assert_allclose(
        interop.load_model(tmp_path / form).predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("calls", [3, 20])
def test_a_disk_that_fills_up(tmp_path, monkeypatch, form, calls):
    path = tmp_path / form
    interop.save_model(model_of(), path)
    before, real, seen = contents(path), os.write, []

    def write(descriptor, data):
        seen.append(len(data))
        if len(seen) == calls:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: len(data) // 2 + 1])  # the kernel may take less than it was given

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            interop.save_model(model_of(1), path)
    assert [p.name for p in tmp_path.iterdir()] == [form]
    for name, array in contents(path).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_model_that_cannot_be_captured_leaves_what_was_there(tmp_path):
    class Impossible(keras.layers.Layer):
        def call(self, x):
            raise ValueError("no")

        def compute_output_shape(self, shape):
            return shape

    path = tmp_path / "m"
    interop.save_model(model_of(), path)
    before = contents(path)
    model = model_of(1)
    model.layers[0].call = Impossible().call
    with pytest.raises(interop.InteropError, match="Nothing was written"):
        interop.save_model(model, path)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    np.testing.assert_array_equal(contents(path)["d0/kernel"], before["d0/kernel"])


def test_a_file_system_that_maps_no_files(saved, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    with monkeypatch.context() as patch:
        patch.setattr(digest.mmap, "mmap", refuse)
        interop.save_model(saved[2], tmp_path / "m")
    config = (tmp_path / "m" / "config.json").read_bytes()
    assert config == (saved[0] / "m" / "config.json").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("step", [1, 7, 1000, 5000])
def test_a_digest_does_not_depend_on_how_bytes_arrive(size, step, monkeypatch):
    monkeypatch.setattr(digest, "PIECE_BYTES", 1000)
    data = bytes(range(256)) * 20
    data = data[:size]
    pieces = [hashlib.sha256(data[at : at + 1000]).digest() for at in range(0, size, 1000)]
    whole = hashlib.sha256(data).hexdigest()
    for length, wanted in (
        (None, whole),
        (1000, hashlib.sha256(b"".join(pieces or [hashlib.sha256().digest()])).hexdigest()),
    ):
        with closing(digest.Hasher(size, length, pending=3)) as hasher:
            for at in range(0, size, step):
                hasher.add(memoryview(data)[at : at + step])
            assert hasher.digest() == wanted
