"""Shape, order and selection of elements: no arithmetic happens here."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, axis_list, element_count
from interop.capture.keras.ops.sorting import ordered
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import merge
from interop.capture.keras.symint import is_symbolic, same
from interop.errors import UnsupportedOp
from interop.graph.record import Value


@op("Reshape", "Ravel", since=14)
def reshape(e: Emit, x: Any) -> Value:
    x = e.tensor(x)
    return e.reshape(x, (element_count(x.dims),) if None in e.spec.shape else e.spec.shape)


def _as_emitted(operation: Any, x: Any, *others: Any, **options: Any) -> Any:
    """The dtype of the first argument; the emitter knows the shape."""
    return compat.tensor_spec((None,), getattr(x, "dtype", None) or compat.result_type(type(x)))


def _dims(shape: Any) -> tuple[Any, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


@op("BroadcastTo", since=13, spec=_as_emitted)
def broadcast_to(e: Emit, x: Any, *, shape: Any) -> Value:
    value, dims = e.tensor(x), _dims(shape)
    for given, wanted in zip(reversed(value.dims), reversed(dims), strict=False):
        merge(given, wanted)  # two dynamic sizes must be equal
    return e.expand(value, dims)


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


@op("Flip", since=13)
def flip(e: Emit, x: Any, *, axis: Any) -> Value:
    result = e.tensor(x)
    for one in axis_list(axis, result.rank):
        result = e.flip(result, one)
    return result


@op("Fliplr", since=13)
def fliplr(e: Emit, x: Value) -> Value:
    return e.flip(x, 1)


@op("Flipud", since=13)
def flipud(e: Emit, x: Value) -> Value:
    return e.flip(x, 0)


@op("Rot90", since=13, spec=_as_emitted)
def rot90(e: Emit, x: Value, *, k: int, axes: Sequence[int]) -> Value:
    first, second = axes[0] % x.rank, axes[1] % x.rank
    perm = list(range(x.rank))
    perm[first], perm[second] = second, first
    if k % 4 == 2:
        return e.flip(e.flip(x, first), second)
    if k % 4 == 1:
        return e.transpose(e.flip(x, second), perm)
    return e.flip(e.transpose(x, perm), second) if k % 4 == 3 else x


@op("Roll", since=13)
def roll(e: Emit, x: Value, *, shift: Any, axis: Any) -> Value:
    """The tail put before the head, axis by axis."""
    dims = x.dims
    if axis is None:
        x, axis = e.reshape(x, (element_count(dims),)), 0
    axes = axis_list(axis, x.rank)
    shifts = [shift] * len(axes) if isinstance(shift, int) else list(shift)
    axes = axes * len(shifts) if len(axes) == 1 else axes
    for one, by in zip(axes, shifts, strict=True):
        length = x.dims[one]
        cut = -by % length
        if not is_symbolic(cut) and cut == 0:
            continue
        tail, head = e.slice(x, one, cut, None), e.slice(x, one, 0, cut)
        x = e.node("Concat", tail, head, shape=x.shape, axis=one)
    return e.reshape(x, dims)


# Joining and splitting


def _joined_spec(operation: Any, *args: Any) -> Any:
    """The dtype that NumPy's promotion gives; the emitter knows the shape."""
    xs = args[0] if len(args) == 1 else args
    return compat.tensor_spec((None,), compat.result_type(*(getattr(x, "dtype", type(x)) for x in xs)))


def _joined(e: Emit, xs: Sequence[Any], axis: int | None, rank: int = 0) -> Value:
    """Tensors joined along an axis; ``axis=None`` flattens them, ``rank`` is what each has at least."""
    values = [e.tensor(x, e.spec.dtype) for x in xs]
    if axis is None:
        return e.concat([e.reshape(x, (element_count(x.dims),)) for x in values], 0)
    if rank == 3:  # a vector lies along the middle axis, as in numpy.atleast_3d
        values = [e.unsqueeze(x, {0: [0, 1, 2], 1: [0, 2], 2: [2]}.get(x.rank, [])) for x in values]
    else:
        values = [e.unsqueeze(x, list(range(rank - x.rank))) for x in values]
    return e.concat(values, axis)


@op("Concatenate", since=13, spec=_joined_spec)
def concatenate(e: Emit, xs: Sequence[Any], *, axis: int | None) -> Value:
    return _joined(e, xs, axis)


@op("Append", since=13, spec=_joined_spec)
def append(e: Emit, x1: Any, x2: Any, *, axis: int | None) -> Value:
    return _joined(e, [x1, x2], axis)


@op("Hstack", since=13, spec=_joined_spec)
def hstack(e: Emit, xs: Sequence[Any]) -> Value:
    return _joined(e, xs, 1 if e.tensor(xs[0]).rank > 1 else 0, 1)


@op("Vstack", since=13, spec=_joined_spec)
def vstack(e: Emit, xs: Sequence[Any]) -> Value:
    return _joined(e, xs, 0, 2)


@op("Dstack", since=13, spec=_joined_spec)
def dstack(e: Emit, xs: Sequence[Any]) -> Value:
    return _joined(e, xs, 2, 3)


@op("Stack", since=13, spec=_joined_spec)
def stack(e: Emit, xs: Sequence[Any], *, axis: int) -> Value:
    values = [e.tensor(x, e.spec.dtype) for x in xs]
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


def _split(e: Emit, x: Value, sizes: Sequence[Any], axis: int) -> list[Value]:
    shapes = [tuple(size if i == axis else dim for i, dim in enumerate(x.dims)) for size in sizes]
    outputs = [(x.dtype, shape) for shape in shapes]
    if len(sizes) == 1:
        return [x]
    if e.opset >= 18 and all(is_symbolic(size) and same(size, sizes[0]) for size in sizes):
        return list(e.nodes("Split", x, outputs=outputs, axis=axis, num_outputs=len(sizes)))
    return list(e.nodes("Split", x, e.sizes(sizes), outputs=outputs, axis=axis))


def _split_axis(operation: Any, rank: int) -> int:
    named = {"Hsplit": 0 if rank == 1 else 1, "Vsplit": 0, "Dsplit": 2}
    axis: int = named.get(type(operation).__name__, getattr(operation, "axis", 0))
    return axis % rank


def _split_spec(operation: Any, x: Any) -> list[Any]:
    axis = _split_axis(operation, len(x.shape))
    sizes = _split_sizes(operation.indices_or_sections, x.shape[axis])
    return [
        compat.tensor_spec([size if i == axis else dim for i, dim in enumerate(x.shape)], x.dtype)
        for size in sizes
    ]


def _split_sizes(indices_or_sections: Any, length: Any) -> list[Any]:
    if isinstance(indices_or_sections, int):
        return [length // indices_or_sections] * indices_or_sections
    inner = [
        length + place if not is_symbolic(place) and place < 0 else place for place in indices_or_sections
    ]
    return [stop - start for start, stop in itertools.pairwise([0, *inner, length])]


@op("Split", since=13, spec=_split_spec)
def split(e: Emit, x: Value, *, indices_or_sections: Any, axis: int) -> list[Value]:
    axis = axis % x.rank
    return _split(e, x, _split_sizes(indices_or_sections, x.dims[axis]), axis)


@op("Hsplit", since=13, spec=_split_spec)
def hsplit(e: Emit, x: Value, *, indices_or_sections: Any) -> list[Value]:
    axis = 0 if x.rank == 1 else 1
    return _split(e, x, _split_sizes(indices_or_sections, x.dims[axis]), axis)


@op("Vsplit", since=13, spec=_split_spec)
def vsplit(e: Emit, x: Value, *, indices_or_sections: Any) -> list[Value]:
    return _split(e, x, _split_sizes(indices_or_sections, x.dims[0]), 0)


@op("Dsplit", since=13, spec=_split_spec)
def dsplit(e: Emit, x: Value, *, indices_or_sections: Any) -> list[Value]:
    return _split(e, x, _split_sizes(indices_or_sections, x.dims[2]), 2)


def _array_split_spec(operation: Any, x: Any) -> list[Any]:
    return [compat.tensor_spec((None,), x.dtype)] * operation.indices_or_sections


@op("ArraySplit", since=13, spec=_array_split_spec)
def array_split(e: Emit, x: Value, *, indices_or_sections: int, axis: int) -> list[Value]:
    """Parts whose sizes differ by one at most, the longer ones first: ceil((n - i) / parts)."""
    axis, parts = axis % x.rank, indices_or_sections
    return _split(e, x, [(x.dims[axis] + parts - 1 - i) // parts for i in range(parts)], axis)


# Repetition and padding


@op("Tile", since=13, spec=_as_emitted)
def tile(e: Emit, x: Any, *, repeats: Any) -> Value:
    x = e.tensor(x)
    counts = [repeats] if isinstance(repeats, int) else list(repeats)
    x = e.unsqueeze(x, list(range(len(counts) - x.rank)))
    counts = [1] * (x.rank - len(counts)) + counts
    shape = tuple(dim * count for dim, count in zip(x.dims, counts, strict=True))
    return e.node("Tile", x, e.sizes(counts), shape=shape)


@op("Repeat", since=13, spec=_as_emitted)
def repeat(e: Emit, x: Any, *, repeats: Any, axis: int | None) -> Value:
    x = e.tensor(x)
    if axis is None:
        x, axis = e.reshape(x, (element_count(x.dims),)), 0
    axis = axis % x.rank
    if isinstance(repeats, list | tuple) and len(repeats) == 1:
        repeats = repeats[0]
    if isinstance(repeats, int):
        wide = e.unsqueeze(x, [axis + 1])
        target = (*x.dims[: axis + 1], repeats, *x.dims[axis + 1 :])
        return e.reshape(
            e.expand(wide, target), (*x.dims[:axis], x.dims[axis] * repeats, *x.dims[axis + 1 :])
        )
    places = _repeated_places(e, e.tensor(repeats, "int64"), x.dims[axis])
    shape = (*x.dims[:axis], places.dims[0], *x.dims[axis + 1 :])
    return e.node("Gather", x, places, shape=shape, axis=axis)


def _repeated_places(e: Emit, counts: Value, length: Any) -> Value:
    """Each place as often as its count says."""
    if counts.kind == "constant" and counts.array is not None:
        merge(length, counts.array.size)
        return e.constant(np.repeat(np.arange(counts.array.size), counts.array).astype(np.int64))
    counts = e.expand(counts, (length,))
    ends = e.node("CumSum", counts, e.scalar(0, "int64"), shape=counts.shape)
    total = e.reduce("ReduceSum", counts, None)
    steps = e.node(
        "Range",
        e.scalar(0, "int64"),
        total,
        e.scalar(1, "int64"),
        dtype="int64",
        shape=(e.unknown("repeat", counts),),
    )
    passed = e.binary("LessOrEqual", ends, e.unsqueeze(e.witness(steps), [-1]), dtype="bool")
    return e.reduce("ReduceSum", e.cast(passed, "int64"), [-1])


def _pad_pairs(width: Any, rank: int) -> list[tuple[Any, Any]]:
    if isinstance(width, int):
        return [(width, width)] * rank
    pairs = [(pair, pair) if isinstance(pair, int) else tuple(pair) for pair in width]
    if len(pairs) == 1:
        pairs = pairs * rank
    return [pair * 2 if len(pair) == 1 else pair for pair in pairs]


@op("Pad", since=13, spec=_as_emitted)
def pad(e: Emit, x: Any, constant_values: Any = None, *, pad_width: Any, mode: str) -> Value:
    result = e.tensor(x)
    pairs = _pad_pairs(pad_width, result.rank)
    if mode == "symmetric" and keras.backend.backend() == "torch":
        mode = "edge"  # Keras computes it so there
    onnx_mode = {"constant": "constant", "empty": "constant", "reflect": "reflect", "edge": "edge"}.get(mode)
    if onnx_mode is None:
        for axis, (before, after) in enumerate(pairs):
            result = _padded(e, result, axis, before, after, mode)
        return result
    if not any(is_symbolic(side) or side for pair in pairs for side in pair):
        return result
    widths = [before for before, _ in pairs] + [after for _, after in pairs]
    shape = tuple(before + dim + after for dim, (before, after) in zip(result.dims, pairs, strict=True))
    wide = e.cast(result, "int32") if result.dtype in ("int16", "uint16") else result
    fill = None if constant_values is None else e.reshape(e.tensor(constant_values, wide.dtype), ())
    return e.cast(e.node("Pad", wide, e.sizes(widths), fill, mode=onnx_mode, shape=shape), result.dtype)


def _padded(e: Emit, x: Value, axis: int, before: int, after: int, mode: str) -> Value:
    """One axis padded in a mode that ONNX's Pad lacks, or has only from opset 19 on."""
    if not before and not after:
        return x
    if mode in ("wrap", "circular"):
        sides = _part(e, x, axis, -before, None, 1, before), _part(e, x, axis, 0, after, 1, after)
    elif mode == "symmetric":
        end = -after - 1
        sides = _part(e, x, axis, before - 1, None, -1, before), _part(e, x, axis, -1, end, -1, after)
    elif mode == "linear_ramp":
        edges = _part(e, x, axis, 0, 1, 1, 1), _part(e, x, axis, -1, None, 1, 1)
        sides = (
            _ramp(e, edges[0], axis, np.arange(before) / max(before, 1)),
            _ramp(e, edges[1], axis, np.arange(after)[::-1] / max(after, 1)),
        )
    elif mode in ("minimum", "maximum", "mean", "median"):
        found = _statistic(e, x, axis, mode)
        sides = _repeated(e, found, axis, before), _repeated(e, found, axis, after)
    else:
        raise UnsupportedOp(f"ops.pad has no mode {mode!r}")
    parts = [part for part, width in ((sides[0], before), (x, 1), (sides[1], after)) if width]
    return e.concat(parts, axis)


def _ramp(e: Emit, edge: Value, axis: int, fractions: np.ndarray[Any, Any]) -> Value:
    """The edge faded out to zero."""
    exact = edge.dtype if edge.dtype.startswith(("float", "bfloat")) else "float32"
    factors = fractions.reshape([-1 if i == axis else 1 for i in range(edge.rank)])
    ramp = e.binary("Mul", e.cast(edge, exact), e.constant(factors, exact))
    return e.cast(ramp if exact == edge.dtype else e.unary("Floor", ramp), edge.dtype)


def _statistic(e: Emit, x: Value, axis: int, mode: str) -> Value:
    if mode in ("minimum", "maximum"):
        return e.reduce("ReduceMin" if mode == "minimum" else "ReduceMax", x, [axis], True)
    exact = x if x.dtype.startswith(("float", "bfloat")) else e.cast(x, "float32")
    if mode == "median":
        length = x.dims[axis]
        exact, _ = ordered(e, exact, axis)
        middle = [_part(e, exact, axis, i, i + 1, 1, 1) for i in ((length - 1) // 2, length // 2)]
        exact = e.concat(middle, axis)
    mean = e.reduce("ReduceMean", exact, [axis], True)
    return e.cast(mean if mean.dtype == x.dtype else e.unary("Round", mean), x.dtype)


def _part(e: Emit, x: Value, axis: int, start: Any, stop: Any, step: int, size: int) -> Value:
    part = e.slice(x, axis, start, stop, step)
    part.shape = tuple(size if i == axis else dim for i, dim in enumerate(x.dims))
    return part


def _repeated(e: Emit, x: Value, axis: int, size: int) -> Value:
    return e.expand(x, tuple(size if i == axis else dim for i, dim in enumerate(x.dims)))


def _triangle(e: Emit, x: Any, k: int, upper: int) -> Value:
    x = e.tensor(x)
    wide = e.widened(x, "float32", "float16", "float64", "int32", "int64", "bool")
    return e.cast(e.node("Trilu", wide, e.scalar(k, "int64"), shape=x.shape, upper=upper), x.dtype)


@op("Tril", since=14)
def tril(e: Emit, x: Any, *, k: int) -> Value:
    return _triangle(e, x, k, 0)


@op("Triu", since=14)
def triu(e: Emit, x: Any, *, k: int) -> Value:
    return _triangle(e, x, k, 1)


# Patterns


def _groups(side: str) -> list[list[str]]:
    """One side of an einops pattern: a list of axis names for each axis."""
    return [re.findall(r"\w+", group) for group in re.findall(r"\w+|\(.*?\)", side)]


@op("Rearrange", since=14, spec=_as_emitted)
def rearrange(e: Emit, x: Value, pattern: str, **axes_lengths: int) -> Value:
    """Split, reordered and merged axes: Reshape, Transpose, Reshape."""
    left, right = (_groups(side) for side in pattern.split("->"))
    lengths: dict[str, Any] = dict(axes_lengths)
    for group, dim in zip(left, x.dims, strict=True):
        open_names = [name for name in group if name not in lengths]
        if len(open_names) > 1:
            raise ValueError(f"the sizes of {open_names} in {pattern!r} cannot be told apart")
        if open_names:
            known = math.prod(lengths[name] for name in group if name in lengths)
            lengths[open_names[0]] = dim // known
    names = [name for group in left for name in group]
    order = [names.index(name) for group in right for name in group]
    parts = e.transpose(e.reshape(x, [lengths[name] for name in names]), order)
    return e.reshape(parts, [math.prod(lengths[name] for name in group) for group in right])
