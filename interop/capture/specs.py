"""One input as a caller may describe it, in any framework: its name, dtype and dimensions.

A leaf of an ``input_signature`` is a shape (``(None, 32)``), a ``{"shape", "dtype", "name"}`` dict, or anything
with ``.shape`` and ``.dtype``: an example array, a spec of the framework. Of an example array, the first
dimension is the batch and its size means nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from interop.errors import CaptureError

_ILLEGAL = re.compile(r"[^A-Za-z0-9_.:/\-]")

Dim = int | str | None


@dataclass(frozen=True)
class Leaf:
    """One described input; None where nothing was said. ``example`` is the array it was given by."""

    name: str | None
    dtype: str | None
    shape: tuple[Dim, ...]
    example: Any = None


def is_spec(item: Any) -> bool:
    """Whether it is a ``{"shape", "dtype", "name"}`` dict."""
    return isinstance(item, dict) and "shape" in item and set(item) <= {"shape", "dtype", "name"}


def is_shape(item: Any) -> bool:
    """Whether it is a shape: sizes, names and Nones."""
    return (
        isinstance(item, list | tuple)
        and len(item) > 0
        and all(dim is None or isinstance(dim, int | str) for dim in item)
    )


def described(item: Any) -> Leaf:
    """Read one leaf.

    Raises:
        CaptureError: it is none of the forms.
    """
    if is_spec(item):
        dtype = item.get("dtype")
        return Leaf(item.get("name"), None if dtype is None else str(dtype), tuple(item["shape"]))
    if is_shape(item):
        return Leaf(None, None, tuple(item))
    if not hasattr(item, "shape") or not hasattr(item, "dtype"):
        raise CaptureError(
            "input_signature takes shapes, {'shape', 'dtype', 'name'} dicts, specs of the framework or example "
            f"arrays. Received: {item!r:.80}"
        )
    name = getattr(item, "name", None) if not hasattr(item, "__array__") else None
    dtype = str(getattr(item.dtype, "name", item.dtype)).removeprefix("torch.")
    if not hasattr(item, "__array__"):
        return Leaf(name, dtype, tuple(None if dim is None else int(dim) for dim in item.shape))
    return Leaf(name, dtype, tuple(None if axis == 0 else int(d) for axis, d in enumerate(item.shape)), item)


def structured(signature: Any) -> Any:
    """A nested signature with every leaf read."""
    if isinstance(signature, dict) and not is_spec(signature):
        return {key: structured(item) for key, item in signature.items()}
    if isinstance(signature, list | tuple) and not is_shape(signature):
        return type(signature)(structured(item) for item in signature)
    return described(signature)


def named_dims(name: str, shape: tuple[Dim, ...]) -> tuple[int | str, ...]:
    """Every open dimension with a name: ``batch`` for the first, ``<input>_<axis>`` for others."""
    return tuple(
        dim if dim is not None else "batch" if axis == 0 else f"{name}_{axis}"
        for axis, dim in enumerate(shape)
    )


def legal_name(name: str) -> str:
    """A name every ONNX consumer takes."""
    return _ILLEGAL.sub("_", name)
