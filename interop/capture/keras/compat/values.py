"""Values of the backend that runs: dtypes, tensors as arrays and back, nested structures of them."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import keras
import numpy as np
from keras.src import backend as keras_backend
from keras.src import tree as keras_tree

from interop.capture.keras.symint import SymInt
from interop.formats.dtypes import BY_NAME, FROM_ML_DTYPES


def backend() -> str:
    """The backend Keras runs on."""
    return str(keras_backend.backend())


def epsilon(given: float | None) -> float:
    """A layer's epsilon, or Keras' global one."""
    return float(keras_backend.epsilon() if given is None else given)


def dtype_name(dtype: Any) -> str:
    """A dtype of any framework by Keras' name."""
    return str(keras_backend.standardize_dtype(dtype))


def stored_dtype(variable: Any) -> str:
    """A variable's own dtype, whatever autocast scope is open."""
    return str(variable._dtype)


def result_type(*kinds: Any) -> str:
    """Keras' dtype promotion over dtype names and Python number types."""
    return str(keras_backend.result_type(*(int if kind is SymInt else kind for kind in kinds)))


def tensor_spec(shape: Any, dtype: str) -> Any:
    """An output spec, symbolic sizes kept."""
    return keras.KerasTensor(tuple(shape), dtype)


def flatten(structure: Any) -> list[Any]:
    """Leaves of a nested structure, in Keras' order."""
    return list(keras_tree.flatten(structure))


def map_structure(function: Callable[..., Any], *structures: Any) -> Any:
    """``function`` on every leaf, structure kept."""
    return keras_tree.map_structure(function, *structures)


_LEAVES = frozenset({type(None), bool, int, float, str})
_NO_TENSORS = _LEAVES | {list, tuple, dict, FunctionType}


def _is_leaf(item: Any) -> bool:
    return type(item) in _LEAVES or isinstance(item, keras.KerasTensor)


def mapping_plainly(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keras' ``map_structure``, which takes the arguments of most calls, one flat tuple or dict, as they are.

    Keras maps them twice in every call of a layer; the library for trees takes 20 us for one tensor, PyTorch's 40.
    """

    def map_structure(function: Any, *structures: Any, **options: Any) -> Any:
        if len(structures) != 1 or options:
            return original(function, *structures, **options)
        (structure,) = structures
        kind = type(structure)
        if kind is dict and all(map(_is_leaf, structure.values())):
            return {key: function(item) for key, item in structure.items()}
        if (kind is tuple or kind is list) and all(map(_is_leaf, structure)):
            return kind([function(item) for item in structure])
        return function(structure) if _is_leaf(structure) else original(function, structure)

    return map_structure


def telling_at_once(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Keras' ``is_tensor``, which knows that what is plain is none, nor Keras' own objects but for its backends'.

    TensorFlow takes 20 us to find that out, and is asked ten times for each layer that is saved.
    """

    def is_tensor(x: Any) -> bool:
        kind = type(x)
        if kind in _NO_TENSORS:
            return False
        module = kind.__module__
        is_own = module.startswith("keras.src.") and not module.startswith("keras.src.backend")
        return not (is_own or isinstance(x, keras.KerasTensor)) and original(x)

    return is_tensor


def pack_like(structure: Any, leaves: list[Any]) -> Any:
    """Leaves in place of those of a structure, in Keras' order."""
    return keras_tree.pack_sequence_as(structure, leaves)


def to_tensor(array: Any) -> Any:
    """An array as a tensor of the backend."""
    return keras_backend.convert_to_tensor(array)


def to_numpy(x: Any) -> np.ndarray[Any, Any]:
    """A concrete backend tensor or variable as an array (bfloat16 and float8 through ml_dtypes); only to be read.

    A view of the same memory where the backend gives one; Keras copies every tensor.
    """
    value = x.value if isinstance(x, keras.Variable) else x
    view = _VIEWS[keras.backend.backend()](value)
    return np.asarray(keras.ops.convert_to_numpy(x)) if view is None else view


def _jax_view(value: Any) -> np.ndarray[Any, Any] | None:
    return np.asarray(value) if type(value).__module__.startswith("jaxlib") else None


def _torch_view(value: Any) -> np.ndarray[Any, Any] | None:
    import torch

    if not isinstance(value, torch.Tensor) or value.is_meta:
        return None
    if str(value.dtype).removeprefix("torch.") not in BY_NAME.keys() - FROM_ML_DTYPES:
        return None
    found: np.ndarray[Any, Any] = value.detach().cpu().resolve_conj().resolve_neg().numpy()
    return found


def _tensorflow_view(value: Any) -> np.ndarray[Any, Any] | None:
    import tensorflow

    tensor = value.value() if isinstance(value, tensorflow.Variable) else value  # numpy() of either copies
    if type(tensor).__name__ != "EagerTensor":
        return None
    return np.asarray(tensor if len(tensor.shape) else tensor.numpy())


_VIEWS: dict[str, Callable[[Any], np.ndarray[Any, Any] | None]] = {
    "jax": _jax_view,
    "tensorflow": _tensorflow_view,
    "torch": _torch_view,
}


def current_value(variable: Any) -> np.ndarray[Any, Any]:
    """A variable's value now, whatever a trace would answer for it."""
    return to_numpy(variable._value)


def with_values(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    """``f(values, *inputs)``: the function with other values for some variables; updates are dropped."""

    def call(values: Any, *inputs: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*inputs)

    return call
