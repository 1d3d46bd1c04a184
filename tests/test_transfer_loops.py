"""Loops that are recurrent layers: the layer in their place computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser
from onnx_ir.passes.common import ShapeInferencePass

from interop.transfer.loops import recurrent_loops

pytestmark = pytest.mark.framework("torch")
_UNITS, _INPUTS, _STEPS, _BATCH = 3, 2, 5, 2

#: Name -> the layer, sizes of its matrices and biases, states, and one step of it.
_CELLS: dict[str, tuple[str, dict[str, tuple[int, ...]], tuple[str, ...], str]] = {
    "rnn": (
        "RNN",
        {"w": (2, 3), "r": (3, 3), "b": (3,)},
        ("h",),
        "a = MatMul(x, w) c = MatMul(h, r) d = Add(c, b) e = Add(a, d) h_next = Tanh(e)",
    ),
    "rnn of transposed matrices": (
        "RNN",
        {"w": (3, 2), "r": (3, 3), "b": (3,)},
        ("h",),
        "a = Gemm<transB = 1>(x, w, b) c = MatMul(h, r) e = Add(a, c) h_next = Relu(e)",
    ),
    "lstm of one matrix": (
        "LSTM",
        {"w": (5, 12), "b": (12,)},
        ("c", "h"),
        "xh = Concat<axis = 1>(x, h) a = MatMul(xh, w) s = Add(a, b) "
        "p, q, t, u = Split<axis = 1, num_outputs = 4>(s) "
        "i = Sigmoid(p) g = Tanh(q) f = Sigmoid(t) o = Sigmoid(u) "
        "fc = Mul(c, f) ig = Mul(g, i) c_next = Add(ig, fc) k = Tanh(c_next) h_next = Mul(k, o)",
    ),
    "gru, reset after": (
        "GRU",
        {"w": (2, 9), "r": (3, 9), "b": (9,), "d": (3,)},
        ("h",),
        "a = Gemm(x, w, b) m = MatMul(h, r) "
        "az, ar, an = Split<axis = 1, num_outputs = 3>(a) mz, mr, mn = Split<axis = 1, num_outputs = 3>(m) "
        "sz = Add(az, mz) sr = Add(ar, mr) z = Sigmoid(sz) g = Sigmoid(sr) "
        "q = Add(mn, d) gq = Mul(g, q) sn = Add(an, gq) n = Tanh(sn) "
        "one = Constant<value = float {1.0}>() rest = Sub(one, z) rn = Mul(rest, n) zh = Mul(z, h) "
        "h_next = Add(rn, zh)",
    ),
    "gru, reset before": (
        "GRU",
        {"w": (2, 9), "r": (3, 6), "v": (3, 3), "b": (9,)},
        ("h",),
        "a = Gemm(x, w, b) m = MatMul(h, r) "
        "az, ar, an = Split<axis = 1, num_outputs = 3>(a) mz, mr = Split<axis = 1, num_outputs = 2>(m) "
        "sz = Add(az, mz) sr = Add(ar, mr) z = Sigmoid(sz) g = Sigmoid(sr) "
        "gh = Mul(g, h) q = MatMul(gh, v) sn = Add(q, an) n = Tanh(sn) "
        "l = Sub(h, n) zl = Mul(z, l) h_next = Add(n, zl)",
    ),
}  # fmt: skip


def model(name: str, directions: str = "") -> Any:
    """A ``Scan`` over the cell, with its sequence and last states as outputs."""
    _, sizes, states, step = _CELLS[name]
    weights = ", ".join(f"float[{', '.join(map(str, shape))}] {key}" for key, shape in sizes.items())
    state = f"float[{_BATCH}, {_UNITS}]"
    firsts = ", ".join(f"{state} {key}0" for key in states)
    lasts = ", ".join(f"{key}_last" for key in states)
    inside = ", ".join(f"{state} {key}" for key in states)
    nexts = ", ".join(f"{state} {key}_next" for key in states)
    text = f"""
    <ir_version: 8, opset_import: ["": 18]>
    agraph (float[{_STEPS}, {_BATCH}, {_INPUTS}] xs, {weights}, {firsts})
      => (float[{_STEPS}, {_BATCH}, {_UNITS}] hs, {", ".join(f"{state} {key}_last" for key in states)})
    {{
      {lasts}, hs = Scan <num_scan_inputs = 1, {directions} body = step
        ({inside}, float[{_BATCH}, {_INPUTS}] x) => ({nexts}, {state} shown)
        {{ {step} shown = Identity(h_next) }}> ({", ".join(f"{key}0" for key in states)}, xs)
    }}"""
    made = ir.from_proto(parser.parse_model(text))
    ShapeInferencePass(check_type=False)(made)
    return made


def given(name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    _, sizes, states, _ = _CELLS[name]
    shapes = {"xs": (_STEPS, _BATCH, _INPUTS), **sizes, **{f"{key}0": (_BATCH, _UNITS) for key in states}}
    return {key: rng.standard_normal(shape).astype("float32") for key, shape in shapes.items()}


def run(made: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        ir.to_proto(made).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)


_BACKWARD = "scan_input_directions = [1], scan_output_directions = [1],"


@pytest.mark.parametrize("directions", ["", _BACKWARD], ids=["forward", "backward"])
@pytest.mark.parametrize("name", _CELLS)
def test_the_layer_computes_the_same(name: str, directions: str) -> None:
    made, feed = model(name, directions), given(name)
    expected = run(made, feed)
    recurrent_loops(made)
    kinds = [node.op_type for node in made.graph]
    assert "Scan" not in kinds
    assert _CELLS[name][0] in kinds
    for one, other in zip(expected, run(made, feed), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("rnn", "h_next = Tanh(e)", "t = Tanh(e) h_next = Add(t, h)"),
        ("lstm of one matrix", "k = Tanh(c_next)", "k = Tanh(c)"),
        ("lstm of one matrix", "fc = Mul(c, f)", "fc = Mul(h, f)"),
        ("gru, reset before", "l = Sub(h, n)", "l = Sub(n, h)"),
        ("gru, reset after", "rest = Sub(one, z)", "rest = Sub(z, one)"),
    ],
)
@pytest.mark.parametrize("directions", ["", _BACKWARD], ids=["forward", "backward"])
def test_another_cell_becomes_its_steps(
    monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str, directions: str
) -> None:
    kind, sizes, states, step = _CELLS[name]
    assert old in step
    monkeypatch.setitem(_CELLS, name, (kind, sizes, states, step.replace(old, new)))
    unrolled(name, directions)


def test_directions_that_differ_become_steps() -> None:
    unrolled("rnn", "scan_input_directions = [1], scan_output_directions = [0],")


def unrolled(name: str, directions: str) -> None:
    """No layer computes it, and its steps do."""
    made, feed = model(name, directions), given(name)
    expected = run(made, feed)
    recurrent_loops(made)
    assert not {"Scan", "LSTM", "GRU", "RNN"} & {node.op_type for node in made.graph}
    for one, other in zip(expected, run(made, feed), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_a_loop_of_many_steps_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interop.transfer.loops.unrolled._NODES", 4)
    made = model("rnn", "scan_input_directions = [1], scan_output_directions = [0],")
    recurrent_loops(made)
    assert [node.op_type for node in made.graph] == ["Scan"]
