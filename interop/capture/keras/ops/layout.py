"""Shape, order and selection of elements: no arithmetic happens here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, axis_list, element_count
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import slice_bounds
from interop.capture.keras.symint import is_symbolic
from interop.errors import UnsupportedOp
from interop.graph.record import Value


@op("Reshape", "Ravel", since=14)
def reshape(e: Emit, x: Value) -> Value:
    return e.reshape(x, (element_count(x.dims),) if None in e.spec.shape else e.spec.shape)


@op("BroadcastTo", since=13)
def broadcast_to(e: Emit, x: Any, *, shape: Sequence[Any]) -> Value:
    return e.expand(e.tensor(x), tuple(shape))


@op("Transpose", since=13)
def transpose(e: Emit, x: Value, *, axes: Sequence[int] | None) -> Value:
    return e.transpose(x, list(range(x.rank))[::-1] if axes is None else axes)


@op("Swapaxes", since=13)
def swapaxes(e: Emit, x: Value, *, axis1: int, axis2: int) -> Value:
    perm = list(range(x.rank))
    perm[axis1], perm[axis2] = perm[axis2], perm[axis1]
    return e.transpose(x, perm)


@op("Moveaxis", since=13)
def moveaxis(e: Emit, x: Value, *, source: Any, destination: Any) -> Value:
    origin, target = axis_list(source, x.rank), axis_list(destination, x.rank)
    perm = [axis for axis in range(x.rank) if axis not in origin]
    for place, axis in sorted(zip(target, origin, strict=True)):
        perm.insert(place, axis)
    return e.transpose(x, perm)


@op("ExpandDims", since=13)
def expand_dims(e: Emit, x: Value, *, axis: Any) -> Value:
    return e.unsqueeze(x, [axis] if isinstance(axis, int) else list(axis))


@op("Squeeze", since=13)
def squeeze(e: Emit, x: Value, *, axis: Any) -> Value:
    if axis is None:
        axes = [i for i, dim in enumerate(x.dims) if not is_symbolic(dim) and dim == 1]
    else:
        axes = axis_list(axis, x.rank)
    return e.squeeze(x, axes)


def _common(e: Emit, xs: Sequence[Any]) -> list[Value]:
    return [e.tensor(x, e.spec.dtype) for x in xs]


@op("Concatenate", since=13)
def concatenate(e: Emit, xs: Sequence[Any], *, axis: int | None) -> Value:
    values = _common(e, xs)
    if axis is None:
        return e.concat([e.reshape(x, (element_count(x.dims),)) for x in values], 0)
    return e.concat(values, axis)


@op("Stack", since=13)
def stack(e: Emit, xs: Sequence[Any], *, axis: int) -> Value:
    values = _common(e, xs)
    place = axis % (values[0].rank + 1)
    return e.concat([e.unsqueeze(x, [place]) for x in values], place)


@op("Unstack", since=13)
def unstack(e: Emit, x: Value, *, num: int | None, axis: int) -> list[Value]:
    axis = axis % x.rank
    count = x.dims[axis] if num is None else num
    if is_symbolic(count):
        raise UnsupportedOp(
            "ops.unstack along a dynamic dimension gives a varying number of tensors; pass `num`"
        )
    parts = _split(e, x, [1] * int(count), axis)
    return [e.squeeze(part, [axis]) for part in parts]


def _split(e: Emit, x: Value, sizes: list[int], axis: int) -> tuple[Value, ...]:
    shapes = [tuple(size if i == axis else dim for i, dim in enumerate(x.dims)) for size in sizes]
    return e.nodes("Split", x, sizes, outputs=[(x.dtype, shape) for shape in shapes], axis=axis)


def _split_spec(operation: Any, x: Any) -> list[Any]:
    axis = operation.axis % len(x.shape)
    sizes = _split_sizes(operation.indices_or_sections, x.shape[axis])
    return [
        compat.tensor_spec([size if i == axis else dim for i, dim in enumerate(x.shape)], x.dtype)
        for size in sizes
    ]


def _split_sizes(indices_or_sections: Any, length: Any) -> list[Any]:
    if isinstance(indices_or_sections, int):
        return [length // indices_or_sections] * indices_or_sections
    bounds = [0, *indices_or_sections, length]
    return [stop - start for start, stop in itertools.pairwise(bounds)]


@op("Split", since=13, spec=_split_spec)
def split(e: Emit, x: Value, *, indices_or_sections: Any, axis: int) -> list[Value]:
    axis = axis % x.rank
    sizes = _split_sizes(indices_or_sections, x.dims[axis])
    if not any(is_symbolic(size) for size in sizes):
        return list(_split(e, x, [int(size) for size in sizes], axis))
    shapes = [tuple(size if i == axis else dim for i, dim in enumerate(x.dims)) for size in sizes]
    return list(
        e.nodes("Split", x, e.sizes(sizes), outputs=[(x.dtype, shape) for shape in shapes], axis=axis)
    )


def _expand_key(key: Any, rank: int) -> list[Any]:
    """An index as one entry per step, the ellipsis spelt out."""
    parts = list(key) if isinstance(key, list | tuple) else [key]
    named = sum(part is not None and part is not Ellipsis for part in parts)
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    place = next(i for i, part in enumerate(parts) if part is Ellipsis)
    return [*parts[:place], *([slice(None)] * (rank - named)), *parts[place + 1 :]]


def _is_tensor_index(part: Any) -> bool:
    return isinstance(part, Value | np.ndarray | list) or hasattr(part, "shape")


def _getitem_spec(operation: Any, x: Any, key: Any) -> Any:
    shape: list[Any] = []
    axis = 0
    for part in _expand_key(key, len(x.shape)):
        if part is None:
            shape.append(1)
            continue
        if isinstance(part, slice):
            shape.append(slice_bounds(part, x.shape[axis])[3])
        elif _is_tensor_index(part):
            shape.extend(part.shape if hasattr(part, "shape") else np.shape(part))
        axis += 1
    return compat.tensor_spec(shape, x.dtype)


@op("GetItem", since=13, spec=_getitem_spec)
def getitem(e: Emit, x: Value, key: Any) -> Value:
    """Basic indexing as one Slice, then Gather for integers, then Unsqueeze for new axes."""
    parts = _expand_key(key, x.rank)
    if sum(_is_tensor_index(part) for part in parts) > 1:
        raise UnsupportedOp("indexing with more than one tensor at once; use ops.take or ops.take_along_axis")
    starts, stops, axes, steps, dims = [], [], [], [], list(x.dims)
    picks: list[tuple[int, Any]] = []
    edge = np.iinfo(np.int64)
    new_axes, place, axis = [], 0, 0
    for part in parts:
        if part is None:
            new_axes.append(place)
            place += 1
            continue
        if isinstance(part, slice):
            start, stop, step, count = slice_bounds(part, x.dims[axis])
            if not (step == 1 and not is_symbolic(start) and start == 0 and part.stop is None):
                full_stop = part.stop is None if step > 0 else stop is None
                starts.append(-1 if step < 0 and part.start is None else start)
                stops.append((edge.max if step > 0 else edge.min) if full_stop else stop)
                axes.append(axis)
                steps.append(step)
                dims[axis] = count
            place += 1
        elif _is_tensor_index(part):
            index = e.tensor(part)
            picks.append((axis, index if index.dtype in ("int32", "int64") else e.cast(index, "int64")))
            place += index.rank
        else:
            picks.append((axis, part))
        axis += 1
    if axes:
        x = e.node("Slice", x, e.sizes(starts), e.sizes(stops), axes, steps, shape=tuple(dims))
    for axis, pick in reversed(picks):
        index = pick if isinstance(pick, Value) else e.reshape(e.size(pick), ())
        shape = (*x.dims[:axis], *index.dims, *x.dims[axis + 1 :])
        x = e.node("Gather", x, index, shape=shape, axis=axis)
    return e.unsqueeze(x, new_axes)


@op("Take", since=13)
def take(e: Emit, x: Any, indices: Any, *, axis: int | None) -> Value:
    x = e.tensor(x)
    index = e.tensor(indices)
    if index.dtype not in ("int32", "int64"):
        index = e.cast(index, "int32")
    if axis is None:
        x, axis = e.reshape(x, (element_count(x.dims),)), 0
    axis = axis % x.rank
    e.bound(index, x.dims[axis])
    return e.node("Gather", x, index, shape=(*x.dims[:axis], *index.dims, *x.dims[axis + 1 :]), axis=axis)


@op("TakeAlongAxis", since=13)
def take_along_axis(e: Emit, x: Value, indices: Any, *, axis: int | None) -> Value:
    index = e.cast(e.tensor(indices), "int64")
    if axis is None:
        x, axis = e.reshape(x, (element_count(x.dims),)), 0
    axis = axis % x.rank
    batch = [i for i in range(x.rank) if i != axis]
    target_x, target_i = list(x.dims), list(index.dims)
    for i in batch:
        wide = max(target_x[i], target_i[i])
        target_x[i] = target_i[i] = wide
    x, index = e.expand(x, target_x), e.expand(index, target_i)
    return e.node("GatherElements", x, index, shape=tuple(target_i), axis=axis)


@op("Flip", since=13)
def flip(e: Emit, x: Value, *, axis: Any) -> Value:
    for one in axis_list(axis, x.rank):
        x = e.flip(x, one)
    return x


@op("Tile", since=13)
def tile(e: Emit, x: Value, *, repeats: Any) -> Value:
    counts = [repeats] if isinstance(repeats, int) else list(repeats)
    x = e.unsqueeze(x, list(range(len(counts) - x.rank))) if len(counts) > x.rank else x
    counts = [1] * (x.rank - len(counts)) + counts
    shape = tuple(dim * count for dim, count in zip(x.dims, counts, strict=True))
    return e.node("Tile", x, e.sizes(counts), shape=shape)


@op("Repeat", since=13)
def repeat(e: Emit, x: Value, *, repeats: Any, axis: int | None) -> Value:
    if axis is None:
        x, axis = e.reshape(x, (element_count(x.dims),)), 0
    axis = axis % x.rank
    if isinstance(repeats, int):
        wide = e.unsqueeze(x, [axis + 1])
        target = (*x.dims[: axis + 1], repeats, *x.dims[axis + 1 :])
        return e.reshape(
            e.expand(wide, target), (*x.dims[:axis], x.dims[axis] * repeats, *x.dims[axis + 1 :])
        )
    if not isinstance(repeats, list | tuple | np.ndarray) or is_symbolic(x.dims[axis]):
        raise UnsupportedOp("ops.repeat with repeats that are not known when the model is captured")
    counts = np.broadcast_to(np.asarray(repeats), (int(x.dims[axis]),))
    index = np.repeat(np.arange(int(x.dims[axis])), counts).astype(np.int64)
    shape = (*x.dims[:axis], len(index), *x.dims[axis + 1 :])
    return e.node("Gather", x, index, shape=shape, axis=axis)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad_spec(operation: Any, x: Any, constant_values: Any = None) -> Any:
    width = operation.pad_width
    pairs = _pad_pairs(width, len(x.shape))
    return compat.tensor_spec(
        [before + dim + after for dim, (before, after) in zip(x.shape, pairs, strict=True)], x.dtype
    )


def _pad_pairs(width: Any, rank: int) -> list[tuple[int, int]]:
    if isinstance(width, int):
        return [(width, width)] * rank
    pairs = [(pair, pair) if isinstance(pair, int) else tuple(pair) for pair in width]
    if len(pairs) == 1:
        pairs = pairs * rank
    return [pair * 2 if len(pair) == 1 else pair for pair in pairs]


@op("Pad", since=13, spec=_pad_spec)
def pad(e: Emit, x: Value, constant_values: Any = None, *, pad_width: Any, mode: str) -> Value:
    onnx_mode = _PAD_MODES.get(mode)
    if onnx_mode is None or (onnx_mode == "wrap" and e.opset < 19):
        need = "opset 19 or newer" if onnx_mode else "an ONNX Pad mode of that name, which does not exist"
        raise UnsupportedOp(f"ops.pad with mode={mode!r} needs {need}")
    pairs = _pad_pairs(pad_width, x.rank)
    if not any(is_symbolic(side) or side for pair in pairs for side in pair):
        return x
    widths = [before for before, _ in pairs] + [after for _, after in pairs]
    fill = None if constant_values is None else e.reshape(e.tensor(constant_values, x.dtype), ())
    return e.node("Pad", x, e.sizes(widths), fill, mode=onnx_mode)


@op("Tril", since=14)
def tril(e: Emit, x: Value, *, k: int) -> Value:
    return e.node("Trilu", x, e.scalar(k, "int64"), shape=x.shape, upper=0)


@op("Triu", since=14)
def triu(e: Emit, x: Value, *, k: int) -> Value:
    return e.node("Trilu", x, e.scalar(k, "int64"), shape=x.shape, upper=1)
