"""Values between the places of a tensor: samples at fractional coordinates, and matrices that resize an axis.

Enters: tensors with channels on axis 1 and coordinates in places. Leaves: tensors. Invariant: only the coordinates
and the values are tensors; which neighbours there are and how they weigh follows from the specification of GridSample
and Resize (https://onnx.ai/onnx/operators/onnx__Resize.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from keras import ops
from numpy.typing import NDArray

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor


def cubic(distance: Tensor, a: float) -> tuple[Tensor, ...]:
    """Weights of the four neighbours of a point at a distance from the second."""

    def near(t: Tensor) -> Tensor:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Tensor) -> Tensor:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return far(distance + 1), near(distance), near(1 - distance), far(2 - distance)


def sampled(
    ctx: Context, x: Tensor, coordinates: Sequence[Tensor], mode: str, padding: str, align_corners: bool
) -> Tensor:
    """Values of `x` (batch, channels, *sizes) at coordinates, one tensor (batch, *places) an axis.

    Args:
        ctx: of the node.
        x: the values.
        coordinates: in places of each axis.
        mode: "nearest", "linear" or "cubic".
        padding: what lies beyond: "zeros", "border" (the last place) or "reflection".
        align_corners: whether a reflection is at the middle of the last place or at its end.
    """
    sizes = [int(size) for size in x.shape[2:]]
    neighbours: list[list[tuple[Tensor, Tensor]]] = []
    for axis, given in enumerate(coordinates):
        place = _folded(given, sizes[axis], padding, align_corners) if mode != "cubic" else given
        if mode == "nearest":
            neighbours.append([(ops.round(place), None)])
            continue
        low = ops.floor(place)
        distance = ops.subtract(place, low)
        if mode == "linear":
            neighbours.append([(low, ops.subtract(1.0, distance)), (ops.add(low, 1.0), distance)])
        else:
            weights = cubic(distance, -0.75)
            neighbours.append([(ops.add(low, float(i - 1)), weight) for i, weight in enumerate(weights)])
    batch, channels, *_ = ctx.dims(x)
    flat = ctx.reshape(x, (batch, channels, int(np.prod(sizes))))
    total = None
    for corner in product(*neighbours):
        value = _corner(ctx, flat, sizes, [place for place, _ in corner], padding, align_corners)
        for _, weight in corner:
            value = (
                value
                if weight is None
                else ops.multiply(value, ops.expand_dims(ops.cast(weight, ctx.dtype(x)), 1))
            )
        total = value if total is None else ctx.add(total, value)
    return total


def _corner(
    ctx: Context, flat: Tensor, sizes: list[int], places: list[Tensor], padding: str, align_corners: bool
) -> Tensor:
    """Values at whole places, which may lie beyond."""
    index, inside = None, None
    for place, size in zip(places, sizes, strict=True):
        if padding == "zeros":
            within = ops.logical_and(ops.greater_equal(place, 0), ops.less_equal(place, size - 1))
            inside = within if inside is None else ops.logical_and(inside, within)
        else:
            place = _folded(place, size, padding, align_corners)
        whole = ops.cast(ops.clip(place, 0, size - 1), "int32")
        index = whole if index is None else ops.add(ops.multiply(index, size), whole)
    shape = ctx.dims(index)
    count = 1
    for size in shape[1:]:
        count = count * size
    line = ctx.reshape(index, (shape[0], 1, count))
    taken = ops.take_along_axis(flat, ctx.expand(line, (*ctx.dims(flat)[:2], count)), axis=2)
    value = ctx.reshape(taken, (*ctx.dims(flat)[:2], *shape[1:]))
    if inside is None:
        return value
    return ops.where(ops.expand_dims(inside, 1), value, ops.zeros_like(value))


def _folded(place: Tensor, size: int, padding: str, align_corners: bool) -> Tensor:
    """Coordinates brought inside by the padding; those of "zeros" stay where they are."""
    if padding == "border":
        return ops.clip(place, 0, size - 1)
    if padding != "reflection":
        return place
    low, span = (0.0, float(size - 1)) if align_corners else (-0.5, float(size))
    if not span:
        return ops.zeros_like(place)
    offset = ops.mod(ops.abs(ops.subtract(place, low)), 2 * span)
    return ops.add(ops.minimum(offset, ops.subtract(2 * span, offset)), low)


def resizing_matrix(
    places: NDArray[np.float64], size: int, scale: float, mode: str, a: float, exclude: bool, antialias: bool
) -> NDArray[np.float64]:
    """The matrix (new, old) that makes an axis of a new size: weights of old places for every new one.

    Args:
        places: of the new elements, among the old.
        size: how many old ones there are.
        scale: new over old size.
        mode: "linear" or "cubic".
        a: coefficient of the cubic.
        exclude: leave places out that do not exist, and weigh the others up.
        antialias: widen the filter when the axis shrinks.
    """
    shrink = min(scale, 1.0) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) / shrink
    matrix = np.zeros((len(places), size))
    for row, place in enumerate(places):
        near = np.arange(np.floor(place - reach) + 1, np.ceil(place + reach))
        distance = np.abs(near - place) * shrink
        weights = np.clip(1 - distance, 0, 1) if mode == "linear" else _cubic_filter(distance, a)
        if exclude:
            weights = np.where((near < 0) | (near >= size), 0, weights)
        if exclude or antialias:
            weights = weights / weights.sum()
        np.add.at(matrix[row], np.clip(near, 0, size - 1).astype(int), weights)
    return matrix


def _cubic_filter(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
