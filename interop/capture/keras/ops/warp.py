"""Reading images between cells: given coordinates, affine maps and perspectives.

Enters: images and where to read them. Leaves: their values there, weighted between neighbouring cells,
with cells outside found by the fill mode as the backend that runs finds them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import counting, filled
from interop.capture.keras.ops.image import gaussian, one_kernel
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic
from interop.errors import UnsupportedOp
from interop.graph.record import Value

# Reads a flat place of every sample; the result has the places' shape, and a channel axis if there is one.
Reader = Callable[[Value], Value]


def _size(e: Emit, dim: Any, dtype: str) -> Value:
    """A dimension as a scalar."""
    return e.cast(e.reshape(e.size(dim), ()), dtype) if is_symbolic(dim) else e.scalar(int(dim), dtype)


def _away_from_zero(e: Emit, x: Value) -> Value:
    """The nearest integers, halves away from zero."""
    half = e.like(0.5, x)
    up, down = e.unary("Floor", e.binary("Add", x, half)), e.unary("Ceil", e.binary("Sub", x, half))
    positive = e.binary("GreaterOrEqual", x, e.like(0, x), dtype="bool")
    return e.node("Where", positive, up, down, dtype=x.dtype, shape=x.shape)


def _neighbours(e: Emit, x: Value, order: int, halves_away: bool) -> list[tuple[Value, Value | None]]:
    """(cell, weight) on one axis: the nearest one, or the two around."""
    if order == 0:
        nearest = _away_from_zero(e, x) if halves_away else e.unary("Round", x)
        return [(e.cast(nearest, "int64"), None)]
    lower = e.unary("Floor", x)
    above = e.binary("Sub", x, lower)
    cell = e.cast(lower, "int64")
    after = e.binary("Add", cell, e.scalar(1, "int64"))
    return [(cell, e.binary("Sub", e.like(1, x), above)), (after, above)]


def _clamped(e: Emit, x: Value, size: Value) -> Value:
    last = e.binary("Sub", size, e.like(1, size))
    return e.node("Max", e.node("Min", x, last, shape=x.shape), e.like(0, x), shape=x.shape)


def _folded(e: Emit, cell: Value, half: Value) -> Value:
    """A triangular wave: |(cell + half) mod (2 half) - half|."""
    period = e.binary("Mul", half, e.scalar(2, "int64"))
    period = e.node("Max", period, e.scalar(1, "int64"), shape=())
    wave = e.binary("Sub", e.binary("Mod", e.binary("Add", cell, half), period), half)
    return e.unary("Abs", wave)


def _fixed(e: Emit, cell: Value, size: Value, mode: str) -> Value:
    """A cell inside an axis for any cell."""
    one, two = e.scalar(1, "int64"), e.scalar(2, "int64")
    if mode == "wrap":
        return e.binary("Mod", cell, size)
    if mode == "mirror":
        return _folded(e, cell, e.binary("Sub", size, one))
    if mode == "reflect":
        odd = e.binary("Add", e.binary("Mul", cell, two), one)
        wave = _folded(e, odd, e.binary("Mul", size, two))
        return e.binary("Div", e.binary("Sub", wave, one), two)
    if mode not in ("constant", "nearest"):
        raise UnsupportedOp(f"fill_mode={mode!r} is none of constant, nearest, wrap, mirror, reflect")
    return _clamped(e, cell, size)


def _fixed_by_tensorflow(e: Emit, cell: Value, size: Value, mode: str) -> Value:
    """TensorFlow's mirror and reflect: of |cell| mod (2 size), what lies beyond the axis comes back."""
    if mode not in ("mirror", "reflect"):
        return _fixed(e, cell, size, mode)
    period = e.binary("Mul", size, e.scalar(2, "int64"))
    place = e.binary("Mod", e.unary("Abs", cell), period)
    back = e.binary("Sub", period, place)
    if mode == "reflect":
        back = e.binary("Sub", back, e.scalar(1, "int64"))
    inside = e.binary("Less", place, size, dtype="bool")
    return _clamped(e, e.node("Where", inside, place, back, dtype="int64", shape=cell.shape), size)


def interpolated(
    e: Emit,
    read: Reader,
    coordinates: Sequence[Value],
    sizes: Sequence[Value],
    order: int,
    mode: str,
    fill: float,
    *,
    halves_away: bool,
    channels: bool = False,
    fix: Callable[[Emit, Value, Value, str], Value] = _fixed,
) -> Value:
    """The weighted sum of the cells around each coordinate.

    Args:
        read: reads flat places.
        coordinates: one tensor of floats for each axis, all of one shape.
        sizes: of those axes, as int64 scalars.
        order: 0 for the nearest cell, 1 for a linear mixture.
        mode: Keras' fill mode.
        fill: value of cells outside where the mode is "constant".
        halves_away: how halves are rounded at order 0: away from zero, or to even.
        channels: whether what is read has a channel axis behind the coordinates'.
        fix: how a fill mode finds a cell.
    """
    axes = []
    for coordinate, size in zip(coordinates, sizes, strict=True):
        nodes = []
        for cell, weight in _neighbours(e, coordinate, order, halves_away):
            valid = None
            if mode == "constant":
                low = e.binary("GreaterOrEqual", cell, e.scalar(0, "int64"), dtype="bool")
                valid = e.binary("And", low, e.binary("Less", cell, size, dtype="bool"))
            nodes.append((fix(e, cell, size, mode), valid, weight))
        axes.append(nodes)
    total: Value | None = None
    for corner in itertools.product(*axes):
        place, inside, share = corner[0]
        for (cell, valid, weight), size in zip(corner[1:], sizes[1:], strict=True):
            place = e.binary("Add", e.binary("Mul", place, size), cell)
            inside = e.binary("And", inside, valid) if inside is not None and valid is not None else None
            share = e.binary("Mul", share, weight) if share is not None and weight is not None else None
        value = read(place)
        if inside is not None:
            inside = e.unsqueeze(inside, [inside.rank]) if channels else inside
            value = e.node("Where", inside, value, e.like(fill, value), dtype=value.dtype, shape=value.shape)
        if share is not None:
            share = e.cast(share, value.dtype)
            value = e.binary("Mul", value, e.unsqueeze(share, [share.rank]) if channels else share)
        total = value if total is None else e.binary("Add", total, value)
    assert total is not None
    return total


def _whole(e: Emit, x: Value, dtype: str, halves_away: bool) -> Value:
    """Floats in an image's dtype; integers are rounded."""
    if dtype.startswith(("float", "bf")):
        return e.cast(x, dtype)
    return e.cast(_away_from_zero(e, x) if halves_away else e.unary("Round", x), dtype)


def _map_spec(operation: Any, inputs: Any, coordinates: Any) -> Any:
    shape = coordinates[0].shape if isinstance(coordinates, list | tuple) else coordinates.shape[1:]
    return compat.tensor_spec(shape, inputs.dtype)


@op("MapCoordinates", since=16, spec=_map_spec)
def map_coordinates(
    e: Emit, inputs: Any, coordinates: Any, *, order: int, fill_mode: str, fill_value: float
) -> Value:
    """``coordinates`` hold one row for each axis of ``inputs``."""
    source = e.tensor(inputs)
    data = source if source.dtype.startswith(("float", "bf")) else e.cast(source, "float32")
    points = e.tensor(coordinates)
    points = points if points.dtype.startswith("float") else e.cast(points, "float32")
    shape = points.dims[1:]
    rows = e.nodes(
        "Split", points, [1] * data.rank, outputs=[(points.dtype, (1, *shape))] * data.rank, axis=0
    )
    flat = e.reshape(data, (math.prod(data.dims),))
    backend = keras.config.backend()
    result = interpolated(
        e,
        lambda place: e.node("Gather", flat, place, shape=place.shape, axis=0),
        [e.squeeze(row, [0]) for row in rows],
        [_size(e, dim, "int64") for dim in data.dims],
        order,
        fill_mode,
        float(fill_value) if data is source else float(int(fill_value)),
        halves_away=backend == "jax",
        fix=_fixed_by_tensorflow if backend == "tensorflow" else _fixed,
    )
    return _whole(e, result, source.dtype, backend == "jax")


def _grid(e: Emit, height: Any, width: Any) -> tuple[Value, Value]:
    """x of (1, 1, width) and y of (1, height, 1)."""
    x, y = (e.cast(counting(e, size), "float32") for size in (width, height))
    return e.unsqueeze(x, [0, 1]), e.unsqueeze(y, [0, 2])


def _linear(e: Emit, factors: Sequence[Value], x: Value, y: Value) -> Value:
    """a x + b y + c."""
    a, b, c = factors
    return e.binary("Add", e.binary("Add", e.binary("Mul", a, x), e.binary("Mul", b, y)), c)


def _remapped(e: Emit, x: Value, size: Value, mode: str) -> Value:
    """TensorFlow's projections move coordinates, not cells, into an axis before they read."""
    last = e.binary("Sub", size, e.like(1, size))
    zero = e.like(0, x)
    if mode in ("wrap", "reflect"):
        period = size if mode == "wrap" else e.binary("Mul", size, e.like(2, size))
        # What turns are counted by; len - 1 for wrap is TensorFlow's own choice.
        turn = e.node("Max", last, e.like(1, last), shape=()) if mode == "wrap" else period
        low = e.binary("Less", x, zero, dtype="bool")
        turns = e.binary("Div", e.unary("Abs", x), turn)
        turns = e.binary("Mul", e.unary("Floor", turns), period)
        if mode == "wrap":
            below = e.binary("Add", e.binary("Add", x, turns), period)
            above = e.binary("Sub", x, turns)
        else:
            near = e.binary("Add", x, turns)
            mirrored = e.binary("Sub", e.unary("Neg", near), e.like(1, x))
            far = e.binary("Less", near, e.unary("Neg", size), dtype="bool")
            below = e.node(
                "Where", far, e.binary("Add", near, period), mirrored, dtype=x.dtype, shape=x.shape
            )
            above = e.binary("Sub", x, turns)
            back = e.binary("Sub", e.binary("Sub", period, above), e.like(1, x))
            beyond = e.binary("GreaterOrEqual", above, size, dtype="bool")
            above = e.node("Where", beyond, back, above, dtype=x.dtype, shape=x.shape)
        high = e.binary("Greater", x, last, dtype="bool")
        x = e.node("Where", high, above, x, dtype=x.dtype, shape=x.shape)
        x = e.node("Where", low, below, x, dtype=x.dtype, shape=x.shape)
    return e.node("Max", e.node("Min", x, last, shape=x.shape), zero, shape=x.shape)


def _projected(
    e: Emit,
    images: Value,
    factors: Value,
    interpolation: str,
    mode: str,
    fill: float,
    data_format: str,
    perspective: bool,
) -> Value:
    """Every cell (x, y) read at (a0 x + a1 y + a2, a3 x + a4 y + a5) / (a6 x + a7 y + 1)."""
    backend = keras.config.backend()
    batched = images.rank == 4
    pixels = images if batched else e.unsqueeze(images, [0])
    pixels = e.transpose(pixels, [0, 2, 3, 1]) if data_format == "channels_first" else pixels
    height, width = pixels.dims[1:3]
    columns = e.nodes("Split", factors, [1] * 8, outputs=[("float32", (factors.dims[0], 1))] * 8, axis=1)
    a = [e.unsqueeze(column, [2]) for column in columns]
    x, y = _grid(e, height, width)
    across, down = _linear(e, a[:3], x, y), _linear(e, a[3:6], x, y)
    if perspective:
        depth = _linear(e, [a[6], a[7], e.scalar(1, "float32")], x, y)
        across, down = e.binary("Div", across, depth), e.binary("Div", down, depth)
    sizes = [_size(e, dim, "int64") for dim in (height, width)]
    if backend == "tensorflow" and mode in ("nearest", "wrap", "reflect"):
        down, across = (
            _remapped(e, c, e.cast(size, "float32"), mode)
            for c, size in zip((down, across), sizes, strict=True)
        )
        mode = "nearest"
    result = _read_at(e, pixels, down, across, interpolation, mode, fill, halves_away=backend != "torch")
    result = e.transpose(result, [0, 3, 1, 2]) if data_format == "channels_first" else result
    return result if batched else e.squeeze(result, [0])


def _read_at(
    e: Emit,
    pixels: Value,
    down: Value,
    across: Value,
    interpolation: str,
    mode: str,
    fill: float,
    *,
    halves_away: bool,
    fix: Callable[[Emit, Value, Value, str], Value] = _fixed,
) -> Value:
    """(batch, height, width, channels) read at as many coordinates."""
    dtype = pixels.dtype if pixels.dtype.startswith(("float", "bf")) else "float32"
    batch, height, width, channels = pixels.dims
    data = e.reshape(e.cast(pixels, dtype), (batch, height * width, channels))
    shape = (batch, height, width)

    def read(place: Value) -> Value:
        index = e.unsqueeze(e.expand(place, shape), [3])
        return e.node("GatherND", data, index, dtype=dtype, shape=(*shape, channels), batch_dims=1)

    result = interpolated(
        e,
        read,
        [down, across],
        [_size(e, dim, "int64") for dim in (height, width)],
        ("nearest", "bilinear").index(interpolation),
        mode,
        fill,
        halves_away=halves_away,
        channels=True,
        fix=fix,
    )
    return _whole(e, result, pixels.dtype, keras.config.backend() == "jax")


@op("AffineTransform", since=16)
def affine_transform(
    e: Emit,
    images: Any,
    transform: Any,
    *,
    interpolation: str,
    fill_mode: str,
    fill_value: float,
    data_format: str,
) -> Value:
    factors = e.tensor(transform, "float32")
    factors = e.unsqueeze(factors, [0]) if factors.rank == 1 else factors
    # Only TensorFlow reads the last two factors, which are 0 in an affine map.
    full = keras.config.backend() == "tensorflow"
    return _projected(
        e, e.tensor(images), factors, interpolation, fill_mode, float(fill_value), data_format, full
    )


def _basis(e: Emit, points: Value) -> tuple[Value, Value]:
    """The map that takes the unit vectors and their sum to four points, by columns, and its adjugate."""
    batch = points.dims[0]
    ones = e.expand(e.constant(np.ones((1, 4, 1)), "float64"), (batch, 4, 1))
    corners = e.concat([points, ones], 2)
    first, fourth = (
        e.node("Slice", corners, [a], [b], [1], shape=(batch, b - a, 3)) for a, b in ((0, 3), (3, 4))
    )
    weights = e.reduce("ReduceSum", e.binary("Mul", _crossed(e, first), fourth), [2], True)
    columns = e.binary("Mul", first, weights)
    return columns, _crossed(e, columns)


def _crossed(e: Emit, vectors: Value) -> Value:
    """Cross products of the other two of three vectors, (batch, 3, 3)."""

    def rolled(x: Value, axis: int, by: int) -> Value:
        index = e.constant((np.arange(3) + by) % 3, "int64")
        return e.node("Gather", x, index, shape=x.shape, axis=axis)

    second, third = rolled(vectors, 1, 1), rolled(vectors, 1, 2)
    left = e.binary("Mul", rolled(second, 2, 1), rolled(third, 2, 2))
    return e.binary("Sub", left, e.binary("Mul", rolled(second, 2, 2), rolled(third, 2, 1)))


def _perspective_spec(operation: Any, images: Any, start_points: Any, end_points: Any) -> Any:
    return compat.tensor_spec(images.shape, images.dtype)


@op("PerspectiveTransform", since=16, spec=_perspective_spec)
def perspective_transform(
    e: Emit,
    images: Any,
    start_points: Any,
    end_points: Any,
    *,
    interpolation: str,
    fill_value: float,
    data_format: str,
) -> Value:
    """The one map that takes the four end points to the start points, in closed form and in float64."""
    start, end = (e.tensor(points, "float64") for points in (start_points, end_points))
    start, end = (e.unsqueeze(x, [0]) if x.rank == 2 else x for x in (start, end))
    onto, _ = _basis(e, start)
    _, back = _basis(e, end)
    product = e.matmul(e.transpose(onto, [0, 2, 1]), back)
    flat = e.reshape(product, (product.dims[0], 9))
    unit, rest = (
        e.node("Slice", flat, [a], [b], [1], shape=(flat.dims[0], b - a)) for a, b in ((8, 9), (0, 8))
    )
    factors = e.cast(e.binary("Div", rest, unit), "float32")
    return _projected(
        e, e.tensor(images), factors, interpolation, "constant", float(fill_value), data_format, True
    )


@op("ElasticTransform", since=16)
def elastic_transform(
    e: Emit,
    images: Value,
    *,
    alpha: float,
    sigma: float,
    interpolation: str,
    fill_mode: str,
    fill_value: float,
    data_format: str,
) -> Value:
    """Cells moved by blurred noise that the graph draws anew in every run, whatever the seed."""
    backend = keras.config.backend()
    batched = images.rank == 4
    pixels = images if batched else e.unsqueeze(images, [0])
    pixels = e.transpose(pixels, [0, 2, 3, 1]) if data_format == "channels_first" else pixels
    batch, height, width, _ = pixels.dims
    reach = 6 * int(sigma) if backend == "tensorflow" else int(6 * sigma)
    bell = gaussian(reach | 1, float(sigma))
    pads = [(reach | 1) // 2] * 4

    def moves() -> Value:
        still = filled(e, (batch, 1, height, width), 0, "float32")
        noise = e.node("RandomNormalLike", still, shape=still.shape, scale=float(sigma))
        blurred = e.squeeze(one_kernel(e, noise, np.outer(bell, bell), pads), [1])
        return e.binary("Mul", blurred, e.like(float(alpha), blurred))

    right = moves()
    # jax and TensorFlow draw both directions from one seed, so they are the same.
    below = moves() if backend == "torch" else right
    x, y = _grid(e, height, width)
    result = _read_at(
        e,
        pixels,
        e.binary("Add", y, below),
        e.binary("Add", x, right),
        interpolation,
        fill_mode,
        float(fill_value),
        halves_away=backend == "jax",
        fix=_fixed_by_tensorflow if backend == "tensorflow" else _fixed,
    )
    result = e.transpose(result, [0, 3, 1, 2]) if data_format == "channels_first" else result
    return result if batched else e.squeeze(result, [0])
