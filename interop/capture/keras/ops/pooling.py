"""Poolings over fixed windows, and over windows that divide any size into a fixed number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.convolution import (
    channels_first,
    layout,
    missing,
    padded,
    per_axis,
    restored,
    same_pads,
)
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic
from interop.graph.record import Value


def _window(
    e: Emit, x: Value, pool_size: Any, strides: Any, data_format: str | None
) -> tuple[Value, list[int], list[int], tuple[Any, ...]]:
    """The operand channels first, its window and strides, and the shape of the result."""
    kind = layout(data_format)
    kernel = per_axis(pool_size, x.rank - 2)
    stride = kernel if strides is None else per_axis(strides, x.rank - 2)
    shape = tuple(e.spec.shape)
    if kind == "channels_last":
        shape = (shape[0], shape[-1], *shape[1:-1])
    return channels_first(e, x, kind), kernel, stride, shape


@op("MaxPool", since=12)
def max_pool(
    e: Emit, inputs: Value, *, pool_size: Any, strides: Any, padding: str, data_format: str | None
) -> Value:
    x, kernel, stride, shape = _window(e, inputs, pool_size, strides, data_format)
    x, pads = _same(e, x, kernel, stride) if padding == "same" else (x, {})
    result = e.node("MaxPool", x, shape=shape, kernel_shape=kernel, strides=stride, **pads)
    return restored(e, result, layout(data_format))


def _same(e: Emit, x: Value, kernel: list[int], stride: list[int]) -> tuple[Value, dict[str, Any]]:
    # Any window that holds a repeated edge holds that edge too: a maximum does not notice.
    return same_pads(e, x, kernel, stride, [1] * len(kernel), mode="edge")


@op("AveragePool", since=11)
def average_pool(
    e: Emit, inputs: Value, *, pool_size: Any, strides: Any, padding: str, data_format: str | None
) -> Value:
    """Averages leave padded cells out, but see `_average_of_edges`."""
    x, kernel, stride, shape = _window(e, inputs, pool_size, strides, data_format)
    totals = [missing(*step) for step in zip(x.dims[2:], kernel, stride, strict=True)]

    def average(operand: Value, lead: tuple[Any, ...] = shape[:2], **pads: Any) -> Value:
        sizes = (*lead, *shape[2:])
        return e.node("AveragePool", operand, shape=sizes, kernel_shape=kernel, strides=stride, **pads)

    def average_inside() -> Value:
        if not any(is_symbolic(total) and k < s for total, k, s in zip(totals, kernel, stride, strict=True)):
            operand, pads = _same(e, x, kernel, stride)
            return average(operand, **pads)
        # Runtimes refuse SAME_UPPER there, and AveragePool cannot leave out the cells of a Pad. Those are zeros here:
        # the average over all is divided by the share of the others.
        ones = e.expand(e.like(1, x), (1, 1, *x.dims[2:]))
        share = average(padded(e, ones, totals, stride), lead=(1, 1))
        return e.binary("Div", average(padded(e, x, totals, stride)), share)

    if padding == "valid":
        result = average(x)
    elif keras.config.backend() == "torch":
        result = _average_of_edges(e, x, stride, totals, average, average_inside)
    else:
        result = average_inside()
    return restored(e, result, layout(data_format))


def _average_of_edges(
    e: Emit,
    x: Value,
    stride: list[int],
    totals: list[Any],
    average: Callable[..., Value],
    average_inside: Callable[[], Value],
) -> Value:
    """padding="same" on torch, where Keras repeats the edge if any axis needs an odd number of cells.

    Those repeated cells count. Whether an axis is odd may depend on a dynamic size.
    """
    unknown = [total for total in totals if is_symbolic(total % 2)]
    if any(total % 2 == 1 for total in totals if not is_symbolic(total % 2)):
        return average(padded(e, x, totals, stride, "edge"))
    inside = average_inside()
    if not unknown:
        return inside
    counts = e.node("Max", e.sizes(unknown), e.scalar(0, "int64"), shape=(len(unknown),))
    parities = e.node("Mod", counts, e.scalar(2, "int64"), shape=counts.shape)
    odd = e.node("ReduceMax", parities, dtype="int64", shape=(), keepdims=0)
    repeating = average(padded(e, x, totals, stride, "edge"))
    return e.node("Where", e.cast(odd, "bool"), repeating, inside, dtype=x.dtype, shape=inside.shape)


def _adaptive_spec(operation: Any, inputs: Any) -> Any:
    rank = len(inputs.shape) - 2
    sizes = per_axis(operation.output_size, rank)
    if layout(operation.data_format) == "channels_last":
        return compat.tensor_spec((inputs.shape[0], *sizes, inputs.shape[-1]), inputs.dtype)
    return compat.tensor_spec((*inputs.shape[:2], *sizes), inputs.dtype)


def _adaptive(fixed: str, reduction: str) -> Callable[..., Value]:
    def emit(e: Emit, inputs: Value, *, output_size: Any, data_format: str | None) -> Value:
        kind = layout(data_format)
        first = 1 if kind == "channels_last" else 2
        counts = per_axis(output_size, inputs.rank - 2)
        sizes = inputs.dims[first : first + len(counts)]
        if all(count == 1 for count in counts):
            return e.reduce(reduction, inputs, range(first, first + len(counts)), True)
        if not any(is_symbolic(n) or n % count for n, count in zip(sizes, counts, strict=True)):
            window = [int(n) // count for n, count in zip(sizes, counts, strict=True)]
            x = channels_first(e, inputs, kind)
            shape = (*x.dims[:2], *counts)
            pooled = e.node(fixed, x, shape=shape, kernel_shape=window, strides=window)
            return restored(e, pooled, kind)
        x = inputs
        for axis, count in enumerate(counts, first):
            x = _windows_of(e, x, axis, count, reduction)
        return x

    return emit


def _windows_of(e: Emit, x: Value, axis: int, count: int, reduction: str) -> Value:
    """One axis reduced over ``count`` windows [floor(i n / count), ceil((i + 1) n / count))."""
    size = x.dims[axis]
    if not is_symbolic(size) and size == count:
        return x
    index, share = _known_windows(e, int(size), count) if not is_symbolic(size) else _windows(e, size, count)
    shape = (*x.dims[:axis], *index.dims, *x.dims[axis + 1 :])
    picked = e.node("Gather", x, index, shape=shape, axis=axis)
    if reduction == "ReduceMax":
        return e.reduce(reduction, picked, [axis + 1])
    share = e.reshape(e.cast(share, x.dtype), (*index.dims, *[1] * (x.rank - axis - 1)))
    return e.reduce("ReduceSum", e.binary("Mul", picked, share), [axis + 1])


def _known_windows(e: Emit, size: int, count: int) -> tuple[Value, Value]:
    """The cells of every window, (windows, cells), and the share of each in the window's average.

    A window shorter than the longest one repeats its last cell with a share of 0.
    """
    step = np.arange(count)[:, None]
    start, end = step * size // count, -((step + 1) * -size // count)
    cells = start + np.arange((end - start).max())
    return e.constant(np.minimum(cells, end - 1)), e.constant((cells < end) / (end - start))


def _windows(e: Emit, size: Any, count: int) -> tuple[Value, Value]:
    """The same for a dynamic size."""
    n, parts = e.size(size), e.scalar(count, "int64")
    step = np.arange(count, dtype=np.int64)[:, None]
    column = (count, 1)
    start = e.node("Div", e.node("Mul", n, step), parts, shape=column)
    stop = e.node("Add", e.node("Mul", n, step + 1), e.scalar(count - 1, "int64"))
    end = e.node("Div", stop, parts, shape=column)
    cells = e.binary("Add", start, e.unsqueeze(counting(e, size // count + 2), [0]))
    index = e.node("Min", cells, e.binary("Sub", end, e.scalar(1, "int64")), shape=cells.shape)
    inside = e.cast(e.binary("Less", cells, end, dtype="bool"), "float32")
    return index, e.binary("Div", inside, e.cast(e.binary("Sub", end, start), "float32"))


op("AdaptiveMaxPool", since=13, spec=_adaptive_spec)(_adaptive("MaxPool", "ReduceMax"))
op("AdaptiveAveragePool", since=13, spec=_adaptive_spec)(_adaptive("AveragePool", "ReduceMean"))
