"""Operators that move elements and compute nothing, as functions of NumPy arrays.

Enters: a node's operator, attributes and constant inputs. Leaves: what it does to an array of element numbers or of
canonical places, which is the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.elements import numbered, reshaped

Array = NDArray[Any]
Attributes = Mapping[str, Any]
Arguments = Sequence[Array | None]


def movement(
    op_type: str, attributes: Attributes, arguments: Arguments
) -> Callable[[Array], list[Array]] | None:
    """What a node does to its first input; None if it computes something.

    Args:
        op_type: the operator.
        attributes: of the node.
        arguments: its other inputs, constants.
    """
    make = _MOVEMENTS.get(op_type)
    if make is None:
        return None
    return lambda array: make(array, attributes, arguments)


def _transpose(x: Array, attributes: Attributes, _: Arguments) -> list[Array]:
    return [np.transpose(x, attributes.get("perm"))]


def _reshape(x: Array, attributes: Attributes, arguments: Arguments) -> list[Array]:
    sizes = [int(size) for size in _required(arguments, 0).reshape(-1)]
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    if -1 in sizes:
        known = int(np.prod([size for size in sizes if size != -1]))
        sizes[sizes.index(-1)] = x.size // known if known else 0
    return [reshaped(x, sizes)]


def _flatten(x: Array, attributes: Attributes, _: Arguments) -> list[Array]:
    axis = attributes.get("axis", 1) % (x.ndim + 1)
    return [reshaped(x, (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))))]


def _squeeze(x: Array, attributes: Attributes, arguments: Arguments) -> list[Array]:
    axes = _axes(attributes, arguments)
    return [np.squeeze(x, tuple(axes) if axes is not None else None)]


def _unsqueeze(x: Array, attributes: Attributes, arguments: Arguments) -> list[Array]:
    return [np.expand_dims(x, tuple(_axes(attributes, arguments) or ()))]


def _slice(x: Array, attributes: Attributes, arguments: Arguments) -> list[Array]:
    if "starts" in attributes:
        starts, ends = attributes["starts"], attributes["ends"]
        axes, steps = attributes.get("axes"), None
    else:
        starts, ends = _required(arguments, 0).tolist(), _required(arguments, 1).tolist()
        axes, steps = _list(arguments, 2), _list(arguments, 3)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index: list[Any] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        low = -(x.shape[axis]) - 1
        end = None if step < 0 and end <= low else end
        index[axis] = slice(start, end, step)
    return [x[tuple(index)]]


def _split(x: Array, attributes: Attributes, arguments: Arguments) -> list[Array]:
    axis = attributes.get("axis", 0)
    sizes = attributes.get("split") or _list(arguments, 0)
    if sizes is None:
        count = attributes["num_outputs"]
        size = -(-x.shape[axis] // count)
        sizes = [size] * (count - 1) + [x.shape[axis] - size * (count - 1)]
    stops = np.cumsum(sizes)
    index: list[Any] = [slice(None)] * x.ndim
    made = []
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        index[axis] = slice(int(start), int(stop))
        made.append(x[tuple(index)])
    return made


def _gather(x: Array, attributes: Attributes, arguments: Arguments) -> list[Array]:
    axis, at = attributes.get("axis", 0), _required(arguments, 0)
    if at.ndim == 0:
        place: tuple[Any, ...] = (*([slice(None)] * (axis % x.ndim)), int(at))
        return [x[place]]
    steps = np.diff(at) if at.ndim == 1 else np.array([0])
    if at.ndim == 1 and len(at) and np.all(steps == 1):
        index: list[Any] = [slice(None)] * x.ndim
        index[axis] = slice(int(at[0]), int(at[0]) + len(at))
        return [x[tuple(index)]]
    return [np.take(numbered(x), at, axis)]


def _expand(x: Array, _: Attributes, arguments: Arguments) -> list[Array]:
    sizes = tuple(int(size) for size in _required(arguments, 0))
    return [np.broadcast_to(x, np.broadcast_shapes(x.shape, sizes))]


def _tile(x: Array, _: Attributes, arguments: Arguments) -> list[Array]:
    return [np.tile(numbered(x), _required(arguments, 0).tolist())]


def _identity(x: Array, _: Attributes, __: Arguments) -> list[Array]:
    return [x]


def _depth_to_space(x: Array, attributes: Attributes, _: Arguments) -> list[Array]:
    b, (n, c, h, w) = attributes["blocksize"], x.shape
    if attributes.get("mode", "DCR") in ("DCR", b"DCR"):
        split = numbered(x).reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        split = numbered(x).reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return [split.reshape(n, c // b**2, h * b, w * b)]


def _space_to_depth(x: Array, attributes: Attributes, _: Arguments) -> list[Array]:
    b, (n, c, h, w) = attributes["blocksize"], x.shape
    split = numbered(x).reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return [split.reshape(n, c * b**2, h // b, w // b)]


def _pad(x: Array, attributes: Attributes, arguments: Arguments) -> list[Array]:
    pads = attributes.get("pads") or _required(arguments, 0).tolist()
    axes = _list(arguments, 2) or list(range(x.ndim))
    widths = [(0, 0)] * x.ndim
    for place, axis in enumerate(axes):
        widths[axis] = (int(pads[place]), int(pads[place + len(axes)]))
    mode = attributes.get("mode", "constant")
    if mode != "constant":
        return [np.pad(numbered(x), [(max(a, 0), max(b, 0)) for a, b in widths], mode)]
    cut = tuple(slice(max(-a, 0), size - max(-b, 0)) for size, (a, b) in zip(x.shape, widths, strict=True))
    return [np.pad(numbered(x)[cut], [(max(a, 0), max(b, 0)) for a, b in widths], constant_values=-1)]


def _axes(attributes: Attributes, arguments: Arguments) -> list[int] | None:
    given = attributes.get("axes")
    return list(given) if given is not None else _list(arguments, 0)


def _list(arguments: Arguments, index: int) -> list[int] | None:
    found = arguments[index] if index < len(arguments) else None
    return None if found is None else [int(item) for item in found.reshape(-1)]


def _required(arguments: Arguments, index: int) -> Array:
    found = arguments[index]
    if found is None:
        raise IndexError(f"input {index + 1} is missing")
    return found


_MOVEMENTS: dict[str, Callable[[Array, Attributes, Arguments], list[Array]]] = {
    "Cast": _identity,
    "CastLike": _identity,
    "DepthToSpace": _depth_to_space,
    "Dropout": _identity,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
