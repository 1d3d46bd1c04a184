"""The standard ONNX backend interface, and a sample of ONNX' own tests through it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from interop import onnx_backend
from interop.errors import SignatureError
from tools.conformance.__main__ import blocked


def test_a_node_runs_by_itself() -> None:
    x = np.asarray([[1.0, -2.0]], "float32")
    (y,) = onnx_backend.run_node(helper.make_node("Relu", ["x"], ["y"]), [x])
    np.testing.assert_array_equal(y, [[1.0, 0.0]])
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")


def test_inputs_are_checked() -> None:
    value = helper.make_tensor_value_info("x", 1, ["n"])
    proto = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "g", [value], [onnx.ValueInfoProto(name="y")]
    )
    prepared = onnx_backend.prepare(helper.make_model(proto))
    with pytest.raises(SignatureError, match="1 inputs"):
        prepared.run([np.zeros(2, "float32"), np.zeros(2, "float32")])
    with pytest.raises(SignatureError, match="'x'"):
        prepared.run({"z": np.zeros(2, "float32")})


def test_nothing_else_can_compute_while_cases_run() -> None:
    with blocked(), pytest.raises(ImportError, match="blocked"):
        import onnx.reference  # noqa: F401
