"""ONNX graphs as Keras models: every operator against ONNX Runtime, and whole models of torch.

Every model is run at two sizes of every open dimension.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cases import operators as table
from cases.operators import normal
from onnx import helper, numpy_helper

import interop
from interop import onnx_backend
from interop.errors import GraphError, UnsupportedNodes, UnsupportedOp
from interop.rebuild import registry
from interop.rebuild.reshaping import reshaped
from interop.rebuild.sizes import Sizes
from interop.status import ImportReport

CASES = table.all_cases()


def outputs_of(model: onnx.ModelProto | str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime computes."""
    data = model if isinstance(model, str) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, arrays)


def imported(source: Any, **options: Any) -> tuple[keras.Model, ImportReport]:
    reports: list[ImportReport] = []
    return interop.import_onnx(source, report=reports, **options), reports[0]


def computed(model: keras.Model, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    outputs = model(list(arrays.values()) if len(arrays) > 1 else next(iter(arrays.values())))
    return [
        keras.ops.convert_to_numpy(y) for y in (outputs.values() if isinstance(outputs, dict) else [outputs])
    ]


def narrow(array: np.ndarray) -> np.ndarray:
    """As JAX stores it, without 64 bits."""
    wide = keras.backend.backend() == "jax" and array.dtype.itemsize == 8 and array.dtype.kind in "iu"
    return array.astype(f"{array.dtype.kind}4") if wide else array


def check(got: list[np.ndarray], wanted: list[np.ndarray], rtol: float = 1e-4, atol: float = 1e-5) -> None:
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.dtype == narrow(theirs).dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_operator(case: table.OnnxCase) -> None:
    proto = case.model()
    model, report = imported(proto)
    assert [lifted.kind for lifted in report.lifted] == ([case.lifted] if case.lifted else [])
    backend = onnx_backend.prepare(proto)
    for size in (0, 1):
        arrays = case.arrays(size)
        wanted = outputs_of(proto, arrays)
        assert case.constant or any(np.unique(array).size > 1 for array in wanted), "this proves nothing"
        check(computed(model, arrays), wanted, case.rtol, case.atol)
        check(list(backend.run(arrays)), wanted, case.rtol, case.atol)


def test_rows_are_unique_and_every_handler_is_of_a_schema() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))
    for handler in registry.registered():
        if not handler.domain:
            versions = {
                s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == handler.op_type
            }
            assert handler.since in versions, (handler.op_type, handler.since, versions)


class Network(torch.nn.Module):
    """Convolutions, one of them strided, a bare parameter, pooling and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.scale = torch.nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.scale * torch.nn.functional.hardswish(self.depthwise(x))
        return self.head(torch.nn.functional.max_pool2d(x, 3, 2, 1).mean((2, 3)))


class Encoder(torch.nn.Module):
    """A transformer over tokens whose output layer is tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 16)
        self.position = torch.nn.Parameter(torch.randn(1, 64, 16))
        layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.encoder(self.embedding(ids) + self.position[:, : ids.shape[1]])
        return x @ self.embedding.weight.T


@pytest.fixture(scope="module", params=["network", "encoder"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    torch.manual_seed(0)
    batch, length = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "length"))
    if request.param == "network":
        module, x, axes = Network(), torch.randn(2, 3, 32, 32), {0: batch}
        module.train()(torch.randn(8, 3, 32, 32))
    else:
        module, x, axes = Encoder(), torch.randint(0, 50, (2, 7)), {0: batch, 1: length}
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (x,), path, dynamo=True, dynamic_shapes=(axes,), input_names=["x"], verbose=False
        )
    return request.param, path


def batch_of(kind: str, size: int, length: int) -> np.ndarray:
    rng = np.random.default_rng(size)
    if kind == "network":
        return rng.standard_normal((size, 3, 32, 32)).astype("float32")
    return rng.integers(0, 50, (size, length))


def test_model_of_torch_is_the_same_loads_without_interop_and_trains(exported: Any, tmp_path: Path) -> None:
    kind, path = exported
    model, report = imported(path)
    assert not report.frozen
    for size, length in ((2, 5), (5, 9)):
        x = batch_of(kind, size, length)
        wanted = outputs_of(str(path), {"x": x})
        assert wanted[0].std(axis=0).mean() > 1e-2 * np.sqrt((wanted[0] ** 2).mean())
        check(computed(model, {"x": x}), wanted)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "io.npz", x=x, y=computed(model, {"x": x})[0])
    code = f"""
        import sys
        sys.modules["interop"] = None
        import keras, numpy as np
        model = keras.saving.load_model({str(tmp_path / "model.keras")!r})
        stored = np.load({str(tmp_path / "io.npz")!r})
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(stored["x"])), stored["y"])
        before = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
        model.compile("sgd", "mse")
        losses = model.fit(stored["x"], np.zeros_like(stored["y"]), epochs=3, verbose=0).history["loss"]
        assert losses[2] < losses[0], losses
        for old, weight in zip(before, model.trainable_weights):
            assert (old != keras.ops.convert_to_numpy(weight)).any(), weight.path
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[Any, ...]],
    outputs: list[str],
    **initializers: np.ndarray,
) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


node = helper.make_node


@pytest.mark.parametrize(
    ("dtype", "bounds", "step"),
    [("float", ("zero", "size"), 1), ("float", ("zero", "size"), 2), ("int64", ("size", "zero"), -1)],
    ids=["floats", "steps of two", "backwards"],
)
def test_a_range_up_to_an_open_size(dtype: str, bounds: tuple[str, str], step: int) -> None:
    code = onnx.TensorProto.FLOAT if dtype == "float" else onnx.TensorProto.INT64
    kind = "float32" if dtype == "float" else dtype
    proto = graph(
        [
            node("Shape", ["x"], ["shape"], start=1, end=2),
            node("Squeeze", ["shape"], ["count"]),
            node("Cast", ["count"], ["size"], to=code),
            node("Range", [*bounds, "step"], ["line"]),
            node("Cast", ["line"], ["floats"], to=onnx.TensorProto.FLOAT),
            node("ReduceSum", ["x"], ["total"], keepdims=0),
            node("Add", ["floats", "total"], ["y"]),
        ],
        {"x": ("b", "t")},
        ["y"],
        zero=np.zeros((), kind),
        step=np.asarray(step, kind),
    )
    model, _ = imported(proto)
    for size in ((2, 3), (3, 6)):
        x = normal(*size)
        check(computed(model, {"x": x}), outputs_of(proto, {"x": x}))


def test_a_reshape_of_an_unknown_size_splits_it_as_the_target_says() -> None:
    """That both shapes hold as many elements is what a reshape means."""
    sizes = Sizes()
    x = keras.Input((None, 4))
    target = sizes.declare(x, [sizes.symbol("b"), sizes.symbol("t"), 4])
    flat = keras.ops.tanh(keras.ops.reshape(x, (-1, 4)))
    model = keras.Model(x, reshaped(sizes, flat, sizes.of(flat), target))
    for shape in ((2, 3, 4), (3, 5, 4)):
        rows = normal(*shape)
        check(computed(model, {"x": rows}), [np.tanh(rows)])


def test_a_weight_that_is_used_twice_is_one_weight() -> None:
    shared = graph(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("Relu", ["a"], ["b"]),
            node("MatMul", ["b", "w"], ["c"]),
            node("Mul", ["c", "w"], ["y"]),
        ],
        {"x": (4, 4)},
        ["y"],
        w=normal(4, 4),
    )
    model, report = imported(shared)
    assert [tuple(w.shape) for w in model.trainable_weights] == [(1, 16)]
    assert report.held == ("w",)
    same = graph(
        [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "w"], ["y"])],
        {"x": ("n", 4)},
        ["y"],
        w=normal(4, 4),
    )
    model, report = imported(same)
    assert [tuple(w.shape) for w in model.trainable_weights] == [(4, 4)]
    assert [lifted.layer for lifted in report.lifted] == [report.lifted[0].layer] * 2


def test_a_table_that_also_gives_the_scores_stays_one_weight(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable(package="tied")
    class Tied(keras.layers.Layer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.table = keras.layers.Embedding(300, 8)

        def call(self, words: Any) -> Any:
            return keras.ops.matmul(self.table(words), keras.ops.transpose(self.table.embeddings))

    given = keras.Input((None,), dtype="int32")
    model = keras.Model(given, Tied()(given))
    interop.export_onnx(model, tmp_path / "tied.onnx")
    found = interop.import_onnx(tmp_path / "tied.onnx")
    assert found.count_params() == model.count_params()
    words = np.random.default_rng(0).integers(0, 300, (3, 5)).astype("int32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found(words)),
        keras.ops.convert_to_numpy(model(words)),
        rtol=1e-5,
        atol=1e-6,
    )
    found.compile("sgd", "mse")
    (table,) = found.trainable_weights
    before = keras.ops.convert_to_numpy(table)
    found.fit(words, np.ones((3, 5, 300), "float32"), verbose=0)
    assert np.any(keras.ops.convert_to_numpy(table) != before)


def test_channels_stay_last_between_convolutions() -> None:
    chain = graph(
        [
            node("Conv", ["x", "v"], ["a"]),
            node("Relu", ["a"], ["b"]),
            node("Add", ["b", "c"], ["d"]),
            node("Conv", ["d", "w"], ["y"]),
        ],
        {"x": ("n", 3, "h", 12)},
        ["y"],
        v=normal(4, 3, 3, 3),
        c=normal(4, 1, 1),
        w=normal(5, 4, 3, 3),
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 12)).astype("float32")
    for layout, transposes in (("nhwc", 3), ("keep", 0)):  # in, out, and the constant
        model, _ = imported(chain, layout=layout)
        if (
            layout == "nhwc" or keras.backend.backend() != "tensorflow"
        ):  # TensorFlow has no such kernel on a CPU
            check(computed(model, {"x": x}), outputs_of(chain, {"x": x}), atol=1e-4)
        assert sum(type(operation).__name__ == "Transpose" for operation in model.operations) <= transposes


def test_a_graph_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    count = 600
    nodes = [node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    deep = graph(nodes, {"v0": ("n", 2)}, [f"v{count}"])
    x = np.arange(6, dtype="float32").reshape(3, 2)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit := 500)
    try:
        with pytest.warns(UserWarning, match=r"sys.setrecursionlimit\(\d+\)") as warned:
            model = interop.import_onnx(deep)
        np.testing.assert_array_equal(computed(model, {"x": x})[0], x * (-1) ** count)
        model.save(tmp_path / "deep.keras")
        interop.save_model(model, tmp_path / "deep")
        for name in ("deep.keras", "deep"):
            again = interop.load_model(tmp_path / name)
            np.testing.assert_array_equal(computed(again, {"x": x})[0], x * (-1) ** count)
        assert sys.getrecursionlimit() == limit
        sys.setrecursionlimit(int(str(warned[0].message).partition("limit(")[2].partition(")")[0]))
        keras.saving.load_model(tmp_path / "deep.keras")
    finally:
        sys.setrecursionlimit(before)


def test_zeros_that_are_no_weight_are_no_bias() -> None:
    """torch.onnx writes them so, where it does not optimize."""
    made = graph(
        [
            node("Shape", ["w"], ["size"], end=1),
            node("CastLike", ["zero", "x"], ["like"]),
            node("Expand", ["like", "size"], ["zeros"]),
            node("Conv", ["x", "w", "zeros"], ["y"]),
        ],
        {"x": ("n", 3, 8, 8)},
        ["y"],
        w=normal(4, 3, 3, 3),
        zero=np.zeros((), "float32"),
    )
    model, report = imported(made)
    assert [(lifted.kind, len(model.weights)) for lifted in report.lifted] == [("Conv2D", 1)]
    x = normal(2, 3, 8, 8)
    check(computed(model, {"x": x}), outputs_of(made, {"x": x}), atol=1e-4)


@pytest.mark.parametrize("units", [1, 3])
def test_a_product_without_a_bias_takes_the_one_that_is_added(units: int) -> None:
    """As jax2onnx writes it: a bias that counts zero times, and the true one after it."""
    made = graph(
        [
            node("Gemm", ["x", "w", "none"], ["product"], beta=0.0),
            node("Add", ["product", "b"], ["y"]),
        ],
        {"x": ("n", 4)},
        ["y"],
        w=normal(4, units),
        none=np.zeros((), "float32"),
        b=normal(1, units),
    )
    model, report = imported(made)
    assert [(lifted.kind, len(model.weights)) for lifted in report.lifted] == [("Dense", 2)]
    assert not report.not_lifted
    x = normal(5, 4)
    check(computed(model, {"x": x}), outputs_of(made, {"x": x}), atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_groups_around_an_instance_normalization_are_one_layer(affine: bool) -> None:
    """As torch.onnx writes GroupNorm."""
    nodes = [
        node("Reshape", ["x", "grouped"], ["a"]),
        node("InstanceNormalization", ["a", "ones", "zeros"], ["b"]),
        node("Shape", ["x"], ["size"]),
        node("Reshape", ["b", "size"], ["c"]),
    ]
    if affine:
        nodes += [node("Mul", ["c", "scale"], ["d"]), node("Add", ["d", "bias"], ["y"])]
    else:
        nodes += [node("Identity", ["c"], ["y"])]
    made = graph(
        nodes,
        {"x": ("n", 6, 5, "w")},
        ["y"],
        grouped=np.array([0, 2, -1]),
        ones=np.ones(2, "float32"),
        zeros=np.zeros(2, "float32"),
        **({"scale": normal(6, 1, 1), "bias": normal(1, 6, 1, 1)} if affine else {}),
    )
    model, report = imported(made)
    assert [lifted.kind for lifted in report.lifted] == ["GroupNormalization"]
    assert [tuple(weight.shape) for weight in model.trainable_weights] == [(6,), (6,)] * affine
    for size in (2, 3):
        x = normal(size, 6, 5, size + 4) + 1
        check(computed(model, {"x": x}), outputs_of(made, {"x": x}), atol=1e-4)


def test_a_weight_is_expanded_to_the_batch() -> None:
    made = graph(
        [
            node("Shape", ["x"], ["batch"], end=1),
            node("Concat", ["batch", "rest"], ["size"], axis=0),
            node("Expand", ["token", "size"], ["tokens"]),
            node("Concat", ["tokens", "x"], ["y"], axis=1),
        ],
        {"x": ("n", 3, 4)},
        ["y"],
        token=normal(1, 1, 4),
        rest=np.array([1, 1]),
    )
    model, report = imported(made)
    assert report.held == ("token",)
    for size in (2, 3):
        x = normal(size, 3, 4)
        check(computed(model, {"x": x}), outputs_of(made, {"x": x}))


def test_what_follows_from_constants_is_repeated_for_the_batch() -> None:
    made = graph(
        [
            node("Cast", ["places"], ["row"], to=1),
            node("Shape", ["x"], ["batch"], end=1),
            node("Concat", ["batch", "once"], ["repeats"], axis=0),
            node("Tile", ["row", "repeats"], ["rows"]),
            node("Concat", ["rows", "x"], ["y"], axis=1),
        ],
        {"x": ("n", 4)},
        ["y"],
        places=np.arange(3)[None],
        once=np.array([1]),
    )
    model, _ = imported(made)
    for size in (2, 3):
        x = normal(size, 4)
        check(computed(model, {"x": x}), outputs_of(made, {"x": x}))


def test_what_no_output_needs_is_left_out() -> None:
    _, report = imported(
        graph(
            [
                node("MatMul", ["x", "w"], ["y"]),
                node("Relu", ["y"], ["a"]),
                node("MatMul", ["a", "v"], ["b"]),
            ],
            {"x": ("n", 4)},
            ["y"],
            w=normal(4, 4),
            v=normal(4, 4),
        )
    )
    assert [lifted.nodes for lifted in report.lifted] == [("y",)]
    assert list(report.frozen) == ["v"]


def test_names_of_inputs_and_outputs_are_kept_or_mapped() -> None:
    names = graph(
        [node("Relu", ["a/b:0"], ["y.1"]), node("Neg", ["y.1"], ["y_1"])], {"a/b:0": ("n", 3)}, ["y.1", "y_1"]
    )
    model, report = imported(names, name="named")
    assert model.name == "named"
    assert report.inputs == {"a/b:0": "a_b_0"}
    assert report.outputs == {"y.1": "y_1", "y_1": "y_1_1"}
    assert list(model.output) == ["y_1", "y_1_1"]


X = {"x": ("n", 4)}
EMPTY = helper.make_graph(
    [node("Constant", [], ["b"], value_float=1.0)], "body", [], [helper.make_tensor_value_info("b", 1, ())]
)


def declared(output: str, code: int) -> onnx.ModelProto:
    """A Relu of floats whose output the graph says to be of another type."""
    made = graph([node("Relu", ["x"], [output], "one")], X, [output])
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info(output, code, X["x"]))
    return made


def shaped(*dims: int | str) -> onnx.ModelProto:
    """A Relu whose output the graph says to be of another shape."""
    made = graph([node("Relu", ["x"], ["y"], "one")], X, ["y"])
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, dims))
    return made


def importing(*opsets: tuple[str, int]) -> onnx.ModelProto:
    """A Relu with these opsets imported."""
    made = graph([node("Relu", ["x"], ["y"], "one")], X, ["y"])
    del made.opset_import[:]
    made.opset_import.extend(helper.make_opsetid(*opset) for opset in opsets)
    return made


def defaulted(*dims: int) -> onnx.ModelProto:
    """A product with a weight that is an input too, of another shape."""
    return graph([node("MatMul", ["x", "w"], ["y"], "one")], X | {"w": dims}, ["y"], w=normal(4, 3))


def branching(**branches: list[onnx.NodeProto]) -> onnx.ModelProto:
    """An If with these branches."""
    graphs = {
        f"{name}_branch": helper.make_graph(nodes, name, [], [onnx.ValueInfoProto(name=name)])
        for name, nodes in branches.items()
    }
    return graph([node("If", ["c"], ["y"], "one", **graphs)], X, ["y"], c=np.array(True))


def recursive() -> onnx.ModelProto:
    """A call of a local function that calls itself."""
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("loc", 1)]
    call = node("F", ["x"], ["y"], "one", domain="loc")
    made = graph([call], X, ["y"])
    made.opset_import.append(imports[1])
    made.functions.append(helper.make_function("loc", "F", ["x"], ["y"], [call], imports))
    return made


BROKEN = {
    "cycle": (
        graph([node("Add", ["x", "b"], ["a"], "one"), node("Relu", ["a"], ["b"], "two")], X, ["b"]),
        "cyclic.*needs",
    ),
    "dangling": (
        graph([node("Add", ["x", "gone"], ["y"], "one")], X, ["y"]),
        "'one'.*'gone', which nothing makes",
    ),
    "made twice": (
        graph([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"], "two")], X, ["y"]),
        "'two'.*'y'",
    ),
    "no output": (graph([node("Relu", ["x"], ["y"])], X, ["z"]), "output 'z'"),
    "negative": (graph([node("Relu", ["x"], ["y"])], {"x": (-3, 4)}, ["y"]), "'x'.*-3"),
    "no opset": (graph([node("Foo", ["x"], ["y"], domain="bar")], X, ["y"]), "'bar'"),
    "an opset that onnx does not know": (importing(("", 99)), r"opset 99 of 'ai.onnx'.*knows 1 to \d+"),
    "an opset that is no version": (importing(("", 20), ("ai.onnx.ml", 0)), "opset 0 of 'ai.onnx.ml'"),
    "two opsets of a domain": (importing(("", 20), ("ai.onnx", 18)), "two opsets of 'ai.onnx', 20 and 18"),
    "no operator": (graph([node("", ["x"], ["y"], "one")], X, ["y"]), "'one'.*no operator"),
    "matrix product of vectors": (
        graph([node("MatMul", ["x", "x"], ["y"], "one")], {"x": (3, 4)}, ["y"]),
        "'one'.*MatMul",
    ),
    "two types": (
        graph([node("Add", ["x", "w"], ["y"], "one")], X, ["y"], w=np.ones(4, "int64")),
        "'one'.*'x', which is float, and 'w', which is int64",
    ),
    "type after Cast": (
        graph([node("Cast", ["x"], ["b"], to=9), node("Relu", ["b"], ["y"], "one")], X, ["y"]),
        "'one'.*'b'.*is bool; expected",
    ),
    "type of an input": (
        graph([node("Gather", ["w", "x"], ["y"], "one")], X, ["y"], w=normal(5, 3)),
        "'one'.*'indices', which is float; expected int32, int64",
    ),
    "type of an output": (declared("y", 7), "'one'.*makes 'y' as float; the graph says int64"),
    "size of an output": (shaped("n", 5), r"'y', made by node 'one'.*\(None, 4\); the graph says \[n,5\]"),
    "rank of an output": (
        shaped("n", 4, 1),
        r"'y', made by node 'one'.*\(None, 4\); the graph says \[n,4,1\]",
    ),
    "shape of a default": (defaulted(4, 9), r"'w'.*\(4, 9\), and its initializer \(4, 3\)"),
    "too few inputs": (graph([node("Add", ["x"], ["y"], "one")], X, ["y"]), "'one'.*1 inputs; expected 2"),
    "too many inputs": (
        graph([node("Relu", ["x", "x"], ["y"], "one")], X, ["y"]),
        "'one'.*2 inputs; expected 1",
    ),
    "an input left out": (
        graph([node("Add", ["x", ""], ["y"], "one")], X, ["y"]),
        "'one'.*nothing as its input 'B'",
    ),
    "too many outputs": (
        graph([node("Relu", ["x"], ["y", "z"], "one")], X, ["y", "z"]),
        "'one'.*2 outputs; expected 1",
    ),
    "unknown attribute": (
        graph([node("Relu", ["x"], ["y"], "one", foo=3)], X, ["y"]),
        "'one'.*attribute 'foo'.*it has none",
    ),
    "no outputs": (graph([node("Relu", ["x"], ["y"], "one")], X, []), "the graph has no outputs"),
    "dangling in a branch": (
        branching(
            **{"then": [node("Relu", ["x"], ["then"])], "else": [node("Neg", ["gone"], ["else"], "two")]}
        ),
        "'two'.*in else_branch of node 'one'.*'gone', which nothing makes",
    ),
    "index beyond the end": (
        graph([node("Gather", ["x", "i"], ["y"], "one", axis=1)], X, ["y"], i=np.array([4])),
        "'one'.*index 4 of an axis of the size 4",
    ),
    "slices in steps of 0": (
        graph([node("Slice", ["x", "i", "i", "i", "i"], ["y"], "one")], X, ["y"], i=np.array([0])),
        "'one'.*steps of 0",
    ),
    "groups that do not divide": (
        graph(
            [node("Conv", ["x", "w"], ["y"], "one", group=2)],
            {"x": ("n", 3, 8, 8)},
            ["y"],
            w=normal(4, 3, 3, 3),
        ),
        "'one'.*groups=2",
    ),
    "type of an attribute": (
        graph([node("Softmax", ["x"], ["y"], "one", axis="a")], X, ["y"]),
        "'one'.*'axis' of the type STRING; expected INT",
    ),
    "weights that do not fit": (
        graph([node("MatMul", ["x", "w"], ["y"], "one")], X, ["y"], w=normal(5, 3)),
        r"'one'.*\(None, 4\).*\(4, 3\).*\(5, 3\)",
    ),
    "weights shared by layers they do not fit": (
        graph(
            [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "w"], ["y"], "two")],
            X,
            ["y"],
            w=normal(4, 3),
        ),
        "'two'.*value 4, but received",
    ),
    "element type of a Cast": (
        graph([node("Cast", ["x"], ["y"], "one", to=99)], X, ["y"]),
        "'one'.*element type 99",
    ),
    "parts that do not add up": (
        graph([node("Split", ["x", "i"], ["y", "z"], "one", axis=1)], X, ["y"], i=np.array([1, 2])),
        "'one'.*parts of 1, 2 of an axis of the size 4",
    ),
    "parts of a sequence that do not add up": (
        graph(
            [
                node("SplitToSequence", ["x", "i"], ["s"], "one", axis=1),
                node("SequenceAt", ["s", "k"], ["y"], "two"),
            ],
            X,
            ["y"],
            i=np.array([2, 3]),
            k=np.array(1),
        ),
        "'one'.*parts of 2, 3 of an axis of the size 4",
    ),
    "hidden size": (
        graph(
            [node("LSTM", ["x", "w", "r"], ["y"], "one", hidden_size=5)],
            {"x": ("t", "n", 4)},
            ["y"],
            w=normal(1, 12, 4),
            r=normal(1, 12, 3),
        ),
        "'one'.*hidden_size is 5.*for 3",
    ),
    "equation of other ranks": (
        graph([node("Einsum", ["x", "w"], ["y"], "one", equation="abc,cd->abd")], X, ["y"], w=normal(4, 3)),
        "'one' .Einsum",
    ),
    "scan of another body": (
        graph([node("Scan", ["x"], ["y"], "one", num_scan_inputs=1, body=EMPTY)], X, ["y"]),
        "'one'.*has 1 inputs, 1 of them sequences, and 1 outputs; its body has 0 and 1",
    ),
    "function of itself": (recursive(), "loc::F -> loc::F"),
    "nothing inside": (
        graph([node("Relu", ["x"], ["y"])], {"x": (3, 0)}, ["y"]),
        "'x' has the size 0 at axis 1",
    ),
    "empty": (onnx.ModelProto(), "no graph"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_graph_is_an_error_that_names_the_node(name: str) -> None:
    proto, message = BROKEN[name]
    with pytest.raises(GraphError, match=message):
        interop.import_onnx(proto)


def test_truncated_file_and_missing_data_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(table.all_cases()[0].model().SerializeToString()[:-7])
    with pytest.raises(GraphError, match="truncated"):
        interop.import_onnx(path)
    proto = graph([node("MatMul", ["x", "w"], ["y"])], X, ["y"], w=normal(4, 300))
    onnx.save(proto, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    interop.import_onnx(path)
    (tmp_path / "data.bin").unlink()
    with pytest.raises(GraphError, match=r"'w' lies in the file 'data.bin'"):
        interop.import_onnx(path)
    proto.graph.initializer[0].data_type = 77
    with pytest.raises(GraphError, match="'w' has the element type 77"):
        interop.import_onnx(proto)
    proto.graph.initializer[0].dims[0] = -4
    with pytest.raises(GraphError, match=r"'w' has the shape \(-4, 300\)"):
        interop.import_onnx(proto)


def test_a_layer_may_have_the_name_that_keras_gives_an_operation(tmp_path: Path) -> None:
    """Keras calls its first addition "add", too."""
    keras.backend.clear_session()
    steps = [
        node("MatMul", ["x", "w"], ["m"], "product"),
        node("Add", ["m", "b"], ["h"], "add"),
        node("Add", ["h", "z"], ["s"], "sum"),
        node("Add", ["s", "z"], ["y"], "multiply"),
    ]
    model = graph(steps, {"x": ("n", 4), "z": ("n", 3)}, ["y"], w=normal(4, 3), b=normal(3))
    made = interop.import_onnx(model)
    assert [type(layer).__name__ for layer in made.layers if layer.name == "add"] == ["Dense"]
    made.save(tmp_path / "model.keras")
    given = {"x": normal(2, 4), "z": normal(2, 3)}
    check(computed(keras.models.load_model(tmp_path / "model.keras"), given), outputs_of(model, given))


def test_names_that_clash_once_they_are_legal_stay_apart() -> None:
    weights = {"a.b": normal(4), "a:b": normal(4) + 1, "a_b": normal(4) + 2}
    nodes = [node("Mul", [x, w], [y]) for x, w, y in zip("xuv", weights, "uvy", strict=True)]
    clash = graph(nodes, {"x": ("n", 4), "a_b_1": ("n", 4)}, ["y"], **weights)
    model, report = imported(clash)
    paths = [path for name in weights for path in report.weights[name]]
    assert len(set(paths)) == 3
    for name, path in zip(weights, paths, strict=True):
        variable = next(w for w in model.weights if w.path == path)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable).ravel(), weights[name])
    x = normal(3, 4)
    check(computed(model, {"x": x, "a_b_1": x}), outputs_of(clash, {"x": x, "a_b_1": x}))


def test_a_weight_of_layers_that_cannot_share_it_is_held_once() -> None:
    shared = graph(
        [
            node("Conv", ["x", "k", "v"], ["a"], "one"),
            node("BatchNormalization", ["a", "v", "v", "v", "v"], ["b"], "two"),
            node("Conv", ["b", "k"], ["c"], "three"),
            node("Reshape", ["v", "shape"], ["w"]),
            node("Mul", ["c", "w"], ["y"]),
        ],
        {"x": ("n", 4, 8, 8)},
        ["y"],
        k=normal(4, 4, 3, 3),
        v=np.abs(normal(4)) + 1,
        shape=np.array([4, 1, 1]),
    )
    model, report = imported(shared)
    assert sum(int(np.prod(w.shape)) for w in model.weights) == 4 * 4 * 9 + 4
    assert set(report.weights) == {"k", "v"}
    x = normal(2, 4, 8, 8)
    check(computed(model, {"x": x}), outputs_of(shared, {"x": x}), atol=1e-4)


def test_every_unsupported_node_is_told_at_once() -> None:
    nodes = [
        node("Foo", ["x"], ["a"], "one"),
        node("Foo", ["a"], ["b"], "two"),
        node("Bar", ["b"], ["y"], "three"),
    ]
    told = (
        r"3 nodes.*Bar, which ONNX does not have: 'three'; Foo.*'one', 'two'.*export the model with operators"
    )
    with pytest.raises(UnsupportedNodes, match=told) as caught:
        interop.import_onnx(graph(nodes, X, ["y"]))
    assert isinstance(caught.value, UnsupportedOp)
