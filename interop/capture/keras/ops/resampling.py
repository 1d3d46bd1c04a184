"""Resizing: ONNX Resize where it means the same, else cells by number, or one weight matrix for each axis.

Enters: images of any size. Leaves: images of the asked size, by the rule of the backend that runs:

===============  ==========================================================================
nearest          Gather of the cells floor((i + 0.5) step), rounded in float32 as the backend does: a position
                 that is a whole number is the rule where sizes divide, and runtimes' Resize rounds otherwise
bilinear         ONNX Resize, half_pixel
bicubic          matrix: torch takes a=-0.75 and repeats the edge; jax and TensorFlow take a=-0.5
                 and leave out cells outside, TensorFlow with positions rounded to 1/1024
lanczos3 and 5   matrix (torch has none)
area             matrix (TensorFlow only)
antialias        matrix, a=-0.5, the kernel as wide as a step; never for nearest and area
===============  ==========================================================================

ONNX Resize has the same cubics, but ONNX Runtime 1.32 moves a Transpose through it and then refuses to
shrink channels-last images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.convolution import channels_first, restored
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic
from interop.errors import UnsupportedOp
from interop.graph.record import Value

Term = Any  # a float32 array, known now, or a Value

_NUMPY: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Div": np.divide,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Reciprocal": np.reciprocal,
    "Round": np.round,
    "Sin": np.sin,
    "Sub": np.subtract,
    "Where": np.where,
}
_LOGICAL = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And"}


class Terms:
    """Arithmetic in float32, done now where every term is known, in the graph where one is not."""

    def __init__(self, e: Emit) -> None:
        self._e = e

    def __call__(self, op_type: str, *terms: Term) -> Term:
        if not any(isinstance(term, Value) for term in terms):
            return np.asarray(_NUMPY[op_type](*terms))
        values = [term if isinstance(term, Value) else self._known(term) for term in terms]
        return self._e.node(op_type, *values, dtype="bool" if op_type in _LOGICAL else values[-1].dtype)

    def _known(self, term: Any) -> Value:
        array = np.asarray(term)
        return self._e.constant(array if array.dtype == np.bool_ else array.astype(np.float32))

    def size(self, dim: Any) -> Term:
        """A dimension as a float."""
        if isinstance(dim, Value):
            return self._e.cast(dim, "float32")
        return self._e.cast(self._e.size(dim), "float32") if is_symbolic(dim) else np.float32(dim)

    def count(self, dim: Any) -> Term:
        """0, 1, ... as floats."""
        if isinstance(dim, Value):
            stop = self._e.node("Squeeze", dim, [0], shape=())
            ends = self._e.scalar(0, "int64"), stop, self._e.scalar(1, "int64")
            return self._e.cast(self._e.node("Range", *ends, dtype="int64"), "float32")
        if is_symbolic(dim):
            return self._e.cast(counting(self._e, dim), "float32")
        return np.arange(int(dim), dtype=np.float32)

    def column(self, term: Term) -> Term:
        """(n,) as (n, 1)."""
        if isinstance(term, Value):
            return self._e.node("Unsqueeze", term, [1])
        return term[:, None]

    def total(self, term: Term) -> Term:
        """Sums over the first axis, kept."""
        if isinstance(term, Value):
            return self._e.node("ReduceSum", term, [0], keepdims=1)
        return term.sum(0, keepdims=True)

    def value(self, term: Term, dtype: str) -> Value:
        """As a value for good."""
        return self._e.cast(term if isinstance(term, Value) else self._e.constant(term, "float32"), dtype)


def _triangle(do: Terms, x: Term) -> Term:
    return do("Max", do("Sub", 1.0, x), 0.0)


def _cubic(a: float) -> Callable[[Terms, Term], Term]:
    def kernel(do: Terms, x: Term) -> Term:
        near = do("Sub", do("Mul", x, a + 2.0), a + 3.0)
        near = do("Add", do("Mul", do("Mul", near, x), x), 1.0)
        far = do("Add", do("Mul", do("Sub", do("Mul", x, a), 5.0 * a), x), 8.0 * a)
        far = do("Sub", do("Mul", far, x), 4.0 * a)
        inside = do("Where", do("GreaterOrEqual", x, 1.0), far, near)
        return do("Where", do("GreaterOrEqual", x, 2.0), np.float32(0), inside)

    return kernel


def _lanczos(radius: float) -> Callable[[Terms, Term], Term]:
    def kernel(do: Terms, x: Term) -> Term:
        angle = do("Mul", x, np.pi)
        waves = do("Mul", do("Sin", angle), do("Sin", do("Mul", x, np.pi / radius)))
        off = do("Greater", x, 1e-3)
        safe = do("Where", off, do("Mul", angle, angle), np.float32(1))
        value = do("Where", off, do("Div", do("Mul", waves, radius), safe), np.float32(1))
        return do("Where", do("Greater", x, radius), np.float32(0), value)

    return kernel


# Cells beyond the edge that torch's bicubic reads, and its kernel.
_BEYOND, _STEEP = 2, _cubic(-0.75)

KERNELS: dict[str, Callable[[Terms, Term], Term]] = {
    "bilinear": _triangle,
    "bicubic": _cubic(-0.5),
    "lanczos3": _lanczos(3.0),
    "lanczos5": _lanczos(5.0),
}


def sampled(do: Terms, size: Any, samples: Term, kernel: Callable[[Terms, Term], Term], width: Term) -> Term:
    """Weights (size, samples) of every cell at positions between cells; each column sums to 1."""
    distance = do("Abs", do("Sub", samples, do.column(do.count(size))))
    weights = kernel(do, do("Div", distance, width))
    total = do.total(weights)
    known = do("Greater", do("Abs", total), 1000.0 * float(np.finfo(np.float32).eps))
    return do("Where", known, do("Div", weights, do("Where", known, total, np.float32(1))), np.float32(0))


def shares(do: Terms, size: Any, count: Any, step: Term) -> Term:
    """Weights (size, count) by how much of a cell lies in each stretch of ``step``."""
    start = do("Mul", do.count(count), step)
    cell = do.column(do.count(size))
    reach = do("Min", do("Add", start, step), do("Add", cell, 1.0))
    overlap = do("Sub", reach, do("Max", start, cell))
    return do("Div", do("Max", overlap, 0.0), step)


def _repeats_edge(interpolation: str, antialias: bool) -> bool:
    return interpolation == "bicubic" and not antialias and keras.config.backend() == "torch"


def _samples(do: Terms, count: Any, step: Term) -> Term:
    """Where the middle of each new cell lies."""
    return do("Sub", do("Mul", do("Add", do.count(count), np.float32(0.5)), step), 0.5)


def bicubic_as_tensorflow(do: Terms, size: Any, count: Any, step: Term) -> Term:
    """Weights (size, count); TensorFlow has a table of the kernel with 1024 places between two cells."""
    samples = do("Div", do("Round", do("Mul", _samples(do, count, step), 1024.0)), 1024.0)
    return sampled(do, size, samples, KERNELS["bicubic"], np.float32(1))


def _matrix(e: Emit, size: Any, count: Any, interpolation: str, antialias: bool, dtype: str) -> Value:
    do = Terms(e)
    step = do("Div", do.size(size), do.size(count))
    if interpolation == "area":
        return do.value(shares(do, size, count, step), dtype)
    if interpolation == "bicubic" and not antialias and keras.config.backend() == "tensorflow":
        return do.value(bicubic_as_tensorflow(do, size, count, step), dtype)
    samples = _samples(do, count, step)
    width = do("Max", step, 1.0) if antialias else np.float32(1)
    if _repeats_edge(interpolation, antialias):
        border = e.scalar(2 * _BEYOND, "int64")
        size = e.binary("Add", size, border) if isinstance(size, Value) else size + 2 * _BEYOND
        return do.value(sampled(do, size, do("Add", samples, float(_BEYOND)), _STEEP, width), dtype)
    return do.value(sampled(do, size, samples, KERNELS[interpolation], width), dtype)


def weighted(e: Emit, x: Value, axis: int, weights: Value, count: Any) -> Value:
    """One axis replaced by ``count`` weighted sums over it; ``weights`` are (size, count)."""
    shape = (*x.dims[:axis], count, *x.dims[axis + 1 :])
    if axis == x.rank - 1:
        return e.node("MatMul", x, weights, shape=shape)
    if axis == x.rank - 2:
        turned = e.node("Transpose", weights, perm=[1, 0])
        return e.node("MatMul", turned, x, dtype=x.dtype, shape=shape)
    order = [i for i in range(x.rank) if i != axis] + [axis]
    moved = e.transpose(x, order)
    product = e.node("MatMul", moved, weights, shape=(*moved.dims[:-1], count))
    return e.transpose(product, [order.index(i) for i in range(x.rank)])


def rounded(e: Emit, x: Value, dtype: str) -> Value:
    """Floats as integers of a narrower range."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = e.node("Clip", e.unary("Round", x), e.like(low, x), e.like(high, x), shape=x.shape)
    return e.cast(x, dtype)


def _proportions(e: Emit, dims: Any, size: tuple[int, int], crop: bool) -> tuple[Value, list[Any]]:
    """(cells before the box, sizes of the box) along height and width; sizes are numbers if known."""
    wanted = [dims[1] * size[0] // size[1], dims[0] * size[1] // size[0]]
    if not any(is_symbolic(dim) for dim in dims):
        pairs = list(zip(dims, wanted, strict=True))
        boxes = [max(min(d, w), 1) if crop else d + max(w - d, 0) // 2 * 2 for d, w in pairs]
        return e.constant([abs(d - box) // 2 for d, box in zip(dims, boxes, strict=True)], "int64"), boxes
    own, other = e.sizes(dims), e.sizes(wanted)
    two = e.scalar(2, "int64")
    if crop:
        box = e.node("Max", e.node("Min", own, other), [1], shape=(2,))
        start = e.binary("Div", e.node("Sub", own, box, shape=(2,)), two)
    else:
        # As much on either side, so the box may lack one cell of its proportions.
        gap = e.node("Sub", e.node("Max", own, other), own, shape=(2,))
        start = e.binary("Div", gap, two)
        box = e.binary("Add", own, e.binary("Mul", start, two))
    return start, list(e.nodes("Split", box, [1, 1], outputs=[("int64", (1,))] * 2, axis=0))


def _fitted(
    e: Emit, x: Value, size: tuple[int, int], crop: bool, fill_value: float
) -> tuple[Value, list[Any]]:
    """Height and width cut or padded to the proportions of ``size``, with the resulting sizes."""
    start, boxes = _proportions(e, x.dims[2:], size, crop)
    if crop:
        sizes = e.concat([box if isinstance(box, Value) else e.size(box) for box in boxes], 0)
        return e.node("Slice", x, start, e.node("Add", start, sizes), [2, 3]), boxes
    none = e.constant(np.zeros(2), "int64")
    return e.node("Pad", x, e.concat([none, start, none, start], 0), e.like(fill_value, x)), boxes


@op("Resize", since=13)
def resize(
    e: Emit,
    images: Value,
    *,
    size: tuple[int, int],
    interpolation: str,
    antialias: bool,
    crop_to_aspect_ratio: bool,
    pad_to_aspect_ratio: bool,
    fill_value: float,
    data_format: str,
) -> Value:
    floating = images.dtype.startswith(("float", "bf"))
    batched = images if images.rank == 4 else e.unsqueeze(images, [0])
    whole = channels_first(e, e.cast(batched, images.dtype if floating else "float32"), data_format)
    shape = (*whole.dims[:2], *size)
    x, sizes = whole, list(whole.dims[2:])
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        x, sizes = _fitted(e, x, size, crop_to_aspect_ratio, fill_value)
    extents = [e.unknown("box", n) if isinstance(n, Value) else n for n in sizes]
    if interpolation == "nearest":
        x.shape = (*whole.dims[:2], *extents)
        for axis, (own, count) in enumerate(zip(sizes, size, strict=True), 2):
            x = _nearest(e, x, axis, own, count)
    elif interpolation == "bilinear" and not antialias:
        # All four sizes, without the attribute `axes`: ONNX Runtime 1.32 loses that one when it moves a
        # Transpose through.
        x = e.node("Resize", x, None, None, e.sizes(shape), shape=shape, mode="linear")
    elif interpolation in (*KERNELS, "area"):
        if _repeats_edge(interpolation, antialias):
            border = [0, 0, _BEYOND, _BEYOND]
            x = e.node("Pad", x, border + border, mode="edge")
            extents = [n + 2 * _BEYOND for n in extents]
        x.shape = (*whole.dims[:2], *extents)
        for axis, (own, count) in enumerate(zip(sizes, size, strict=True), 2):
            x = weighted(e, x, axis, _matrix(e, own, count, interpolation, antialias, x.dtype), count)
    else:
        raise UnsupportedOp(f"ops.image.resize with interpolation={interpolation!r} has no rule")
    x = x if floating else rounded(e, x, images.dtype)
    x = restored(e, x, data_format)
    return x if images.rank == 4 else e.squeeze(x, [0])


def _nearest(e: Emit, x: Value, axis: int, own: Any, count: Any) -> Value:
    """The cell in whose middle, or before it, the middle of each new cell lies.

    Sources: tensorflow/core/kernels/image/resize_nearest_neighbor_op.cc and ATen/native/UpSample.h divide the sizes;
    jax/_src/image/scale.py, once compiled, multiplies by the reciprocal of the new one.
    """
    if not any(isinstance(n, Value) or is_symbolic(n) for n in (own, count)) and own == count:
        return x
    do = Terms(e)
    size, number = do.size(own), do.size(count)
    by_reciprocal = (
        keras.config.backend() == "jax"
    )  # a Div of one would be fused with the Mul by ONNX Runtime
    step = do("Mul", size, do("Reciprocal", number)) if by_reciprocal else do("Div", size, number)
    cells = do("Floor", do("Mul", do("Add", do.count(count), np.float32(0.5)), step))
    cells = do("Min", cells, do("Sub", size, np.float32(1)))
    shape = (*x.dims[:axis], count, *x.dims[axis + 1 :])
    return e.node("Gather", x, do.value(cells, "int64"), shape=shape, axis=axis)


_METHODS = {
    "linear": "bilinear",
    "trilinear": "bilinear",
    "triangle": "bilinear",
    "cubic": "bicubic",
    "tricubic": "bicubic",
}


@op("ScaleAndTranslate", since=13)
def scale_and_translate(
    e: Emit,
    images: Any,
    output_shape: Any,
    scale: Any,
    translation: Any,
    *,
    spatial_dims: Any,
    method: str,
    antialias: bool,
) -> Value:
    """Along each axis, output cell i reads position (i + 0.5 - translation) / scale - 0.5."""
    source = e.tensor(images)
    floating = source.dtype.startswith(("float", "bf"))
    x = source if floating else e.cast(source, "float32")
    kernel = KERNELS[_METHODS.get(method, method)]
    do = Terms(e)
    for place, axis in enumerate(int(axis) % x.rank for axis in spatial_dims):
        size, count = x.dims[axis], output_shape[axis]
        factor, shift = (_entry(e, vector, place) for vector in (scale, translation))
        step = do("Div", 1.0, factor)
        centres = do("Mul", do("Add", do.count(count), 0.5), step)
        samples = do("Sub", do("Sub", centres, do("Mul", shift, step)), 0.5)
        width = do("Max", step, 1.0) if antialias else np.float32(1)
        weights = sampled(do, size, samples, kernel, width)
        inside = do("GreaterOrEqual", samples, -0.5)
        inside = do("And", inside, do("LessOrEqual", samples, do("Sub", do.size(size), 0.5)))
        weights = do("Where", inside, weights, np.float32(0))
        x = weighted(e, x, axis, do.value(weights, x.dtype), count)
    if floating:
        return x
    low, high = (e.cast(e.reduce(f"Reduce{end}", source, None), x.dtype) for end in ("Min", "Max"))
    x = e.node("Min", e.node("Max", e.unary("Round", x), low), high, shape=x.shape)
    return e.cast(x, source.dtype)


def _entry(e: Emit, vector: Any, place: int) -> Term:
    """One number of a vector, of shape (1,)."""
    value = e.tensor(vector, "float32")
    if value.array is not None:
        return value.array[place : place + 1]
    return e.node("Slice", value, [place], [place + 1], [0], shape=(1,))
