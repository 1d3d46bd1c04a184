"""Every row of operations and layers at the lowest and the highest opset, against the usual one.

``test_op`` and ``test_layer`` hold the numbers of the usual opset to Keras; here the graph has to give the same ones,
or to be refused by an error that says which opset it needs. Nothing of it depends on the backend.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from cases import layers, ops
from cases.layer_models import arrays_of, built, signature_of
from cases.sessions import session_of
from test_ops import Through

from interop.capture.keras import capture
from interop.errors import UnsupportedOp

pytestmark = [pytest.mark.full, pytest.mark.framework("torch")]

OPS, LAYERS = ops.all_cases(), layers.all_cases()

#: Rows that the lowest opset has no operator for -> the first that has.
NEEDS = {
    **{case.id: 18 for case in OPS if case.op in {"segment_max", "segment_min"}},
    **{f"bitwise_{name}{variant}": 18 for name in ("and", "or", "xor") for variant in ("", "-uint8")},
    **{f"scatter_update-{reduction}": 18 for reduction in ("max", "min")},
    **{case.id: 20 for case in LAYERS if case.layer == "TextVectorization"},
}

#: Operators of which ONNX Runtime (1.32) has kernels up to opset 21 only.
DRAWN = {"RandomNormalLike", "RandomUniformLike"}


def check(case: Any, model: Any, signature: Any, opset: int, feeds: list[list[np.ndarray]]) -> None:
    """The graph at an opset gives what it gives at the usual one."""
    if opset < NEEDS.get(case.id, 0):
        with pytest.raises(UnsupportedOp, match=r"needs opset \d+ or newer"):
            capture(model, input_signature=signature, opset=opset)
        return
    graph = capture(model, input_signature=signature, opset=opset).flat()
    onnx.checker.check_model(ir.serde.serialize_model(graph), full_check=True)
    if opset > 21 and DRAWN & {node.op_type for node in graph.graph.all_nodes()}:
        return
    usual = session_of(capture(model, input_signature=signature, opset=case.opset).flat())
    other = session_of(graph)
    for arrays in feeds:
        fed = {value.name: arrays[int(value.name.removeprefix("x"))] for value in usual.get_inputs()}
        for wanted, got in zip(usual.run(None, fed), other.run(None, fed), strict=True):
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            if np.issubdtype(wanted.dtype, np.floating):
                np.testing.assert_allclose(got, wanted, rtol=case.rtol, atol=case.atol)
            else:
                np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("case", OPS, ids=lambda case: case.id)
def test_op_at(case: ops.OpCase, opset: int) -> None:
    model = Through(case.call)
    model.built = True
    signature = [{"shape": x.shape, "dtype": x.dtype, "name": f"x{i}"} for i, x in enumerate(case.inputs)]
    rng = np.random.default_rng(3)
    feeds = [[x.array(rng, size) for x in case.inputs] for size in (0, 1)]
    check(case, model, [signature], opset, feeds)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask attached")
@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.id)
def test_layer_at(case: layers.LayerCase, opset: int) -> None:
    signature = [signature_of(case)] if case.model else None
    check(case, built(case), signature, opset, [arrays_of(case, size) for size in (0, 1)])
