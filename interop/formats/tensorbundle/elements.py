"""TensorFlow's element types by their number in a checkpoint.

Invariants: a type's name here is that of the NumPy (or ``ml_dtypes``) type its values get, so quantised types
(``qint8``) are the integers they are stored as; int4 and its like take a byte an element, as in TensorFlow's memory.

Spec: tensorflow/core/framework/types.proto
"""

from __future__ import annotations

from typing import Any

import numpy as np

STRING = "string"
"""The name of tensors of bytes; in NumPy they are object arrays of ``bytes``."""

NAMES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: STRING,
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "int8",
    12: "uint8",
    13: "int32",
    14: "bfloat16",
    15: "int16",
    16: "uint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
}

_QUANTISED = (11, 12, 13, 15, 16)
NUMBERS = {name: number for number, name in NAMES.items() if number not in _QUANTISED}


def array_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a name of `NAMES`, from ``ml_dtypes`` where NumPy has none."""
    if name == STRING:
        return np.dtype(object)
    if name.startswith(("bfloat", "float8", "int4", "uint4", "int2", "uint2")):
        import ml_dtypes

        made: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return made
    return np.dtype(name)
