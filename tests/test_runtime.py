"""The graph-only door: calls, batches, errors before the graph runs, and no import that is not needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from cases import artifacts
from onnx import TensorProto, helper

from interop.artifact.signature import TensorSpec
from interop.errors import ArtifactError, InteropError, SignatureError
from interop.formats.dtypes import BY_NAME, numpy_dtype
from interop.loading import load_graph
from interop.runtime.inputs import as_array

pytestmark = pytest.mark.framework("torch")

X = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("artifacts")
    for name in artifacts.FORMS:
        artifacts.save(path / name)
    return path


def plain(path: Path, nodes, inputs, outputs, initializers=()) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Two inputs that share their batch, one of them integers; two outputs."""
    return plain(
        tmp_path_factory.mktemp("plain") / "two.onnx",
        [
            helper.make_node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["image", "f"], ["sum"]),
            helper.make_node("Sub", ["image", "f"], ["difference"]),
        ],
        [("image", TensorProto.FLOAT, ["batch", 2]), ("ids", TensorProto.INT32, ["batch", 2])],
        [("sum", TensorProto.FLOAT, ["batch", 2]), ("difference", TensorProto.FLOAT, ["batch", 2])],
    )


@pytest.mark.parametrize("name", artifacts.FORMS)
@pytest.mark.parametrize("low_memory", [False, True])
def test_both_forms_run(saved, name, low_memory):
    graph = load_graph(
        saved / name, low_memory=low_memory, verify_digest=True, providers=["CPUExecutionProvider"]
    )
    assert graph.inputs == (TensorSpec("x", "float32", ("batch", 4)),)
    assert [(o.name, o.dtype, o.shape) for o in graph.outputs] == [("y", "float32", ("batch", 16))]
    for x in (X, X.astype(np.float64), X.tolist(), X[:1]):
        np.testing.assert_allclose(graph(x), artifacts.expected(np.asarray(x, np.float32)), **CLOSE)
    np.testing.assert_allclose(graph({"x": X}), artifacts.expected(X), **CLOSE)
    assert "x: float32[batch, 4]" in repr(graph)


@pytest.mark.parametrize("samples", [0, 1, 4, 5])
def test_predict_cuts_batches_and_takes_a_short_last_one(saved, samples):
    graph = load_graph(saved / artifacts.ZIP)
    seen = []
    found = graph.predict(X[:samples], batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert found.shape == (samples, 16)
    np.testing.assert_allclose(found, artifacts.expected(X[:samples]), **CLOSE)
    ends = [min(start + 2, samples) for start in range(0, max(samples, 1), 2)]
    assert seen == [(0, samples), *((end, samples) for end in ends)]


def test_predict_shows_a_bar(saved, capsys):
    load_graph(saved / artifacts.ZIP).predict(X, progress=True)
    assert "predict" in capsys.readouterr().out


def test_predict_reads_a_mapped_file_a_batch_at_a_time(saved, tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float64))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = load_graph(saved / artifacts.DIRECTORY).predict(mapped, batch_size=3)
    np.testing.assert_allclose(found, artifacts.expected(X), **CLOSE)


def test_several_inputs_and_outputs(two):
    graph = load_graph(two)
    image, ids = np.ones((3, 2), np.float32), np.arange(6).reshape(3, 2)
    for given in ((image, ids), ({"ids": ids, "image": image},), ([image, ids],)):
        total, difference = graph(*given)
        np.testing.assert_array_equal(total, image + ids)
        np.testing.assert_array_equal(difference, image - ids)
    for one, other in zip(graph(image=image, ids=ids), graph(image, ids), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(SignatureError, match="by place or by name"):
        graph(image, ids=ids)
    found = graph.predict({"image": image, "ids": ids}, batch_size=2)
    assert isinstance(found, tuple)
    np.testing.assert_array_equal(found[0], image + ids)


def test_nested_structures_come_back(two, tmp_path, monkeypatch):
    from interop.artifact.signature import Signature

    graph = load_graph(two)
    graph.signature = Signature(
        graph.inputs,
        graph.outputs,
        {"dict": {"picture": {"list": [0]}, "words": 1}},
        {"dict": {"a": {"tuple": [1]}, "b": {"list": [0]}}},
    )
    image, ids = np.ones((3, 2), np.float32), np.arange(6).reshape(3, 2)
    for found in (
        graph({"picture": [image], "words": ids}),
        graph.predict({"picture": [image], "words": ids}, batch_size=2),
        graph(image, ids),
        graph([image, ids]),
        graph(picture=[image], words=ids),
    ):
        assert list(found) == ["a", "b"]
        assert isinstance(found["a"], tuple)
        assert isinstance(found["b"], list)
        np.testing.assert_array_equal(found["b"][0], image + ids)
    with pytest.raises(
        SignatureError, match=r"the input\['picture'\] is 2 items; expected a list or tuple of 1"
    ):
        graph({"picture": [image, image], "words": ids})


# structure of the inputs, and arguments that fit it: 0 to 2 stand for the inputs
NESTED = [
    (
        {"tuple": [0, {"dict": {"b": {"tuple": [1, 2]}}}]},
        [(0, {"b": (1, 2)}), ((0, {"b": [1, 2]}),), (0, 1, 2)],
    ),
    ({"dict": {"x": 0, "d": {"list": [2, 1]}}}, [(0, [2, 1]), ((0, [2, 1]),), ({"x": 0, "d": (2, 1)},)]),
    (
        {"dict": {"d": {"dict": {"x": 2, "y": {"list": [0, 1]}}}}},
        [({"x": 2, "y": [0, 1]},), ({"d": {"x": 2, "y": [0, 1]}},)],
    ),
    (
        {"tuple": [{"dict": {"x": 2, "y": {"list": [0, 1]}}}]},
        [({"x": 2, "y": [0, 1]},), (({"x": 2, "y": [0, 1]},),)],
    ),
    ({"dict": {"xs": {"list": [1, 0, 2]}}}, [({"xs": [1, 0, 2]},), (0, 1, 2), ([0, 1, 2],)]),
    ({"tuple": [{"list": [1, 0]}, None, 2]}, [([1, 0], None, 2), (([1, 0], None, 2),)]),
]


@pytest.mark.parametrize(("structure", "calls"), NESTED)
def test_arguments_nest_as_in_the_call_of_the_model(structure, calls):
    from interop.artifact.signature import Signature
    from interop.runtime.inputs import bind

    specs = tuple(TensorSpec(name, "int64", ()) for name in ("in_0", "in_1", "in_2"))
    signature = Signature(specs, specs, structure, {"list": [0, 1, 2]})
    by_name = {"in_0": 0, "in_1": 1, "in_2": 2}
    for args in (*calls, (by_name,)):
        assert bind(signature, args) == [0, 1, 2], args
    for args in ((0,), (0, 1), ([0, 1],), ({"x": 0},), (0, 1, 2, 3), ()):
        with pytest.raises(SignatureError):
            bind(signature, args)


ONE = [
    ((X[:, :3],), "size 3 on axis 1, shape [5, 3]; expected x: float32[batch, 4]"),
    ((X[0],), "has 1 dims, shape [4]; expected x: float32[batch, 4] (add an axis for the batch: x[None])"),
    ((X[None],), "has 3 dims"),
    (({"z": X},), "'z' is no input; 'x' missing. Expected 1 input: x: float32[batch, 4]"),
    ((X, X), "the call has 2 arguments; expected 1 input: x: float32[batch, 4]"),
    ((), "the call has 0 arguments"),
    ((np.array([["a"] * 4]),), "expected float32"),
    ((X.astype(np.complex64),), "is complex64[5, 4] for x: float32[batch, 4]"),
    ((X.astype(np.float64) * 1e300,), "too large for float32"),
    ((np.full((1, 4), 2**24 + 1),), "its integers are not exact in float32"),
    (([[1, 2], [3]],), "cannot be an array"),
]


@pytest.mark.parametrize(("args", "message"), ONE)
def test_wrong_inputs_are_named(saved, args, message):
    with pytest.raises(SignatureError) as raised:
        load_graph(saved / artifacts.ZIP)(*args)
    assert message in str(raised.value)


TWO = [
    ({"imag": X, "ids": X}, "'imag' is no input (did you mean 'image'?); 'image' missing"),
    ({"image": X[:, :2]}, "'ids' missing. Expected 2 inputs: image: float32[batch, 2], ids: int32[batch, 2]"),
    (
        {"image": X[:, :2], "ids": np.zeros((4, 2), int)},
        "'ids' has batch = 4 on axis 0, but 'image' has batch = 5",
    ),
    ({"image": X[:, :2], "ids": np.full((5, 2), 2**40)}, "do not fit int32"),
    ({"image": X[:, :2], "ids": X[:, :2]}, "expected int32"),
]


@pytest.mark.parametrize(("given", "message"), TWO)
def test_wrong_inputs_of_several_are_named(two, given, message):
    with pytest.raises(SignatureError) as raised:
        load_graph(two)(given)
    assert message in str(raised.value)


CASTS = [  # dtype of the input, what is given, what the graph gets (None: refused)
    ("float32", np.float16(1.5), np.float32(1.5)),
    ("float32", True, np.float32(1)),
    ("float32", ml_dtypes.bfloat16(2.5), np.float32(2.5)),
    ("float16", 1e6, None),
    ("float64", np.float32(0.1), np.float64(np.float32(0.1))),
    ("bfloat16", np.float32(2.5), ml_dtypes.bfloat16(2.5)),
    ("int32", np.int64(-5), np.int32(-5)),
    ("int32", 1.0, None),
    ("uint8", 255, np.uint8(255)),
    ("uint8", 256, None),
    ("uint8", -1, None),
    ("int64", True, np.int64(1)),
    ("bool", 1, None),
    ("bool", True, np.bool_(True)),
]


@pytest.mark.parametrize(("dtype", "given", "expected"), CASTS)
def test_casts(dtype, given, expected):
    spec = TensorSpec("x", dtype, ())
    if expected is None:
        with pytest.raises(SignatureError, match="input 'x' is"):
            as_array(spec, given)
    else:
        found = as_array(spec, given)
        assert (found.dtype, found[()]) == (expected.dtype, expected)


def test_bounds_of_integer_inputs():
    from interop.runtime.inputs import check

    spec = TensorSpec("ids", "int32", ("n",), (0, 9))
    check([spec], [[0, 9]])
    for bad in ([10], [-1]):
        with pytest.raises(SignatureError, match="the graph takes 0 to 9"):
            check([spec], [bad])


def test_predict_refuses_what_it_cannot_put_together(tmp_path, two):
    x = ("x", TensorProto.FLOAT, ["n", 2])
    total = plain(
        tmp_path / "total.onnx",
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        [x],
        [("y", TensorProto.FLOAT, [])],
    )
    with pytest.raises(SignatureError, match=r"output 'y' has shape .* it has no axis of samples"):
        load_graph(total).predict(np.ones((3, 2)))
    fixed = plain(
        tmp_path / "fixed.onnx",
        [helper.make_node("Neg", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, [4, 2])],
        [("y", TensorProto.FLOAT, [4, 2])],
    )
    assert load_graph(fixed).predict(np.ones((8, 2))).shape == (8, 2)
    with pytest.raises(SignatureError, match="takes batches of 4 only; 6 samples"):
        load_graph(fixed).predict(np.ones((6, 2)))
    with pytest.raises(SignatureError, match="differ in their number of samples: 'image' has 3, 'ids' has 2"):
        load_graph(two).predict([np.ones((3, 2)), np.ones((2, 2), int)])
    for size in (0, "2", None):
        with pytest.raises(SignatureError, match=f"batch_size is {size!r}; expected an integer"):
            load_graph(fixed).predict(np.ones((4, 2)), batch_size=size)
    with pytest.raises(SignatureError, match="input 'x' cannot be an array"):
        load_graph(total).predict([[1, 2], [3]])


def test_a_graph_that_fails_says_on_what(tmp_path):
    path = plain(
        tmp_path / "gather.onnx",
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [("ids", TensorProto.INT64, ["n"])],
        [("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("table", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])],
    )
    with pytest.raises(SignatureError, match=r"cannot run on ids: int64\[1\]"):
        load_graph(path)([7])


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b"hello world, no model", "not an ONNX model"), (b"\x3a\x00", "refuses the graph")],
)
def test_what_is_no_graph(tmp_path, data, message):
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(ArtifactError, match=message):
        load_graph(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.keras", "A Keras file becomes a graph with interop.convert"),
        ("m.weights.h5", "weights alone have no graph"),
        ("m.safetensors", "It holds tensors and no graph"),
    ],
)
def test_files_of_other_kinds_are_told_where_they_open(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"PK\x03\x04 not a graph")
    with pytest.raises(ArtifactError, match=message):
        load_graph(tmp_path / name)


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        ("CPUExecutionProvider", r"pass \['CPUExecutionProvider'\]"),
        (
            ["NoSuchProvider"],
            "'NoSuchProvider' is no provider of ONNX Runtime; it knows .*CPUExecutionProvider",
        ),
    ],
)
def test_providers_are_checked(saved, providers, message):
    with pytest.raises(InteropError, match=message):
        load_graph(saved / artifacts.ZIP, providers=providers)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_dtypes_that_numpy_lacks(tmp_path, dtype):
    kind = BY_NAME[dtype].onnx
    path = plain(
        tmp_path / "m.onnx",
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["f", "z"], ["z_out"]),
            helper.make_node("Cast", ["z_out"], ["y"], to=kind),
        ],
        [("x", kind, ["n"]), ("z", TensorProto.FLOAT, ["n"])],
        [("y", kind, ["n"]), ("z_out", TensorProto.FLOAT, ["n"])],
    )
    graph = load_graph(path)
    y, z = graph(np.array([1.5, 2.0], np.float32), [0.5, 1.0])
    assert (y.dtype.name, z.dtype.name) == (dtype, "float32")
    np.testing.assert_array_equal(y.astype(np.float32), [2.0, 3.0])
    np.testing.assert_array_equal(z, np.array([2.0, 3.0], np.float32))
    again = graph.predict((np.ones(5, numpy_dtype(dtype)), np.ones(5)), batch_size=2)
    np.testing.assert_array_equal(again[0].astype(np.float32), np.full(5, 2.0))


def test_embedded_weights_of_a_plain_file(tmp_path):
    w = np.arange(4096, dtype=np.float32).reshape(2, 2048)
    path = plain(
        tmp_path / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, [None, 2])],
        [("y", TensorProto.FLOAT, [None, 2048])],
        [helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.tobytes(), raw=True)],
    )
    graph = load_graph(path)
    np.testing.assert_allclose(graph(np.ones((3, 2))), np.ones((3, 2)) @ w, **CLOSE)
    assert graph.predict(np.ones((3, 2)), batch_size=2).shape == (3, 2048)


NOT_NEEDED = {
    "keras", "tensorflow", "torch", "jax", "onnx", "onnx_ir", "onnxscript", "jsonschema", "safetensors",
    "ml_dtypes", "h5py", "rich", "typer",
}  # fmt: skip


@pytest.mark.parametrize("name", artifacts.FORMS)
def test_the_graph_only_path_imports_little(saved, name):
    code = (
        "import sys, json, interop, numpy as np\n"
        "graph = interop.load_graph(sys.argv[1], verify_digest=True)\n"
        "graph(np.ones((2, 4), np.float32)); graph.predict(np.ones((5, 4)), batch_size=2)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(saved / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not set(json.loads(done.stdout)) & NOT_NEEDED
