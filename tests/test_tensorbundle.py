"""TensorFlow's checkpoints without TensorFlow: against TensorFlow itself, and against damage."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interop.errors import FormatError
from interop.formats import open_tensors
from interop.formats.tensorbundle import objects, schema
from interop.formats.tensorbundle.elements import NAMES, STRING, array_dtype
from interop.formats.tensorbundle.files import find_prefix, index_of, shard_of
from interop.formats.tensorbundle.slices import part_key
from interop.formats.tensorbundle.table import read_table, table_bytes
from interop.formats.tensorbundle.writer import write_data, write_index
from interop.inspection import inspect
from interop.loading import load_tensors

tensorflow = pytest.mark.framework("tensorflow")


@dataclass(frozen=True)
class Source:
    dtype: str
    array: np.ndarray

    @property
    def shape(self):
        return self.array.shape

    def read(self):
        return self.array


def strings(*items: bytes) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def write(prefix: Path, tensors: dict[str, np.ndarray]) -> Path:
    sources = {k: Source(STRING if a.dtype == object else a.dtype.name, a) for k, a in tensors.items()}
    with shard_of(prefix, 0, 1).open("wb") as file:
        entries = write_data(file, sources)
    index_of(prefix).write_bytes(write_index(entries))
    return prefix


def sample(name: str, shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    rng = np.random.default_rng(len(name))
    if name == STRING:
        return strings(b"", b"a" * 300, b"\0\xff", rng.bytes(9)).reshape(2, 2)
    dtype = array_dtype(name)
    if dtype.kind in "biu":
        return rng.integers(0, 2, shape).astype(dtype)
    values = rng.normal(size=shape)
    return (values + 1j * rng.normal(size=shape) if dtype.kind == "c" else values).astype(dtype)


EVERY_DTYPE = {name: sample(name) for name in NAMES.values()}
MORE = {
    "scalar": np.float32(2.5).reshape(()),
    "empty": np.zeros((0, 4), np.int16),
    "text": np.array(b"hello", object).reshape(()),
    "no text": strings(),
    "a/b.c/é": np.arange(6).reshape(2, 3),
}


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == object or b.dtype == object:
        return a.shape == b.shape and list(np.ravel(a)) == list(np.ravel(b))
    return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()


def test_round_trip_of_every_dtype(tmp_path):
    tensors = EVERY_DTYPE | MORE
    with load_tensors(write(tmp_path / "ckpt-1", tensors)) as found:
        assert set(found) == set(tensors)
        for key, array in tensors.items():
            assert found.shapes[key] == array.shape
            assert equal(found[key], array), key
    assert inspect(tmp_path / "ckpt-1").kind == "TensorFlow checkpoint"
    first = [
        path.read_bytes() for path in (index_of(tmp_path / "ckpt-1"), shard_of(tmp_path / "ckpt-1", 0, 1))
    ]
    write(tmp_path / "ckpt-2", dict(reversed(tensors.items())))
    assert first == [
        p.read_bytes() for p in (index_of(tmp_path / "ckpt-2"), shard_of(tmp_path / "ckpt-2", 0, 1))
    ]


@tensorflow
def test_tensorflow_reads_what_is_written(tmp_path):
    import tensorflow as tf

    tensors = EVERY_DTYPE | MORE
    reader = tf.train.load_checkpoint(str(write(tmp_path / "c", tensors)))
    assert set(reader.get_variable_to_shape_map()) == set(tensors)
    for key, array in tensors.items():
        assert reader.get_variable_to_dtype_map()[key].as_numpy_dtype in (array.dtype.type, object), key
        if key not in ("int2", "uint2"):  # TensorFlow's Python has no NumPy type for them
            assert equal(np.asarray(reader.get_tensor(key)), array), key


@tensorflow
def test_what_tensorflow_writes(tmp_path):
    import tensorflow as tf

    tensors = {key: array for key, array in (EVERY_DTYPE | MORE).items() if key not in ("int2", "uint2")}
    values = [tf.constant(a.tolist() if a.dtype == object else a) for a in tensors.values()]
    values[list(tensors).index("no text")] = tf.constant([], tf.string)
    quantised = {
        n: tf.bitcast(sample(n.removeprefix("q").replace("uq", "u")), n) for n in ("qint8", "qint32")
    }
    names = [*tensors, *quantised]
    prefix = str(tmp_path / "c")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[*values, *quantised.values()],
    )
    with load_tensors(prefix) as found:
        assert set(found) == set(names)
        for key, array in tensors.items():
            assert equal(found[key], array), key
        assert (found.dtypes["qint8"], found.dtypes["qint32"]) == ("int8", "int32")
        assert equal(found["qint8"], sample("int8"))


@tensorflow
def test_many_keys_shards_and_slices_of_tensorflow(tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    wide, cube = rng.normal(size=(6, 400)).astype("f"), rng.normal(size=(300, 2, 3)).astype("d")

    def save(name, tensors, slices=None):
        tf.raw_ops.SaveV2(
            prefix=str(tmp_path / name),
            tensor_names=[key for key, _ in tensors],
            shape_and_slices=slices or [""] * len(tensors),
            tensors=[tf.constant(array) for _, array in tensors],
        )

    save("p0", [("w", wide[:, :130]), ("w", wide[:, 130:])], ["6 400 -:0,130", "6 400 -:130,270"])
    save("p1", [("c", cube[:300, :1]), ("one", np.int64(3))], ["300 2 3 -:0,1:-", ""])
    save("p2", [("c", cube[:, 1:])], ["300 2 3 -:1,1:-"])
    save("p3", [(f"layer-{i}/k", np.full(i % 7, i, "f")) for i in range(5001)])
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(tmp_path / f"p{i}") for i in range(4)],
        destination_prefix=str(tmp_path / "all"),
    )
    assert shard_of(tmp_path / "all", 3, 4).exists()
    with load_tensors(tmp_path / "all") as found:
        assert len(found) == 5004
        assert equal(found["w"], wide)
        assert equal(found["c"], cube)
        assert all(equal(found[f"layer-{i}/k"], np.full(i % 7, i, "f")) for i in range(0, 5001, 50))
        again = write(tmp_path / "again", dict(found))
    assert len(tf.train.list_variables(str(again))) == 5004
    shard_of(tmp_path / "all", 0, 4).unlink()
    with load_tensors(tmp_path / "all") as found:
        assert found["one"] == 3
        with pytest.raises(FormatError, match=r"all\.data-00000-of-00004 is missing"):
            found["w"]


@tensorflow
def test_object_graph_of_tensorflow(tmp_path):
    import tensorflow as tf

    kernel = tf.Variable([1.0])
    root = tf.train.Checkpoint(kernel=kernel, a=tf.train.Checkpoint(also=kernel, bias=tf.Variable([2.0])))
    path = root.save(str(tmp_path / "c"))
    assert find_prefix(tmp_path) == Path(path)
    with load_tensors(tmp_path) as found:
        graph = objects.ObjectGraph.parse(found[objects.OBJECT_GRAPH].item(), path)
        node = graph.nodes[0]
        assert set(node.children) == {"kernel", "a", "save_counter"}
        inner = graph.nodes[node.children["a"]]
        assert inner.children["also"] == node.children["kernel"]
        assert found[graph.nodes[inner.children["bias"]].key] == [2.0]
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

        theirs = TrackableObjectGraph.FromString(graph.serialize())
        assert theirs == TrackableObjectGraph.FromString(found[objects.OBJECT_GRAPH].item())


def big_endian(path: Path) -> Path:
    """The same values as a machine of the other byte order stores them."""
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    write(path, {"x": values.byteswap()})
    pairs = read_table(index_of(path).read_bytes(), "")
    header = schema.parse("BundleHeader", pairs[b""], "")
    header.endianness = 1
    index_of(path).write_bytes(table_bytes({**pairs, b"": header.SerializeToString()}))
    return path


def test_big_endian(tmp_path):
    with load_tensors(big_endian(tmp_path / "c")) as found:
        assert equal(found["x"], np.arange(6, dtype="f4").reshape(2, 3))


def test_where_a_checkpoint_is(tmp_path):
    prefix = write(tmp_path / "ckpt-7", {"x": np.zeros(2)})
    assert find_prefix(tmp_path) is None
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-7"\nall_model_checkpoint_paths: "ckpt-7"\n'
    )
    for path in (prefix, index_of(prefix), tmp_path):
        assert find_prefix(path) == prefix
        assert list(load_tensors(path)) == ["x"]
    (tmp_path / "checkpoint").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="does not name a newest checkpoint"):
        load_tensors(tmp_path)


def entry(**changes: object) -> dict[str, object]:
    shape = schema.message("Shape", dim=[schema.message("Dim", size=2)])
    return {"dtype": 1, "shape": shape, "size": 8} | changes


def shape(*dims: int) -> object:
    return schema.message("Shape", dim=[schema.message("Dim", size=dim) for dim in dims])


def part(*extents: tuple[int, int]) -> object:
    return schema.message("Slice", extent=[schema.message("Extent", start=s, length=n) for s, n in extents])


BAD_ENTRIES = [
    (entry(dtype=20), "type 20 has no values"),
    (entry(dtype=0), "type 0 has no values"),
    (entry(shape=shape(-2)), "is not that of a stored tensor"),
    (entry(shape=shape(*[1] * 40)), "is not that of a stored tensor"),
    (entry(size=7), "float32[2] does not fit its 7 bytes"),
    (entry(shape=shape(1 << 62, 8)), "does not fit its 8 bytes"),
    (entry(shape=shape(0, 1 << 62, 1 << 62), size=0, crc32c=0xA282EAD8), "cannot be made"),
    (entry(shard_id=3), "of shard 3 of 1"),
    (entry(offset=-1), "8 bytes at -1"),
    (entry(offset=1 << 40), "ends before its last byte"),
    (entry(crc32c=1), "do not match their checksum"),
    (entry(dtype=7, shape=shape(1 << 40), size=8), "does not fit its 8 bytes"),
    (entry(slices=[part((0, 1))]), "do not add up to shape (2,)"),
    (entry(slices=[part((0, 1)), part((0, 1))]), "overlap"),
    (entry(slices=[part((0, 3))]), "lies outside of shape (2,)"),
    (entry(slices=[part((0, 1), (0, 1))]), "has 2 dimensions; expected 1"),
    (entry(slices=[part((0, 1)), part((1, 1))]), "is not stored"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_ENTRIES)
def test_bad_entries(tmp_path, fields, message):
    prefix = write(tmp_path / "c", {"x": np.zeros(2, "f")})
    bad = schema.message("BundleEntry", **fields)
    index_of(prefix).write_bytes(write_index({"x": bad}))
    with pytest.raises(FormatError) as raised, load_tensors(prefix) as found:
        dict(found)
    assert message in str(raised.value)
    assert "'x'" in str(raised.value)
    assert str(prefix) in str(raised.value)


def test_version_and_header(tmp_path):
    prefix = write(tmp_path / "c", {"x": np.zeros(2, "f")})
    for pairs, message in (
        ({b"x": b""}, "has no valid header"),
        ({b"": b"\x08\x01\x1a\x02\x10\x02"}, "version 2 of the format is needed"),
        ({b"": b"\xff\xff"}, "not a BundleHeader message"),
    ):
        index_of(prefix).write_bytes(table_bytes(pairs))
        with pytest.raises(FormatError, match=message):
            load_tensors(prefix)


def test_object_graphs_that_are_none(tmp_path):
    graph = objects.ObjectGraph([objects.Node({"a": 1}), objects.Node()])
    assert objects.ObjectGraph.parse(graph.serialize(), "f") == graph
    graph.nodes[0].children["b"] = 2
    for data, message in (
        (graph.serialize(), "refers to 2 of 2"),
        (b"", "has no objects"),
        (b"\xff", "not a"),
    ):
        with pytest.raises(FormatError, match=message):
            objects.ObjectGraph.parse(data, "f")


def test_keys_of_parts_sort_and_match_tensorflow():
    # ordered_code_test.cc and checkpoints of TensorFlow
    assert part_key(b"w", ((0, 3), (0, None))) == b"\x00w\x00\x01\x01\x02\x80\x83\x80\x7f"
    ordered = [
        part_key(b"w", ((start, 1),)) for start in (0, 1, 63, 64, 8191, 8192, 1 << 20, 1 << 40, 1 << 62)
    ]
    assert ordered == sorted(ordered)


def test_a_flipped_bit_never_passes(tmp_path):
    """Every byte of both files once: an error, or the very same values."""
    tensors = {"a": np.arange(9, dtype="f"), "b/c": strings(b"text", b""), "d": np.array([True, False])}
    prefix = write(tmp_path / "c", tensors)
    silent = 0
    for file in (index_of(prefix), shard_of(prefix, 0, 1)):
        good = file.read_bytes()
        for position in range(len(good)):
            data = bytearray(good)
            data[position] ^= 1 << position % 8
            file.write_bytes(data)
            try:
                with open_tensors(prefix) as found:
                    same = set(found) == set(tensors) and all(equal(found[k], a) for k, a in tensors.items())
                silent += not same
            except FormatError:
                continue
        file.write_bytes(good)
    assert silent == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=20), data=st.data())
def test_any_bytes_in_an_index(tmp_path, pairs, data):
    """Well-formed tables of garbage, with a valid header or not."""
    if data.draw(st.booleans()):
        pairs[b""] = b"\x08\x01"
    prefix = tmp_path / "c"
    index_of(prefix).write_bytes(table_bytes(dict(sorted(pairs.items()))))
    shard_of(prefix, 0, 1).write_bytes(data.draw(st.binary(max_size=64)))
    try:
        with open_tensors(prefix) as found:
            dict(found)
    except FormatError:
        return


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.binary(max_size=300), st.binary(max_size=2000), max_size=60))
def test_tables_round_trip(pairs):
    ordered = dict(sorted(pairs.items()))
    assert read_table(table_bytes(ordered), "t") == ordered


def test_large_tables_have_blocks(tmp_path):
    pairs = {f"{i:06d}".encode(): bytes(50) for i in range(30_000)}
    data = table_bytes(pairs)
    assert read_table(data, "t") == pairs
    for size in (0, 10, 47, 48, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError):
            read_table(data[:size], "t")


def test_what_cannot_be_written():
    for key, array, message in (
        ("x", np.zeros(2, "M8[s]"), "which a checkpoint cannot hold"),
        ("", np.zeros(2), "cannot be called ''"),
    ):
        with pytest.raises(FormatError, match=message):
            write_data(io.BytesIO(), {key: Source(array.dtype.name, array)})
    with pytest.raises(FormatError, match="was announced as float32"):
        write_data(io.BytesIO(), {"x": Source("float32", np.zeros(2))})


def test_arrays_outlive_the_file(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with load_tensors(write(tmp_path / "c", {"x": np.ones(3)})) as found:
        kept = found["x"]
    assert not kept.flags.writeable
    assert kept.sum() == 3
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
