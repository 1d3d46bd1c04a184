"""The inputs of a call: bound to names, and checked against the signature before the graph sees them.

What enters: whatever the caller wrote: arrays, lists, scalars, dicts, nested structures. What leaves: one
array per input, of the right dtype and shape, or a SignatureError that names the input, what was given, what
was expected and the closest name.

Invariant: a cast never changes a value silently: floats only widen or lose precision (never become
infinite), integers must fit, and kinds never mix except small exact integers into floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interop.artifact.signature import Signature, TensorSpec, flatten, not_given, parts
from interop.errors import SignatureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHECKED = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


def bind(signature: Signature, args: Sequence[Any]) -> list[Any]:
    """Bind call arguments to the inputs, in graph order.

    The arguments are the inputs one by one, those of the model's own call with what is nested in them, or one value:
    all inputs by name, in a list, or nested like the model's.

    Raises:
        SignatureError: too few, too many, or names that are not inputs.
    """
    specs, structure = signature.inputs, signature.input_structure
    if len(args) > 1 and len(args) == len(specs) and not any(arg is None for arg in args):
        return list(args)
    places = parts(structure)
    if len(args) > 1 and len(args) == len(places):
        return _in_order(flatten({"tuple": places}, args, "the call"))
    if len(args) != 1:
        raise SignatureError(f"the call has {len(args)} arguments; expected {_expected(specs)}")
    (value,) = args
    named = isinstance(structure, dict) and "dict" in structure
    if named and isinstance(value, list | tuple) and len(specs) > 1 and len(value) > 1:
        return bind(signature, value)  # the inputs of a model that names them, in a list
    if isinstance(value, Mapping) and value.keys() == {spec.name for spec in specs}:
        return [value[spec.name] for spec in specs]
    if len(places) == 1 and isinstance(places[0], dict) and not _holds_one(structure, value):
        structure = places[0]  # the model's one argument, nested, as it is
    if isinstance(value, Mapping):
        keys = structure.get("dict", {}) if isinstance(structure, dict) else {}
        needed = {key for key, part in keys.items() if part is not None}
        if not keys or not needed <= value.keys() <= keys.keys():
            raise SignatureError(_wrong_names(value, specs))
    elif isinstance(structure, dict) and len(specs) == 1 and not isinstance(value, list | tuple):
        return [value]  # a model that takes [x] or {"x": x} may be called with x
    return _in_order(flatten(structure, value))


def _in_order(found: Mapping[int, Any]) -> list[Any]:
    return [found[index] for index in range(len(found))]


def _holds_one(structure: Any, value: Any) -> bool:
    """Whether a value is a container of one, as `structure` is."""
    if "dict" in structure:
        return isinstance(value, Mapping) and value.keys() == structure["dict"].keys()
    return isinstance(value, list | tuple) and len(value) == 1


def check(specs: Sequence[TensorSpec], values: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Turn bound values into arrays of the right dtype and shape, by name.

    Raises:
        SignatureError: a dtype, rank or size that the input does not take.
    """
    dims: dict[str, tuple[int, str]] = {}
    feed = {}
    for spec, value in zip(specs, values, strict=True):
        array = as_array(spec, value)
        _check_shape(spec, array, dims)
        _check_bounds(spec, array)
        feed[spec.name] = array
    return feed


def as_array(spec: TensorSpec, value: Any) -> NDArray[Any]:
    """Convert one value to the input's dtype, refusing casts that would change it.

    Raises:
        SignatureError: it is no array, or of a dtype that does not fit.
    """
    array = to_array(spec, value)
    if spec.dtype == "string":
        # ONNX Runtime takes strings as objects.
        return array.astype(object) if array.dtype.kind in "OUS" else _refuse(spec, array, "expected strings")
    if array.dtype.name == spec.dtype:
        return np.ascontiguousarray(array) if array.ndim else array
    if array.dtype.kind not in "biufV":
        return _refuse(spec, array, f"expected {spec.dtype}")
    return _cast(spec, array)


def to_array(spec: TensorSpec, value: Any) -> NDArray[Any]:
    """One value as an array of whatever dtype it has.

    Raises:
        SignatureError: it is ragged, or no array at all.
    """
    if value is None:
        raise not_given(f"input {spec.name!r}")
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as e:
        raise SignatureError(f"input {spec.name!r} cannot be an array: {e}; expected {spec}") from e


def _cast(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    """Cast without changing values; an error otherwise."""
    from interop.formats.dtypes import BY_NAME, numpy_dtype

    if spec.dtype not in BY_NAME:
        return _refuse(spec, array, f"expected {spec.dtype}")
    target = numpy_dtype(spec.dtype)
    source_kind = array.dtype.kind
    to_integer, to_float = spec.dtype in _CHECKED, "float" in spec.dtype
    if source_kind == "b" and (to_integer or to_float):
        return array.astype(target)
    if source_kind in "iu" and to_integer:
        limits = np.iinfo(target)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            return _refuse(spec, array, f"its values {array.min()} to {array.max()} do not fit {spec.dtype}")
        return array.astype(target)
    if source_kind in "iu" and to_float:
        cast = array.astype(target)
        if not np.array_equal(cast.astype(np.float64), array.astype(np.float64)):
            return _refuse(spec, array, f"its integers are not exact in {spec.dtype}")
        return cast
    if (source_kind == "f" or "float" in array.dtype.name) and to_float:
        with np.errstate(over="ignore"):
            cast = array.astype(target)
        if cast.itemsize < array.itemsize and np.isinf(cast).sum() != np.isinf(array).sum():
            return _refuse(spec, array, f"its values are too large for {spec.dtype}")
        return cast
    return _refuse(spec, array, f"expected {spec.dtype}")


def _check_shape(spec: TensorSpec, array: NDArray[Any], dims: dict[str, tuple[int, str]]) -> None:
    """Rank, fixed sizes, and that a named dim has one size in the whole call (noted in `dims`)."""
    if array.ndim != len(spec.shape):
        raise SignatureError(
            f"input {spec.name!r} has {array.ndim} dims, shape {list(array.shape)}; expected {spec}"
            + (" (add an axis for the batch: x[None])" if array.ndim + 1 == len(spec.shape) else "")
        )
    for axis, (size, dim) in enumerate(zip(array.shape, spec.shape, strict=True)):
        if isinstance(dim, int):
            if size != dim:
                raise SignatureError(
                    f"input {spec.name!r} has size {size} on axis {axis}, shape {list(array.shape)}; "
                    f"expected {spec}"
                )
        elif dims.setdefault(dim, (size, spec.name))[0] != size:
            other, holder = dims[dim]
            raise SignatureError(
                f"input {spec.name!r} has {dim} = {size} on axis {axis}, but {holder!r} has {dim} = {other}. "
                "Equal names are equal sizes; where a model lets them differ, as a graph's nodes and edges, write it "
                "again with an input_signature that names them apart"
            )


def _check_bounds(spec: TensorSpec, array: NDArray[Any]) -> None:
    """Integers that index a table must lie in it."""
    if spec.bounds is None or array.size == 0:
        return
    low, high = spec.bounds
    if int(array.min()) < low or int(array.max()) > high:
        raise SignatureError(
            f"input {spec.name!r} has values {array.min()} to {array.max()}; the graph takes {low} to {high}"
        )


def _refuse(spec: TensorSpec, array: NDArray[Any], why: str) -> NDArray[Any]:
    raise SignatureError(f"input {spec.name!r} is {array.dtype}{list(array.shape)} for {spec}: {why}")


def _wrong_names(value: Mapping[Any, Any], specs: Sequence[TensorSpec]) -> str:
    from difflib import get_close_matches

    names = [spec.name for spec in specs]
    unknown = [name for name in value if name not in names]
    missing = [name for name in names if name not in value]
    parts = []
    for name in unknown:
        close = get_close_matches(str(name), missing or names, n=1)
        parts.append(f"{name!r} is no input" + (f" (did you mean {close[0]!r}?)" if close else ""))
    if missing:
        parts.append(f"{', '.join(map(repr, missing))} missing")
    return f"{'; '.join(parts)}. Expected {_expected(specs)}"


def _expected(specs: Sequence[TensorSpec]) -> str:
    listed = ", ".join(map(str, specs))
    return f"{len(specs)} input{'s' if len(specs) != 1 else ''}: {listed}"
