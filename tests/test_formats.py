"""Files of named tensors: read lazily, without the framework that wrote them; damage is a FormatError."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors import deserialize
from safetensors.numpy import save_file

from interop.errors import FormatError
from interop.formats import FORMATS, open_tensors, safetensors
from interop.formats.dtypes import BY_NAME, numpy_dtype
from interop.formats.source import ArraySource
from interop.formats.tensorbundle.files import shard_of
from interop.formats.tensorbundle.writer import write_data, write_index
from interop.loading import load_tensors

pytestmark = pytest.mark.framework("torch")

TENSORS = {
    "block/dense/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "block/dense/bias": np.arange(4, dtype=np.float64),
    "flag": np.array(True),
    "empty": np.zeros((0, 5), np.int16),
    "steps": np.array(2**40, np.int64),
}


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> safetensors.Layout:
    sources = {key: ArraySource(array) for key, array in tensors.items()}
    layout = safetensors.plan({key: (source.dtype, source.shape) for key, source in sources.items()})
    path.write_bytes(b"".join(safetensors.stream(layout, sources)))
    return layout


def write_h5(path: Path, tensors: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for key, array in tensors.items():
            file[key] = array


def write_checkpoint(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """The files of the prefix whose index is `path`."""
    prefix = path.with_suffix("")
    with shard_of(prefix, 0, 1).open("wb") as file:
        entries = write_data(file, {key: ArraySource(array) for key, array in tensors.items()})
    path.write_bytes(write_index(entries))


WRITERS = {
    "tf": (".index", write_checkpoint),
    "safetensors": (".safetensors", write_safetensors),
    "npz": (".npz", lambda path, tensors: np.savez(path, **tensors)),
    "h5": (".weights.h5", write_h5),
    "keras": (".keras", lambda path, tensors: write_keras(path, tensors, zipfile.ZIP_STORED)),
    "shards": (".safetensors.index.json", lambda path, tensors: write_shards(path, tensors)),
    "keras_shards": (".weights.json", lambda path, tensors: write_keras_shards(path, tensors)),
    "onnx": (".onnx", lambda path, tensors: write_onnx(path, tensors)),
}


def write_keras(path: Path, tensors: dict[str, np.ndarray], compression: int) -> None:
    write_h5(path.with_suffix(".inner"), tensors)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("config.json", "{}")
        archive.write(path.with_suffix(".inner"), "model.weights.h5")


def write_shards(path: Path, tensors: dict[str, np.ndarray]) -> None:
    where = {name: f"shard-{len(name) % 2}.safetensors" for name in tensors}
    for file in set(where.values()):
        write_safetensors(path.with_name(file), {n: a for n, a in tensors.items() if where[n] == file})
    path.write_text(json.dumps({"weight_map": where}))


def write_keras_shards(path: Path, tensors: dict[str, np.ndarray]) -> None:
    where = {name: f"shard_{len(name) % 2}.weights.h5" for name in tensors}
    for file in set(where.values()):
        write_h5(path.with_name(file), {n: a for n, a in tensors.items() if where[n] == file})
    path.write_text(json.dumps({"weight_map": {"": sorted(set(where.values()))}}))


def write_onnx(path: Path, tensors: dict[str, np.ndarray], external: bool = False) -> None:
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph([], "g", [], [], initializers)
    model = onnx.helper.make_model(graph)
    options = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0} if external else {}
    onnx.save(model, path, **options)


def test_every_format_has_a_writer_here():
    """But those that need a framework's writer, which tests/test_transfer_files.py has."""
    assert {row.name for row in FORMATS} - {"torch", "orbax"} == WRITERS.keys()


@pytest.mark.parametrize("format", WRITERS)
def test_round_trip(tmp_path, format):
    suffix, write = WRITERS[format]
    path = tmp_path / f"t{suffix}"
    write(path, TENSORS)
    with load_tensors(path) as found:
        assert set(found) == set(TENSORS)
        assert found.dtypes == {key: array.dtype.name for key, array in TENSORS.items()}
        assert found.shapes == {key: array.shape for key, array in TENSORS.items()}
        for key, array in TENSORS.items():
            assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(found[key], array)
            assert not found[key].flags.writeable
        kept = found["block/dense/kernel"]
        with pytest.raises(KeyError, match="did you mean 'block/dense/kernel'"):
            found["block/dense/kernal"]
    np.testing.assert_array_equal(kept, TENSORS["block/dense/kernel"])
    with pytest.raises(ValueError, match="was closed"):
        found["flag"]
    assert "5 tensors" in repr(found)
    for file in tmp_path.glob("t.*"):  # a checkpoint has two files, which are always called so
        shutil.copy(file, tmp_path / ("unnamed" + file.suffix if format == "tf" else "unnamed"))
    with open_tensors(tmp_path / "unnamed", format) as again:
        assert len(again) == len(TENSORS)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_dtype_of_safetensors(tmp_path, name):
    dtype = numpy_dtype(name)
    array = np.arange(256, dtype=np.uint8)[: 8 * dtype.itemsize]
    array = (array % 2).view(dtype) if name == "bool" else array.view(dtype)
    write_safetensors(tmp_path / "t.safetensors", {"a": array, "b": array.reshape(2, 4)})
    with open_tensors(tmp_path / "t.safetensors") as found:
        assert found["a"].dtype == dtype
        assert found["b"].tobytes() == array.tobytes()
    loaded = dict(deserialize((tmp_path / "t.safetensors").read_bytes()))  # the reference implementation
    assert (loaded["a"]["dtype"], bytes(loaded["a"]["data"])) == (BY_NAME[name].safetensors, array.tobytes())


def test_layout_of_safetensors(tmp_path):
    tensors = {
        "z": np.zeros(64, np.float32),
        "a": np.zeros(64, np.float32),
        "odd8": np.zeros(3, np.int8),
        "odd64": np.zeros(1, np.float64),
        "wide": np.zeros(8, np.float64),
    }
    layout = write_safetensors(tmp_path / "t.safetensors", tensors)
    assert list(layout.entries) == ["wide", "a", "z", "odd64", "odd8"]
    assert next(iter(layout.entries.values())).begin % 4096 == 0
    assert all(entry.begin % BY_NAME[entry.dtype].itemsize == 0 for entry in layout.entries.values())
    assert all(entry.begin % 64 == 0 for entry in layout.entries.values() if entry.size_bytes % 64 == 0)
    assert layout.size_bytes == (tmp_path / "t.safetensors").stat().st_size
    again = dict(reversed(tensors.items()))
    write_safetensors(tmp_path / "again.safetensors", again)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "t.safetensors").read_bytes()


def test_files_of_others_and_unaligned_tensors(tmp_path):
    tensors = {"x": np.arange(3, dtype=np.int8), "y": np.arange(3, dtype=np.float32)}
    save_file(tensors, tmp_path / "t.safetensors", metadata={"format": "np"})
    header = json.dumps(
        {
            "x": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]},
            "y": {"dtype": "F32", "shape": [3], "data_offsets": [3, 15]},
        }
    ).encode()
    data = b"".join(a.tobytes() for a in tensors.values())
    (tmp_path / "u.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    for name in ("t.safetensors", "u.safetensors"):
        with load_tensors(tmp_path / name) as found:
            for key, array in tensors.items():
                np.testing.assert_array_equal(found[key], array)
                assert found[key].flags.aligned


def file_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(**changes: object) -> dict[str, object]:
    return {"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} | changes}


BAD_SAFETENSORS = [
    (b"", "0 bytes is too short"),
    (b"1234567", "7 bytes is too short"),
    ((1 << 40).to_bytes(8, "little"), "the header claims 1099511627776 bytes; 100000000 is the limit"),
    ((100).to_bytes(8, "little") + b"{}", "the file ends before"),
    (file_of(b"[]"), "does not begin with"),
    (file_of(b"{"), "is not JSON"),
    (file_of(b'{"x":' + b"[" * 50_000), "is not JSON"),
    (file_of(b'{"\xff": 1}'), "is not JSON"),
    (file_of(b'{"x": 1, "x": 2}'), "names 'x' more than once"),
    (file_of({"x": 3}), "needs exactly dtype, shape and data_offsets"),
    (file_of(one(more=1), b"1234"), "needs exactly"),
    (file_of(one(dtype="F3"), b"1234"), "unknown dtype 'F3'"),
    (file_of(one(dtype=["U8"]), b"1234"), "unknown dtype"),
    (file_of(one(shape=[-4]), b"1234"), "has shape [-4]"),
    (file_of(one(shape=[True, 4]), b"1234"), "has shape [True, 4]"),
    (file_of(one(shape=[1] * 33 + [4]), b"1234"), "at most 32 sizes"),
    (file_of(one(shape=[1 << 62, 8]), b"1234"), "its offsets span 4"),
    (file_of(one(shape=[0, 1 << 70], data_offsets=[0, 0])), "cannot be made"),
    (file_of(one(data_offsets=[0, 4, 8]), b"1234"), "expected [begin, end]"),
    (file_of(one(data_offsets=[4, 0]), b"1234"), "its offsets span -4"),
    (file_of(one(data_offsets=[1, 5]), b"12345"), "leaves a gap before it"),
    (file_of(one(), b"12345"), "but 5 follow the header"),
    (file_of(one(), b"123"), "but 3 follow the header"),
    (file_of(one() | {"y": one()["x"]}, b"1234"), "overlaps the one before it"),
    (file_of({"__metadata__": {"a": 1}}), "must map strings to strings"),
]


@pytest.mark.parametrize(("data", "message"), BAD_SAFETENSORS)
def test_bad_safetensors(tmp_path, data, message):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(FormatError) as raised, load_tensors(tmp_path / "x.safetensors") as found:
        dict(found)
    assert message in str(raised.value)


def test_a_header_as_writers_lay_it_out_reads_as_any_other_json(tmp_path):
    """It is read without JSON; a space before the first name makes JSON of it. Both accept the same, damaged or not."""
    header = {
        "a/b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "\u00e9": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]},
        "none": {"dtype": "U8", "shape": [0, 5], "data_offsets": [32, 32]},
    }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    rng = random.Random(0)
    read = 0

    def entries(told: bytes) -> list[tuple[str, str, tuple[int, ...]]] | None:
        path = tmp_path / "m.safetensors"
        path.write_bytes(len(told).to_bytes(8, "little") + told + bytes(32))
        try:
            with open_tensors(path) as found:
                return [(name, found.dtypes[name], found.shapes[name]) for name in found]
        except FormatError:
            return None

    for _ in range(1500):
        damaged = bytearray(text)
        for _ in range(rng.randrange(3)):
            place, letter = rng.randrange(1, len(damaged)), rng.choice(b'",:{}[]0123456789 FUI\\')
            damaged[place : place + rng.randrange(2)] = bytes([letter]) * rng.randrange(2)
        found = entries(bytes(damaged))
        assert found == entries(b"{ " + damaged[1:]), bytes(damaged)
        read += found is not None
    assert 300 < read < 1400


def test_what_cannot_be_written():
    with pytest.raises(FormatError, match="which safetensors cannot hold"):
        safetensors.plan({"x": ("object", ())})
    with pytest.raises(FormatError, match="reserves the name"):
        safetensors.plan({"__metadata__": ("float32", ())})
    layout = safetensors.plan({"x": ("float32", (2,))})
    with pytest.raises(FormatError, match="was announced as float32"):
        list(safetensors.stream(layout, {"x": ArraySource(np.zeros(3, np.float32))}))


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(FormatError, match="nothing is unpickled here"):
        load_tensors(tmp_path / "x.npz")


def test_fortran_order_and_big_endian(tmp_path):
    array = np.arange(6).reshape(2, 3)
    np.savez_compressed(tmp_path / "x.npz", f=np.asfortranarray(array), b=array.astype(">i4"))
    with load_tensors(tmp_path / "x.npz") as found:
        np.testing.assert_array_equal(found["f"], array)
        np.testing.assert_array_equal(found["b"], array)
    write_safetensors(tmp_path / "x.safetensors", {"f": np.asfortranarray(array), "b": array.astype(">i4")})
    with load_tensors(tmp_path / "x.safetensors") as found:
        np.testing.assert_array_equal(found["f"], array)
        np.testing.assert_array_equal(found["b"], array)


def test_names_in_keras_3_weights(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        for group, name, count in (
            ("dense", "head", 2),
            ("dense_1", "tail", 1),
            ("lstm/cell", "lstm_cell", 1),
        ):
            for index in range(count):
                file[f"layers/{group}/vars/{index}"] = np.full(2, index, np.float32)
            file[f"layers/{group}/vars"].attrs["name"] = name
        file["layers/lstm"].create_group("vars").attrs["name"] = "memory"
        file["encoder/vars/0"] = np.zeros(2)
        file["optimizer/vars/3"] = np.zeros(2)
    with load_tensors(tmp_path / "m.weights.h5") as found:
        assert set(found) == {"head/0", "head/1", "tail/0", "memory/cell/0", "encoder/0", "optimizer/3"}
        np.testing.assert_array_equal(found["head/1"], [1, 1])


def test_names_that_would_be_alike_stay_as_in_the_file(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        for group in ("dense", "dense_1"):
            file[f"layers/{group}/vars/0"] = np.zeros(2)
            file[f"layers/{group}/vars"].attrs["name"] = "same"
    with load_tensors(tmp_path / "m.weights.h5") as found:
        assert set(found) == {"layers/dense/vars/0", "layers/dense_1/vars/0"}


def test_names_in_legacy_h5(tmp_path):
    for root in ("model_weights/", ""):
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file[f"{root}head/head/kernel:0"] = np.zeros((2, 2))
            file[f"{root}inner/dense/bias:0"] = np.zeros(2)
            (file[root] if root else file).attrs["layer_names"] = ["head", "inner"]
        with load_tensors(tmp_path / "m.h5") as found:
            assert set(found) == {"head/kernel", "inner/dense/bias"}


def test_bfloat16_as_keras_stores_it(tmp_path):
    value = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        dataset = file.create_dataset("layers/dense/vars/0", data=value.view("V2"))
        dataset.attrs["dtype"] = "bfloat16"
    with load_tensors(tmp_path / "m.weights.h5") as found:
        assert found.dtypes == {"dense/0": "bfloat16"}
        np.testing.assert_array_equal(found["dense/0"], value)


def test_h5_that_refers_to_other_files(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("x", (2,), "f8", external=[(str(tmp_path / "secret"), 0, 16)])
    with pytest.raises(FormatError, match="keeps its data in other files"):
        load_tensors(tmp_path / "m.h5")
    write_h5(tmp_path / "other.h5", TENSORS)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "flag")
        file["own"] = np.zeros(2)
    with load_tensors(tmp_path / "m.h5") as found:
        assert list(found) == ["own"]


def test_text_in_h5_is_listed_but_not_read(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["words"] = ["a", "b"]
    with load_tensors(tmp_path / "m.h5") as found, pytest.raises(FormatError, match="holds text"):
        found["words"]


def test_keras_zip(tmp_path):
    write_keras(tmp_path / "m.keras", TENSORS, zipfile.ZIP_DEFLATED)
    with load_tensors(tmp_path / "m.keras") as found:
        np.testing.assert_array_equal(found["block/dense/kernel"], TENSORS["block/dense/kernel"])
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("model.weights.json", "{}")
    with pytest.raises(FormatError, match="sharded"):
        load_tensors(tmp_path / "m.keras")


@pytest.mark.parametrize("format", WRITERS)
def test_garbage_is_a_format_error(tmp_path, format):
    suffix, _ = WRITERS[format]
    for data in (b"", b"x", b"PK\x03\x04" + bytes(50), b"\x89HDF\r\n\x1a\n" + bytes(100), bytes(5000)):
        (tmp_path / f"t{suffix}").write_bytes(data)
        with pytest.raises(FormatError):
            load_tensors(tmp_path / f"t{suffix}")
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / f"nothing{suffix}")


@pytest.mark.parametrize("format", ["safetensors", "npz", "keras", "onnx"])
def test_flipped_and_truncated_bytes(tmp_path, format):
    suffix, write = WRITERS[format]
    path = tmp_path / f"t{suffix}"
    write(path, TENSORS)
    good = path.read_bytes()
    rng = random.Random(format)
    spots = [index for index, byte in enumerate(good) if byte != 32]
    for round_ in range(300):
        data = bytearray(good)
        if round_ % 4:
            data[rng.choice(spots)] ^= 1 << rng.randrange(8)
        else:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(bytes(data))
        try:
            with load_tensors(path) as found:
                dict(found)
        except FormatError:
            continue


def test_unknown_formats(tmp_path):
    with pytest.raises(FormatError, match=r"'x\.dat' does not end in one of \.safetensors, \.npz"):
        load_tensors(tmp_path / "x.dat")
    with pytest.raises(FormatError, match="no format is called 'pickle'; there are safetensors, npz"):
        load_tensors(tmp_path / "x.npz", format="pickle")
    with pytest.raises(FormatError, match="is a folder"):
        open_tensors(tmp_path, "npz")


def test_reading_needs_no_framework(tmp_path):
    for suffix, write in WRITERS.values():
        write(tmp_path / f"t{suffix}", TENSORS)
    code = (
        "import sys, interop\n"
        "for suffix in sys.argv[2:]:\n"
        "    with interop.load_tensors(sys.argv[1] + suffix) as found: dict(found)\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not names & {'keras', 'tensorflow', 'torch', 'jax', 'onnx', 'safetensors'}, names"
    )
    suffixes = [suffix for suffix, _ in WRITERS.values()]
    command = [sys.executable, "-c", code, str(tmp_path / "t"), *suffixes]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [code for code in range(1, 25) if code != 23])
@pytest.mark.parametrize("raw", [True, False])
def test_every_element_type_of_onnx(tmp_path, code, raw):
    name = onnx.TensorProto.DataType.Name(code)
    values = (
        ["a", "b", "c"]
        if name == "STRING"
        else np.array([0, 1, 3]) % 2
        if name == "BOOL"
        else np.array([1, 4, 2])
    )
    array = np.asarray(values, object if name == "STRING" else onnx.helper.tensor_dtype_to_np_dtype(code))
    if raw and name != "STRING":
        tensor = numpy_helper.from_array(array, "t")
        tensor.data_type = code
    else:
        tensor = onnx.helper.make_tensor("t", code, array.shape, array)
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])), tmp_path / "m.onnx")
    with load_tensors(tmp_path / "m.onnx") as found:
        wanted = [b"a", b"b", b"c"] if name == "STRING" else array
        assert found["t"].tolist() == np.asarray(wanted).tolist()
        assert found["t"].dtype == array.dtype


def test_external_data_of_onnx(tmp_path):
    write_onnx(tmp_path / "m.onnx", TENSORS, external=True)
    assert (tmp_path / "w.data").stat().st_size
    with load_tensors(tmp_path / "m.onnx") as found:
        for key, array in TENSORS.items():
            np.testing.assert_array_equal(found[key], array)
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    for location, message in (("../w.data", "outside the folder"), ("x.data", "no file beside")):
        model.graph.initializer[0].external_data[0].value = location
        (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(FormatError, match=message):
            load_tensors(tmp_path / "bad.onnx")
    (tmp_path / "w.data").write_bytes(b"1234")
    with pytest.raises(FormatError, match="has not got them"):
        load_tensors(tmp_path / "m.onnx")


@pytest.mark.parametrize("damaged", [b"", b"\x3a\xff", b"hello, no model", b"\x3a\x04\x2a\x02\x08\x01"])
def test_what_is_no_onnx_file(tmp_path, damaged):
    (tmp_path / "m.onnx").write_bytes(damaged)
    with pytest.raises(FormatError):
        load_tensors(tmp_path / "m.onnx")
