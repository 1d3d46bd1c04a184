"""A graph on ONNX Runtime, as every table of rows runs it."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime


def session_of(graph: Any) -> onnxruntime.InferenceSession:
    """A session of an ``ir.Model`` that the checker of ONNX has passed."""
    data = ir.serde.serialize_model(graph).SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
