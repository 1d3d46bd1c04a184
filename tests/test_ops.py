"""Every ``keras.ops`` function against Keras itself: two sizes of every dynamic dimension."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from cases import ops as table
from cases.layer_models import compare
from cases.sessions import session_of
from keras import ops

from interop.capture.keras import capture
from interop.capture.keras.absent import ABSENT
from interop.graph.passes import optimized

CASES = table.all_cases()


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_op(case: table.OpCase, record_property: Any) -> None:
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
    record_property("opset", graph.graph.opset_imports[""])
    errors: list[float] = []
    record_property("max_rel", errors)
    for size in (0, 1):
        arrays = [x.array(rng, size) for x in case.inputs]
        fed = {value.name for value in session.get_inputs()}
        got = session.run(None, {f"x{i}": a for i, a in enumerate(arrays) if f"x{i}" in fed})
        if backend not in case.backends:
            continue
        wanted = eager(case, arrays)
        assert case.constant or any(np.unique(array).size > 1 for array in wanted), "this proves nothing"
        errors.append(compare(case, got, wanted))


def test_names_of_rows_are_unique_and_public() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))
    assert {case.op for case in CASES} <= {*dir(ops), *dir(ops.image)}


def test_every_public_function_has_a_row_or_a_reason() -> None:
    public = {name for name in dir(ops) if not name.startswith("_") and callable(getattr(ops, name))}
    rows = {case.op for case in CASES}
    assert public - rows == set(ABSENT) - rows
    assert not rows & set(ABSENT)
