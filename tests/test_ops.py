"""Every ``keras.ops`` function against Keras itself: two sizes of every dynamic dimension."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from cases import ops as table
from keras import ops

from interop.capture.keras import capture
from interop.capture.keras.absent import ABSENT
from interop.errors import UnsupportedOp
from interop.graph.passes import optimized

CASES = table.all_cases()

#: Rows that the lowest opset has no operator for -> the first that has.
NEEDS = {case.id: 18 for case in CASES if case.op in {"segment_max", "segment_min"}} | {
    **{f"bitwise_{name}{variant}": 18 for name in ("and", "or", "xor") for variant in ("", "-uint8")},
    **{f"scatter_update-{reduction}": 18 for reduction in ("max", "min")},
    "fft-opset 18": 17,  # the row is about 18; 17 does as well
}

#: Operators that ONNX Runtime (1.32) has kernels of up to opset 21 only.
DRAWN = {"RandomNormalLike", "RandomUniformLike"}


class Through(keras.Model):
    """A model that is one function of its inputs."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(*inputs)


def eager(case: table.OpCase, arrays: list[np.ndarray]) -> list[np.ndarray]:
    outputs = case.call(*[ops.convert_to_tensor(array) for array in arrays])
    return [ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(outputs)]


def session_of(graph: Any) -> onnxruntime.InferenceSession:
    data = ir.serde.serialize_model(graph).SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_op(case: table.OpCase) -> None:
    backend = keras.backend.backend()
    rng = np.random.default_rng(3)
    model = Through(case.call)
    model.built = True
    signature = [{"shape": x.shape, "dtype": x.dtype, "name": f"x{i}"} for i, x in enumerate(case.inputs)]
    graph = capture(model, input_signature=[signature], opset=case.opset).flat()
    operators = {node.op_type for node in graph.graph.all_nodes()}
    assert set(case.holds) <= operators
    assert not set(case.lacks) & operators
    onnx.checker.check_model(ir.serde.serialize_model(graph), full_check=True)
    session = session_of(optimized(graph))
    for size in (0, 1):
        arrays = [x.array(rng, size) for x in case.inputs]
        fed = {value.name for value in session.get_inputs()}
        got = session.run(None, {f"x{i}": a for i, a in enumerate(arrays) if f"x{i}" in fed})
        if backend not in case.backends:
            continue
        wanted = eager(case, arrays)
        assert len(got) == len(wanted)
        assert case.constant or any(np.unique(array).size > 1 for array in wanted), "this proves nothing"
        dtypes = case.dtypes or [str(array.dtype) for array in wanted]
        assert [str(array.dtype) for array in got] == list(dtypes)
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.shape == theirs.shape
            if np.issubdtype(theirs.dtype, np.floating):
                np.testing.assert_allclose(ours, theirs, rtol=case.rtol, atol=case.atol)
            else:
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.full
@pytest.mark.framework("torch")
@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_op_at_another_opset(case: table.OpCase, opset: int) -> None:
    """The numbers of the usual opset, which ``test_op`` holds to Keras; or an error that says what is missing."""
    model = Through(case.call)
    model.built = True
    signature = [{"shape": x.shape, "dtype": x.dtype, "name": f"x{i}"} for i, x in enumerate(case.inputs)]
    if opset < NEEDS.get(case.id, case.opset or 0):
        with pytest.raises(UnsupportedOp, match=r"needs opset \d+ or newer"):
            capture(model, input_signature=[signature], opset=opset)
        return
    graphs = [capture(model, input_signature=[signature], opset=at).flat() for at in (case.opset, opset)]
    if opset > 21 and DRAWN & {node.op_type for node in graphs[1].graph.all_nodes()}:
        onnx.checker.check_model(ir.serde.serialize_model(graphs[1]), full_check=True)
        return
    usual, other = map(session_of, graphs)
    rng = np.random.default_rng(3)
    for size in (0, 1):
        arrays = {f"x{i}": x.array(rng, size) for i, x in enumerate(case.inputs)}
        fed = {value.name: arrays[value.name] for value in usual.get_inputs()}
        for wanted, got in zip(usual.run(None, fed), other.run(None, fed), strict=True):
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(got, wanted, rtol=case.rtol, atol=case.atol)


def test_names_of_rows_are_unique_and_public() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))
    assert {case.op for case in CASES} <= {*dir(ops), *dir(ops.image)}


def test_every_public_function_has_a_row_or_a_reason() -> None:
    public = {name for name in dir(ops) if not name.startswith("_") and callable(getattr(ops, name))}
    rows = {case.op for case in CASES}
    assert public - rows == set(ABSENT) - rows
    assert not rows & set(ABSENT)
