"""Element types: NumPy and ml_dtypes names against ONNX ``TensorProto.DataType`` codes.

Source: onnx.proto, TensorProto.DataType (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

_CODES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "string": 8,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "complex64": 14,
    "complex128": 15,
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
    "uint4": 21,
    "int4": 22,
    "float4_e2m1fn": 23,
    "float8_e8m0fnu": 24,
    "uint2": 25,
    "int2": 26,
}


def onnx_type_code(dtype: str) -> int:
    """The ``TensorProto.DataType`` code of a dtype name."""
    if dtype not in _CODES:
        raise ValueError(f"ONNX has no element type for dtype {dtype!r}")
    return _CODES[dtype]


def dtype_name(code: int) -> str:
    """The dtype name of a ``TensorProto.DataType`` code."""
    found = next((name for name, known in _CODES.items() if known == code), None)
    if found is None:
        raise ValueError(f"element type {code} has no dtype name")
    return found
