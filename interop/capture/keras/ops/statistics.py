"""Quantiles, weighted averages, correlation, histograms, differences and integrals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, axis_list, element_count
from interop.capture.keras.ops.elementwise import choose, floating, is_float, isnan
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic
from interop.errors import UnsupportedOp
from interop.graph.record import Dims, Value

# Quantiles


@dataclass(frozen=True)
class _Ranked:
    """Values in ascending order along one axis.

    Attributes:
        values: the sorted values; NaN has no place among them.
        axis: the axis they are sorted along.
        last: position of the last number: a scalar, or one for each row with size 1 at the axis.
    """

    values: Value
    axis: int
    last: Value

    def at(self, e: Emit, position: Value) -> Value:
        """Values at whole positions: the same for every row, or of each row its own."""
        index = e.cast(position, "int64")
        if self.last.rank:
            return e.node(
                "GatherElements",
                self.values,
                index,
                shape=index.shape,
                dtype=self.values.dtype,
                axis=self.axis,
            )
        dims = self.values.dims
        shape = (*dims[: self.axis], *index.dims, *dims[self.axis + 1 :])
        return e.node("Gather", self.values, index, shape=shape, axis=self.axis)

    def between(self, e: Emit, fraction: Value, method: str) -> Value:
        """The values at a fraction of the way to the last."""
        position = e.binary("Mul", fraction, self.last)
        if method == "nearest":
            return self.at(e, e.unary("Round", position))
        below = e.unary("Floor", position)
        if method == "lower":
            return self.at(e, below)
        above = e.unary("Ceil", position)
        if method == "higher":
            return self.at(e, above)
        low, high = self.at(e, below), self.at(e, above)
        share = e.like(0.5, low) if method == "midpoint" else e.binary("Sub", position, below)
        if method == "linear" and not self.last.rank and share.rank:
            # One share for each quantile, which stand at the sorted axis.
            share = e.reshape(share, (*share.dims, *(1,) * (low.rank - 1 - self.axis)))
        rest = e.binary("Sub", e.like(1, share), share)
        return e.binary("Add", e.binary("Mul", low, rest), e.binary("Mul", high, share))


def _rows(e: Emit, x: Value, axes: list[int]) -> tuple[Value, int]:
    """``x`` with the given axes made one, and where it is."""
    if len(axes) == 1:
        return x, axes[0]
    kept = [axis for axis in range(x.rank) if axis not in axes]
    moved = e.transpose(x, kept + axes)
    dims = moved.dims
    return e.reshape(moved, (*dims[: len(kept)], element_count(dims[len(kept) :]))), len(kept)


def _rank(e: Emit, x: Value, axis: int, numbers_only: bool) -> tuple[_Ranked, Value]:
    """``x`` sorted, and where a row has no quantile: it has a NaN, or nothing else."""
    missing = isnan(e, x)
    if numbers_only:
        x = choose(e, missing, e.like(np.inf, x), x)
        one = e.like(1, x)
        count = e.reduce("ReduceSum", e.cast(e.unary("Not", missing), x.dtype), [axis], keepdims=True)
        empty = e.binary("Equal", count, e.like(0, count), dtype="bool")
        last = e.binary("Max", e.binary("Sub", count, one), e.like(0, count))
    else:
        empty = e.cast(e.reduce("ReduceMax", e.cast(missing, "int32"), [axis], keepdims=True), "bool")
        size = x.dims[axis]
        last = e.cast(e.reshape(e.size(size), ()), x.dtype)
        last = e.like(size - 1, x) if not is_symbolic(size) else e.binary("Sub", last, e.like(1, x))
    outputs = [(x.dtype, x.dims), ("int64", x.dims)]
    values, _ = e.nodes("TopK", x, e.size(x.dims[axis]), outputs=outputs, axis=axis, largest=0)
    return _Ranked(values, axis, last), empty


def _quantiles(
    e: Emit, x: Value, q: Any, axis: Any, method: str, keepdims: bool, scale: float, numbers_only: bool
) -> Value:
    x = floating(e, x)
    x = x if x.dtype == "float64" else e.cast(x, "float32")
    if method not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ValueError(f"unknown method {method!r} of a quantile")
    fraction = e.tensor(q, x.dtype)
    if scale != 1:
        fraction = _divided(e, fraction, scale)
    listed = fraction.rank == 1
    axes = sorted(axis_list(axis, x.rank))
    rows, place = _rows(e, x, axes)
    ranked, empty = _rank(e, rows, place, numbers_only)
    if numbers_only:
        count = fraction.dims[0] if listed else 1
        fraction = e.reshape(fraction, (count, *(1,) * (rows.rank - 1 - place)))
    result = ranked.between(e, fraction, method)
    if not listed and not numbers_only:
        empty = e.squeeze(empty, [place])
    result = choose(e, empty, e.like(np.nan, result), result)
    if listed:
        result = e.transpose(result, [place, *(i for i in range(result.rank) if i != place)])
    elif numbers_only:
        result = e.squeeze(result, [place])
    return e.unsqueeze(result, [i + listed for i in axes]) if keepdims else result


def _divided(e: Emit, x: Value, scale: float) -> Value:
    if x.array is not None:
        return e.constant(x.array / x.array.dtype.type(scale))
    return e.binary("Div", x, e.like(scale, x))


def _quantile_spec(operation: Any, x: Any, q: Any) -> Any:
    """Keras' own, but with an axis for a list of one quantile."""
    axes = axis_list(operation.axis, len(x.shape))
    kept = [1 if axis in axes else dim for axis, dim in enumerate(x.shape)]
    if not operation.keepdims:
        kept = [dim for axis, dim in enumerate(x.shape) if axis not in axes]
    dtype = operation.compute_output_spec(x, 0.5).dtype
    return compat.tensor_spec((*getattr(q, "shape", np.shape(q)), *kept), dtype)


def _quantile(scale: float, numbers_only: bool) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, q: Any, *, axis: Any, method: str, keepdims: bool) -> Value:
        return _quantiles(e, x, q, axis, method, keepdims, scale, numbers_only)

    return emit


op("Quantile", since=16, spec=_quantile_spec)(_quantile(1, False))
op("Percentile", since=16, spec=_quantile_spec)(_quantile(100, False))
op("Nanquantile", since=16, spec=_quantile_spec)(_quantile(1, True))
op("Nanpercentile", since=16, spec=_quantile_spec)(_quantile(100, True))


def _median(numbers_only: bool) -> Callable[..., Value]:
    def emit(e: Emit, x: Value, *, axis: Any, keepdims: bool) -> Value:
        return _quantiles(e, x, 0.5, axis, "linear", keepdims, 1, numbers_only)

    return emit


op("Median", since=16)(_median(False))
op("Nanmedian", since=16)(_median(True))


# Averages and correlation


@op("Average", since=16)
def average(e: Emit, x: Value, weights: Any = None, *, axis: Any) -> Value:
    x = floating(e, x)
    axes = axis_list(axis, x.rank)
    if weights is None:
        return e.reduce("ReduceMean", x, axes)
    share = e.tensor(weights, x.dtype)
    if share.rank == x.rank:
        total = e.reduce("ReduceSum", share, axes)
    else:
        total = e.reduce("ReduceSum", share, [0])
        share = e.reshape(share, (*share.dims, *(1,) * (x.rank - 1 - axes[0])))
    return e.binary("Div", e.reduce("ReduceSum", e.binary("Mul", x, share), axes), total)


def _corrcoef_spec(operation: Any, x: Any) -> Any:
    dtype = operation.compute_output_spec(x).dtype
    return compat.tensor_spec((x.shape[0], x.shape[0]) if len(x.shape) == 2 else (), dtype)


@op("Corrcoef", since=16, spec=_corrcoef_spec)
def corrcoef(e: Emit, x: Value) -> Value:
    """Products of the rows, centred and brought to length 1."""
    rows = floating(e, x)
    rows = rows if x.rank == 2 else e.reshape(rows, (1, *x.dims))
    centred = e.binary("Sub", rows, e.reduce("ReduceMean", rows, [1], keepdims=True))
    unit = e.binary("Div", centred, e.reduce("ReduceL2", centred, [1], keepdims=True))
    product = e.matmul(unit, e.transpose(unit, [1, 0]))
    result = e.node("Clip", product, e.like(-1, product), e.like(1, product), shape=product.shape)
    return result if x.rank == 2 else e.reshape(result, ())


def _longer_first(x1: Any, x2: Any) -> bool:
    """Whether the second sequence is the kernel; a dynamic first one counts as the longer."""
    n, m = x1.shape[0], x2.shape[0]
    return is_symbolic(n) or is_symbolic(m) or int(n) >= int(m)


def _correlate_spec(operation: Any, x1: Any, x2: Any) -> Any:
    dtype = compat.result_type(x1.dtype, x2.dtype)
    dtype = (
        "float64" if dtype == "int64" else dtype if dtype in ("bfloat16", "float16", "float64") else "float32"
    )
    n, m = (x1.shape[0], x2.shape[0]) if _longer_first(x1, x2) else (x2.shape[0], x1.shape[0])
    length = {"valid": n - m + 1, "same": n, "full": n + m - 1}[operation.mode]
    return compat.tensor_spec((length,), dtype)


@op("Correlate", since=13, spec=_correlate_spec)
def correlate(e: Emit, x1: Any, x2: Any, *, mode: str) -> Value:
    """A convolution, whose kernel ONNX does not turn round; of a longer kernel, turned round at the end."""
    signal, kernel = e.tensor(x1, e.spec.dtype), e.tensor(x2, e.spec.dtype)
    turned = not _longer_first(signal, kernel)
    if turned:
        signal, kernel = kernel, signal
    length = kernel.dims[0]
    before, after = {
        "valid": (0, 0),
        "same": (length // 2, length - 1 - length // 2),
        "full": (length - 1, length - 1),
    }[mode]
    pads = None if is_symbolic(length) else [int(before), int(after)]
    if pads is None and mode != "valid":
        signal = e.node("Pad", signal, e.sizes([before, after]), shape=(before + signal.dims[0] + after,))
    row, column = e.unsqueeze(signal, [0, 1]), e.unsqueeze(kernel, [0, 1])
    result = e.node("Conv", row, column, shape=(1, 1, *e.spec.shape), pads=pads)
    result = e.squeeze(result, [0, 1])
    return e.flip(result, 0) if turned else result


# Counting


def _sum_over_rows(e: Emit, condition: Value, keepdims: bool = False) -> Value:
    return e.reduce("ReduceSum", e.cast(condition, "int32"), [0], keepdims)


@op("Histogram", since=16)
def histogram(e: Emit, x: Value, *, bins: int, range: Any) -> tuple[Value, Value]:
    """Values not below each left edge, less those not below the next; the last edge belongs to its bin."""
    number = e.widened(x, "float32", "float64")
    number = number if is_float(number.dtype) else e.cast(number, "float32")
    fractions = np.arange(bins) / bins
    if range is not None:
        low, high = (
            bound + (range[0] == range[1]) * shift for bound, shift in zip(range, (-0.5, 0.5), strict=True)
        )
        left = e.constant(low + (high - low) * fractions, number.dtype)
        last = e.constant([high], number.dtype)
    else:
        least, most = (e.reduce(kind, number, [0], keepdims=True) for kind in ("ReduceMin", "ReduceMax"))
        flat = e.cast(e.binary("Equal", least, most, dtype="bool"), number.dtype)
        half = e.binary("Mul", flat, e.like(0.5, number))
        least, last = e.binary("Sub", least, half), e.binary("Add", most, half)
        width = e.binary("Sub", last, least)
        left = e.binary("Add", least, e.binary("Mul", width, e.constant(fractions, number.dtype)))
    column = e.unsqueeze(number, [1])
    reached = _sum_over_rows(e, e.binary("GreaterOrEqual", column, left, dtype="bool"))
    beyond = _sum_over_rows(e, e.binary("Greater", number, last, dtype="bool"), keepdims=True)
    next_reached = e.slice(reached, 0, 1, None)
    next_reached.shape = (bins - 1,)
    counts = e.binary("Sub", reached, e.concat([next_reached, beyond], 0))
    return e.cast(counts, x.dtype), e.concat([left, last], 0)


def _bincount_spec(operation: Any, x: Any) -> Any:
    kinds = [x.dtype] if operation.weights is None else [x.dtype, compat.dtype_name(operation.weights.dtype)]
    dtype = "int32" if operation.weights is None else compat.result_type(*kinds)
    return compat.tensor_spec((*x.shape[:-1], None), dtype)


@op("Bincount", since=16, spec=_bincount_spec)
def bincount(e: Emit, x: Value, *, weights: Any, minlength: int, sparse: bool) -> Value:
    if sparse:
        raise UnsupportedOp("bincount with sparse=True has no ONNX form: no operator takes sparse tensors.")
    index = e.cast(x, "int64")
    most = e.binary("Add", e.reduce("ReduceMax", index, None), e.scalar(1, "int64"))
    length = e.reshape(e.binary("Max", most, e.scalar(int(minlength), "int64")), (1,))
    dims = (*x.dims[:-1], e.unknown("bins", x))
    kind = e.spec.dtype if e.spec.dtype in ("float32", "float64", "int64") else "int32"
    added = e.expand(e.scalar(1, kind), x.dims) if weights is None else e.tensor(weights, kind)
    size = e.concat([e.size(x.dims[0]), length], 0) if x.rank == 2 else length
    empty = e.node("Expand", e.scalar(0, kind), size, shape=dims)
    counts = e.node("ScatterElements", empty, index, added, shape=dims, axis=x.rank - 1, reduction="add")
    return e.witness(e.cast(counts, e.spec.dtype))


def _digitize_spec(operation: Any, x: Any, bins: Any) -> Any:
    return compat.tensor_spec(x.shape, "int32")


@op("Digitize", since=16, spec=_digitize_spec)
def digitize(e: Emit, x: Value, bins: Any) -> Value:
    """How many edges a value is not below; NaN is below none."""
    edges = e.tensor(bins)
    kind = compat.result_type(x.dtype, edges.dtype)
    kind = "int32" if kind == "bool" else kind
    column = e.unsqueeze(e.cast(x, kind), [-1])
    below = e.binary("Less", column, e.cast(edges, kind), dtype="bool")
    return e.reduce("ReduceSum", e.cast(e.unary("Not", below), "int32"), [-1])


# Neighbours


def _neighbours(e: Emit, x: Value, axis: int) -> tuple[Value, Value]:
    """All values but the first, and all but the last."""
    size = x.dims[axis]
    dims: Dims = tuple(max(size - 1, 0) if i == axis else dim for i, dim in enumerate(x.dims))
    later, earlier = e.slice(x, axis, 1, None), e.slice(x, axis, 0, -1)
    later.shape = earlier.shape = dims
    return later, earlier


@op("Diff", since=14)
def diff(e: Emit, a: Value, *, n: int, axis: int) -> Value:
    for _ in range(n):
        later, earlier = _neighbours(e, a, axis % a.rank)
        a = e.binary("Xor" if a.dtype == "bool" else "Sub", later, earlier)
    return a


@op("Trapezoid", since=14)
def trapezoid(e: Emit, y: Value, *, x: Any, dx: Any, axis: int) -> Value:
    heights = floating(e, y)
    place = axis % heights.rank
    doubled = e.binary("Add", *_neighbours(e, heights, place))
    if x is None:
        total = e.reduce("ReduceSum", doubled, [place])
        half = e.tensor(dx, heights.dtype) if isinstance(dx, Value) else e.like(float(dx) / 2, heights)
        if isinstance(dx, Value):
            half = e.binary("Mul", half, e.like(0.5, half))
        return e.binary("Mul", total, half)
    points = e.tensor(x, heights.dtype)
    widths = e.binary("Sub", *_neighbours(e, points, place if points.rank > 1 else 0))
    if points.rank == 1:
        widths = e.reshape(widths, (*widths.dims, *(1,) * (heights.rank - 1 - place)))
    total = e.reduce("ReduceSum", e.binary("Mul", doubled, widths), [place])
    return e.binary("Mul", total, e.like(0.5, total))
