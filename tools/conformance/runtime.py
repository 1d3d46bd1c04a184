"""The same cases in ONNX Runtime, to compare with."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import onnx

from tools.conformance.cases import Case, mismatch


def outcome(case: Case) -> str:
    """ "" if ONNX Runtime passes the case, else why not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_inputs()]
        outputs = [value.name for value in session.get_outputs()]
        for inputs, wanted in case.data:
            got = _run(onnxruntime, session, dict(zip(names, inputs, strict=True)), outputs)
            for ours, theirs in zip(got, wanted, strict=True):
                if problem := mismatch(ours, theirs, case):
                    return problem
    except Exception as error:  # noqa: BLE001 - whatever a case raises is its row
        return f"{type(error).__name__}: {error}"
    return ""


def _run(runtime: Any, session: Any, feeds: dict[str, Any], outputs: list[str]) -> list[Any]:
    """What NumPy has only through ml_dtypes goes in and comes out as bytes, which ONNX Runtime knows the type of."""
    feeds = {name: x if isinstance(x, list) or x is None else np.asarray(x) for name, x in feeds.items()}
    kinds = {value.type for value in (*session.get_inputs(), *session.get_outputs())}
    if not any("bfloat16" in kind or "float8" in kind for kind in kinds):
        return list(session.run(outputs, feeds))
    given = {}
    for name, x in feeds.items():
        code = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
        plain = x if x.dtype.isbuiltin == 1 else x.view(f"uint{8 * x.dtype.itemsize}")
        given[name] = runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(plain, code)
    return [_array(value) for value in session.run_with_ort_values(outputs, given)]


def _array(value: Any) -> Any:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.element_type())
    if dtype.isbuiltin == 1:
        return value.numpy()
    size = int(np.prod(value.shape())) * dtype.itemsize
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), dtype).reshape(value.shape())
