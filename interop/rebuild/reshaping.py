"""Reshape when several sizes are open.

``ops.reshape`` leaves one size of its target open, ``layers.Reshape`` the batch and one more. What has more open
sizes is done axis by axis: the shapes are cut into groups of axes that hold the same elements, and each group is
reshaped, merged or split while the others stay as they are.

Invariant: sizes are compared as expressions (``sizes.py``), so a group is never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.broadcast import add
from interop.rebuild.sizes import Dims, Sizes, polynomial


class NoReshape(Exception):
    """Keras has no operations that do it."""


def reshaped(sizes: Sizes, x: Any, have: Dims, dims: Dims) -> Any:
    """A symbolic tensor of sizes `have` in a shape with several open sizes.

    Raises:
        NoReshape: there is no way.
    """
    target = tuple(-1 if isinstance(size, SymInt) else int(size) for size in dims)
    if target.count(-1) <= 1:
        return ops.reshape(x, target)
    if target.count(-1) == 2 and target[0] == -1 and have and sizes.same(have[0], dims[0]):
        return layers.Reshape(target[1:])(x)
    singles = tuple(axis for axis, size in enumerate(have) if not isinstance(size, SymInt) and size == 1)
    if singles:
        x = ops.squeeze(x, singles)
    current = [size for axis, size in enumerate(have) if axis not in singles]
    wanted = [size for size in dims if isinstance(size, SymInt) or size != 1]
    position = 0
    for before, after in _groups(current, wanted):
        if len(before) != 1 or len(after) != 1:
            x = _group(sizes, x, current, position, before, after)
            current[position : position + len(before)] = after
        position += len(after)
    for axis, size in enumerate(dims):
        if not isinstance(size, SymInt) and size == 1:
            x = ops.expand_dims(x, axis)
    return x


def _groups(have: Sequence[int], dims: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Neighbouring axes of two shapes that hold as many elements, as few in a group as can be.

    The shapes as a whole hold as many, or the reshape fails: what cannot be shown to be equal, as with a size that
    depends on values, is one group.
    """
    same = 0
    while same < min(len(have), len(dims)) and polynomial(have[-1 - same]) == polynomial(dims[-1 - same]):
        same += 1
    have, dims, equal = have[: len(have) - same], dims[: len(dims) - same], have[len(have) - same :]
    left, right = _prefixes(have), _prefixes(dims)
    groups, start, other = [], 0, 0
    for i in range(1, len(have) + 1):
        j = next((j for j in range(other + 1, len(dims) + 1) if right[j] == left[i]), None)
        if j is not None:
            groups.append((list(have[start:i]), list(dims[other:j])))
            start, other = i, j
    if (start == len(have)) != (other == len(dims)):
        raise NoReshape
    if start < len(have):
        groups.append((list(have[start:]), list(dims[other:])))
    return [*groups, *(([size], [size]) for size in equal)]


def _prefixes(sizes: Sequence[int]) -> list[Any]:
    total, found = 1, [polynomial(1)]
    for size in sizes:
        total = total * size
        found.append(polynomial(total))
    return found


def _group(
    sizes: Sizes, x: Any, current: list[int], position: int, before: list[int], after: list[int]
) -> Any:
    """One group of axes reshaped."""
    end = position + len(before)
    others = [axis for axis in range(len(current)) if not position <= axis < end]
    open_others = [axis for axis in others if isinstance(current[axis], SymInt)]
    open_after = sum(isinstance(size, SymInt) for size in after)
    target = [-1 if isinstance(s, SymInt) else int(s) for s in [*current[:position], *after, *current[end:]]]
    if len(open_others) + open_after <= 1:
        return ops.reshape(x, target)
    if len(open_others) == 1 and open_after <= 1:
        # The open axis that stays is taken for the batch, in front.
        axis = open_others[0]
        moved = x if axis == 0 else ops.moveaxis(x, axis, 0)
        place = axis if axis < position else axis + len(after) - len(before)
        rest = target[:place] + target[place + 1 :]
        y = layers.Reshape(rest)(moved)
        return y if place == 0 else ops.moveaxis(y, 0, place)
    x = _merged(sizes, x, position, before)
    return x if len(after) == 1 else ops.take(x, _positions(sizes, after), axis=position)


def _merged(sizes: Sizes, x: Any, position: int, before: list[int]) -> Any:
    """Axes joined into one: slices of all but the last, one after the other.

    An open axis before others is put last for that, and the elements in order after it.
    """
    places = [i for i, size in enumerate(before[:-1]) if isinstance(size, SymInt)]
    if places:
        place, last = places[0], len(before) - 1
        if len(places) > 1 or isinstance(before[last], SymInt):
            raise NoReshape
        others = [*before[:place], *before[place + 1 :]]
        x = ops.moveaxis(x, position + place, position + last)
        x = _merged(sizes, x, position, [*others, before[place]])
        return ops.take(x, _ordered(sizes, before, place), axis=position)
    for size in before[:-1]:
        parts = ops.unstack(x, int(size), axis=position)
        x = ops.concatenate(parts, axis=position) if len(parts) > 1 else parts[0]
    return x


def _ordered(sizes: Sizes, before: list[int], place: int) -> Any:
    """Where the elements of joined axes lie if the one at a place, which is open, was joined as the last of them."""
    line = sizes.arange(math.prod(before))
    inner = math.prod(before[place + 1 :])
    measured = ops.cast(sizes.measured(before[place]), "int32")
    outer, along = ops.floor_divide(line, inner), ops.mod(line, inner)
    index = ops.mod(outer, measured)
    outer = ops.add(ops.multiply(ops.floor_divide(outer, measured), inner), along)
    return ops.add(ops.multiply(outer, measured), index)


def _positions(sizes: Sizes, after: list[int]) -> Any:
    """Where the elements of an axis go that is split: a tensor of the new sizes."""
    total: Any = np.zeros((1,) * len(after), "int32")
    stride: int = 1
    for axis in reversed(range(len(after))):
        line = [1] * len(after)
        line[axis] = -1
        places = ops.reshape(sizes.arange(after[axis]), line)
        measured = sizes.measured(stride)
        places = places if isinstance(measured, int) and measured == 1 else ops.multiply(places, measured)
        total = add(places, total)
        stride = after[axis] * stride
    return total
