"""Attention in graphs, as one layer: the ways to write it that are recognised, and what only looks like it.

Every row is compared with ONNX Runtime at two sizes, whether it becomes a layer or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import interop
from interop.status import ImportReport

WIDTH, HEADS, SIZE = 12, 3, 4
PLACES = 6
node = helper.make_node


@dataclass(frozen=True)
class Row:
    """One way to write attention.

    Attributes:
        name: of the row.
        lifted: whether it becomes MultiHeadAttention.
        matrix: "three" of projections, "one", one "by head", or one that is "cut" in two, as PyTorch attends to another
            tensor, or made a "sequence" of two.
        factor: of the products.
        bias: which projections have one.
        places: of the input; None: open.
        cross: whether keys and values are of another input.
        mask: added to the products: "", "nothing", "causal" or "given", an input.
        used: whether the probabilities are an output too.
        shared: what else uses the matrix of the queries: "keys", or the "output" of all.
        places_first: whether the axis of places comes before that of the batch.
        measured: whether the batch is read off the other input.
    """

    name: str
    lifted: bool = True
    matrix: str = "three"
    factor: float = SIZE**-0.5
    bias: str = "qkvo"
    places: int | None = None
    cross: bool = False
    mask: str = ""
    used: bool = False
    shared: str = ""
    places_first: bool = False
    measured: bool = False


ROWS = [
    Row("three matrices"),
    Row("one matrix", matrix="one"),
    Row("one matrix by head", matrix="by head"),
    Row("no bias", bias=""),
    Row("to another tensor", cross=True),
    Row("to another tensor, one matrix", cross=True, matrix="cut"),
    Row("to another tensor, one matrix as a sequence", cross=True, matrix="sequence"),
    Row("sizes of another tensor", cross=True, measured=True),
    Row("places first", places_first=True),
    Row("places first, causal, one matrix", places_first=True, mask="causal", places=PLACES, matrix="one"),
    Row("places first, to another tensor, one matrix", places_first=True, cross=True, matrix="cut"),
    Row("a mask of zeros", mask="nothing", places=PLACES),
    Row("causal", mask="causal", places=PLACES),
    Row("causal, one matrix", mask="causal", places=PLACES, matrix="one"),
    Row("another factor", lifted=False, factor=0.3),
    Row("some have a bias", lifted=False, bias="qv"),
    Row("a mask of an input", lifted=False, mask="given", places=PLACES),
    Row("probabilities are used", lifted=False, used=True),
    Row("a matrix is shared", lifted=False, shared="keys"),
    Row("a matrix is used outside", lifted=False, shared="output"),
]


def model_of(row: Row) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    held: dict[str, np.ndarray] = {
        "heads": np.array([0, 0, HEADS, SIZE]),
        "joined": np.array([0, 0, WIDTH]),
        "by head": np.array([0, 0, HEADS, 3 * SIZE]),
        "factor": np.array(row.factor, "float32"),
    }

    def project(x: str, name: str, units: int, bias: bool) -> str:
        held[f"{name}.weight"] = (rng.standard_normal((WIDTH, units)) * WIDTH**-0.5).astype("float32")
        nodes.append(node("MatMul", [x, f"{name}.weight"], [f"{name}.product"], f"{name}.MatMul"))
        if not bias:
            return f"{name}.product"
        held[f"{name}.bias"] = rng.standard_normal(units).astype("float32")
        nodes.append(node("Add", [f"{name}.product", f"{name}.bias"], [name], f"{name}.Add"))
        return name

    if row.matrix == "three":
        sources = {"q": "x", "k": "z" if row.cross else "x", "v": "z" if row.cross else "x"}
        for name, source in sources.items():
            made = project(source, name, WIDTH, name in row.bias)
            if row.shared == "keys" and name == "k":
                nodes[-2 if name in row.bias else -1].input[1] = "q.weight"
                del held["k.weight"]
            nodes.append(node("Reshape", [made, "heads"], [f"{name}.parts"]))
    elif row.matrix in ("cut", "sequence"):
        held["qkv.weight"] = (rng.standard_normal((WIDTH, 3 * WIDTH)) * WIDTH**-0.5).astype("float32")
        held["qkv.bias"] = rng.standard_normal(3 * WIDTH).astype("float32")
        held["cut"] = np.array([WIDTH, 2 * WIDTH])
        cuts = [("qkv.weight", "matrix", 1), ("qkv.bias", "offset", 0)]
        if row.matrix == "sequence":
            held |= {"first": np.array(0), "second": np.array(-1)}
            for whole, part, axis in cuts:
                nodes += [
                    node("SplitToSequence", [whole, "cut"], [f"{part}.sequence"], axis=axis),
                    node("SequenceAt", [f"{part}.sequence", "first"], [f"q.{part}"]),
                    node("SequenceAt", [f"{part}.sequence", "second"], [f"kv.{part}"]),
                ]
        else:
            nodes += [
                node("Split", [whole, "cut"], [f"q.{part}", f"kv.{part}"], axis=axis)
                for whole, part, axis in cuts
            ]
        nodes += [
            node("MatMul", ["x", "q.matrix"], ["q.product"]),
            node("Add", ["q.product", "q.offset"], ["q.cut"]),
            node("MatMul", ["z", "kv.matrix"], ["kv.product"]),
            node("Add", ["kv.product", "kv.offset"], ["kv"]),
            node("Split", ["kv"], ["k.cut", "v.cut"], axis=2, num_outputs=2),
            *(node("Reshape", [f"{name}.cut", "heads"], [f"{name}.parts"]) for name in "qkv"),
        ]
    else:
        made = project("x", "qkv", 3 * WIDTH, bool(row.bias))
        if row.matrix == "one":
            nodes.append(node("Split", [made], ["q.cut", "k.cut", "v.cut"], axis=2, num_outputs=3))
            nodes += [node("Reshape", [f"{name}.cut", "heads"], [f"{name}.parts"]) for name in "qkv"]
        else:
            nodes.append(node("Reshape", [made, "by head"], ["qkv.parts"]))
            parts = [f"{name}.parts" for name in "qkv"]
            nodes.append(node("Split", ["qkv.parts"], parts, axis=3, num_outputs=3))
    if row.measured:
        held |= {"rest": np.array([-1, HEADS, SIZE])}
        nodes += [
            node("Shape", ["z"], ["z.batch"], end=1),
            node("Concat", ["z.batch", "rest"], ["measured"], axis=0),
        ]
        for each in nodes:
            if each.op_type == "Reshape" and each.output[0] == "q.parts":
                each.input[1] = "measured"
        nodes.sort(key=lambda each: each.op_type not in ("Shape", "Concat"))
    example, place = (1, 0) if row.places_first else (0, 1)
    nodes += [
        node("Transpose", ["q.parts"], ["q.heads"], perm=[example, 2, place, 3]),
        node("Transpose", ["k.parts"], ["k.heads"], perm=[example, 2, 3, place]),
        node("Transpose", ["v.parts"], ["v.heads"], perm=[example, 2, place, 3]),
        node("MatMul", ["q.heads", "k.heads"], ["products"]),
        node("Mul", ["products", "factor"], ["scaled"]),
    ]
    if row.mask in ("nothing", "causal"):
        held["mask"] = np.zeros((PLACES, PLACES), "float32")
        if row.mask == "causal":
            held["mask"][np.triu_indices(PLACES, 1)] = np.finfo("float32").min
    nodes += [
        *([node("Add", ["scaled", "mask"], ["masked"])] if row.mask else []),
        node("Softmax", ["masked" if row.mask else "scaled"], ["probabilities"], "attention"),
        node("MatMul", ["probabilities", "v.heads"], ["weighed"]),
        node("Transpose", ["weighed"], ["turned"], perm=[2, 0, 1, 3] if row.places_first else [0, 2, 1, 3]),
        node("Reshape", ["turned", "joined"], ["flat"]),
    ]
    made = project("flat", "o", WIDTH, "o" in row.bias)
    if row.shared == "output":
        nodes.append(node("MatMul", [made, "q.weight"], ["again"]))
        made = "again"
    nodes.append(node("Relu", [made], ["y"]))
    shapes: dict[str, tuple[str | int, ...]] = {"x": ("n", row.places or "t", WIDTH)}
    if row.cross:
        shapes["z"] = ("n", "s", WIDTH)
    if row.places_first:
        shapes = {name: (places, batch, width) for name, (batch, places, width) in shapes.items()}
    if row.mask == "given":
        shapes["mask"] = ("n", 1, 1, PLACES)
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()],
        [onnx.ValueInfoProto(name=name) for name in ("y", *(["probabilities"] if row.used else []))],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


#: Weights that no layer takes where one is used in two ways.
HELD: dict[str, set[str]] = {
    "": set(),
    "keys": {"q.weight", "q.bias", "k.bias"},
    "output": {"q.weight", "q.bias"},
}


def arrays_of(row: Row, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    places = row.places or batch + 3
    arrays = {"x": rng.standard_normal((batch, places, WIDTH))}
    if row.cross:
        arrays["z"] = rng.standard_normal((batch, places + 1, WIDTH))
    if row.places_first:
        arrays = {name: array.swapaxes(0, 1) for name, array in arrays.items()}
    if row.mask == "given":
        arrays["mask"] = rng.standard_normal((batch, 1, 1, PLACES))
    return {name: array.astype("float32") for name, array in arrays.items()}


def outputs_of(model: keras.Model, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    made = model(list(arrays.values()) if len(arrays) > 1 else arrays["x"])
    outputs = [made[name] for name in ("y", "probabilities")] if isinstance(made, dict) else [made]
    return [keras.ops.convert_to_numpy(y) for y in outputs]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_attention(row: Row, tmp_path: Path) -> None:
    proto = model_of(row)
    reports: list[ImportReport] = []
    model = interop.import_onnx(proto, report=reports)
    found = [lifted.kind for lifted in reports[0].lifted if lifted.kind == "MultiHeadAttention"]
    assert found == ["MultiHeadAttention"] * row.lifted
    assert row.lifted or row.used or reports[0].not_lifted["attention"]
    assert set(reports[0].held) == HELD[row.shared]
    trained = {tensor.name for tensor in proto.graph.initializer if tensor.name.endswith(("weight", "bias"))}
    assert set(reports[0].weights) == trained
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (2, 4):
        arrays = arrays_of(row, batch)
        got = outputs_of(model, arrays)
        for ours, theirs in zip(got, session.run(None, arrays), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    dense = [lifted.kind for lifted in reports[0].lifted if lifted.kind == "Dense"]
    assert len(dense) == (
        0 if row.lifted else 4 - len([name for name in HELD[row.shared] if name.endswith("bias")])
    )
    if row.lifted:
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(outputs_of(again, arrays)[0], got[0])


#: What JAX writes: every product is an Einsum. Projections, scores, what is weighed, output.
EQUATIONS = {
    "heads after places": ("btf,fhd->bthd", "bthd,bshd->bhts", "bhts,bshd->bthd", "bthd,hdf->btf"),
    "heads first": ("btf,fhd->bhtd", "bhtd,bhsd->bhts", "bhts,bhsd->bhtd", "bhtd,hdf->btf"),
    "the other way round": ("fhd,btf->bthd", "bshd,bthd->bhts", "bshd,bhts->bthd", "hdf,bthd->btf"),
    "labels left out": (
        "...tf,fhd->...thd",
        "...thd,...shd->...hts",
        "...hts,...shd->...thd",
        "...thd,hdf->...tf",
    ),
}


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("name", EQUATIONS)
def test_attention_in_equations(name: str, biased: bool) -> None:
    rng = np.random.default_rng(5)
    apart, scores, weighed, together = EQUATIONS[name]
    held = {"root": np.array(SIZE**0.5, "float32")}
    for part in "qkvo":
        shape = (HEADS, SIZE, WIDTH) if part == "o" else (WIDTH, HEADS, SIZE)
        held[f"{part}.weight"] = (rng.standard_normal(shape) * WIDTH**-0.5).astype("float32")
        if biased:
            bias = (WIDTH,) if part == "o" else (HEADS, 1, SIZE) if name == "heads first" else (HEADS, SIZE)
            held[f"{part}.bias"] = rng.standard_normal(bias).astype("float32")

    def product(equation: str, values: list[str], made: str, bias: str = "") -> list[onnx.NodeProto]:
        if name == "the other way round":
            values = values[::-1]
        if not (bias and biased):
            return [node("Einsum", values, [made], equation=equation)]
        nodes = [node("Einsum", values, [f"{made}.product"], equation=equation)]
        return [*nodes, node("Add", [f"{made}.product", bias], [made])]

    nodes = [each for part in "qkv" for each in product(apart, ["x", f"{part}.weight"], part, f"{part}.bias")]
    nodes += [
        node("Div", ["q", "root"], ["scaled"]),
        *product(scores, ["scaled", "k"], "scores"),
        node("Softmax", ["scores"], ["probabilities"], "attention"),
        *product(weighed, ["probabilities", "v"], "weighed"),
        *product(together, ["weighed", "o.weight"], "flat", "o.bias"),
        node("Relu", ["flat"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", 1, ("n", "t", WIDTH))],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(array, key) for key, array in held.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    reports: list[ImportReport] = []
    model = interop.import_onnx(proto, report=reports)
    assert [lifted.kind for lifted in reports[0].lifted] == ["MultiHeadAttention"], reports[0].not_lifted
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (2, 4):
        x = rng.standard_normal((batch, batch + 3, WIDTH)).astype("float32")
        np.testing.assert_allclose(
            outputs_of(model, {"x": x})[0], session.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5
        )
