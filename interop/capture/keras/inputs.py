"""What a model is called with, and what its inputs and outputs are called.

Enters: a built model and, optionally, the signature the caller wants. Leaves: flat input specs in
graph order with the structure around them, and names that are a contract: explicit names and dict
keys are kept, automatic ones become ``input_<i>``, outputs without a name ``output_<i>``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from interop.artifact.signature import Structure
from interop.capture.keras import compat
from interop.capture.keras.standin import StandIn
from interop.capture.specs import is_shape, is_spec, legal_name, named_dims
from interop.errors import CaptureError

_AUTOMATIC = re.compile(r"(input_layer|keras_tensor|input)(_\d+)?$|None$")


@dataclass(frozen=True)
class InputSpec:
    """One input: its name, dtype and shape; a dim is an int or the name of a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    dtype_given: bool = True


@dataclass(frozen=True)
class CallPlan:
    """How to call a model.

    Attributes:
        inputs: flat specs in graph order.
        structure: how they nest in the call's first argument, or under argument names.
        by_argument: whether the top level dict holds argument names of ``call``.
    """

    inputs: tuple[InputSpec, ...]
    structure: Structure
    by_argument: bool


@dataclass(frozen=True)
class _Leaf:
    name: str | None
    dtype: str | None
    shape: tuple[Any, ...]


def plan_call(model: Any, input_signature: Any) -> CallPlan:
    """Find out what to call a model with.

    Raises:
        CaptureError: the model is not built, or the signature does not fit.
    """
    by_argument = False
    if input_signature is not None:
        nested = _leaves(input_signature, _from_given)
    elif compat.is_functional(model):
        nested = _leaves(compat.functional_structure(model)[0], _from_keras)
        if compat.is_sequential(model):
            # One that was built by its first call has that call's batch size in its shape.
            nested = _leaves(nested, lambda leaf: replace(leaf, shape=(None, *leaf.shape[1:])))
    elif isinstance(model, StandIn) and model.input_specs is not None:
        nested, by_argument = model.input_specs
        nested = _leaves(nested, _from_given)
    else:
        recorded = compat.recorded_shapes(model)
        if not recorded:
            raise CaptureError(
                f"{type(model).__name__} {model.name!r} has no recorded input shapes. Call it once on real data, or "
                'pass input_signature, such as input_signature=[{"shape": (None, 32), "dtype": "int32"}].'
            )
        if len(recorded) == 1:
            nested = _from_shapes(next(iter(recorded.values())))
        else:
            by_argument = True
            nested = {key.removesuffix("_shape"): _from_shapes(shape) for key, shape in recorded.items()}
    nested = _as_the_model_nests(model, nested)
    leaves: list[tuple[str | None, _Leaf]] = []
    structure = _structure(nested, None, leaves)
    if input_signature is not None and compat.is_functional(model):
        leaves = _completed(leaves, compat.flatten(compat.functional_structure(model)[0]))
    if not leaves:
        raise CaptureError("input_signature is None in every place; a graph has at least one input")
    return CallPlan(_specs(leaves, model), structure, by_argument)


def _as_the_model_nests(model: Any, nested: Any) -> Any:
    """A list of one input is that input, unless the model was made with such a list."""
    alone = nested[0] if isinstance(nested, list) and len(nested) == 1 else nested
    own = compat.functional_structure(model)[0] if compat.is_functional(model) else None
    if isinstance(own, list | tuple) and len(own) == 1 and isinstance(alone, _Leaf):
        return [alone] if isinstance(own, list) else (alone,)
    return alone


def _completed(leaves: list[tuple[str | None, _Leaf]], own: list[Any]) -> list[tuple[str | None, _Leaf]]:
    """Given inputs with the names and dtypes that a functional model's own have, where none were given."""
    by_name = {tensor.name: tensor for tensor in own}
    if len(leaves) != len(own) and not all(key in by_name for key, _ in leaves):
        return leaves
    completed = []
    for index, (key, leaf) in enumerate(leaves):
        tensor = by_name[key] if key in by_name else own[index]
        leaf = replace(leaf, name=leaf.name or tensor.name, dtype=leaf.dtype or str(tensor.dtype))
        completed.append((key, leaf))
    return completed


def _leaves(structure: Any, make: Any) -> Any:
    if structure is None:
        return None  # an optional input that is not given
    if isinstance(structure, dict) and not is_spec(structure):
        return {key: _leaves(item, make) for key, item in structure.items()}
    if isinstance(structure, list | tuple) and not is_shape(structure):
        return type(structure)(_leaves(item, make) for item in structure)
    return make(structure)


def _from_keras(tensor: Any) -> _Leaf:
    return _Leaf(tensor.name, str(tensor.dtype), tuple(tensor.shape))


def _from_given(item: Any) -> _Leaf:
    if is_spec(item):
        return _Leaf(item.get("name"), item.get("dtype"), tuple(item["shape"]))
    if is_shape(item):
        return _Leaf(None, None, tuple(item))
    if not hasattr(item, "shape"):
        raise CaptureError(
            "input_signature takes shapes, {'shape', 'dtype', 'name'} dicts, keras.InputSpec, KerasTensors or "
            f"example arrays. Received: {item!r}"
        )
    dtype = getattr(item, "dtype", None)
    shape = tuple(item.shape)
    if hasattr(item, "__array__") and not hasattr(item, "_keras_history"):
        shape = (None, *shape[1:])  # an example array: its batch size means nothing
    return _Leaf(getattr(item, "name", None), None if dtype is None else compat.dtype_name(dtype), shape)


def _from_shapes(shape: Any) -> Any:
    """Recorded shapes: the first axis is the batch, whatever size the first call had."""
    if isinstance(shape, dict):
        return {key: _from_shapes(item) for key, item in shape.items()}
    if is_shape(shape):
        return _Leaf(None, None, (None, *shape[1:]))
    if isinstance(shape, list | tuple):
        return [_from_shapes(item) for item in shape]
    raise CaptureError(
        f"the model's recorded input shapes have an unknown form: {shape!r}; pass input_signature"
    )


def _structure(nested: Any, key: str | None, leaves: list[tuple[str | None, _Leaf]]) -> Structure:
    if nested is None:
        return None
    if isinstance(nested, _Leaf):
        leaves.append((key, nested))
        return len(leaves) - 1
    if isinstance(nested, dict):
        return {"dict": {name: _structure(item, name, leaves) for name, item in nested.items()}}
    kind = "tuple" if isinstance(nested, tuple) else "list"
    return {kind: [_structure(item, None, leaves) for item in nested]}


def _specs(leaves: Sequence[tuple[str | None, _Leaf]], model: Any) -> tuple[InputSpec, ...]:
    specs = []
    taken: set[str] = set()
    for index, (key, leaf) in enumerate(leaves):
        own = leaf.name if leaf.name and not _AUTOMATIC.match(leaf.name) else None
        name = legal_name(own or key or f"input_{index}")
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        dims = named_dims(name, leaf.shape)
        dtype = leaf.dtype or str(model.input_dtype)
        specs.append(InputSpec(name, dtype, dims, leaf.dtype is not None))
    return tuple(specs)


def output_names(model: Any, output: Any) -> tuple[list[str], list[Any], Structure]:
    """Names for the leaves of a model's output, the leaves, and the structure around them.

    Args:
        model: the model; a functional one names its outputs.
        output: the traced output structure.
    """
    leaves: list[tuple[str | None, Any]] = []

    def visit(item: Any, key: str | None) -> Structure:
        if isinstance(item, dict):
            return {"dict": {name: visit(child, name) for name, child in item.items()}}
        if isinstance(item, list | tuple):
            return {"list" if isinstance(item, list) else "tuple": [visit(child, None) for child in item]}
        if item is None:
            return None
        leaves.append((key, item))
        return len(leaves) - 1

    structure = visit(output, None)
    own = compat.output_names(model)
    names: list[str] = []
    for index, (key, _) in enumerate(leaves):
        declared = own[index] if len(own) == len(leaves) else None
        name = legal_name(key or declared or f"output_{index}")
        while name in names:
            name = f"{name}_{index}"
        names.append(name)
    if not leaves:
        raise CaptureError(f"model {model.name!r} returned no tensor")
    return names, [leaf for _, leaf in leaves], structure
