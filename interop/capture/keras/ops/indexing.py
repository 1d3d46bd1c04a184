"""Elements by place: indexing as in NumPy, gathers, scatters and the places themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, element_count
from interop.capture.keras.ops.creation import counting, filled
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import broadcast_shapes, merge, slice_bounds
from interop.capture.keras.symint import is_symbolic, same
from interop.errors import UnsupportedOp
from interop.graph.record import Value


def _is_tensor(part: Any) -> bool:
    return isinstance(part, Value | np.ndarray | list) or hasattr(part, "shape")


def _index(e: Emit, part: Any) -> Value:
    """An index as a boolean mask or as integers that Gather takes."""
    index = e.tensor(part)
    return index if index.dtype in ("bool", "int32", "int64") else e.cast(index, "int64")


def _entries(e: Emit, key: Any, rank: int) -> list[Any]:
    """An index as one entry per step, tensors as values, the ellipsis spelt out."""
    whole = isinstance(key, list) and all(isinstance(part, int | bool) for part in key)
    parts = list(key) if isinstance(key, list | tuple) and not whole else [key]
    parts = [_index(e, part) if _is_tensor(part) else part for part in parts]
    named = 0
    for part in parts:
        if isinstance(part, Value) and part.dtype == "bool":
            named += part.rank
        else:
            named += part is not None and part is not Ellipsis
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    place = next(i for i, part in enumerate(parts) if part is Ellipsis)
    return [*parts[:place], *([slice(None)] * (rank - named)), *parts[place + 1 :]]


def _getitem_spec(operation: Any, x: Any, key: Any) -> Any:
    return compat.tensor_spec((None,), x.dtype)  # the emitter knows the shape


@op("GetItem", since=13, spec=_getitem_spec)
def getitem(e: Emit, x: Value, key: Any) -> Value:
    """One Slice, then Gather for each integer, then the tensors, then Unsqueeze for new axes."""
    entries = _entries(e, key, x.rank)
    tensors = [i for i, part in enumerate(entries) if isinstance(part, Value) and part.rank > 0]
    # NumPy puts the result of tensors in front when anything lies between them. An integer counts as a
    # tensor there, except in torch, which takes integers out first.
    among = set(tensors)
    if tensors and keras.backend.backend() != "torch":
        among |= {i for i, part in enumerate(entries) if isinstance(part, int) or _is_scalar(part)}
    in_front = bool(among) and max(among) - min(among) + 1 > len(among)
    x = _sliced(e, x, entries)
    kept: list[Any] = []
    axis = 0
    for part in entries:
        if isinstance(part, int) or _is_scalar(part):
            pick = part if isinstance(part, Value) else e.reshape(e.size(part), ())
            x = e.node("Gather", x, pick, shape=(*x.dims[:axis], *x.dims[axis + 1 :]), axis=axis)
            continue
        kept.append(part)
        if part is not None:
            axis += part.rank if isinstance(part, Value) and part.dtype == "bool" else 1
    x, order = _picked(e, x, kept, in_front)
    return e.unsqueeze(x, [i for i, item in enumerate(order) if item is None])


def _is_scalar(part: Any) -> bool:
    return isinstance(part, Value) and part.rank == 0


def _sliced(e: Emit, x: Value, entries: list[Any]) -> Value:
    """All slices of an index as one Slice."""
    starts: list[Any] = []
    stops: list[Any] = []
    axes: list[int] = []
    steps: list[int] = []
    traced: list[int] = []
    dims, axis, edge = list(x.dims), 0, np.iinfo(np.int64)
    for part in entries:
        if isinstance(part, slice):
            bounds: list[Any] = [b.value if isinstance(b, compat.Sym) else b for b in (part.start, part.stop)]
            step = 1 if part.step is None else int(part.step)
            if any(isinstance(b, Value) for b in bounds):
                traced.append(axis)
            elif bounds != [None, None] or step != 1:
                dims[axis] = slice_bounds(slice(bounds[0], bounds[1], step), x.dims[axis])[3]
            if bounds != [None, None] or step != 1:
                default = (0, edge.max) if step > 0 else (-1, edge.min)
                start, stop = (d if b is None else b for b, d in zip(bounds, default, strict=True))
                starts.append(start)
                stops.append(stop)
                axes.append(axis)
                steps.append(step)
        if part is not None:
            axis += part.rank if isinstance(part, Value) and part.dtype == "bool" else 1
    if not axes:
        return x
    result = e.node("Slice", x, _bounds(e, starts), _bounds(e, stops), axes, steps, shape=tuple(dims))
    return _measured(e, result, traced)


def _measured(e: Emit, x: Value, axes: Sequence[int]) -> Value:
    """A size of its own for each axis whose extent depends on values."""
    if axes:
        x.shape = tuple(e.unknown(f"slice_{i}", x) if i in axes else dim for i, dim in enumerate(x.dims))
        e.witness(x)
    return x


def _bounds(e: Emit, places: Sequence[Any]) -> Value:
    """Places as an int64 vector; some may be traced."""
    if not any(isinstance(place, Value) for place in places):
        return e.sizes(places)
    parts = [e.reshape(e.cast(p, "int64"), (1,)) if isinstance(p, Value) else e.size(p) for p in places]
    return e.concat(parts, 0) if len(parts) > 1 else parts[0]


def _picked(e: Emit, x: Value, kept: list[Any], in_front: bool) -> tuple[Value, list[Any]]:
    """Tensor indices applied; the result's axes in order, new ones as None."""
    tensors = [part for part in kept if isinstance(part, Value)]
    if not tensors:
        return x, kept
    axes: list[int] = []
    axis = 0
    for part in kept:
        if isinstance(part, Value):
            axes.append(axis)
            axis += part.rank if part.dtype == "bool" else 1
        elif part is not None:
            axis += 1
    if len(tensors) == 1 and tensors[0].dtype == "bool":
        x, block, place = _masked(e, x, tensors[0], axes[0]), 1, axes[0]
    elif len(tensors) == 1:
        index, place = tensors[0], axes[0]
        shape = (*x.dims[:place], *index.dims, *x.dims[place + 1 :])
        x, block = e.node("Gather", x, index, shape=shape, axis=place), index.rank
    else:
        x, block = _joint(e, x, tensors, axes)
        place = 0
    target = 0 if in_front else axes[0]
    others = [i for i in range(x.rank) if not place <= i < place + block]
    x = e.transpose(x, [*others[:target], *range(place, place + block), *others[target:]])
    order = [part for part in kept if not isinstance(part, Value)]
    first = next(i for i, part in enumerate(kept) if isinstance(part, Value))
    at = 0 if in_front else first
    return x, [*order[:at], *([slice(None)] * block), *order[at:]]


def _masked(e: Emit, x: Value, mask: Value, axis: int) -> Value:
    """Elements where a mask over one or more axes is true: Compress."""
    covered = range(axis, axis + mask.rank)
    for i, extent in zip(covered, mask.dims, strict=True):
        merge(x.dims[i], extent)
    count = e.unknown("nonzero", mask)
    if mask.rank > 1:
        total = element_count(mask.dims)
        x = e.reshape(x, (*x.dims[:axis], total, *x.dims[covered.stop :]))
        mask = e.reshape(mask, (total,))
    shape = (*x.dims[:axis], count, *x.dims[axis + 1 :])
    return e.witness(e.node("Compress", x, mask, shape=shape, axis=axis))


def _joint(e: Emit, x: Value, tensors: list[Value], axes: list[int]) -> tuple[Value, int]:
    """Several tensors at once: their axes first, then GatherND. The result's tensor axes are in front."""
    places: list[Value] = []
    covered: list[int] = []
    for index, axis in zip(tensors, axes, strict=True):
        if index.dtype == "bool":
            rows = nonzero_places(e, index)
            places += _rows(e, rows)
            covered += range(axis, axis + index.rank)
        else:
            places.append(e.cast(index, "int64"))
            covered.append(axis)
    dims: Sequence[Any] = ()
    for one in places:
        dims = broadcast_shapes(dims, one.dims)
    index = e.concat([e.unsqueeze(e.expand(one, dims), [-1]) for one in places], -1)
    rest = [i for i in range(x.rank) if i not in covered]
    x = e.transpose(x, [*covered, *rest])
    shape = (*dims, *x.dims[len(covered) :])
    return e.node("GatherND", x, index, shape=shape), len(dims)


# Places


def nonzero_places(e: Emit, x: Value) -> Value:
    """Coordinates of the elements that are not zero: (rank, count), int64."""
    shape = (x.rank, e.unknown("nonzero", x))
    keys = e.widened(x, "float32", "int32", "int64", "uint8", "bool")
    return e.witness(e.node("NonZero", keys, dtype="int64", shape=shape))


def _rows(e: Emit, x: Value) -> list[Value]:
    count = int(x.dims[0])
    if count == 1:
        return [e.squeeze(x, [0])]
    parts = e.nodes("Split", x, [1] * count, outputs=[(x.dtype, (1, *x.dims[1:]))] * count, axis=0)
    return [e.squeeze(part, [0]) for part in parts]


@op("Nonzero", since=13)
def nonzero(e: Emit, x: Value) -> tuple[Value, ...]:
    return tuple(_rows(e, e.cast(nonzero_places(e, x), "int32")))


def _unravel_spec(operation: Any, indices: Any) -> Any:
    return tuple(compat.tensor_spec(indices.shape, indices.dtype) for _ in operation.shape)


@op("UnravelIndex", since=14, spec=_unravel_spec)
def unravel_index(e: Emit, indices: Value, *, shape: Any) -> tuple[Value, ...]:
    """Coordinates by repeated division; a negative index counts from the end."""
    dims = [shape] if isinstance(shape, int) else list(shape)
    rest = e.cast(indices, "int64")
    parts: list[Value] = []
    for dim in reversed(dims):
        size = e.reshape(e.size(dim), ())
        part = e.binary("Mod", rest, size)
        rest = e.binary("Div", e.binary("Sub", rest, part), size) if len(parts) + 1 < len(dims) else rest
        parts.append(part)
    return tuple(parts[::-1])


# Gathers


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
def take_along_axis(e: Emit, x: Any, indices: Any, *, axis: int | None) -> Value:
    x, index = e.tensor(x), e.cast(e.tensor(indices), "int64")
    if axis is None:
        x, axis = e.reshape(x, (element_count(x.dims),)), 0
        index = e.reshape(index, (element_count(index.dims),))
    axis = axis % x.rank
    target_x, target_i = list(x.dims), list(index.dims)
    for i in range(x.rank):
        if i != axis:
            target_x[i] = target_i[i] = merge(target_x[i], target_i[i])
    x, index = e.expand(x, target_x), e.expand(index, target_i)
    return e.node("GatherElements", x, index, shape=tuple(target_i), axis=axis)


@op("Select", since=16)
def select(e: Emit, condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Value:
    """The choice of the first condition that is true."""
    dtype = e.spec.dtype
    result = e.tensor(default, dtype)
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        result = _where(e, e.tensor(condition, "bool"), e.tensor(choice, dtype), result)
    return result


def _select_spec(operation: Any, condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    shape: Sequence[Any] = ()
    for x in (*condlist, *choicelist, default):
        shape = broadcast_shapes(shape, getattr(x, "shape", np.shape(x)))
    kinds = [getattr(x, "dtype", type(x)) for x in (*choicelist, default)]
    return compat.tensor_spec(shape, compat.result_type(*kinds))


def _where(e: Emit, condition: Value, yes: Value, no: Value) -> Value:
    shape = broadcast_shapes(broadcast_shapes(condition.dims, yes.dims), no.dims)
    return e.node("Where", condition, yes, no, dtype=yes.dtype, shape=tuple(shape))


def _slice_spec(operation: Any, inputs: Any, start_indices: Any) -> Any:
    return compat.tensor_spec((None,), inputs.dtype)


@op("Slice", since=13, spec=_slice_spec)
def slice_(e: Emit, x: Any, starts: Any, *, shape: Sequence[Any]) -> Value:
    """A block; a start that is computed is moved so that the block fits, as JAX does."""
    source = e.tensor(x)
    places = _places(e, starts, source.rank)
    dims, begins, ends, axes, traced = [], [], [], [], []
    for axis, (place, size, extent) in enumerate(zip(places, shape, source.dims, strict=True)):
        whole = not is_symbolic(size) and size == -1
        length = extent - place if whole and not isinstance(place, Value) else size
        if whole and isinstance(place, Value):
            traced.append(axis)
        elif isinstance(place, Value):
            place = _fitting(e, place, extent - length)
        dims.append(length)
        if not isinstance(place, Value) and place == 0 and same(length, extent):
            continue
        begins.append(place)
        if whole:
            ends.append(np.iinfo(np.int64).max)
        else:
            ends.append(_sum(e, place, length))
        axes.append(axis)
    if not axes:
        return source
    result = e.node(
        "Slice", source, _bounds(e, begins), _bounds(e, ends), axes, [1] * len(axes), shape=tuple(dims)
    )
    return _measured(e, result, traced)


def _places(e: Emit, starts: Any, rank: int) -> list[Any]:
    """Start places one by one: numbers, or scalars that are computed."""
    if isinstance(starts, list | tuple):
        return list(starts)
    starts = e.tensor(starts, "int64")
    if starts.kind == "constant" and starts.array is not None:
        return [int(place) for place in starts.array]
    return [e.slice(starts, 0, i, i + 1) for i in range(rank)] if rank > 1 else [starts]


def _fitting(e: Emit, place: Value, last: Any) -> Value:
    """A computed place moved into [0, last]."""
    place = _vector(e, place)
    low = e.node("Max", place, [0], dtype="int64", shape=(1,))
    return e.node("Min", low, e.size(last), dtype="int64", shape=(1,))


def _vector(e: Emit, place: Value) -> Value:
    if place.shape is None:
        place.shape = (1,)
    return e.reshape(e.cast(place, "int64"), (1,))


def _sum(e: Emit, place: Any, length: Any) -> Any:
    if not isinstance(place, Value):
        return place + length
    return e.node("Add", _vector(e, place), e.size(length), dtype="int64", shape=(1,))


# Scatters


@op("SliceUpdate", since=13)
def slice_update(e: Emit, x: Any, starts: Any, updates: Any) -> Value:
    """What lies before, the block and what lies after, joined along each axis the block does not fill."""
    x = e.tensor(x)
    block = e.tensor(updates, x.dtype)
    places = _places(e, starts, x.rank)
    axes = [i for i in range(x.rank) if not same(block.dims[i], x.dims[i])]
    for axis in axes:
        if isinstance(places[axis], Value):
            places[axis] = _fitting(e, places[axis], x.dims[axis] - block.dims[axis])
    return _replaced(e, x, block, places, axes)


def _replaced(e: Emit, x: Value, block: Value, places: list[Any], axes: list[int]) -> Value:
    if not axes:
        return block
    axis, rest = axes[0], axes[1:]
    place = places[axis]
    end = _sum(e, place, block.dims[axis])
    parts = [block]
    if rest:
        inside = _cut(e, x, axis, place, end)
        inside.shape = tuple(block.dims[i] if i == axis else dim for i, dim in enumerate(x.dims))
        parts = [_replaced(e, inside, block, places, rest)]
    if isinstance(place, Value) or is_symbolic(place) or place != 0:
        parts.insert(0, _cut(e, x, axis, 0, place))
    if isinstance(end, Value) or not same(end, x.dims[axis]):
        parts.append(_cut(e, x, axis, end, np.iinfo(np.int64).max))
    return e.node("Concat", *parts, shape=x.shape, axis=axis) if len(parts) > 1 else parts[0]


def _cut(e: Emit, x: Value, axis: int, start: Any, stop: Any) -> Value:
    return e.node("Slice", x, _bounds(e, [start]), _bounds(e, [stop]), [axis], [1])


@op("Scatter", since=16)
def scatter(e: Emit, indices: Any, values: Any, *, shape: Any) -> Value:
    """Values added up at their places in zeros."""
    updates = e.tensor(values)
    updates = e.cast(updates, "float32") if updates.dtype in ("float16", "bfloat16") else updates
    base = filled(e, shape, 0, updates.dtype)
    return _scattered(e, base, indices, updates, "add")


@op("ScatterUpdate", since=16)
def scatter_update(e: Emit, x: Any, indices: Any, updates: Any, *, reduction: str | None) -> Value:
    if reduction in ("max", "min") and e.opset < 18:
        raise UnsupportedOp(f"ops.scatter_update with reduction={reduction!r} needs opset 18 or newer")
    x = e.tensor(x)
    half = reduction is not None and x.dtype in ("float16", "bfloat16")
    x = e.cast(x, "float32") if half else x
    return _scattered(e, x, indices, e.tensor(updates, x.dtype), reduction)


def _scattered(e: Emit, x: Value, indices: Any, updates: Value, reduction: str | None) -> Value:
    places = e.cast(e.tensor(indices), "int64")
    depth = int(places.dims[-1])
    updates = e.expand(updates, (*places.dims[:-1], *x.dims[depth:]))
    return e.node("ScatterND", x, places, updates, shape=x.shape, reduction=reduction)


# Windows and one-hot rows


def _sequences_spec(operation: Any, x: Any) -> Any:
    count = _sequences(x.shape[-1], operation.sequence_length, operation.sequence_stride)
    return compat.tensor_spec((*x.shape[:-1], count, operation.sequence_length), x.dtype)


def _sequences(size: Any, length: int, stride: int) -> Any:
    return (size - length) // stride + 1


@op("ExtractSequences", since=13, spec=_sequences_spec)
def extract_sequences(e: Emit, x: Value, *, sequence_length: int, sequence_stride: int) -> Value:
    """Windows over the last axis, gathered."""
    count = _sequences(x.dims[-1], sequence_length, sequence_stride)
    starts = e.unsqueeze(counting(e, count), [1])
    if sequence_stride != 1:
        starts = e.binary("Mul", starts, e.scalar(sequence_stride, "int64"))
    places = e.binary("Add", starts, e.constant(np.arange(sequence_length, dtype=np.int64)))
    return e.node("Gather", x, places, shape=tuple(e.spec.shape), axis=x.rank - 1)


def one_hot_rows(e: Emit, x: Any, num_classes: int, axis: int, dtype: str) -> Value:
    """Zeros with a one at each index; an index out of range gives zeros only."""
    index = e.tensor(x)
    index = e.cast(index, "int64") if index.dtype not in ("int64", "int32") else index
    # ONNX wraps negative indices around; Keras gives a row of zeros: compare instead of OneHot.
    place = axis % (index.rank + 1)
    dims: Sequence[int] = [num_classes if i == place else 1 for i in range(index.rank + 1)]
    if is_symbolic(num_classes):
        classes = e.reshape(e.cast(counting(e, num_classes), index.dtype), dims)
    else:
        classes = e.constant(np.arange(num_classes).reshape(dims), index.dtype)
    return e.cast(e.binary("Equal", e.unsqueeze(index, [place]), classes, dtype="bool"), dtype)


@op("OneHot", since=13)
def one_hot(e: Emit, x: Any, *, num_classes: int, axis: int) -> Value:
    return one_hot_rows(e, x, num_classes, axis, e.spec.dtype)


def _multi_hot_spec(operation: Any, x: Any) -> Any:
    shape = list(x.shape)
    axis = operation.axis % (len(shape) + 1)
    shape.insert(axis, operation.num_classes)
    del shape[1 if len(x.shape) > 1 else 0]
    return compat.tensor_spec(shape, operation.dtype)


@op("MultiHot", since=13, spec=_multi_hot_spec)
def multi_hot(e: Emit, x: Value, *, num_classes: int, axis: int) -> Value:
    """The union of one-hot rows; Keras joins along axis 1 (0 for a vector)."""
    rows = one_hot_rows(e, x, num_classes, axis, "int32")
    return e.reduce("ReduceMax", rows, [1 if x.rank > 1 else 0])
