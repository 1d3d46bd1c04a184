"""Element types: the one table that every file format and the graph checks share.

A dtype is known by its NumPy (or ``ml_dtypes``) name everywhere in this package: ``"float32"``,
``"bfloat16"``, ``"float8_e4m3fn"``. The table maps that name to the size of an element, to the tag of
the safetensors format and to ONNX's ``TensorProto.DataType``.

Invariants: names, tags and enum values are unique; ``ml_dtypes`` is imported only when an array of one
of its types is really made.

Specs: https://github.com/huggingface/safetensors#format and onnx.proto ``TensorProto.DataType``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class DType(NamedTuple):
    """One element type: its name, bytes per element, safetensors tag and ONNX enum value."""

    name: str
    itemsize: int
    safetensors: str
    onnx: int


_ROWS = (
    DType("bool", 1, "BOOL", 9),
    DType("uint8", 1, "U8", 2),
    DType("int8", 1, "I8", 3),
    DType("uint16", 2, "U16", 4),
    DType("int16", 2, "I16", 5),
    DType("uint32", 4, "U32", 12),
    DType("int32", 4, "I32", 6),
    DType("uint64", 8, "U64", 13),
    DType("int64", 8, "I64", 7),
    DType("float16", 2, "F16", 10),
    DType("bfloat16", 2, "BF16", 16),
    DType("float32", 4, "F32", 1),
    DType("float64", 8, "F64", 11),
    DType("complex64", 8, "C64", 14),
    DType("float8_e4m3fn", 1, "F8_E4M3", 17),
    DType("float8_e4m3fnuz", 1, "F8_E4M3FNUZ", 18),
    DType("float8_e5m2", 1, "F8_E5M2", 19),
    DType("float8_e5m2fnuz", 1, "F8_E5M2FNUZ", 20),
    DType("float8_e8m0fnu", 1, "F8_E8M0", 24),
)

BY_NAME = {row.name: row for row in _ROWS}
BY_SAFETENSORS = {row.safetensors: row for row in _ROWS}
BY_ONNX = {row.onnx: row for row in _ROWS}

HALF_BYTES = frozenset({"int4", "uint4"})
"""Names of the types that take half a byte; only initializers in an ``.onnx`` file have them."""

FROM_ML_DTYPES = frozenset(name for name in BY_NAME if name.startswith(("bfloat", "float8")))
"""Names of the types that are ``ml_dtypes``' own."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype called `name`, from ``ml_dtypes`` where NumPy has none.

    Raises:
        KeyError: `name` is not in the table.
    """
    if name in FROM_ML_DTYPES:
        import ml_dtypes

        made: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return made
    return np.dtype(BY_NAME[name].name)


def size_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a dense tensor, computed in Python integers so that huge dims cannot wrap around."""
    if dtype in HALF_BYTES:
        return -(-math.prod(shape) // 2)
    return math.prod(shape) * BY_NAME[dtype].itemsize
