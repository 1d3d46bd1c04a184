"""Where the elements of a tensor come from: arrays of element numbers, moved as the graph moves the tensors.

Enters: the parameters of a model. Leaves: for each, an array of the numbers of its elements; whatever transposes,
slices or reshapes the parameter in the graph is done to that array, and says where each element went.

Invariants:
- The parameters of a model lie one behind the other in one numbering, so a number tells parameter and element.
- An array of numbers is a *phantom* (``int8``: strides over memory that is not there, never read) as long as it is
  a view of one parameter, so that a model of any size costs nothing; else the numbers themselves (``int64``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Numbers = NDArray[Any]

_GROUND = np.zeros(1, "int8")
_ORIGIN: int = _GROUND.__array_interface__["data"][0]


def is_phantom(numbers: Numbers) -> bool:
    """Whether the array is a view whose contents must not be read."""
    return numbers.dtype == np.int8


def offset(numbers: Numbers) -> int:
    """The number of the first element of a phantom."""
    start: int = numbers.__array_interface__["data"][0]
    return start - _ORIGIN


def identity(numbers: Numbers) -> Any:
    """What is equal for two arrays only if they have the same elements in the same places."""
    if is_phantom(numbers):
        return offset(numbers), numbers.shape, numbers.strides
    return numbers.shape, hashlib.blake2b(np.ascontiguousarray(numbers).data, digest_size=16).digest()


def without_parameters(numbers: Numbers) -> bool:
    """Whether all the elements are of constants, such as the part of zeros beside a bias."""
    return not is_phantom(numbers) and bool((numbers < 0).all())


def phantom(start: int, shape: Sequence[int], strides: Sequence[int]) -> Numbers:
    """The view of elements from ``start`` on, with these strides."""
    whole = as_strided(_GROUND, (start + 1,), (1,))
    return as_strided(whole[start:], tuple(shape), tuple(strides))


def numbered(numbers: Numbers) -> Numbers:
    """The numbers themselves."""
    if not is_phantom(numbers):
        return numbers
    total = np.full((), offset(numbers), np.int64)
    for axis, (size, stride) in enumerate(zip(numbers.shape, numbers.strides, strict=True)):
        steps = np.arange(size, dtype=np.int64) * stride
        total = total + steps.reshape((-1,) + (1,) * (numbers.ndim - axis - 1))
    return np.broadcast_to(total, numbers.shape)


def reshaped(numbers: Numbers, shape: Sequence[int]) -> Numbers:
    """The array in another shape; a phantom stays one where strides can say it."""
    if not is_phantom(numbers):
        return numbers.reshape(tuple(shape))
    strides = _strides_after(numbers.shape, numbers.strides, tuple(shape))
    if strides is None:
        return numbered(numbers).reshape(tuple(shape))
    return phantom(offset(numbers), shape, strides)


def _strides_after(
    shape: tuple[int, ...], strides: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides of a view of another shape, or None if there is no such view."""
    have = [(size, stride) for size, stride in zip(shape, strides, strict=True) if size != 1]
    merged: list[list[int]] = []
    for size, stride in have:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = [merged[-1][0] * size, stride]
        else:
            merged.append([size, stride])
    found: list[int] = []
    for size in reversed(wanted):
        if size == 1:
            found.append(0)
            continue
        if not merged or merged[-1][0] % size:
            return None
        found.append(merged[-1][1])
        merged[-1] = [merged[-1][0] // size, merged[-1][1] * size]
        if merged[-1][0] == 1:
            merged.pop()
    return tuple(reversed(found)) if not merged else None


def moved(numbers: Numbers, move: Callable[[Numbers], Numbers], *, is_view: bool) -> Numbers:
    """The array after a movement; one that is no view of what it takes gets the numbers."""
    return move(numbers if is_view else numbered(numbers))


def radix(index: NDArray[np.int64]) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
    """Start, sizes and steps of nested loops that give the sequence; None if there are none."""
    size = len(index)
    if size == 0:
        return None
    sizes: list[int] = []
    steps: list[int] = []
    rest = index
    while len(rest) > 1:
        step = int(rest[1] - rest[0])
        even = np.flatnonzero(np.diff(rest) != step)
        length = int(even[0]) + 1 if even.size else len(rest)
        if len(rest) % length:
            return None
        table = rest.reshape(-1, length)
        if not np.array_equal(table, table[:, :1] + step * np.arange(length)):
            return None
        sizes.insert(0, length)
        steps.insert(0, step)
        rest = table[:, 0]
    return int(index[0]), tuple(sizes) or (1,), tuple(steps) or (1,)


def taken(numbers: Numbers, axis: int, index: NDArray[np.int64]) -> Numbers:
    """The elements of one axis in another order, or some of them; the axis may become several, of loops."""
    if np.array_equal(index, np.arange(numbers.shape[axis])):
        return numbers
    loops = radix(index) if is_phantom(numbers) else None
    if loops is None:
        return np.take(numbered(numbers), index, axis)
    start, sizes, steps = loops
    stride = numbers.strides[axis]
    shape = (*numbers.shape[:axis], *sizes, *numbers.shape[axis + 1 :])
    strides = (*numbers.strides[:axis], *(stride * s for s in steps), *numbers.strides[axis + 1 :])
    return phantom(offset(numbers) + start * stride, shape, strides)


def regular(numbers: Numbers) -> Numbers:
    """The array as a phantom, if it is one in disguise; its axes may become several. Else as it is."""
    if is_phantom(numbers) or numbers.size == 0:
        return numbers
    start = int(numbers.flat[0])
    sizes: list[int] = []
    steps: list[int] = []
    for axis in range(numbers.ndim):
        line = numbers[tuple(slice(None) if a == axis else 0 for a in range(numbers.ndim))]
        loops = radix(np.asarray(line - start, np.int64))
        if loops is None:
            return numbers
        sizes += loops[1]
        steps += loops[2]
    if math.prod(sizes) != numbers.size or start < 0:
        return numbers
    made = phantom(start, sizes, steps)
    return made if np.array_equal(numbered(made).reshape(-1), numbers.reshape(-1)) else numbers


def without_repeats(numbers: Numbers) -> Numbers:
    """The array without axes along which nothing changes."""
    if is_phantom(numbers):
        kept = [
            axis for axis, stride in enumerate(numbers.strides) if numbers.shape[axis] != 1 and stride != 0
        ]
        shape, strides = [numbers.shape[a] for a in kept], [numbers.strides[a] for a in kept]
        return phantom(offset(numbers), shape, strides)
    for axis in reversed(range(numbers.ndim)):
        first = np.take(numbers, [0], axis)
        if np.array_equal(numbers, np.broadcast_to(first, numbers.shape)):
            numbers = np.take(numbers, 0, axis)
    return numbers


class Numbering:
    """The numbers of all elements of a model's parameters.

    Args:
        shapes: name to shape, of every parameter.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        self.names = list(shapes)
        sizes = [math.prod(shape) for shape in shapes.values()]
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._place = {name: i for i, name in enumerate(self.names)}

    def of(self, name: str) -> Numbers:
        """The numbers of a parameter, a phantom."""
        shape = self.shapes[name]
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return phantom(self.start(name), shape, strides)

    def start(self, name: str) -> int:
        """The number of a parameter's first element."""
        return int(self.starts[self._place[name]])

    def owner(self, number: int) -> str:
        """The parameter that an element belongs to."""
        return self.names[int(np.searchsorted(self.starts, number, side="right")) - 1]

    def owners(self, numbers: Numbers) -> list[str]:
        """The parameters that elements of an array belong to, in the order of the model."""
        if is_phantom(numbers):
            return [self.owner(offset(numbers))] if numbers.size else []
        places = np.unique(np.searchsorted(self.starts, numbers, side="right") - 1)
        return [self.names[int(place)] for place in places if place >= 0]
