"""Passes over plain graphs: what they leave, and that it computes the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

from interop.graph.passes import optimized

pytestmark = pytest.mark.framework("torch")

# (name, graph, operators that are left apart from Constant)
# Conv has a kernel of 1 cell that turns 3 channels into 4; b has a bias for each, n4 numbers for BatchNormalization.
HEADER = '<ir_version: 9, opset_import: ["": 20]>'
WEIGHTS = "float[4,3,1,1] k, float[4] b, float[4] n4, float[1,1,1,4] c, float[3] c3"
ROWS: list[tuple[str, str, dict[str, int]]] = [
    (
        "arithmetic between convolutions",
        """(float[n,h,w,3] x) => (float[n,p,q,4] y) {
            a = Transpose<perm=[0,3,1,2]>(x)
            f = Conv(a, k)
            g = Transpose<perm=[0,2,3,1]>(f)
            r = Relu(g)
            s = Sigmoid(r)
            m = Mul(r, s)
            d = Add(m, b)
            e = Transpose<perm=[0,3,1,2]>(d)
            z = BatchNormalization(e, n4, b, b, n4)
            y = Transpose<perm=[0,2,3,1]>(z)
        }""",
        {"Transpose": 2, "Conv": 1, "Relu": 1, "Sigmoid": 1, "Mul": 1, "Add": 1, "BatchNormalization": 1},
    ),
    (
        "what belongs to a convolution",
        """(float[n,h,w,3] x) => (float[n,p,q,4] y) {
            pads = Constant<value = int64[8] {0,1,2,0,0,2,1,0}>()
            padded = Pad(x, pads)
            a = Transpose<perm=[0,3,1,2]>(padded)
            f = Conv<pads=[1,0,0,1]>(a, k)
            g = Transpose<perm=[0,2,3,1]>(f)
            d = Add(g, c)
            e = Transpose<perm=[0,3,1,2]>(d)
            z = BatchNormalization(e, n4, b, b, n4)
            y = Transpose<perm=[0,2,3,1]>(z)
        }""",
        {"Transpose": 2, "Conv": 1},
    ),
    (
        "an order of their own for axes",
        """(float[n,h,w,3] x, int64[8] pads) => (float[n,p,q,3] y) {
            one = Constant<value = int64[1] {1}>()
            two = Constant<value = int64[1] {2}>()
            minus = Constant<value = int64[1] {-1}>()
            five = Constant<value = int64[1] {5}>()
            a = Transpose<perm=[0,3,1,2]>(x)
            p1 = MaxPool<kernel_shape=[2,2]>(a)
            g = Transpose<perm=[0,2,3,1]>(p1)
            i = Pad(g, pads)
            j = Slice(i, one, five, two)
            l, m = Split<axis=-2, num_outputs=2>(j)
            o = Concat<axis=2>(l, m, j)
            q = Gather<axis=1>(o, one)
            r = ReduceMean(q, two)
            s = ReduceMax(o, minus)
            t = Max(r, s, o)
            v = Greater(t, c3)
            u = Where(v, t, c3)
            w1 = Transpose<perm=[0,3,1,2]>(u)
            z = MaxPool<kernel_shape=[1,1]>(w1)
            y = Transpose<perm=[0,2,3,1]>(z)
        }""",
        {
            "Transpose": 2,
            "MaxPool": 2,
            "Pad": 1,
            "Slice": 1,
            "Split": 1,
            "Concat": 1,
            "Gather": 2,
            "ReduceMean": 1,
            "ReduceMax": 1,
            "Max": 1,
            "Where": 1,
            "Greater": 1,
        },
    ),
    (
        "readers that do not mind",
        """(float[n,h,w,3] x) => (float[n,4] y, int64[2] sizes, int64[3] others, int64[1] one) {
            axes = Constant<value = int64[2] {1,2}>()
            a = Transpose<perm=[0,3,1,2]>(x)
            f = Conv(a, k)
            g = Transpose<perm=[0,2,3,1]>(f)
            r = Relu(g)
            y = ReduceMean<keepdims=0>(r, axes)
            s1 = Shape<start=1, end=3>(r)
            s2 = Shape<start=1>(r)
            s3 = Shape<start=-1>(r)
            sizes = Neg(s1)
            others = Neg(s2)
            one = Neg(s3)
        }""",
        {"Transpose": 1, "Conv": 1, "Relu": 1, "ReduceMean": 1, "Shape": 2, "Gather": 1, "Neg": 2},
    ),
    (
        "squeeze and excite",
        """(float[n,h,w,3] x) => (float[n,p,q,4] y) {
            axes = Constant<value = int64[2] {1,2}>()
            shape = Constant<value = int64[4] {-1,1,1,4}>()
            a = Transpose<perm=[0,3,1,2]>(x)
            f = Conv(a, k)
            g = Transpose<perm=[0,2,3,1]>(f)
            p = ReduceMean<keepdims=0>(g, axes)
            q = Reshape(p, shape)
            t = Transpose<perm=[0,3,1,2]>(q)
            e = BatchNormalization(t, n4, b, b, n4)
            u = Transpose<perm=[0,2,3,1]>(e)
            m = Mul(g, u)
            z = Transpose<perm=[0,3,1,2]>(m)
            l = LRN<size=1>(z)
            y = Transpose<perm=[0,2,3,1]>(l)
        }""",
        {
            "Transpose": 2,
            "Conv": 1,
            "ReduceMean": 1,
            "Reshape": 1,
            "BatchNormalization": 1,
            "Mul": 1,
            "LRN": 1,
        },
    ),
    (
        "outputs keep their names and order",
        """(float[n,h,w,3] x) => (float[n,3,h,w] turned, float[n,h,w,3] plain, float[n,h,w,3] twice) {
            a = Transpose<perm=[0,3,1,2]>(x)
            n = LRN<size=1>(a)
            g = Transpose<perm=[0,2,3,1]>(n)
            plain = Relu(g)
            turned = Transpose<perm=[0,3,1,2]>(plain)
            b2 = Transpose<perm=[0,3,1,2]>(plain)
            l = LRN<size=1>(b2)
            twice = Transpose<perm=[0,2,3,1]>(l)
        }""",
        {"Transpose": 3, "LRN": 2, "Relu": 1},
    ),
    (
        "an input is an output",
        """(float[n,h,w,3] x) => (float[n,h,w,3] y) {
            a = Transpose<perm=[0,3,1,2]>(x)
            y = Transpose<perm=[0,2,3,1]>(a)
        }""",
        {"Identity": 1},
    ),
    (
        "a body uses a value of another order",
        """(float[n,h,w,3] x, bool yes) => (float[n,h,w,3] y) {
            a = Transpose<perm=[0,3,1,2]>(x)
            l = LRN<size=1>(a)
            g = Transpose<perm=[0,2,3,1]>(l)
            r = Relu(g)
            t = Transpose<perm=[0,3,1,2]>(r)
            m = LRN<size=1>(t)
            o = Transpose<perm=[0,2,3,1]>(m)
            i = If (yes) <
                then_branch = one () => (float[n,h,w,3] p) { p = Neg(r) },
                else_branch = two () => (float[n,h,w,3] q) { q = Exp(r) }
            >
            y = Add(i, o)
        }""",
        {"Transpose": 3, "LRN": 2, "Relu": 1, "If": 1, "Add": 1},
    ),
    (
        "nothing to save",
        """(float[n,h,w,3] x) => (float[n,h,3,w] y) {
            a = Transpose<perm=[0,2,1,3]>(x)
            s = Softmax(a)
            r = Relu(s)
            t = Transpose<perm=[0,2,3,1]>(r)
            y = Softmax(t)
        }""",
        {"Transpose": 2, "Softmax": 2, "Relu": 1},
    ),
    (
        "weights in other shapes",
        """(float[n,h,w,3] x) => (float[n,h,w,3] y, float[m,1,1,1] o) {
            long = Constant<value = int64[4] {1,1,1,-1}>()
            kept = Constant<value = int64[4] {-1,0,1,1}>()
            first = Reshape(c3, long)
            turned = Transpose<perm=[3,0,1,2]>(first)
            second = Reshape(turned, long)
            m1 = Mul(x, first)
            y = Add(m1, second)
            third = Reshape(turned, kept)
            o = Neg(third)
        }""",
        {"Mul": 1, "Add": 1},
    ),
]


def parsed(text: str) -> Any:
    """The model of a row; only weights that it uses are declared."""
    head, _, body = text.partition("{")
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(f"{HEADER} g {head} {{{body}")
    used = {name for node in model.graph.node for name in node.input}
    for declared in WEIGHTS.split(", float"):
        dims, name = declared.removeprefix("float").split()
        if name in used:
            array = rng.uniform(0.5, 2, [int(size) for size in dims.strip("[]").split(",")]).astype("float32")
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def after_passes(model: onnx.ModelProto) -> onnx.ModelProto:
    made = ir.to_proto(optimized(ir.from_proto(onnx.shape_inference.infer_shapes(model))))
    onnx.checker.check_model(made, full_check=True)
    return made


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto, feeds: dict[str, Any]) -> None:
    assert [value.name for value in after.graph.output] == [value.name for value in before.graph.output]
    for got, wanted in zip(run(after, feeds), run(before, feeds), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "text", "left"), ROWS, ids=[row[0] for row in ROWS])
def test_rows(name: str, text: str, left: dict[str, int]) -> None:
    before = parsed(text)
    after = after_passes(before)
    found = Counter(node.op_type for node in after.graph.node)
    del found["Constant"]
    assert dict(found) == left
    rng = np.random.default_rng(1)
    for size in ((2, 5, 6, 3), (3, 7, 8, 3)):
        feeds: dict[str, Any] = {"x": rng.standard_normal(size).astype("float32")}
        given = {value.name for value in before.graph.input}
        feeds |= {"pads": np.asarray([0, 1, 0, 0, 0, 0, 2, 0])} if "pads" in given else {}
        feeds |= {"yes": np.asarray(size[0] == 2)} if "yes" in given else {}
        assert_same(before, after, feeds)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            """(int64[n] x) => (float[n,900] y) {
                rows = Gather<axis=0>(table, x)
                deep = Tanh(rows)
                turned = Transpose<perm=[1,0]>(table)
                y = MatMul(deep, turned)
            }""",
            {"Gather": 1, "Tanh": 1, "Transpose": 1, "MatMul": 1},
        ),
        (
            """(int64[n] x) => (float[n,900] y) {
                wide = Cast<to=1>(x)
                ones = Constant<value = int64[2] {-1, 1}>()
                column = Reshape(wide, ones)
                few = Expand(column, four)
                a = Transpose<perm=[1,0]>(table)
                b = Transpose<perm=[1,0]>(table)
                p = MatMul(few, a)
                q = MatMul(few, b)
                y = Add(p, q)
            }""",
            {"Cast": 1, "Reshape": 1, "Expand": 1, "MatMul": 1, "Add": 1},
        ),
    ],
    ids=["in two orders of axes", "twice in another order"],
)
def test_a_weight_of_two_uses_is_written_once(text: str, left: dict[str, int]) -> None:
    head, _, body = text.partition("{")
    before = onnx.parser.parse_model(f"{HEADER} g {head} {{{body}")
    table = np.random.default_rng(0).standard_normal((900, 4)).astype("float32")
    before.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    before.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 4]), "four"))
    after = after_passes(before)
    found = Counter(node.op_type for node in after.graph.node)
    del found["Constant"]
    assert dict(found) == left
    assert sum(np.prod(tensor.dims) > 1000 for tensor in after.graph.initializer) == 1
    for count in (2, 3):
        assert_same(before, after, {"x": np.arange(count) * 7})


def test_a_shape_that_cannot_be_stays_where_nothing_runs_it() -> None:
    model = parsed("""(float[n,3] x, bool yes) => (float[n,3] y) {
        wrong = Constant<value = int64[2] {5,5}>()
        y = If(yes)<
            then_branch = t () => (float[n,3] u) { u = Neg(x) },
            else_branch = f () => (float[n,3] v) { r = Reshape(c3, wrong) v = Add(x, r) }
        >
    }""")
    made = ir.to_proto(optimized(ir.from_proto(model)))
    branch = next(a.g for node in made.graph.node for a in node.attribute if a.name == "else_branch")
    assert [node.op_type for node in branch.node] == ["Reshape", "Add"]


@pytest.mark.parametrize("seed", range(40))
def test_graphs_of_any_shape(seed: int) -> None:
    """Random graphs: never more Transposes, always the same results."""
    before = _drawn(np.random.default_rng(seed))
    after = after_passes(before)
    counts = [sum(node.op_type == "Transpose" for node in model.graph.node) for model in (before, after)]
    assert counts[1] <= counts[0]
    rng = np.random.default_rng(seed)
    assert_same(before, after, {"x": rng.standard_normal((2, 3, 4, 5)).astype("float32")})


def _drawn(rng: np.random.Generator) -> onnx.ModelProto:
    """A graph of 30 nodes over a tensor of 4 axes; its last values are outputs."""
    make = onnx.helper.make_node
    nodes, initializers = [], []
    shapes: dict[str, tuple[int, ...]] = {"x": (2, 3, 4, 5)}

    def constant(array: Any) -> str:
        initializers.append(onnx.numpy_helper.from_array(np.asarray(array), f"c{len(initializers)}"))
        return initializers[-1].name

    for step in range(30):
        source = list(shapes)[-1 - int(rng.integers(min(len(shapes), 4)))]
        shape, name = shapes[source], f"v{step}"
        axis = int(rng.integers(4))
        kind = rng.choice(["turn", "turn", "turn", "unary", "fixed", "add", "join", "reduce", "pad", "scale"])
        if kind == "turn":
            perm = [int(i) for i in rng.permutation(4)]
            nodes.append(make("Transpose", [source], [name], perm=perm))
            shape = tuple(shape[i] for i in perm)
        elif kind == "unary":
            nodes.append(make(str(rng.choice(["Tanh", "Relu", "Neg"])), [source], [name]))
        elif kind == "fixed":
            nodes.append(make("Softmax", [source], [name], axis=axis))
        elif kind in ("add", "join"):
            other = str(rng.choice([value for value in shapes if shapes[value] == shape]))
            small = kind == "join" and np.prod(shape) < 2000
            nodes.append(
                make("Concat", [source, other], [name], axis=axis)
                if small
                else make("Add", [source, other], [name])
            )
            shape = tuple(2 * n if small and i == axis else n for i, n in enumerate(shape))
        elif kind == "reduce":
            nodes.append(make("ReduceMean", [source, constant([axis])], [name], keepdims=1))
            shape = tuple(1 if i == axis else n for i, n in enumerate(shape))
        elif kind == "pad":
            widths = rng.integers(0, 2, 8)
            nodes.append(make("Pad", [source, constant(widths)], [name]))
            shape = tuple(int(n + a + b) for n, a, b in zip(shape, widths[:4], widths[4:], strict=True))
        else:
            factor = rng.standard_normal(shape[axis:]).astype("float32")
            nodes.append(make("Mul", [source, constant(factor)], [name]))
        shapes[name] = shape
    outputs = [onnx.helper.make_tensor_value_info(name, 1, shapes[name]) for name in list(shapes)[-3:]]
    inputs = [onnx.helper.make_tensor_value_info("x", 1, shapes["x"])]
    graph = onnx.helper.make_graph(nodes, "drawn", inputs, outputs, initializers)
    return onnx.helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 20)])
