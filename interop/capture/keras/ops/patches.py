"""Windows as vectors and back, and blocks of space as channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.convolution import channels_first, layout, missing, per_axis, restored
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import compute_conv_output_shape, windows
from interop.capture.keras.symint import floor_divide, is_symbolic
from interop.graph.record import Value


def _cells(e: Emit, count: Any, kernel: int, stride: int, dilation: int) -> Value:
    """The positions that each of ``count`` windows covers on an axis: (count, kernel)."""
    inner = np.arange(kernel, dtype=np.int64) * dilation
    if not is_symbolic(count):
        return e.constant(np.arange(int(count))[:, None] * stride + inner)
    starts = counting(e, count)
    starts = starts if stride == 1 else e.binary("Mul", starts, e.scalar(stride, "int64"))
    return e.binary("Add", e.unsqueeze(starts, [1]), e.constant(inner))


def _windows(
    e: Emit,
    x: Value,
    first: int,
    counts: Sequence[Any],
    kernel: list[int],
    strides: list[int],
    rates: list[int],
) -> Value:
    """Every axis from ``first`` on as two: which window, and which of its cells."""
    for i, step in enumerate(zip(counts, kernel, strides, rates, strict=True)):
        axis = first + 2 * i
        index = _cells(e, *step)
        shape = (*x.dims[:axis], *index.dims, *x.dims[axis + 1 :])
        x = e.node("Gather", x, index, shape=shape, axis=axis)
    return x


def _bordered(e: Emit, x: Value, first: int, befores: Sequence[Any], afters: Sequence[Any]) -> Value:
    """Zeros around consecutive axes."""
    if not any(is_symbolic(width) or width for width in (*befores, *afters)):
        return x
    before, after = [0] * x.rank, [0] * x.rank
    before[first : first + len(befores)] = befores
    after[first : first + len(afters)] = afters
    dims = tuple(a + d + b for a, d, b in zip(before, x.dims, after, strict=True))
    return e.node("Pad", x, e.sizes(before + after), shape=dims)


def _unfold_counts(operation: Any, shape: Any) -> list[Any]:
    kernel, rates, pads, strides = _fold_arguments(
        operation.kernel_size, operation.dilation, operation.padding, operation.stride
    )
    return [
        windows(size + 2 * pad, k, s, "valid", d)
        for size, k, d, pad, s in zip(shape[2:], kernel, rates, pads, strides, strict=True)
    ]


def _fold_arguments(*values: Any) -> list[list[int]]:
    return [per_axis(value, 2) for value in values]


def _unfold_spec(operation: Any, x: Any) -> Any:
    rows, columns = _unfold_counts(operation, x.shape)
    kernel = per_axis(operation.kernel_size, 2)
    return compat.tensor_spec((x.shape[0], x.shape[1] * kernel[0] * kernel[1], rows * columns), x.dtype)


@op("Unfold", since=13, spec=_unfold_spec)
def unfold(e: Emit, x: Value, *, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Value:
    """(batch, channels, height, width) to (batch, channels x cells of a window, windows)."""
    kernel, rates, pads, strides = _fold_arguments(kernel_size, dilation, padding, stride)
    x = _bordered(e, x, 2, pads, pads)
    counts = [
        windows(size, k, s, "valid", d)
        for size, k, s, d in zip(x.dims[2:], kernel, strides, rates, strict=True)
    ]
    split = _windows(e, x, 2, counts, kernel, strides, rates)
    return e.reshape(e.transpose(split, [0, 1, 3, 5, 2, 4]), e.spec.shape)


@op("Fold", since=13)
def fold_by_convolution(
    e: Emit, x: Value, *, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Value:
    """Each cell of a window adds itself at its place: a transposed convolution with unit kernels."""
    kernel, rates, pads, strides = _fold_arguments(kernel_size, dilation, padding, stride)
    sizes = per_axis(output_size, 2)
    counts = [
        windows(n + 2 * p, k, s, "valid", d)
        for n, k, d, p, s in zip(sizes, kernel, rates, pads, strides, strict=True)
    ]
    channels, area = int(e.spec.shape[1]), kernel[0] * kernel[1]
    # Cells that no window reaches are zeros at the end.
    reached = [
        (c - 1) * s + d * (k - 1) + 1 for c, k, d, s in zip(counts, kernel, rates, strides, strict=True)
    ]
    rest = [n + 2 * p - r for n, p, r in zip(sizes, pads, reached, strict=True)]
    unit = np.tile(np.eye(area).reshape(area, 1, *kernel), (channels, 1, 1, 1))
    values = e.cast(x, "float32") if x.dtype != "float16" else x
    result = e.node(
        "ConvTranspose",
        e.reshape(values, (x.dims[0], channels * area, *counts)),
        e.constant(unit, values.dtype),
        shape=tuple(e.spec.shape),
        group=channels,
        kernel_shape=kernel,
        strides=strides,
        dilations=rates,
        pads=[*pads, *pads],
        output_padding=rest if any(rest) else None,
    )
    return e.cast(result, x.dtype)


@op("Fold", since=18)
def fold(
    e: Emit, x: Value, *, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Value:
    kernel, rates, pads, strides = _fold_arguments(kernel_size, dilation, padding, stride)
    return e.node(
        "Col2Im",
        x,
        per_axis(output_size, 2),
        kernel,
        shape=tuple(e.spec.shape),
        dilations=rates,
        pads=[*pads, *pads],
        strides=strides,
    )


def _extract_spec(operation: Any, images: Any) -> Any:
    size = list(operation.size)
    batched = len(images.shape) == len(size) + 2
    shape = images.shape if batched else (1, *images.shape)
    kind = layout(operation.data_format)
    channels = shape[-1] if kind == "channels_last" else shape[1]
    filters = int(np.prod(size)) * channels
    result = compute_conv_output_shape(
        shape,
        filters,
        size,
        _strides(operation.strides, size),
        operation.padding,
        kind,
        operation.dilation_rate,
    )
    return compat.tensor_spec(result if batched else result[1:], images.dtype)


def _strides(strides: Any, size: list[int]) -> list[int]:
    return per_axis(strides, len(size)) if strides else size


@op("ExtractPatches", since=13, spec=_extract_spec)
def extract_patches(
    e: Emit, images: Value, *, size: Any, strides: Any, dilation_rate: Any, padding: str, data_format: Any
) -> Value:
    """Patches as vectors of (cells x channels), in the channels' place."""
    kernel = list(size)
    rank = len(kernel)
    steps, rates = _strides(strides, kernel), per_axis(dilation_rate, rank)
    batched = images.rank == rank + 2
    x = images if batched else e.unsqueeze(images, [0])
    last = layout(data_format) == "channels_last"
    first = 1 if last else 2
    sizes = x.dims[first : first + rank]
    counts = [windows(n, k, s, padding, d) for n, k, s, d in zip(sizes, kernel, steps, rates, strict=True)]
    if padding == "same":
        totals = [missing(*step) for step in zip(sizes, kernel, steps, rates, strict=True)]
        befores = [floor_divide(total, 2) for total in totals]
        x = _bordered(e, x, first, befores, [t - b for t, b in zip(totals, befores, strict=True)])
    x = _windows(e, x, first, counts, kernel, steps, rates)
    which, cells = [first + 2 * i for i in range(rank)], [first + 2 * i + 1 for i in range(rank)]
    channel = x.rank - 1 if last else 1
    x = e.transpose(x, [0, *which, *cells, channel] if last else [0, *cells, channel, *which])
    x = e.reshape(x, e.spec.shape if batched else (1, *e.spec.shape))
    return x if batched else e.squeeze(x, [0])


def _depth_to_space_spec(operation: Any, x: Any) -> Any:
    size = operation.block_size
    if operation.data_format == "channels_last":
        b, h, w, c = x.shape
        return compat.tensor_spec((b, h * size, w * size, c // size**2), x.dtype)
    b, c, h, w = x.shape
    return compat.tensor_spec((b, c // size**2, h * size, w * size), x.dtype)


def _space_to_depth_spec(operation: Any, x: Any) -> Any:
    size = operation.block_size
    if operation.data_format == "channels_last":
        b, h, w, c = x.shape
        return compat.tensor_spec((b, h // size, w // size, c * size**2), x.dtype)
    b, c, h, w = x.shape
    return compat.tensor_spec((b, c * size**2, h // size, w // size), x.dtype)


def _blocks_last(data_format: str) -> bool:
    """Whether channels count blocks fastest, as jax and torch read channels_first."""
    return data_format == "channels_first" and keras.config.backend() != "tensorflow"


def _floating(e: Emit, x: Value) -> Value:
    """Runtimes move blocks of floats only; float64 holds the integers exactly."""
    return x if x.dtype.startswith(("float", "bf")) else e.cast(x, "float64")


@op("DepthToSpace", since=13, spec=_depth_to_space_spec)
def depth_to_space(e: Emit, x: Value, *, block_size: int, data_format: str) -> Value:
    moved = channels_first(e, _floating(e, x), data_format)
    b, c, h, w = moved.dims
    shape = (b, c // block_size**2, h * block_size, w * block_size)
    mode = "CRD" if _blocks_last(data_format) else "DCR"
    result = e.node("DepthToSpace", moved, shape=shape, blocksize=block_size, mode=mode)
    return restored(e, result, data_format)


@op("SpaceToDepth", since=13, spec=_space_to_depth_spec)
def space_to_depth(e: Emit, x: Value, *, block_size: int, data_format: str) -> Value:
    moved = channels_first(e, _floating(e, x), data_format)
    b, c, h, w = moved.dims
    blocks, rows, columns = block_size**2, h // block_size, w // block_size
    result = e.node("SpaceToDepth", moved, shape=(b, blocks * c, rows, columns), blocksize=block_size)
    if _blocks_last(data_format):
        split = e.reshape(result, (b, blocks, c, rows, columns))
        result = e.reshape(e.transpose(split, [0, 2, 1, 3, 4]), (b, blocks * c, rows, columns))
    return restored(e, result, data_format)
