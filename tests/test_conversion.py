"""``convert`` and ``export_onnx``: every way from one form to another, what it keeps, what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import interop
from interop import conversion, exporting
from interop.errors import ArtifactError, InteropError
from interop.graph.file import write_file
from interop.loading import load_graph

X = np.random.default_rng(0).standard_normal((5, 6)).astype("float32")


def small(units: int = 8) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((6,), name="x")
    hidden = keras.layers.Dense(units, activation="tanh", name="hidden")(x)
    model = keras.Model(x, keras.layers.Dense(3, name="y")(hidden), name="small")
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(7)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """The same model as ``m`` (artifact), ``m.interop``, ``m.keras`` and ``m.onnx``; ``y.npy`` is its output."""
    folder = tmp_path_factory.mktemp("converted")
    model = small()
    for name in ("m", "m.interop"):
        interop.save_model(model, folder / name)
    model.save(folder / "m.keras")
    interop.export_onnx(model, folder / "m.onnx", verify=False)
    np.save(folder / "y.npy", keras.ops.convert_to_numpy(model(X)))
    return folder


def outputs(path: Path) -> np.ndarray:
    """What the model in a file computes: layers for ``.keras``, the graph for the others."""
    if path.suffix == ".keras":
        return keras.ops.convert_to_numpy(keras.saving.load_model(path)(X))
    return load_graph(path)(X)


WAYS = [
    ("m.keras", "out"),
    ("m.keras", "out.interop"),
    ("m.keras", "out.onnx"),
    ("m.keras", "out.keras"),
    ("m", "out.keras"),
    ("m.interop", "out.keras"),
    ("m", "out.onnx"),
    ("m.interop", "out.onnx"),
    ("m", "out.interop"),
    ("m.interop", "out"),
]


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_every_way(files, tmp_path, source, target):
    steps: list[str] = []
    done = interop.convert(files / source, tmp_path / target, progress=steps.append)
    assert done.parity is not None
    assert done.parity.passed
    assert (done.source, done.destination) == (files / source, tmp_path / target)
    path = tmp_path / target
    parts = path.iterdir() if path.is_dir() else [path]
    assert done.size_bytes == sum(part.stat().st_size for part in parts)
    assert any("comparing" in step for step in steps)
    np.testing.assert_allclose(outputs(path), np.load(files / "y.npy"), rtol=1e-5, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == [target], "nothing else is left"
    if target == "out.keras":
        again = keras.saving.load_model(path)
    elif target == "out.onnx":
        onnx.checker.check_model(str(path), full_check=True)
        assert not onnx.load(path).functions
        return
    else:
        again = interop.load_model(path)
    assert int(again.optimizer.iterations) == 7
    assert not [name for name in str(done).splitlines() if "Traceback" in name]


def test_a_plain_graph_becomes_a_keras_model_and_a_report(files, tmp_path):
    done = interop.convert(files / "m.onnx", tmp_path / "out.keras")
    assert done.parity is not None
    assert done.parity.passed
    assert done.imported is not None
    assert "layers with weights" in str(done)
    assert done.to_json()["imported"]["lifted"]
    np.testing.assert_allclose(
        outputs(tmp_path / "out.keras"), np.load(files / "y.npy"), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["out.interop", "out.h5"])
def test_an_onnx_graph_becomes_an_artifact_and_hdf5(files, tmp_path, name):
    done = interop.convert(files / "m.onnx", tmp_path / name)
    assert done.parity is not None
    assert done.parity.passed
    found = interop.load_model(tmp_path / name).predict(X, verbose=0)
    np.testing.assert_allclose(found, np.load(files / "y.npy"), rtol=1e-5, atol=1e-6)


def test_hdf5_of_a_subclassed_model_is_refused(tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(np.ones((1, 3), "float32"))
    interop.save_model(model, tmp_path / "m")
    with pytest.warns(UserWarning, match="Own"), pytest.raises(InteropError, match="Model is neither"):
        interop.convert(tmp_path / "m", tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_from_one_form_of_an_artifact_to_the_other_and_back_changes_no_byte(files, tmp_path):
    interop.convert(files / "m", tmp_path / "z.interop", verify=False)
    assert (tmp_path / "z.interop").read_bytes() == (files / "m.interop").read_bytes()
    interop.convert(tmp_path / "z.interop", tmp_path / "d", verify=False)
    for file in (files / "m").iterdir():
        assert (tmp_path / "d" / file.name).read_bytes() == file.read_bytes()
    interop.convert(files / "m", tmp_path / "bare", verify=False, include_optimizer=False)
    assert "optimizer.safetensors" not in {p.name for p in (tmp_path / "bare").iterdir()}
    assert int(interop.load_model(tmp_path / "bare").optimizer.iterations) == 0


REFUSED = [
    ("m.onnx", "out.onnx", InteropError, "plain ONNX graph"),
    ("nothing.keras", "out", FileNotFoundError, "does not exist"),
    ("nothing", "out.onnx", FileNotFoundError, "does not exist"),
    ("broken.interop", "out.onnx", ArtifactError, r"broken\.interop"),
    ("broken", "out.onnx", ArtifactError, r"broken"),
    ("m.keras", "folder.onnx", FileExistsError, "is a directory"),
    ("m.keras", "folder.keras", FileExistsError, "is a directory"),
    ("m", "folder", FileExistsError, r"thesis\.txt"),
    ("m", "notes", FileExistsError, "a file is in the way"),
    ("m", "notes.interop", FileExistsError, "is no artifact, so it is not replaced"),
    ("m", "no/parent.onnx", FileNotFoundError, "no"),
    ("m", "no/parent", FileNotFoundError, "no"),
]


@pytest.mark.parametrize(("source", "target", "error", "message"), REFUSED)
def test_what_is_refused_leaves_everything_as_it_was(files, tmp_path, source, target, error, message):
    for name in ("m", "m.keras", "m.onnx"):
        (tmp_path / name).symlink_to(files / name)
    (tmp_path / "broken.interop").write_bytes((files / "m.interop").read_bytes()[:-40])
    shutil.copytree(files / "m", tmp_path / "broken")
    (tmp_path / "broken" / "weights.safetensors").write_bytes(bytes(8000))
    for name in ("folder", "folder.onnx", "folder.keras"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    for name in ("notes", "notes.interop"):
        (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        interop.convert(tmp_path / source, tmp_path / target)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "notes").read_text() == "mine"


def test_overwriting(files, tmp_path):
    for name in ("out.onnx", "out.keras", "out", "out.interop"):
        interop.convert(files / "m", tmp_path / name, verify=False)
        with pytest.raises(FileExistsError, match="overwrite is off"):
            interop.convert(files / "m", tmp_path / name, overwrite=False)
        interop.convert(files / "m", tmp_path / name, verify=False)
    with pytest.raises(InteropError, match="are the same file"):
        interop.convert(tmp_path / "out", tmp_path / "out")
    with pytest.raises(InteropError, match="has opset 20; for opset 18"):
        interop.convert(files / "m", tmp_path / "again", opset=18)


def test_a_conversion_to_something_else_does_not_pass(files, tmp_path, monkeypatch):
    """The comparison is with what was written, not with what should have been."""
    other = small()
    other.get_layer("y").kernel.assign(other.get_layer("y").kernel * 1.01)
    monkeypatch.setattr(
        conversion,
        "_write_flat",
        lambda bundle, dst, precision: interop.export_onnx(other, dst, verify=False),
    )
    done = interop.convert(files / "m", tmp_path / "out.onnx")
    assert done.parity is not None
    assert not done.parity.passed
    assert "FAIL" in str(done)


# --- external data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [True, False])
def test_weights_over_the_limit_lie_beside_the_graph(tmp_path, monkeypatch, flat):
    monkeypatch.setattr(exporting, "EMBED_BYTES", 100)
    model = small(units=64)  # tensors of less than 256 bytes stay in the graph
    (tmp_path / "here").mkdir()
    summary = interop.export_onnx(model, tmp_path / "here" / "m.onnx", flat=flat)
    assert {p.name for p in (tmp_path / "here").iterdir()} == {"m.onnx", "m.onnx.data"}
    assert summary.size_bytes == sum(p.stat().st_size for p in (tmp_path / "here").iterdir())
    (tmp_path / "here").rename(tmp_path / "there")  # both move together
    path = tmp_path / "there" / "m.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    stored = onnx.load(path, load_external_data=False)
    outside = [t for t in stored.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert outside
    assert {e.value for t in outside for e in t.external_data if e.key == "location"} == {"m.onnx.data"}
    np.testing.assert_allclose(
        load_graph(path)(X), keras.ops.convert_to_numpy(model(X)), rtol=1e-5, atol=1e-6
    )
    assert interop.inspect(path).parameters == model.count_params()
    path.with_name("m.onnx.data").rename(tmp_path / "elsewhere.data")
    with pytest.raises(ArtifactError, match=r"m\.onnx\.data.*no file beside the model"):
        load_graph(path)


def test_at_the_limit_there_is_one_file(tmp_path, monkeypatch):
    model = small()
    monkeypatch.setattr(exporting, "EMBED_BYTES", model.count_params() * 4)
    interop.export_onnx(model, tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float64"}, "dtype is None, 'float16', 'bfloat16' or 'float32'"),
        ({"dtype": "float16", "io_dtype": "bfloat16"}, "io_dtype is None, 'float16' or 'float32'"),
        ({"io_dtype": "float32"}, "io_dtype goes with dtype"),
        ({"dtype": "float16", "flat": False}, "only a flat graph changes its dtype"),
        ({"fallback": "magic"}, "fallback is 'layer' or 'error'"),
        ({"opset": 16}, "opset must be between 17 and 23"),
        ({"opset": 24}, "opset must be between 17 and 23"),
    ],
)
def test_arguments_of_export_onnx(tmp_path, arguments, message):
    with pytest.raises(InteropError, match=message):
        interop.export_onnx(small(), tmp_path / "m.onnx", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_file_holds_every_kind_of_tensor_as_protobuf_would(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "floats": rng.normal(size=(3, 5)).astype("float32"),
        "transposed": rng.normal(size=(4, 300)).astype("float64").T,
        "halves": rng.normal(size=7).astype(ml_dtypes.bfloat16),
        "nothing": np.zeros((0, 2), "int64"),
        "number": np.asarray(True),
        "text": np.asarray([b"a", b"", "ü".encode()], object),
    }
    tensors = [ir.tensor(array, name=name) for name, array in arrays.items() if name != "text"]
    tensors.append(ir.StringTensor(arrays["text"], shape=ir.Shape([3]), name="text"))
    tensors.append(
        ir.tensor(np.asarray([[1, -2, 3]], ml_dtypes.int4), dtype=ir.DataType.INT4, name="nibbles")
    )
    values = [ir.Value(name=t.name, const_value=t, type=ir.TensorType(t.dtype)) for t in tensors]
    graph = ir.Graph([], [], nodes=[], initializers=values, name="g", opset_imports={"": 21})
    model = ir.Model(graph, ir_version=10, producer_name="test")
    write_file(model, tmp_path / "m.onnx")
    assert len(model.graph.initializers) == len(tensors)
    read, whole = onnx.load(tmp_path / "m.onnx"), ir.to_proto(model)
    assert [t.SerializeToString() for t in read.graph.initializer] == [
        t.SerializeToString() for t in whole.graph.initializer
    ]
    for proto in (read, whole):
        proto.graph.ClearField("initializer")
        proto.graph.ClearField("value_info")
    assert read == whole
    write_file(model, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


class Messages(keras.Model):
    """Sums over the edges of a graph: two leading dimensions that have nothing to do with each other."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, graph):
        nodes, edges = self.dense(graph["nodes"]), graph["edges"]
        rows = keras.ops.take(nodes, edges[:, 0], axis=0)
        return keras.ops.segment_sum(rows, edges[:, 1], num_segments=keras.ops.shape(nodes)[0])


def test_a_given_signature_is_the_one_compared_on(tmp_path):
    rng = np.random.default_rng(0)
    graph = {
        "nodes": rng.normal(size=(9, 4)).astype("float32"),
        "edges": rng.integers(0, 4, (12, 2), "int32"),
    }
    model = Messages()
    model(graph)
    signature = {"nodes": ("n", 4), "edges": {"shape": ("e", 2), "dtype": "int32"}}
    interop.export_onnx(model, tmp_path / "m.onnx", input_signature=signature)
    interop.save_model(model, tmp_path / "m", input_signature=signature)
    report = interop.verify(model, tmp_path / "m", inputs=graph)
    assert report.passed, report
    assert load_graph(tmp_path / "m.onnx").inputs[1].dtype == "int32"


def test_tensors_of_a_checkpoint(tmp_path):
    source = Path(__file__).parent / "fixtures" / "keras2" / "nested-adam"
    for name in ("w.safetensors", "w.npz"):
        conversion = interop.convert(source, tmp_path / name)
        assert conversion.parity is None
        with interop.load_tensors(source) as before, interop.load_tensors(tmp_path / name) as after:
            assert set(after) == {
                key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for key in before if key[0] != "_"
            }
            key = "layer_with_weights-0/kernel"
            np.testing.assert_array_equal(after[key], before[f"{key}/.ATTRIBUTES/VARIABLE_VALUE"])
    with pytest.raises(InteropError, match="is a checkpoint: it has tensors, but no model"):
        interop.convert(source, tmp_path / "m.onnx")


@pytest.mark.parametrize("given", [[("nodes", 4), ("edges", 2)], {"a": ("nodes", 4), "b": ("edges", 2)}])
def test_given_shapes_keep_the_names_and_dtypes_of_the_model(given, tmp_path):
    nodes, edges = keras.Input((4,), name="a"), keras.Input((2,), dtype="int32", name="b")
    messages = keras.ops.take(keras.layers.Dense(3)(nodes), edges[:, 0], axis=0)
    total = keras.ops.segment_sum(messages, edges[:, 1], num_segments=6)
    model = keras.Model([nodes, edges], total)
    interop.export_onnx(model, tmp_path / "m.onnx", input_signature=given)
    graph = interop.load_graph(tmp_path / "m.onnx")
    assert [(spec.name, spec.dtype, spec.shape) for spec in graph.inputs] == [
        ("a", "float32", ("nodes", 4)),
        ("b", "int32", ("edges", 2)),
    ]
    x, e = np.ones((6, 4), "float32"), np.array([[5, 1], [0, 2]], "int32")
    wanted = model([keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(e)])
    np.testing.assert_allclose(graph(x, e), keras.ops.convert_to_numpy(wanted), rtol=1e-5)


@pytest.mark.parametrize("name", ["w.weights.h5", "w.ckpt"])
@pytest.mark.parametrize("source", ["m.keras", "m.h5", "m.onnx", "m"])
def test_weights_alone(source, name, tmp_path):
    layers = [keras.layers.Dense(3, "tanh"), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.layers[0].bias.assign(np.arange(3.0))
    if source == "m":
        interop.save_model(model, tmp_path / source)
    elif source == "m.onnx":
        interop.export_onnx(model, tmp_path / source)
    else:
        model.save(tmp_path / source)
    conversion = interop.convert(tmp_path / source, tmp_path / name)
    assert conversion.size_bytes > 0
    if source != "m.onnx":
        other = keras.models.clone_model(model)
        interop.load_weights(other, tmp_path / name).assert_consumed()
        for ours, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, wanted)
