"""EmbeddingBag as torch.onnx writes it, a loop over bags: imported without one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import parser

import interop
from interop.errors import GraphError

TABLE = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


def model_of(kind: str, offsets: bool, inside: str = "") -> onnx.ModelProto:
    """A loop that slices the indices of a bag, looks their rows up and reduces them."""
    begin = "begin = Cast <to = 7> (o)" if offsets else "begin = Range(none, size, width)"
    inputs = "int64[n] x, int64[b] o" if offsets else "int64[b, 4] x"
    return parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 18]>
        g ({inputs}) => (float[b, 3] y)
        <float[6,3] table = {{{", ".join(map(str, TABLE.reshape(-1)))}}}, int64 none = {{0}}, int64[1] first = {{0}},
         int64[1] second = {{1}}, int64[1] end = {{9223372036854775807}}, int64 width = {{4}}, bool on = {{1}},
         int64[1] flat = {{-1}}> {{
        indices = Reshape(x, flat) size = Size(x) whole = Reshape(size, second) {begin}
        starts = Concat <axis = 0> (begin, whole) ends = Slice(starts, second, end, first) lengths = Shape(ends)
        limit = Gather(lengths, none)
        y = Loop(limit, on) <body = bag (int64 i, bool c) => (bool c2, float[3] row) {{
            start = Gather(starts, i) stop = Gather(ends, i) s = Unsqueeze(start, first) e = Unsqueeze(stop, first)
            part = Slice(indices, s, e, first) found = Gather(table, part)
            {inside or f"row = Reduce{kind} <keepdims = 0> (found, first)"} c2 = Identity(c) }}> }}"""
    )


@pytest.mark.parametrize("kind", ["Sum", "Mean", "Max"])
@pytest.mark.parametrize("offsets", [False, True], ids=["matrix", "offsets"])
def test_bags_need_no_loop(kind: str, offsets: bool) -> None:
    reports: list[Any] = []
    model = interop.import_onnx(model_of(kind, offsets), report=reports)
    assert "Embedding" in [lifted.kind for lifted in reports[0].lifted]
    assert set(reports[0].weights) == {"table"}
    rng = np.random.default_rng(1)
    for bags in (3, 5):
        x = rng.integers(0, 6, (4 * bags) if offsets else (bags, 4))
        given: dict[str, np.ndarray] = {"x": x}
        parts = list(x)
        if offsets:
            given["o"] = np.sort(np.append(rng.integers(0, 4 * bags, bags - 1), 0))
            parts = np.split(x, given["o"][1:])
        wanted = [
            getattr(np, kind.lower())(TABLE[part], axis=0) if len(part) else np.zeros(3) for part in parts
        ]
        tensors = {key: keras.ops.convert_to_tensor(array) for key, array in given.items()}
        got = keras.ops.convert_to_numpy(model(tensors if offsets else tensors["x"]))
        np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-5, atol=1e-6)


def test_a_loop_that_only_looks_like_bags() -> None:
    inside = "most = ReduceMax <keepdims = 0> (found, first) row = Mul(most, most)"
    with pytest.raises(GraphError, match=r"node 'part' .Slice.*must be known"):
        interop.import_onnx(model_of("Max", offsets=True, inside=inside))
