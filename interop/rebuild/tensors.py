"""NumPy arrays to tensors of the backend and back, element types kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from interop.rebuild.narrow import NAMES, Narrow, wide

_TENSOR_KINDS = "fiubc"


def from_numpy(array: Any) -> Any:
    """A tensor of an array; lists item by item. What no backend has (strings) stays an array."""
    if array is None or isinstance(array, list | tuple):
        return None if array is None else [from_numpy(item) for item in array]
    array = np.asarray(array)
    if array.dtype.name in NAMES:
        return Narrow(ops.convert_to_tensor(wide(array)), array.dtype.name)
    if array.dtype.name == "bfloat16":
        return ops.convert_to_tensor(array.astype("float32"), "bfloat16")
    return ops.convert_to_tensor(array) if array.dtype.kind in _TENSOR_KINDS else array


def to_numpy(tensor: Any) -> Any:
    """An array of a tensor; lists item by item."""
    if tensor is None or isinstance(tensor, np.ndarray):
        return tensor
    if isinstance(tensor, list | tuple):
        return [to_numpy(item) for item in tensor]
    if isinstance(tensor, Narrow):
        return np.asarray(ops.convert_to_numpy(tensor.numbers)).astype(tensor.dtype)
    return np.asarray(ops.convert_to_numpy(tensor))
