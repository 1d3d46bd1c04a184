"""Scan and Loop over an open dimension, imported: stock layers, the same numbers, saved, trained and exported again."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from cases.sessions import session_of
from onnx import helper, numpy_helper, parser

import interop
from interop.errors import GraphError

_HEADER = '<ir_version: 9, opset_import: ["" : 20]>\n'
_RNG = np.random.default_rng(3)


def numbers(*shape: int) -> str:
    return "{" + ", ".join(f"{value:.4f}" for value in 0.6 * _RNG.normal(size=shape).reshape(-1)) + "}"


def sequential(name: str = "step") -> str:
    return f"""{name} (float[b,4] h, float[b,4] xt) => (float[b,4] hn, float[b,4] y) {{
        s = Add(xt, h) c = MatMul(s, wh) hn = Tanh(c) y = Identity(hn) }}"""


@dataclass(frozen=True)
class Row:
    """A graph, its sizes by their symbols (two for each), and the layers with weights that its body has."""

    text: str
    sizes: dict[str, tuple[int, int]]
    lifted: tuple[str, ...]

    @property
    def model(self) -> onnx.ModelProto:
        made = parser.parse_model(_HEADER + self.text)
        for tensor in made.graph.initializer:
            if tensor.name == "least":  # the parser reads no infinite numbers
                array = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(np.full_like(array, -np.inf), tensor.name))
        return made

    def inputs(self, size: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(size)
        made = {}
        for value in self.model.graph.input:
            dims = [
                dim.dim_value or self.sizes[dim.dim_param][size] for dim in value.type.tensor_type.shape.dim
            ]
            x = rng.normal(size=dims)
            kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            made[value.name] = (
                x > 0 if kind == np.bool_ else (5000 * x if kind == "int64" else x).astype(kind)
            )
        return made


ROWS = {
    "state and outputs": Row(
        f"""g (float[t,b,3] x, float[b,4] h0) => (float[b,4] last, float[t,b,4] ys)
        <float[3,4] wx = {numbers(3, 4)}, float[4,4] wh = {numbers(4, 4)}, float[4] bias = {numbers(4)}> {{
        last, ys = Scan <num_scan_inputs = 1,
            body = step (float[b,4] h, float[b,3] xt) => (float[b,4] hn, float[b,4] y) {{
            a = MatMul(xt, wx) moved = Add(a, bias) c = MatMul(h, wh) s = Add(moved, c) hn = Tanh(s)
            y = Mul(hn, hn) }}> (h0, x) }}""",
        {"t": (5, 7), "b": (2, 3)},
        ("Dense", "Dense", "RNN"),
    ),
    "no batch, integers, both directions": Row(
        f"""g (float[t,3] x) => (float[4] last, int64 count, float[t,4] ys, int64[t] counts)
        <float[3,4] wx = {numbers(3, 4)}, float[4,4] wh = {numbers(4, 4)}, float[4] h0 = {numbers(4)},
         int64 n0 = {{-5000}}, int64 step = {{3001}}> {{
        last, count, ys, counts = Scan <num_scan_inputs = 1, scan_input_directions = [1],
            scan_output_directions = [0, 1],
            body = step (float[4] h, int64 n, float[3] xt) => (float[4] hn, int64 nn, float[4] y, int64 m) {{
            a = MatMul(xt, wx) c = MatMul(h, wh) s = Add(a, c) hn = Tanh(s) y = Mul(hn, h)
            nn = Add(n, step) m = Identity(nn) }}> (h0, n0, x) }}""",
        {"t": (5, 9)},
        ("RNN",),
    ),
    "other axes, a mask, tensors and a weight from around": Row(
        f"""g (float[3,t,b] x, bool[b,t] m, float[b] scale) => (float[4,b] last, float[4,b,t] ys, float[b,4] other)
        <float[4,3] wx = {numbers(4, 3)}, float[4,4] wh = {numbers(4, 4)}, float zero = {{0.0}},
         float[4,1] h1 = {numbers(4, 1)}> {{
        batch = Shape <start = 2, end = 3> (x) four = Constant <value_ints = [4]> ()
        shape = Concat <axis = 0> (four, batch) h0 = Expand(h1, shape) z = Mul(scale, scale)
        last, ys = Scan <num_scan_inputs = 2, scan_input_axes = [1, 1], scan_output_axes = [-1],
            body = step (float[4,b] h, float[3,b] xt, bool[b] mt) => (float[4,b] hn, float[4,b] y) {{
            a = MatMul(wx, xt) c = MatMul(wh, h) s = Add(a, c) sz = Mul(s, z) new = Tanh(sz)
            hn = Where(mt, new, h) y = Where(mt, new, zero) }}> (h0, x, m)
        turned = Transpose(last) other = MatMul(turned, wh) }}""",
        {"t": (5, 8), "b": (2, 3)},
        ("RNN",),
    ),
    "one body twice": Row(
        f"""g (float[t,b,4] x, float[s,b,4] x2) => (float[b,4] last, float[b,4] other, float[s,b,4] ys2)
        <float[4,4] wh = {numbers(4, 4)}, float[1,4] z = {numbers(1, 4)}> {{
        shape = Shape <start = 1> (x) h0 = Expand(z, shape)
        last, ys = Scan <num_scan_inputs = 1, body = {sequential("one")}> (h0, x)
        other, ys2 = Scan <num_scan_inputs = 1, body = {sequential("two")}> (h0, x2) }}""",
        {"t": (5, 7), "s": (3, 4), "b": (2, 3)},
        ("Dense", "RNN", "RNN"),
    ),
    "a Loop that looks its elements up": Row(
        f"""g (float[b,t,4] x) => (float[b,4] last, float[t,b,4] ys)
        <float[4,4] wh = {numbers(4, 4)}, float[1,4] z = {numbers(1, 4)}, bool true = {{1}}> {{
        batch = Shape <start = 0, end = 1> (x) four = Constant <value_ints = [4]> ()
        shape = Concat <axis = 0> (batch, four) h0 = Expand(z, shape)
        full = Shape(x) one = Constant <value_int = 1> () n = Gather(full, one)
        last, ys = Loop <body = step (int64 i, bool c, float[b,4] h) => (bool c2, float[b,4] hn, float[b,4] y) {{
            c2 = Identity(c) from = Constant <value_ints = [0]> () to = Constant <value_ints = [99]> ()
            last_axis = Constant <value_ints = [2]> () all = Slice(x, from, to, last_axis)
            xt = Gather <axis = 1> (all, i) s = Add(xt, h) f = Cast <to = 1> (i)
            later = Add(s, f) d = MatMul(later, wh) hn = Tanh(d) y = Identity(hn) }}> (n, true, h0) }}""",
        {"t": (5, 7), "b": (2, 3)},
        ("Dense", "RNN"),
    ),
    "infinite numbers, a mask and logarithms": Row(
        f"""g (float[t,b,4] x) => (float[b,4] last, float[t,b,4] ys, float[b,4] total)
        <float[4,4] wh = {numbers(4, 4)}, float[1,4] least = {{0, 0, 0, 0}}, float zero = {{0.0}}> {{
        shape = Shape <start = 1> (x) m0 = Expand(least, shape)
        last, total, ys = Scan <num_scan_inputs = 1,
            body = step (float[b,4] m, float[b,4] s, float[b,4] xt) => (float[b,4] mn, float[b,4] sn, float[b,4] y) {{
            d = MatMul(xt, wh) mn = Max(m, d) positive = Max(d, zero) y = Log(positive)
            e = Exp(s) f = Exp(d) g = Add(e, f) sn = Log(g) }}> (m0, m0, x) }}""",
        {"t": (5, 7), "b": (2, 3)},
        ("Dense", "RNN"),
    ),
    "nothing carried, a branch inside": Row(
        f"""g (float[t,b,4] x) => (float[t,b,4] ys)
        <float[4,4] wh = {numbers(4, 4)}, float zero = {{0.0}}> {{
        ys = Scan <num_scan_inputs = 1, body = step (float[b,4] xt) => (float[b,4] y) {{
            s = ReduceSum <keepdims = 0> (xt) c = Greater(s, zero) d = MatMul(xt, wh)
            y = If(c) <then_branch = yes () => (float[b,4] p) {{ p = Tanh(d) }},
                       else_branch = no () => (float[b,4] q) {{ q = Neg(d) }}> }}> (x) }}""",
        {"t": (5, 7), "b": (2, 3)},
        ("Dense", "TimeDistributed"),
    ),
    "nothing carried, several open dimensions": Row(
        f"""g (float[b,n,t,4] x, bool[t,b] m, float[n] scale, int64[t] k)
            => (float[n,b,4,t] ys, int64[t] ks, float[t,n] sums)
        <float[4,4] wh = {numbers(4, 4)}, int64 two = {{2}}, float zero = {{0.0}}> {{
        ys, ks, sums = Scan <num_scan_inputs = 3, scan_input_axes = [2, 0, 0], scan_output_axes = [3, 0, 0],
            scan_output_directions = [0, 1, 0],
            body = step (float[b,n,4] xt, bool[b] mt, int64 kt) => (float[n,b,4] y, int64 kn, float[n] sum) {{
            d = MatMul(xt, wh) turned = Transpose <perm = [1, 0, 2]> (d)
            axis = Constant <value_ints = [1]> () column = Unsqueeze(mt, axis) s = Where(column, turned, zero)
            last = Constant <value_ints = [1, 2]> () scaled = Unsqueeze(scale, last) y = Mul(s, scaled)
            sum = ReduceSum <keepdims = 0> (y, last) kn = Mul(kt, two) }}> (x, m, k) }}""",
        {"t": (5, 7), "b": (2, 3), "n": (4, 5)},
        ("Dense", "TimeDistributed"),
    ),
}


def called(model: Any, given: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    tensors = {x.name: keras.ops.convert_to_tensor(given[x.name]) for x in model.inputs}
    made = model(tensors if len(tensors) > 1 else next(iter(tensors.values())))
    return [
        keras.ops.convert_to_numpy(x)
        for x in ([made[n] for n in names] if isinstance(made, dict) else [made])
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ROWS)
def test_over_an_open_dimension(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    reports: list[Any] = []
    model = interop.import_onnx(row.model, report=reports)
    assert tuple(sorted(layer.kind for layer in reports[0].lifted)) == row.lifted
    model.save(tmp_path / "model.keras")
    assert b"interop" not in zipfile.ZipFile(tmp_path / "model.keras").read("config.json")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == len(reports[0].weights)
    session = session_of(ir.from_proto(row.model))
    names = [output.name for output in session.get_outputs()]
    for size in (0, 1):
        wanted = session.run(None, row.inputs(size))
        for each in (model, loaded):
            for got, want in zip(called(each, row.inputs(size), names), wanted, strict=True):
                assert got.shape == want.shape
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_trains_and_exports_again(tmp_path: Path) -> None:
    row = ROWS["a Loop that looks its elements up"]
    model = interop.import_onnx(row.model)
    x = row.inputs(0)["x"]
    single = keras.Model(model.input, model.output["last"])
    single.compile(keras.optimizers.SGD(0.3), "mse")
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in model.trainable_variables]
    losses = single.fit(x, np.zeros((len(x), 4)), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.abs(keras.ops.convert_to_numpy(variable) - old).max() > 0
    interop.export_onnx(model, tmp_path / "again.onnx")  # verified
    back = interop.import_onnx(tmp_path / "again.onnx")
    names = list(model.output)
    for got, want in zip(
        called(back, {back.inputs[0].name: x}, names), called(model, {"x": x}, names), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_two_open_dimensions_besides_time_are_refused() -> None:
    text = (
        _HEADER
        + f"""g (float[t,b,4] x, float[b,n,4] e) => (float[b,4] last)
        <float[4,4] wh = {numbers(4, 4)}, float[1,4] z = {numbers(1, 4)}> {{
        shape = Shape <start = 1> (x) h0 = Expand(z, shape)
        last, ys = Scan <num_scan_inputs = 1,
            body = step (float[b,4] h, float[b,4] xt) => (float[b,4] hn, float[b,4] y) {{
            axis = Constant <value_ints = [1]> () row = Unsqueeze(h, axis) p = Mul(e, row)
            m = ReduceMean <keepdims = 0> (p, axis)
            s = Add(xt, m) c = MatMul(s, wh) hn = Add(h, c)
            y = Identity(hn) }}> (h0, x) }}"""
    )
    with pytest.raises(GraphError, match=r"node 'last' .*open dimensions b, n"):
        interop.import_onnx(parser.parse_model(text))
