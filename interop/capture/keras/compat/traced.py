"""A traced tensor: what Keras sees of a recorded value.

Invariant: code that needs a real tensor gets a ``RawFrameworkCall``, never a wrong one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from interop.capture.keras.compat.tracebacks import RawFrameworkCall
from interop.capture.keras.symint import SymInt
from interop.formats.dtypes import numpy_dtype
from interop.graph.record import Value

KerasTensor = keras.KerasTensor

Variable = keras.Variable


class Sym(KerasTensor):  # type: ignore[misc, valid-type]
    """A traced tensor: what Keras sees of a recorded value."""

    def __init__(self, value: Value) -> None:
        # Not KerasTensor.__init__: it would int() every symbolic size.
        self.value = value
        self._shape = value.dims
        self._dtype = value.dtype
        self._sparse = False
        self._ragged = False
        self._ragged_rank = None
        self._row_splits_dtype = None
        self.record_history = False
        self.name = "traced"

    def _raw(self, by: str) -> RawFrameworkCall:
        return RawFrameworkCall(f"raw {by} code received a traced tensor of shape {self.shape}")

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> Any:
        raise self._raw("TensorFlow")

    @property
    def __jax_array__(self) -> Any:
        # Operators of concrete JAX arrays give way to ours (`array - traced`) if there is nothing to convert.
        raise AttributeError("a traced tensor is no JAX array")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Operators of concrete torch tensors give way to ours (`tensor * traced`).
        if getattr(func, "__name__", "").strip("_") in _TORCH_OPERATORS:
            return NotImplemented
        raise RawFrameworkCall("raw torch code received a traced tensor")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise self._raw("NumPy")

    def __bool__(self) -> bool:
        raise RawFrameworkCall("Python branched on the value of a traced tensor (`if tensor:`)")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise RawFrameworkCall("Python assigned to a part of a traced tensor (`tensor[key] = value`)")

    # A KerasTensor compares by identity; the tensors that it stands for compare element by element.

    def __eq__(self, other: object) -> Any:
        return keras.ops.equal(self, other) if _is_operand(other) else NotImplemented

    def __ne__(self, other: object) -> Any:
        return keras.ops.not_equal(self, other) if _is_operand(other) else NotImplemented

    __hash__ = KerasTensor.__hash__

    def __iter__(self) -> Iterator[Any]:
        if not self.shape or isinstance(self.shape[0], SymInt):
            raise RawFrameworkCall("Python iterated over a dynamic dimension of a traced tensor")
        return (self[index] for index in range(self.shape[0]))


def _is_operand(x: object) -> bool:
    """Whether a traced tensor can be compared with ``x``: numbers and tensors, not None or names."""
    return isinstance(x, bool | int | float | np.generic | np.ndarray | KerasTensor | Variable) or (
        keras.ops.is_tensor(x)
    )


def _as_framework(x: Sym, other: Any) -> Any:
    """A NumPy operand as the operators of a real tensor take it, where Keras' own promotion would widen ``x``.

    TensorFlow gives it the dtype of its tensor; torch takes a scalar for a Python number; JAX promotes as Keras.
    """
    backend = keras.backend.backend()
    if backend == "jax" or not x.dtype.startswith(("float", "bfloat")):
        return other
    if isinstance(other, np.floating | np.integer):
        return other.item()
    if backend == "tensorflow" and isinstance(other, np.ndarray) and other.dtype.kind in "fiu":
        return other.astype(numpy_dtype(x.dtype))
    return other


def _operator(name: str) -> None:
    original = getattr(KerasTensor, name)

    @functools.wraps(original)
    def operator(self: Sym, other: Any) -> Any:
        return original(self, _as_framework(self, other))

    setattr(Sym, name, operator)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    _operator(f"__{_name}__")
    _operator(f"__r{_name}__")

_TORCH_OPERATORS = {"add", "sub", "mul", "truediv", "div", "pow", "mod", "matmul", "floordiv"}
