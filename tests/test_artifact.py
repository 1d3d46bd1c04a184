"""The artifact on disk: what is written and read back, what a save may replace, what a config may say."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from cases import artifacts
from safetensors.numpy import load_file

import interop.artifact
from interop.artifact import archive
from interop.artifact import config as config_file
from interop.artifact.bundle import open_bundle
from interop.artifact.files import OPTIMIZER
from interop.artifact.signature import Signature, flatten, pack
from interop.artifact.writing import write_bundle
from interop.errors import ArtifactError, DigestError, UnsafeFileError, VersionError
from interop.formats.source import ArraySource
from interop.loading import load_graph

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
SCHEMA = json.loads((Path(interop.artifact.__file__).parent / "config.schema.json").read_text())


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_round_trip(tmp_path, name):
    path = tmp_path / name
    written = artifacts.save(path)
    variables = artifacts.weights() | artifacts.SEED_STATE
    with open_bundle(path, verify_digest=True) as bundle:
        assert bundle.form == ("zip" if name == artifacts.ZIP else "directory")
        assert bundle.weights.keys() == variables.keys()
        assert bundle.optimizer is not None
        assert bundle.optimizer.keys() == artifacts.OPTIMIZER.keys()
        for key, array in (variables | artifacts.OPTIMIZER).items():
            found = (bundle.weights if key in variables else bundle.optimizer)[key]
            assert (found.dtype, found.shape, found.flags.writeable) == (array.dtype, array.shape, False)
            np.testing.assert_array_equal(found, array)
        kept = bundle.weights["first/kernel"]
        config = bundle.config
    np.testing.assert_array_equal(kept, variables["first/kernel"])  # outlives the bundle
    jsonschema.validate(config, SCHEMA)
    assert {n: r.to_json() for n, r in written.records.items() if n != "config.json"} == config["files"]
    size = path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.iterdir())
    assert written.size_bytes == size


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_same_model_same_bytes_and_no_machine_paths(tmp_path, name):
    saved = []
    for folder in ("a", "elsewhere"):
        (tmp_path / folder).mkdir()
        artifacts.save(tmp_path / folder / name)
        saved.append(artifacts.contents(tmp_path / folder / name))
    assert saved[0] == saved[1]
    assert str(tmp_path).encode() not in (
        saved[0] if isinstance(saved[0], bytes) else b"".join(saved[0].values())
    )


def test_the_graph_is_valid_onnx_and_the_weights_are_valid_safetensors(tmp_path):
    artifacts.save(tmp_path / "m")
    onnx.checker.check_model(str(tmp_path / "m" / "model.onnx"), full_check=True)
    loaded = load_file(tmp_path / "m" / "weights.safetensors")
    for key, array in (artifacts.weights() | artifacts.SEED_STATE).items():
        np.testing.assert_array_equal(loaded[key], array)


def test_the_zip_is_an_ordinary_zip_with_aligned_weights(tmp_path):
    artifacts.save(tmp_path / "m.interop")
    artifacts.save(tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "m.interop") as zipped:
        assert zipped.testzip() is None
        assert {i.filename: zipped.read(i) for i in zipped.infolist()} == artifacts.contents(tmp_path / "m")
        assert {i.compress_type for i in zipped.infolist()} == {zipfile.ZIP_STORED}
    with (tmp_path / "m.interop").open("rb") as file:
        entries = archive.read_directory(file.fileno())
    assert all(entries[n].start % 4096 == 0 for n in entries if n.endswith(".safetensors"))


def test_a_zip_made_by_another_tool_opens(tmp_path):
    artifacts.save(tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "again.interop", "w") as zipped:
        for file in sorted((tmp_path / "m").iterdir()):
            zipped.write(file, file.name)
    np.testing.assert_allclose(
        load_graph(tmp_path / "again.interop")(X), artifacts.expected(X), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_modes_are_those_of_new_files(tmp_path, name):
    old = os.umask(0o027)
    try:
        artifacts.save(tmp_path / name)
    finally:
        os.umask(old)
    path = tmp_path / name
    assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640)
    if path.is_dir():
        assert {stat.S_IMODE(p.stat().st_mode) for p in path.iterdir()} == {0o640}


def test_huge_zip_records_round_trip(tmp_path):
    """64-bit sizes and offsets, without the bytes: a sparse file."""
    size = 5 << 30
    path = tmp_path / "huge.interop"
    with path.open("wb") as file:
        header = archive.local_header("weights.safetensors", size, 1, 0, align=True)
        file.write(header)
        file.seek(len(header) + size)
        position = file.tell()
        second = archive.local_header("config.json", 2, 2, position, align=False)
        file.write(second + b"{}")
        entries = [
            archive.ArchiveEntry("weights.safetensors", 0, len(header), size, 1),
            archive.ArchiveEntry("config.json", position, position + len(second), 2, 2),
        ]
        file.write(archive.central_directory(entries, file.tell()))
    with path.open("rb") as file:
        assert archive.read_directory(file.fileno()) == {entry.name: entry for entry in entries}
    with zipfile.ZipFile(path) as zipped:
        assert [(i.filename, i.header_offset, i.file_size) for i in zipped.infolist()] == [
            (entry.name, entry.header_start, entry.size) for entry in entries
        ]


# --- what a save may replace ---------------------------------------------------------------------------


def _folder(path: Path, **files: str) -> None:
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)


def _zip(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr(name, "mine")


FOREIGN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "notes beside an artifact": (
        lambda p: (artifacts.save(p), (p / "notes.txt").write_text("mine")),
        "m",
        r"notes\.txt",
    ),
    "a folder of something else": (lambda p: _folder(p, a__py="", b__py=""), "m", r"a\.py, b\.py"),
    "another project's config.json": (lambda p: _folder(p, config__json="{}"), "m", r"config\.json"),
    "a lone model.onnx": (lambda p: _folder(p, model__onnx="x"), "m", r"model\.onnx"),
    "a subfolder called like a file of ours": (
        lambda p: (artifacts.save(p), (p / OPTIMIZER).unlink(), (p / OPTIMIZER).mkdir()),
        "m",
        r"optimizer\.safetensors",
    ),
    "a file where a folder would go": (lambda p: p.write_text("mine"), "m", "a file is in the way"),
    "a text file": (lambda p: p.write_text("mine") and None, "m.interop", "no artifact"),
    "a folder called like a zip": (lambda p: p.mkdir(), "m.interop", "no regular file"),
    "another zip": (
        lambda p: _zip(p, "thesis.txt"),
        "m.interop",
        r"holds what no save made.*thesis\.txt",
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_things_are_never_replaced(tmp_path, what):
    make, name, message = FOREIGN[what]
    make(tmp_path / name)
    listed = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match=message):
        artifacts.save(tmp_path / name, 1)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == listed


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_overwrite_false(tmp_path, name):
    artifacts.save(tmp_path / name, overwrite=False)
    before = artifacts.contents(tmp_path / name)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        artifacts.save(tmp_path / name, 1, overwrite=False)
    assert artifacts.contents(tmp_path / name) == before


def test_empty_folder_and_empty_file_are_replaced_and_links_are_followed(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m.interop").touch()
    (tmp_path / "link.interop").symlink_to("m.interop")
    artifacts.save(tmp_path / "m")
    artifacts.save(tmp_path / "link.interop")
    assert (tmp_path / "link.interop").is_symlink()
    for name in ("m", "m.interop", "link.interop"):
        np.testing.assert_allclose(
            load_graph(tmp_path / name)(X), artifacts.expected(X), rtol=1e-5, atol=1e-6
        )


def test_hugging_face_cache_layout(tmp_path):
    """Links of a snapshot into the cache's own blobs are the only links that are followed."""
    artifacts.save(tmp_path / "m")
    snapshot, blobs = tmp_path / "repo" / "snapshots" / "abc", tmp_path / "repo" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in (tmp_path / "m").iterdir():
        file.rename(blobs / f"digest-of-{file.name}")
        (snapshot / file.name).symlink_to(f"../../blobs/digest-of-{file.name}")
    graph = load_graph(snapshot, verify_digest=True)
    np.testing.assert_allclose(graph(X), artifacts.expected(X), rtol=1e-5, atol=1e-6)
    (snapshot / "weights.safetensors").unlink()
    (snapshot / "weights.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        load_graph(snapshot)


# --- config ---------------------------------------------------------------------------------------------


def _rewrite(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_bytes(config_file.dump(config))


CONFIGS: dict[str, tuple[dict[str, object], type[Exception], str]] = {
    "newer": (
        {"min_reader_version": 2},
        VersionError,
        "needs reader version 2; this is reader version 1. Upgrade",
    ),
    "not an artifact": ({"format": "other"}, ArtifactError, "does not describe an artifact"),
    "no version": ({"min_reader_version": "1"}, ArtifactError, "min_reader_version '1'"),
    "files": ({"files": {"model.onnx": 3}}, ArtifactError, "records model.onnx as 3"),
    "pieces": (
        {"files": {"model.onnx": {"size": 1, "sha256": "0", "piece_bytes": 64}}},
        ArtifactError,
        "in pieces of 64 bytes; expected 1048576 or more",
    ),
    "no weights": ({"files": {}}, ArtifactError, "records no model.onnx"),
    "variables": ({"variables": [{"key": 3}]}, ArtifactError, "lists the variable"),
    "variable missing": ({"variables": []}, ArtifactError, "but config.json has not"),
    "model": ({"model": {"name": "m"}}, ArtifactError, "has the model's object None; expected dict"),
    "layer": (
        {"model": {"name": "m", "object": {}, "layers": [{"path": "a"}]}},
        ArtifactError,
        "lists the layer",
    ),
    "signature": ({"signature": {"inputs": []}}, ArtifactError, "the signature's outputs are None"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_config_is_checked(tmp_path, what):
    changes, error, message = CONFIGS[what]
    artifacts.save(tmp_path / "m")
    _rewrite(tmp_path / "m", **changes)
    with (
        pytest.raises(error, match=message),
        open_bundle(tmp_path / "m", verify_digest=False) as bundle,
    ):
        _ = bundle.config


def test_a_graph_opens_whatever_its_config_says_of_layers(tmp_path):
    """As long as that is what was written: the digest is of everything."""
    artifacts.save(tmp_path / "m")
    _rewrite(tmp_path / "m", model=3)
    assert load_graph(tmp_path / "m").inputs
    text = (tmp_path / "m" / "config.json").read_bytes()
    (tmp_path / "m" / "config.json").write_bytes(text.replace(b'"model": 3', b'"model": 4'))
    with pytest.raises(DigestError, match="does not match its own digest"):
        load_graph(tmp_path / "m")


@pytest.mark.parametrize("form", artifacts.FORMS)
def test_weights_that_the_config_does_not_list(tmp_path, form):
    """The graph says what it computes with; whoever takes the weights is told."""
    artifacts.save(tmp_path / "m")
    _rewrite(tmp_path / "m", variables=[])
    assert load_graph(tmp_path / "m").inputs
    for take in (interop.load_tensors, interop.inspect, interop.load_model):
        with pytest.raises(ArtifactError, match="has the variable 'dropout/seed_generator_state' but config"):
            take(tmp_path / "m")


def _with_digest(text: str) -> bytes:
    """The digest as the schema describes it, put in by hand."""
    before = text.encode()
    return before + f'"digest": "{hashlib.sha256(before).hexdigest()}"\n}}\n'.encode()


@pytest.mark.parametrize("form", ["m", "m.interop"])
def test_the_digest_of_a_config_is_what_the_schema_says(tmp_path, form):
    artifacts.save(tmp_path / form)
    with open_bundle(tmp_path / form, verify_digest=True) as bundle:
        text = config_file.dump(bundle.config)
        assert [*bundle.config][-2:] == ["model", "digest"]
    lines = text.decode().splitlines(keepends=True)
    assert _with_digest("".join(lines[:-2])) == text
    if form == "m":
        assert (tmp_path / "m" / "config.json").read_bytes() == text


def test_configs_of_other_writers(tmp_path):
    """Any layout but for the last two lines; a `model` in an odd place; none of it hides a key."""
    artifacts.save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    del config["digest"]
    odd = dict(reversed(config.items())) | {"source": {"framework": "x", "model": "y"}, "added": {"model": 1}}
    for layout in ({"indent": 0}, {"indent": 2}, {"separators": (",", ":")}):
        text = json.dumps(odd, **layout).removesuffix("}").rstrip() + ",\n"
        (tmp_path / "m" / "config.json").write_bytes(_with_digest(text))
        with open_bundle(tmp_path / "m", verify_digest=True) as bundle:
            assert bundle.config["added"] == {"model": 1}
        np.testing.assert_allclose(load_graph(tmp_path / "m")(X), artifacts.expected(X), rtol=1e-5, atol=1e-6)
    windows = _with_digest(text).replace(b"\n", b"\r\n")
    (tmp_path / "m" / "config.json").write_bytes(windows)
    assert load_graph(tmp_path / "m").inputs
    (tmp_path / "m" / "config.json").write_text(json.dumps(odd | {"digest": "0" * 64}, indent=2))
    with pytest.raises(DigestError, match="does not match its own digest"):
        load_graph(tmp_path / "m")
    twice = _with_digest(text.replace('"opset":', '"opset":1,"opset":'))
    (tmp_path / "m" / "config.json").write_bytes(twice)
    with pytest.raises(ArtifactError, match="duplicate key"):
        load_graph(tmp_path / "m")


def test_a_newer_format_that_this_reader_may_read(tmp_path):
    artifacts.save(tmp_path / "m")
    _rewrite(tmp_path / "m", format_version=7, added_later={"a": 1})
    with open_bundle(tmp_path / "m", verify_digest=True) as bundle:
        assert bundle.config["added_later"] == {"a": 1}


def test_a_newer_format_is_called_that_whatever_its_digest(tmp_path):
    artifacts.save(tmp_path / "m")
    text = (
        (tmp_path / "m" / "config.json")
        .read_text()
        .replace('"min_reader_version": 1', '"min_reader_version": 9')
    )
    (tmp_path / "m" / "config.json").write_text(text)
    with pytest.raises(VersionError, match="Upgrade interop"):
        load_graph(tmp_path / "m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"format": "interop", "format": "interop"}', "duplicate key"),
        (b'{"format": "interop", "x": NaN}', "NaN is not JSON"),
        (b'{"format": "interop", "x": "\\ud800"}', "not JSON"),
        (b'{"format": "interop", "min_reader_version": 1, "digest": "0"}', "does not match its own digest"),
        (b"[]", "does not describe an artifact"),
    ],
)
def test_garbage_for_a_config(text, message):
    with pytest.raises((ArtifactError, DigestError), match=message):
        config_file.parse(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": {"rate": float("nan")}}, r"config\['model'\]\['rate'\] is nan"),
        ({"model": {"layers": [np.float32(1)]}}, r"\['layers'\]\[0\] is float32"),
        ({"model": {1: 2}}, "has the key 1"),
    ],
)
def test_a_config_that_is_not_json_is_not_written(value, message):
    with pytest.raises(ArtifactError, match=message):
        config_file.dump(value)


def test_a_source_must_be_what_it_announced(tmp_path):
    class Lying(ArraySource):
        def read(self):
            return self.array.astype(np.float64)

    variables = artifacts.weights()
    with pytest.raises(ArtifactError, match=r"announced as float32.* but its values are float64"):
        write_bundle(
            tmp_path / "m",
            config=artifacts.config(variables),
            graph=lambda placements: artifacts.graph(placements).SerializeToString(),
            weights={key: Lying(array) for key, array in variables.items()},
        )
    assert list(tmp_path.iterdir()) == []


def test_the_current_folder_is_not_replaced_under_our_feet(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path / "m")
    for path in (".", "", tmp_path / "m"):
        with pytest.raises(FileExistsError, match="it is the current folder"):
            artifacts.save(Path(path))
    artifacts.save(Path("inside"))
    monkeypatch.chdir(tmp_path)
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["inside"]


@pytest.mark.parametrize("name", ["модель ☃ space", "модель ☃ space.interop", "weird;'\"%s{}\n.interop"])
@pytest.mark.parametrize("relative", [False, True])
def test_odd_paths(tmp_path, monkeypatch, name, relative):
    monkeypatch.chdir(tmp_path)
    path = name if relative else f"{tmp_path}/./{name}/"
    artifacts.save(path)
    artifacts.save(path)
    np.testing.assert_allclose(load_graph(path)(X), artifacts.expected(X), rtol=1e-5, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no artifact here"):
        load_graph(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="no graph here"):
        load_graph(tmp_path / "m.onnx")
    (tmp_path / "m").mkdir()
    with pytest.raises(ArtifactError, match=r"has no config\.json; it holds none of its files"):
        load_graph(tmp_path / "m")


# --- signature ------------------------------------------------------------------------------------------


def test_signature_round_trip_and_structures():
    value = {
        "inputs": [{"name": n, "dtype": "int32", "shape": ["batch", 3], "bounds": [0, 9]} for n in "abc"],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["floor((n + 1)/2)"]}],
        "input_structure": {"dict": {"p": {"tuple": [2, {"list": [0]}]}, "q": 1}},
        "output_structure": {"list": [0]},
    }
    signature = Signature.from_json(value)
    assert signature.to_json() == value
    nested = pack(signature.input_structure, ["A", "B", "C"])
    assert nested == {"p": ("C", ["A"]), "q": "B"}
    assert flatten(signature.input_structure, nested) == {0: "A", 1: "B", 2: "C"}


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (1, "holds the indices"),
        ({"list": [0, 0]}, "once each"),
        ({"set": [0]}, "expected an index"),
        (True, "holds True"),
    ],
)
def test_malformed_structures(structure, message):
    value = {"inputs": [{"name": "x", "dtype": "float32", "shape": []}], "outputs": []}
    with pytest.raises(ArtifactError, match=message):
        Signature.from_json(value | {"input_structure": structure, "output_structure": {"tuple": []}})


def test_weights_cut_short_while_they_are_read(tmp_path):
    artifacts.save(tmp_path / "m")
    with open_bundle(tmp_path / "m", verify_digest=False) as bundle:
        os.truncate(tmp_path / "m" / "weights.safetensors", 4096)
        with pytest.raises(ArtifactError, match="cut short"):
            bundle.read_weights(verify_digest=True)
