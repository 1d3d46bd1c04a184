"""Resize, Upsample, GridSample and RoiAlign. Source: https://onnx.ai/onnx/operators/onnx__Resize.html and its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from keras import ops
from numpy.typing import NDArray

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op
from interop.rebuild.sampling import cubic, resizing_matrix, sampled

_NEAREST = {
    "round_prefer_floor": (-0.5, "ceil"),
    "round_prefer_ceil": (0.5, "floor"),
    "floor": (0.0, "floor"),
    "ceil": (0.0, "ceil"),
}
"""What is added to a place, and the function that makes it whole."""
_MOST_REPEATS = 64
_LARGEST_PART = 64
"""A scale of an open dimension is a fraction with at most this below the line."""
_SHOWN = 5


@dataclass(frozen=True)
class _Manner:
    """The attributes of Resize that hold for every axis."""

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude: bool = False
    antialias: bool = False
    beyond: float = 0.0


@op("Upsample", since=7)
def upsample_attribute(ctx: Context, x: Tensor, *, scales: Sequence[float], mode: str = "nearest") -> Tensor:
    return _by_scales(ctx, x, list(scales), _Manner(mode, "asymmetric", "floor"))


@op("Upsample", since=9, static=("scales",))
def upsample(ctx: Context, x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    return _by_scales(ctx, x, scales.tolist(), _Manner(mode, "asymmetric", "floor"))


@op("Resize", since=10, static=("scales",))
def resize_by_scales(ctx: Context, x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    return _by_scales(ctx, x, scales.tolist(), _Manner(mode, "asymmetric", "floor"))


@op("Resize", since=11, static=("scales", "roi"), dims=("sizes",))
def resize(
    ctx: Context,
    x: Tensor,
    roi: Tensor = None,
    scales: Tensor = None,
    sizes: Tensor = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    manner = _Manner(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    rank = ctx.rank(x)
    over = list(range(rank)) if axes is None else [ctx.axis(axis, rank) for axis in axes]
    borders: dict[int, tuple[float, float]] = {}
    if roi is not None and roi.size:
        flat = roi.reshape(-1).tolist()
        borders = {axis: (flat[i], flat[i + len(over)]) for i, axis in enumerate(over)}
    if scales is not None and scales.size:
        factors = [1.0] * rank
        for axis, factor in zip(over, scales.tolist(), strict=True):
            factors[axis] = factor
        return _by_scales(ctx, x, factors, manner, borders)
    if sizes is None:
        ctx.fail("has neither scales nor sizes")
    return _by_sizes(
        ctx, x, dict(zip(over, ctx.items(sizes), strict=True)), manner, borders, keep_aspect_ratio_policy
    )


def _by_scales(
    ctx: Context,
    x: Tensor,
    scales: Sequence[float],
    manner: _Manner,
    borders: dict[int, tuple[float, float]] | None = None,
) -> Tensor:
    for axis, scale in enumerate(scales):
        size = ctx.dims(x)[axis]
        if isinstance(size, SymInt):
            x = _open(ctx, x, axis, _scaled(ctx, size, scale), float(scale), manner)
        else:
            x = _resized(ctx, x, axis, int(np.floor(size * scale)), scale, manner, (borders or {}).get(axis))
    return x


def _scaled(ctx: Context, size: int, scale: float) -> int:
    """An open size times a scale, rounded down."""
    part = Fraction(scale).limit_denominator(_LARGEST_PART)
    if part <= 0 or abs(float(part) - scale) > 1e-6 * scale:
        ctx.fail(f"scales the open dimension {size} by {scale}; import the model with that dimension fixed")
    return size * part.numerator // part.denominator


def _by_sizes(
    ctx: Context,
    x: Tensor,
    sizes: dict[int, int],
    manner: _Manner,
    borders: dict[int, tuple[float, float]],
    policy: str,
) -> Tensor:
    have = ctx.dims(x)
    if policy != "stretch":
        for axis, size in sizes.items():
            if isinstance(size, SymInt) or isinstance(have[axis], SymInt):
                ctx.fail(f"keep_aspect_ratio_policy={policy!r} over the open dimension at axis {axis}")
        pick = min if policy == "not_larger" else max
        scale = pick(size / have[axis] for axis, size in sizes.items())
        for axis in sizes:
            x = _resized(
                ctx, x, axis, int(np.floor(scale * have[axis] + 0.5)), scale, manner, borders.get(axis)
            )
        return x
    for axis, size in sizes.items():
        old = have[axis]
        if isinstance(old, SymInt) or isinstance(size, SymInt):
            times = next((n for n in range(1, _MOST_REPEATS) if ctx.sizes.same(size, old * n)), None)
            ratio = float(times) if times else ops.divide(_measure(ctx, size), _measure(ctx, old))
            x = _open(ctx, x, axis, size, ratio, manner)
        else:
            x = _resized(ctx, x, axis, size, size / old, manner, borders.get(axis))
    return x


def _open(ctx: Context, x: Tensor, axis: int, new: int, scale: float | Tensor, manner: _Manner) -> Tensor:
    """An axis whose old or new size is open: where the new elements lie is computed when the model runs."""
    dims = list(ctx.dims(x))
    size, dims[axis] = dims[axis], new
    known = isinstance(scale, float)
    if known and scale == 1:
        return x
    if manner.exclude or (manner.antialias and not (known and scale > 1)):
        ctx.fail(
            f"{'exclude_outside' if manner.exclude else 'antialias'} over the open dimension {size} at axis {axis}; "
            "import the model with that dimension fixed"
        )
    if known and manner.mode == "nearest" and _repeats(ctx, scale, manner):
        return ctx.declare(ops.repeat(x, int(scale), axis=axis), dims)
    places = _open_places(ctx, size, new, scale, manner.coordinates)
    dtype = ctx.dtype(x)
    line = [-1 if i == axis else 1 for i in range(len(dims))]
    last = _measure(ctx, size) - 1.0

    def at(places: Tensor) -> Tensor:
        inside = ops.minimum(ops.maximum(places, 0.0), last)
        return ctx.declare(ops.take(x, ops.cast(inside, "int32"), axis=axis), dims)

    if manner.mode == "nearest":
        shift, rounded = _NEAREST[manner.nearest]
        return at(getattr(ops, rounded)(ops.add(places, shift)))
    wide = dtype if "float" in dtype else "float32"
    low = ops.floor(places)
    distance = ops.subtract(places, low)
    linear = manner.mode == "linear"
    weights = (ops.subtract(1.0, distance), distance) if linear else cubic(distance, manner.cubic)
    y = None
    for step, weight in enumerate(weights):
        value = ops.cast(at(ops.add(low, float(step if linear else step - 1))), wide)
        part = ctx.declare(ops.multiply(value, ops.reshape(ops.cast(weight, wide), line)), dims)
        y = part if y is None else ctx.add(y, part)
    return ctx.declare(y if wide == dtype else ops.cast(ops.round(y), dtype), dims)


def _repeats(ctx: Context, scale: float, manner: _Manner) -> bool:
    """Whether each element is copied a whole number of times, which some numbers of them show."""
    if scale != int(scale) or manner.coordinates == "align_corners":
        return False
    shift, rounded = _NEAREST[manner.nearest]
    places = _places(ctx, _SHOWN, _SHOWN * int(scale), scale, manner.coordinates, None)
    index = np.clip(getattr(np, rounded)(places + shift), 0, _SHOWN - 1)
    return bool((index == np.repeat(np.arange(_SHOWN), int(scale))).all())


def _open_places(ctx: Context, size: int, new: int, scale: float | Tensor, how: str) -> Tensor:
    """``_places`` of sizes that are open."""
    line = ops.cast(ctx.sizes.arange(new), "float32")
    if how == "align_corners":
        length = _measure(ctx, new) if not isinstance(scale, float) else _measure(ctx, size) * scale
        return ops.multiply(line, ops.divide(_measure(ctx, size) - 1.0, ops.maximum(length - 1.0, 1.0)))
    if how == "asymmetric":
        return ops.divide(line, scale)
    if how == "tf_crop_and_resize":
        ctx.fail(f"{how} over an open dimension; import the model with that dimension fixed")
    centred = ops.subtract(ops.divide(ops.add(line, 0.5), scale), 0.5)
    if how == "pytorch_half_pixel":
        return ops.where(ops.greater(_measure(ctx, new), 1.0), centred, ops.zeros_like(centred))
    if how == "half_pixel_symmetric":
        old = _measure(ctx, size)
        return ops.add(centred, (1.0 - _measure(ctx, new) / (old * scale)) * (old / 2.0))
    if how != "half_pixel":
        ctx.fail(f"coordinate_transformation_mode {how!r} is unknown")
    return centred


def _measure(ctx: Context, size: int) -> Tensor:
    """A size in float32: a tensor if it is open."""
    measured = ctx.sizes.measured(size)
    return float(measured) if isinstance(measured, int) else ops.cast(measured, "float32")


def _places(
    ctx: Context, size: int, new: int, scale: float, how: str, border: tuple[float, float] | None
) -> NDArray[np.float64]:
    """Where the new elements lie among the old."""
    line = np.arange(new, dtype="float64")
    length = scale * size
    if how == "align_corners":
        return line * 0.0 if length == 1 or (new == 1 and length <= 1) else line * (size - 1) / (length - 1)
    if how == "asymmetric":
        return line / scale
    if how == "tf_crop_and_resize":
        start, end = border or (0.0, 1.0)
        if length == 1:
            return line * 0.0 + (start + end) * (size - 1) / 2
        return line * (end - start) * (size - 1) / (length - 1) + start * (size - 1)
    centred = (line + 0.5) / scale - 0.5
    if how == "pytorch_half_pixel":
        return centred if new > 1 else line * 0.0
    if how == "half_pixel_symmetric":
        return centred + size / 2 * (1 - new / length)
    if how != "half_pixel":
        ctx.fail(f"coordinate_transformation_mode {how!r} is unknown")
    return centred


def _resized(
    ctx: Context,
    x: Tensor,
    axis: int,
    new: int,
    scale: float,
    manner: _Manner,
    border: tuple[float, float] | None,
) -> Tensor:
    """One axis at a new size."""
    dims = list(ctx.dims(x))
    size = int(dims[axis])
    cropped = manner.coordinates == "tf_crop_and_resize"
    if new == size and scale == 1 and not cropped:
        return x
    places = _places(ctx, size, new, scale, manner.coordinates, border)
    dims[axis] = new
    if manner.mode == "nearest":
        shift, rounded = _NEAREST[manner.nearest]
        index = np.clip(getattr(np, rounded)(places + shift), 0, size - 1).astype("int32")
        y = ops.take(x, index, axis=axis)
    else:
        mode = "linear" if manner.mode == "linear" else "cubic"
        matrix = resizing_matrix(places, size, scale, mode, manner.cubic, manner.exclude, manner.antialias)
        dtype = ctx.dtype(x)
        wide = dtype if "float" in dtype else "float32"
        moved = ops.moveaxis(ops.cast(x, wide), axis, -1)
        y = ops.moveaxis(ops.matmul(moved, matrix.T.astype(wide)), -1, axis)
        if wide != dtype:
            y = ops.cast(ops.round(y), dtype)
    beyond = (places < 0) | (places > size - 1)
    if cropped and beyond.any():
        line = beyond.reshape([-1 if i == axis else 1 for i in range(len(dims))])
        y = ops.where(line, np.asarray(manner.beyond, ctx.dtype(x)), y)
    return ctx.declare(y, dims)


@op("GridSample", since=16)
def grid_sample(
    ctx: Context,
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Tensor:
    """Coordinates go from -1 to 1, those of the last axis first."""
    sizes = [int(size) for size in x.shape[2:]]
    coordinates = []
    for axis, size in enumerate(sizes):
        place = ops.add(grid[..., len(sizes) - 1 - axis], 1.0)
        if align_corners:
            coordinates.append(ops.multiply(place, (size - 1) / 2))
        else:
            coordinates.append(ops.subtract(ops.multiply(place, size / 2), 0.5))
    names = {"bilinear": "linear", "bicubic": "cubic"}
    return sampled(ctx, x, coordinates, names.get(mode, mode), padding_mode, bool(align_corners))


@op("RoiAlign", since=10)
def roi_align_of_corners(
    ctx: Context,
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    places = (output_height, output_width)
    return _roi_aligned(ctx, x, rois, batch_indices, mode, places, sampling_ratio, spatial_scale, False)


@op("RoiAlign", since=16)
def roi_align(
    ctx: Context,
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    half = coordinate_transformation_mode == "half_pixel"
    places = (output_height, output_width)
    return _roi_aligned(ctx, x, rois, batch_indices, mode, places, sampling_ratio, spatial_scale, half)


def _roi_aligned(
    ctx: Context,
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    mode: str,
    places: tuple[int, int],
    ratio: int,
    scale: float,
    half_pixel: bool,
) -> Tensor:
    """Samples of every region, pooled. Without a ratio their number follows from each region's own size."""
    if ratio:
        return _regions(ctx, x, rois, batch_indices, mode, places, (ratio, ratio), scale, half_pixel)
    known = ctx.known(rois)
    if known is None:
        ctx.fail("sampling_ratio=0 takes as many samples as a region is large, so regions must be known")
    results = []
    for i, (left, top, right, bottom) in enumerate(known.tolist()):
        lengths = [(bottom - top) * scale, (right - left) * scale]
        lengths = lengths if half_pixel else [max(length, 1.0) for length in lengths]
        grid = tuple(max(1, int(np.ceil(a / n))) for a, n in zip(lengths, places, strict=True))
        region, where = rois[i : i + 1], batch_indices[i : i + 1]
        results.append(_regions(ctx, x, region, where, mode, places, (grid[0], grid[1]), scale, half_pixel))
    return ops.concatenate(results, axis=0)


def _regions(
    ctx: Context,
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    mode: str,
    places: tuple[int, int],
    grid: tuple[int, int],
    scale: float,
    half_pixel: bool,
) -> Tensor:
    """Regions with the same number of samples in every bin."""
    corners = ops.subtract(ops.multiply(rois, scale), 0.5 if half_pixel else 0.0)
    lines = []
    for axis in range(2):
        start, end = corners[:, 1 - axis], corners[:, 3 - axis]
        length = ops.subtract(end, start)
        length = length if half_pixel else ops.maximum(length, 1.0)
        steps = (np.arange(places[axis] * grid[axis], dtype="float32") + 0.5) / grid[axis] / places[axis]
        lines.append(ops.add(ops.expand_dims(start, 1), ops.multiply(ops.expand_dims(length, 1), steps)))
    shape = (int(rois.shape[0]), places[0] * grid[0], places[1] * grid[1])
    rows = ops.broadcast_to(ops.expand_dims(lines[0], 2), shape)
    columns = ops.broadcast_to(ops.expand_dims(lines[1], 1), shape)
    sizes = [int(size) for size in x.shape[2:]]
    inside, moved = None, []
    for place, size in zip((rows, columns), sizes, strict=True):
        within = ops.logical_and(ops.greater_equal(place, -1.0), ops.less_equal(place, float(size)))
        inside = within if inside is None else ops.logical_and(inside, within)
        moved.append(ops.clip(place, 0.0, size - 1.0))
    values = _samples(ctx, ops.take(x, batch_indices, axis=0), moved, inside, mode)
    bins = ops.reshape(values, (shape[0], int(x.shape[1]), places[0], grid[0], places[1], grid[1]))
    return ops.max(bins, axis=(3, 5)) if mode == "max" else ops.mean(bins, axis=(3, 5))


def _samples(ctx: Context, x: Tensor, places: list[Tensor], inside: Tensor, mode: str) -> Tensor:
    """Values between places; for a maximum, the largest of the four weighted neighbours."""
    if mode != "max":
        values = sampled(ctx, x, places, "linear", "border", True)
        return ops.where(ops.expand_dims(inside, 1), values, ops.zeros_like(values))
    best = None
    low = [ops.floor(place) for place in places]
    for up in np.ndindex(2, 2):
        corner = [ops.add(start, float(step)) for start, step in zip(low, up, strict=True)]
        value = sampled(ctx, x, corner, "nearest", "border", True)
        for place, start, step in zip(places, low, up, strict=True):
            distance = ops.subtract(place, start)
            weight = distance if step else ops.subtract(1.0, distance)
            value = ops.multiply(value, ops.expand_dims(weight, 1))
        best = value if best is None else ops.maximum(best, value)
    return ops.where(ops.expand_dims(inside, 1), best, ops.zeros_like(best))
