"""Every unsafe file is refused, each for a reason of its own: graphs, folders, zips, plain ONNX files."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from cases import artifacts
from onnx import ModelProto, TensorProto, helper

from interop.artifact import archive, guard
from interop.artifact import config as config_file
from interop.artifact.bundle import open_bundle
from interop.artifact.schema import parse_model
from interop.artifact.skeleton import without_values
from interop.artifact.tensors import Placement
from interop.errors import ArtifactError, UnsafeFileError
from interop.loading import load_graph, load_tensors

pytestmark = pytest.mark.framework("torch")

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


# --- unsafe graphs --------------------------------------------------------------------------------------


def _initializer(model: ModelProto, name: str = "first/kernel") -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _external(key: str, value: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        next(e for e in _initializer(model).external_data if e.key == key).value = value

    return change


def _without(key: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        entries = _initializer(model).external_data
        entries.remove(next(e for e in entries if e.key == key))

    return change


def _function(name: str, calls: list[str], domain: str = artifacts.DOMAIN) -> onnx.FunctionProto:
    values = [f"v{i}" for i in range(len(calls) + 1)]
    values[0], values[-1] = "x", "y"
    nodes = [
        helper.make_node(op, [a], [b], domain=domain if op != "Neg" else "")
        for op, a, b in zip(calls, values, values[1:], strict=False)
    ]
    return helper.make_function(domain, name, ["x"], ["y"], nodes, artifacts.OPSETS)


def _bomb(model: ModelProto) -> None:
    model.functions.append(_function("f0", ["Neg"]))
    for level in range(1, 26):
        model.functions.append(_function(f"f{level}", [f"f{level - 1}"] * 2))
    model.graph.node.append(helper.make_node("f25", ["y"], ["z"], domain=artifacts.DOMAIN, name="bomb"))


def _fat_bomb(model: ModelProto) -> None:
    blob = helper.make_tensor("blob", TensorProto.UINT8, [1 << 20], bytes(1 << 20), raw=True)
    constant = helper.make_node("Constant", [], ["c"], value=blob)
    neg = helper.make_node("Neg", ["x"], ["y"])
    model.functions.append(
        helper.make_function(artifacts.DOMAIN, "f0", ["x"], ["y"], [constant, neg], artifacts.OPSETS)
    )
    for level in range(1, 4):
        model.functions.append(_function(f"f{level}", [f"f{level - 1}"] * 12))
    model.graph.node.append(helper.make_node("f3", ["y"], ["z"], domain=artifacts.DOMAIN, name="bomb"))


def _deep(model: ModelProto) -> None:
    model.functions.append(_function("f0", ["Neg"]))
    model.functions.extend(_function(f"f{level}", [f"f{level - 1}"]) for level in range(1, 100))
    model.graph.node.append(helper.make_node("f99", ["y"], ["z"], domain=artifacts.DOMAIN, name="deep"))


def _nested_graphs(model: ModelProto) -> None:
    graph = helper.make_graph([helper.make_node("Neg", ["y"], ["z"])], "g", [], [])
    for _ in range(20):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=graph)], "g", [], [])
    hidden = helper.make_node("Constant", [], ["k"], value=artifacts.external("k", np.zeros(1), _Somewhere()))
    graph.node.append(hidden)
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=graph, name="if"))


@dataclass
class _Somewhere:
    location: str = "weights.safetensors"
    offset: int = 0
    length: int = 8


def _in_function(model: ModelProto) -> None:
    constant = helper.make_node(
        "Constant", [], ["k"], value=artifacts.external("k", np.zeros(1), _Somewhere())
    )
    model.functions[0].node.append(constant)


def _sparse(model: ModelProto) -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [0]),
        [3],
    )
    model.graph.sparse_initializer.append(sparse)


def _lying_constant(model: ModelProto) -> None:
    lying = TensorProto(data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 30], raw_data=bytes(8))
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=lying, name="lying"))


UNSAFE: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "function bomb": (_bomb, "nodes become more than 262144 when the functions are inlined"),
    "bomb of bytes": (_fat_bomb, "bytes become more than 1073741824"),
    "functions in a circle": (
        lambda m: m.functions.extend([_function("a", ["b"]), _function("b", ["a"])]),
        "in a circle: interop.layers::a -> interop.layers::b -> interop.layers::a",
    ),
    "function that calls itself": (lambda m: m.functions.append(_function("a", ["a"])), "in a circle"),
    "functions too deep": (_deep, "nest deeper than 64 levels"),
    "function defined twice": (
        lambda m: m.functions.append(m.functions[0]),
        "Dense is defined more than once",
    ),
    "location with ..": (_external("location", "../weights.safetensors"), r"lies in '\.\./weights"),
    "absolute location": (_external("location", "/etc/passwd"), "lies in '/etc/passwd'"),
    "location of the optimizer": (_external("location", "optimizer.safetensors"), "weights lie in"),
    "no offset": (_without("offset"), "with length, location; expected exactly one each"),
    "no length": (_without("length"), "with location, offset; expected exactly one each"),
    "no location": (_without("location"), "with length, offset; expected exactly one each"),
    "two offsets": (
        lambda m: _initializer(m).external_data.add(key="offset", value="0"),
        "with length, location, offset, offset",
    ),
    "offset of another tensor": (_external("offset", "4096"), "the tensor of that name is at"),
    "offset out of the file": (_external("offset", str(1 << 60)), "the tensor of that name is at"),
    "negative offset": (_external("offset", "-1"), "has the offset '-1'; expected a plain decimal"),
    "offset that int() would take": (_external("offset", " 4_096"), "expected a plain decimal"),
    "length of more than there is": (_external("length", "999999"), "the tensor of that name is at"),
    "huge dims": (
        lambda m: _initializer(m).dims.__setitem__(0, 1 << 62),
        "is float32.4611686018427387904, 3.",
    ),
    "negative dim": (lambda m: _initializer(m).dims.__setitem__(0, -4), "negative dim"),
    "another dtype": (lambda m: setattr(_initializer(m), "data_type", 6), "is int32.4, 3. but float32"),
    "embedded initializer": (
        lambda m: m.graph.initializer.append(helper.make_tensor("k", 1, [1], [1.0])),
        "'k' is embedded",
    ),
    "external and embedded": (
        lambda m: setattr(_initializer(m), "raw_data", b"1234"),
        "embedded values as well",
    ),
    "initializer without a tensor": (
        lambda m: setattr(_initializer(m), "name", "other"),
        "no tensor of that name",
    ),
    "two initializers of a name": (
        lambda m: m.graph.initializer.append(m.graph.initializer[0]),
        "two initializers are called 'first/kernel'",
    ),
    "two nodes of a name": (lambda m: setattr(m.graph.node[1], "name", "first#0"), "two nodes are called"),
    "external data in a function": (_in_function, "has external data; only initializers of the main graph"),
    "external data deep in subgraphs": (_nested_graphs, "has external data; only initializers"),
    "sparse initializer": (_sparse, "sparse"),
    "constant that claims more than it holds": (_lying_constant, "claims shape .* but holds 8 bytes"),
    "operator of another domain": (
        lambda m: m.graph.node.append(helper.make_node("Run", ["y"], ["z"], domain="com.evil", name="n")),
        "uses com.evil::Run",
    ),
    "an operator of ONNX Runtime's that no layer needs": (
        lambda m: m.graph.node.append(
            helper.make_node("Gelu", ["y"], ["z"], domain="com.microsoft", name="n")
        ),
        "uses com.microsoft::Gelu",
    ),
    "function of another domain": (
        lambda m: m.functions.append(_function("Relu", ["Neg"], domain="ai.onnx")),
        "an artifact's functions are in 'interop'",
    ),
    "training information": (lambda m: m.training_info.add().algorithm.Clear(), "training information"),
}


@pytest.mark.parametrize("what", UNSAFE)
def test_unsafe_graph_is_refused(tmp_path, what):
    """A writer does not write it, and a reader of one made elsewhere (digests fit) does not open it."""
    change, message = UNSAFE[what]
    with pytest.raises(ArtifactError, match=message):
        artifacts.save(tmp_path / "refused", change=change)
    assert not (tmp_path / "refused").exists()

    artifacts.save(tmp_path / "m")
    model = onnx.load(tmp_path / "m" / "model.onnx", load_external_data=False)
    change(model)
    _replace_graph(tmp_path / "m", model.SerializeToString())
    for verify in (False, True):
        with pytest.raises(ArtifactError, match=message):
            open_bundle(tmp_path / "m", verify_digest=verify)


def _replace_graph(path: Path, data: bytes) -> None:
    """Put another graph into an artifact folder, with digests that fit."""
    (path / "model.onnx").write_bytes(data)
    config = json.loads((path / "config.json").read_text())
    config["files"]["model.onnx"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "config.json").write_bytes(config_file.dump(config))


def test_measuring_a_bomb_ends():
    model = artifacts.graph(_placements())
    _bomb(model)
    for level in range(26, 3000):
        model.functions.append(_function(f"f{level}", [f"f{level - 1}"] * 2))
    with pytest.raises(UnsafeFileError):  # 2 ** 3000 nodes: a count of one by one would not come back
        guard.check_plain_graph(parse_model(model.SerializeToString()), Path("."))


def _placements():
    return {name: Placement("weights.safetensors", 0, a.nbytes) for name, a in artifacts.weights().items()}


PLAIN = {
    "..": ("../secret.bin", {}, "outside the folder"),
    "absolute": ("/etc/passwd", {}, "outside the folder"),
    "empty": ("", {}, "outside the folder"),
    "missing": ("nothing.bin", {}, "no file beside the model"),
    "out of bounds": ("data.bin", {"offset": "60"}, "needs bytes 60 to 76 of 'data.bin', which has 64"),
    "link that leads away": ("link.bin", {}, "outside the folder"),
}


@pytest.mark.parametrize("what", PLAIN)
def test_plain_onnx_stays_in_its_folder(tmp_path, what):
    location, more, message = PLAIN[what]
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "data.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")

    def write(location: str, more: dict[str, str]) -> Path:
        tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
        for key, value in ({"location": location} | more).items():
            tensor.external_data.add(key=key, value=value)
        value = helper.make_tensor_value_info("x", 1, ["n", 4])
        graph = helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])], "g", [value],
            [helper.make_tensor_value_info("y", 1, ["n", 4])], [tensor],
        )  # fmt: skip
        path = folder / "plain.onnx"
        path.write_bytes(
            helper.make_model(graph, opset_imports=artifacts.OPSETS[:1], ir_version=9).SerializeToString()
        )
        return path

    np.testing.assert_array_equal(load_graph(write("data.bin", {"offset": "0"}))(X), X)
    with pytest.raises(ArtifactError, match=message):
        load_graph(write(location, more))


def test_the_skeleton_leaves_out_values_and_nothing_else():
    big = helper.make_tensor(
        "big", TensorProto.FLOAT, [64, 64], np.ones((64, 64), np.float32).tobytes(), raw=True
    )
    model = artifacts.graph(_placements())
    expected = artifacts.graph(_placements())
    model.graph.initializer.append(big)
    expected.graph.initializer.append(TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[64, 64]))
    skeleton = ModelProto.FromString(without_values(memoryview(model.SerializeToString())))
    assert skeleton == expected


# --- unsafe files ---------------------------------------------------------------------------------------


def test_links_and_other_non_files_are_refused(tmp_path):
    artifacts.save(tmp_path / "m")
    real = (tmp_path / "m" / "weights.safetensors").rename(tmp_path / "elsewhere")
    (tmp_path / "m" / "weights.safetensors").symlink_to(real)
    with pytest.raises(UnsafeFileError, match=r"weights\.safetensors is a symbolic link"):
        load_graph(tmp_path / "m")
    (tmp_path / "m" / "weights.safetensors").unlink()
    os.mkfifo(tmp_path / "m" / "weights.safetensors")
    with pytest.raises(UnsafeFileError, match="not a regular file"):
        load_graph(tmp_path / "m")


def _local(offset: int, value: bytes) -> Callable[[bytearray], None]:
    """Change bytes of the first local header."""
    return lambda data: data.__setitem__(slice(offset, offset + len(value)), value)


def _central(offset: int, value: bytes, entry: bytes = b"config.json") -> Callable[[bytearray], None]:
    """Change bytes of an entry's central header."""

    def change(data: bytearray) -> None:
        at = data.rindex(entry) - 46 + offset
        data[at : at + len(value)] = value

    return change


def _rename(new: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[:] = data.replace(b"config.json", new)

    return change


ZIPS: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "compressed": (_central(10, b"\x08"), "is compressed"),
    "compressed locally": (_local(8, b"\x08"), "disagrees"),
    "encrypted": (_central(8, b"\x01"), "has flags 0x1|has flags 0x801"),
    "sizes disagree": (_local(18, b"\x00"), "disagrees"),
    "checksums disagree": (_local(14, b"\x00\x00\x00\x00"), "disagrees"),
    "names disagree": (_local(30, b"W"), "disagrees"),
    "path in a name": (_rename(b"../onfi.jso"), "has a path in its name"),
    "backslash in a name": (_rename(b"a\\config.js"), "has a path in its name"),
    "overlap": (_central(42, struct.pack("<I", 0), b"model.onnx"), "disagrees|overlaps"),
    "out of bounds": (_central(42, struct.pack("<I", 0x7FFFFFFF)), "outside the file"),
    "truncated": (lambda data: data.__delitem__(slice(-30, None)), "does not end with a zip directory"),
    "bytes behind": (lambda data: data.extend(b"x"), "does not end with a zip directory"),
    "bytes in front": (lambda data: data.__setitem__(slice(0, 0), b"#!/bin/sh\n"), "does not describe"),
}


@pytest.mark.parametrize("what", ZIPS)
def test_unsafe_zip_is_refused(tmp_path, what):
    change, message = ZIPS[what]
    path = tmp_path / "m.interop"
    artifacts.save(path)
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(bytes(data))
    for load in (load_graph, load_tensors):
        with pytest.raises(ArtifactError, match=message):
            load(path)


def _zip(path: Path, members: list[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in members:
            zipped.writestr(zipfile.ZipInfo(name), data)


def test_zip_with_two_entries_of_a_name_or_a_gap(tmp_path, recwarn):
    path = tmp_path / "m.interop"
    with pytest.warns(UserWarning, match="Duplicate name"):
        _zip(path, [("config.json", b"{}"), ("config.json", b"[]")])
    with pytest.raises(UnsafeFileError, match=r"two entries called 'config\.json'"):
        load_graph(path)

    header = archive.local_header("config.json", 2, 0, 0, align=False)
    start = len(header) + 100
    second = archive.local_header("model.onnx", 2, 0, start, align=False)
    entries = [
        archive.ArchiveEntry("config.json", 0, len(header), 2, 0),
        archive.ArchiveEntry("model.onnx", start, start + len(second), 2, 0),
    ]
    body = (header + b"{}").ljust(start, b"\0") + second + b"{}"
    path.write_bytes(body + archive.central_directory(entries, len(body)))
    with pytest.raises(UnsafeFileError, match=r"'model\.onnx' leaves a gap"):
        load_graph(path)


def test_sizes_are_capped_before_reading(tmp_path):
    artifacts.save(tmp_path / "m")
    with (tmp_path / "m" / "config.json").open("r+b") as file:
        file.truncate(65 << 20)  # sparse
    with pytest.raises(UnsafeFileError, match=r"config\.json is 68157440 bytes"):
        load_graph(tmp_path / "m")
