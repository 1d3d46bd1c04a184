"""Calls replaced by what they call: the same graph to ONNX Runtime, which inlines what is left."""

from __future__ import annotations

import os
from itertools import permutations

import numpy as np
import onnx
import onnxruntime
import pytest
from cases import artifacts
from onnx import parser

import interop
from interop.artifact import relocate
from interop.artifact.bundle import open_bundle
from interop.artifact.inlining import inline_calls
from interop.artifact.outline import outline_of
from interop.artifact.schema import parse_model, serialize_model
from interop.errors import ArtifactError

pytestmark = pytest.mark.framework("torch")

HEAD = '<ir_version: 9, opset_import: ["" : 20, "interop.layers" : 1]>'
FUNCTION = '<domain: "interop.layers", opset_import: ["" : 20, "interop.layers" : 1]>'
GRAPH = f"{HEAD} g (float[n, 3] x) => (float[n, 3] y) "

# name -> (the graph's nodes, functions, operators of the main graph afterwards, whether functions are left)
CASES = {
    "shared": (
        "h = interop.layers.f(x)  y = interop.layers.f(h)",
        [f"{FUNCTION} f (a) => (b) {{ m = Relu(a)  b = Add(m, a) }}"],
        ["Relu", "Add"] * 2,
        False,
    ),
    "nested": (
        "h = interop.layers.g(x)  y = Neg(h)",
        [
            f"{FUNCTION} g (a) => (b) {{ m = interop.layers.f(a)  b = interop.layers.f(m) }}",
            f"{FUNCTION} f (a) => (b) {{ m = Relu(a)  b = Add(m, a) }}",
        ],
        ["Relu", "Add", "Relu", "Add", "Neg"],
        False,
    ),
    "names in use": (
        "f_m = Neg(x)  f_mq = Neg(f_m)  h = interop.layers.f(f_mq)  f = interop.layers.f(h)  y = Add(f, f_m)",
        [f"{FUNCTION} f (a) => (b) {{ m = Relu(a)  b = Add(m, a) }}"],
        ["Neg", "Neg", "Relu", "Add", "Relu", "Add", "Add"],
        False,
    ),
    "an input left out": (
        "y = interop.layers.f(x)",
        [f"{FUNCTION} f (a, low, high) => (b) {{ b = Clip(a, low, high) }}"],
        ["Clip"],
        False,
    ),
    "an empty input": (
        "high = Constant<value = float {0.5}>()  y = interop.layers.f(x, , high)",
        [f"{FUNCTION} f (a, low, high) => (b) {{ b = Clip(a, low, high) }}"],
        ["Constant", "Clip"],
        False,
    ),
    "outputs left out": (
        "y = interop.layers.f(x)",
        [f"{FUNCTION} f (a) => (b, c, d) {{ c = Neg(a)  b = Relu(c)  d = Neg(c) }}"],
        ["Neg", "Relu", "Neg"],
        False,
    ),
    "one value twice": (
        "y = interop.layers.f(x, x)",
        [f"{FUNCTION} f (a, c) => (b) {{ b = Add(a, c) }}"],
        ["Add"],
        False,
    ),
    "a graph inside": (
        "y = interop.layers.f(x)",
        [
            f"{FUNCTION} f (a) => (b) {{ c = Constant<value = bool {{1}}>()  "
            "b = If(c) <then_branch = t () => (float[n, 3] r) { r = Neg(a) }, "
            "else_branch = e () => (float[n, 3] s) { s = Relu(a) }> }"
        ],
        ["f"],
        True,
    ),
    "a call in a graph inside": (
        "h = interop.layers.f(x)  c = Constant<value = bool {1}>()  "
        "y = If(c) <then_branch = t () => (float[n, 3] h_m) { h_m = interop.layers.f(h) }, "
        "else_branch = e () => (float[n, 3] s) { s = Relu(h) }>",
        [f"{FUNCTION} f (a) => (b) {{ m = Relu(a)  b = Add(m, a) }}"],
        ["Relu", "Add", "Constant", "If"],
        True,
    ),
    "an attribute": (
        "y = interop.layers.f<k = 0.5>(x)",
        [f"{FUNCTION} f <k> (a) => (b) {{ b = LeakyRelu<alpha : float = @k>(a) }}"],
        ["f"],
        True,
    ),
    "an input that is the output": (
        "h = interop.layers.f(x)  y = Neg(h)",
        [f"{FUNCTION} f (a) => (a) {{ m = Neg(a) }}"],
        ["f", "Neg"],
        True,
    ),
    "another version": (
        "y = interop.layers.f(x)",
        ['<domain: "interop.layers", opset_import: ["" : 18]> f (a) => (b) { b = Relu(a) }'],
        ["f"],
        True,
    ),
    "one plain, one not": (
        "h = interop.layers.g(x)  y = interop.layers.f(h)",
        [
            f"{FUNCTION} g (a) => (b) {{ m = interop.layers.f(a)  b = Neg(m) }}",
            f"{FUNCTION} f <k: float = 0.5> (a) => (b) {{ b = LeakyRelu<alpha : float = @k>(a) }}",
        ],
        ["f", "Neg", "f"],
        True,
    ),
}


T = f"{FUNCTION} t (a) => (b) {{ b = Transpose<perm = [1, 0]>(a) }}"
ROTATED = f"{FUNCTION} r (a) => (b) {{ b = Transpose<perm = [1, 2, 0]>(a) }}"

# name -> (the graph's nodes, functions, operators of the main graph afterwards)
TRANSPOSED = {
    "it is undone": ("h = interop.layers.t(x)  i = interop.layers.t(h)  y = Neg(i)", [T], ["Neg"]),
    "it is undone for the graph's output": (
        "h = interop.layers.t(x)  y = interop.layers.t(h)",
        [T],
        ["Transpose", "Transpose"],
    ),
    "one that says no order": (
        "h = interop.layers.f(x)  i = interop.layers.f(h)  y = Neg(i)",
        [f"{FUNCTION} f (a) => (b) {{ b = Transpose(a) }}"],
        ["Transpose", "Transpose", "Neg"],
    ),
    "with others between": (
        "h = interop.layers.f(x)  i = interop.layers.f(h)  y = Neg(i)",
        [
            f"{FUNCTION} f (a) => (b) {{ m = Transpose<perm = [1, 0]>(a)  p = Transpose<perm = [1, 0]>(m)  "
            "q = Relu(m)  r = Transpose<perm = [1, 0]>(q)  b = Add(p, r) }"
        ],
        ["Transpose", "Relu", "Transpose", "Add"] * 2 + ["Neg"],
    ),
    "who takes both": (
        "h = interop.layers.t(x)  i = interop.layers.t(h)  j = MatMul(i, h)  y = MatMul(j, i)",
        [T],
        ["Transpose", "MatMul", "MatMul"],
    ),
    "thrice": (
        "h = interop.layers.t(x)  i = interop.layers.t(h)  j = interop.layers.t(i)  y = MatMul(x, j)",
        [T],
        ["Transpose", "MatMul"],
    ),
    "an order of three": (
        "a = Constant<value = int64[1] {2}>()  h = Unsqueeze(x, a)  i = interop.layers.r(h)  "
        "j = interop.layers.r(i)  k = interop.layers.r(j)  y = Squeeze(k, a)",
        [ROTATED],
        ["Constant", "Unsqueeze", "Transpose", "Transpose", "Transpose", "Squeeze"],
    ),
    "an order of three, undone": (
        "a = Constant<value = int64[1] {2}>()  h = Unsqueeze(x, a)  i = interop.layers.r(h)  "
        "j = interop.layers.f(i)  y = Squeeze(j, a)",
        [ROTATED, f"{FUNCTION} f (a) => (b) {{ b = Transpose<perm = [2, 0, 1]>(a) }}"],
        ["Constant", "Unsqueeze", "Squeeze"],
    ),
    "within a function that is called": (
        "h = interop.layers.g(x)  y = Neg(h)",
        [f"{FUNCTION} g (a) => (b) {{ m = interop.layers.t(a)  b = interop.layers.t(m) }}", T],
        ["Neg"],
    ),
    "a graph inside takes it": (
        "h = interop.layers.t(x)  i = interop.layers.t(h)  c = Constant<value = bool {1}>()  "
        "y = If(c) <then_branch = t () => (float[n, 3] r) { r = Neg(i) }, "
        "else_branch = e () => (float[n, 3] s) { s = Relu(i) }>",
        [T],
        ["Transpose", "Transpose", "Constant", "If"],
    ),
}


def _inlined(data: bytes) -> bytes:
    model = parse_model(data)
    inline_calls(
        model, outline_of(model), {value.name: len(value.raw_data) for value in model.graph.initializer}
    )
    return serialize_model(model)


def _run(data: bytes, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("named", [False, True])
def test_calls_are_replaced_and_outputs_stay(case, named):
    nodes, functions, operators, left = CASES[case]
    model = parser.parse_model(f"{GRAPH} {{ {nodes} }} {' '.join(functions)}")
    for node in model.graph.node:
        node.name = node.output[0] if named else ""
    if case == "outputs left out":
        model.graph.node[0].output.extend(["", ""])
    data = model.SerializeToString().replace(b"f_mq", b"f/m'").replace(b"f_m", b"f/m").replace(b"h_m", b"h/m")
    after = onnx.load_from_string(_inlined(data))
    assert [node.op_type for node in after.graph.node] == operators
    assert bool(after.functions) is left
    names = [node.name for node in after.graph.node if node.name]
    assert len(set(names)) == len(names)
    if not named or case == "an input that is the output":  # which ONNX Runtime does not take
        return
    x = np.random.default_rng(0).standard_normal((4, 3), np.float32)
    np.testing.assert_array_equal(_run(after.SerializeToString(), x), _run(data, x))


@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_transpose_that_undoes_one_is_left_out(case):
    nodes, functions, operators = TRANSPOSED[case]
    model = parser.parse_model(f"{GRAPH} {{ {nodes} }} {' '.join(functions)}")
    data = model.SerializeToString()
    after = onnx.load_from_string(_inlined(data))
    assert [node.op_type for node in after.graph.node] == operators
    onnx.checker.check_model(after)
    for batch in (1, 5):
        x = np.random.default_rng(0).standard_normal((batch, 3), np.float32)
        np.testing.assert_array_equal(_run(after.SerializeToString(), x), _run(data, x))


def test_what_a_call_brings_in_is_called_after_it():
    nodes, functions, *_ = CASES["nested"]
    model = parser.parse_model(f"{GRAPH} {{ {nodes} }} {' '.join(functions)}")
    model.graph.node[0].name = "block#0"
    for index, node in enumerate(model.functions[0].node):
        node.name = f"dense#{index}"
    after = onnx.load_from_string(_inlined(model.SerializeToString()))
    assert [node.name for node in after.graph.node][:4] == [
        "block#0/dense#0/Relu",
        "block#0/dense#0/Add",
        "block#0/dense#1/Relu",
        "block#0/dense#1/Add",
    ]
    assert [name for node in after.graph.node for name in node.output] == [
        "block#0/dense#0/m",
        "block#0/m",
        "block#0/dense#1/m",
        "h",
        "y",
    ]


def test_functions_that_nothing_calls_are_not_unfolded():
    """They may double at each level: only what the graph calls was counted."""
    functions = [f"{FUNCTION} f0 (a) => (b) {{ b = Neg(a) }}"]
    functions += [
        f"{FUNCTION} f{n} (a) => (b) {{ m = interop.layers.f{n - 1}(a)  b = interop.layers.f{n - 1}(m) }}"
        for n in range(1, 60)
    ]
    model = parser.parse_model(f"{GRAPH} {{ y = interop.layers.f1(x) }} {' '.join(functions)}")
    after = onnx.load_from_string(_inlined(model.SerializeToString()))
    assert [node.op_type for node in after.graph.node] == ["Neg", "Neg"]


def _transposing(order: tuple[int, ...], shape: tuple[int, ...]) -> onnx.ModelProto:
    """``y = Transpose(w) + x`` with a value called as a first move would be."""
    w = np.random.default_rng(2).standard_normal(shape, np.float32)
    nodes = [
        onnx.helper.make_node("Transpose", ["w"], ["t"], perm=order),
        onnx.helper.make_node("Identity", ["x"], ["t/moved"]),
        onnx.helper.make_node("Add", ["t", "t/moved"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [
            onnx.helper.make_tensor_value_info(
                "y", onnx.TensorProto.FLOAT, [f"d{axis}" for axis in range(len(shape))]
            )
        ],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)


def _orders(model: onnx.ModelProto) -> list[list[int]]:
    return [[*node.attribute[0].ints] for node in model.graph.node if node.op_type == "Transpose"]


@pytest.mark.parametrize("order", [order for rank in (2, 4) for order in permutations(range(rank))])
def test_a_long_weight_is_transposed_an_axis_at_a_time(order):
    data = _transposing(order, (7, 9, 11, 12) if len(order) == 4 else (64, 65)).SerializeToString()
    after = onnx.load_from_string(_inlined(data))
    onnx.checker.check_model(after)
    axes = [*range(len(order))]
    for move in _orders(after):
        assert move == axes or any(
            [axis for axis in move if axis != moved] == [axis for axis in axes if axis != moved]
            for moved in axes
        )
    x = np.ones(1, np.float32)
    np.testing.assert_array_equal(_run(after.SerializeToString(), x), _run(data, x))


def test_a_kernel_takes_two_moves_and_a_short_one_none():
    long, short = _transposing((3, 2, 0, 1), (3, 3, 64, 32)), _transposing((3, 2, 0, 1), (3, 3, 4, 8))
    assert _orders(onnx.load_from_string(_inlined(long.SerializeToString()))) == [[3, 0, 1, 2], [0, 3, 1, 2]]
    assert _orders(onnx.load_from_string(_inlined(short.SerializeToString()))) == [[3, 2, 0, 1]]


@pytest.mark.parametrize("order", [(3, 2, 0, 0), (3, 2, 0, 4), (-1, 2, 0, 1)])
def test_an_order_that_is_none_is_left_to_onnx_runtime(order):
    data = _transposing(order, (3, 3, 64, 32)).SerializeToString()
    assert _orders(onnx.load_from_string(_inlined(data))) == [[*order]]


# weights and what takes them: of up to 64 bytes
WITHIN = {("first/kernel", "MatMul"), ("first/bias", "Add"), ("second/bias", "Add")}


@pytest.mark.parametrize("form", artifacts.FORMS)
@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("folded", [relocate.FOLDED, "MatMul", "Add"])
def test_an_artifact_is_opened_without_calls(tmp_path, monkeypatch, form, low_memory, folded):
    monkeypatch.setattr(relocate, "FOLDED", folded)
    monkeypatch.setattr(relocate, "MAX_EMBEDDED_BYTES", 64)
    artifacts.save(tmp_path / form)
    with open_bundle(tmp_path / form, verify_digest=False) as bundle:
        given = onnx.load_from_string(bundle.session_source().model)
        stored = onnx.load_from_string(bundle.session_source(inlined=False).model)
    assert [node.name for node in given.graph.node] == [
        "first#0/MatMul",
        "first#0/Add",
        "second#0/MatMul",
        "second#0/Add",
    ]
    assert not given.functions
    assert [node.name for node in stored.graph.node] == ["first#0", "second#0"]
    for tensor in given.graph.initializer:
        within = (tensor.name, folded) in WITHIN
        assert bool(tensor.external_data) is not within
        assert tensor.raw_data == (artifacts.weights()[tensor.name].tobytes() if within else b"")
    x = np.random.default_rng(1).standard_normal((5, 4), np.float32)
    found = interop.load_graph(tmp_path / form, low_memory=low_memory)(x)
    np.testing.assert_allclose(found, artifacts.expected(x), rtol=1e-5, atol=1e-5)


def test_weights_cut_short_while_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(relocate, "FOLDED", "Add")
    artifacts.save(tmp_path / "model")
    with open_bundle(tmp_path / "model", verify_digest=False) as bundle:
        os.truncate(tmp_path / "model" / "weights.safetensors", 4100)
        with pytest.raises(ArtifactError, match="cut short"):
            bundle.session_source()
