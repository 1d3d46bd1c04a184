"""Fourier transforms and mel filters. Source: https://onnx.ai/onnx/operators/onnx__DFT.html and its kind.

A transform is a product with the matrix of its sines and cosines: lengths are known when the graph is read, and a
matrix product builds, saves and trains on every backend. Complex numbers are pairs along the last axis.
"""

from __future__ import annotations

import numpy as np
from keras import ops
from numpy.typing import NDArray

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


@op("DFT", since=17, static=("length",))
def dft_of_axis_attribute(
    ctx: Context, x: Tensor, length: Tensor = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    return _transformed(
        ctx, x, None if length is None else ctx.ints(length)[0], axis, bool(inverse), bool(onesided)
    )


@op("DFT", since=20, static=("length", "axis"))
def dft(
    ctx: Context,
    x: Tensor,
    length: Tensor = None,
    axis: Tensor = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    along = -2 if axis is None else ctx.ints(axis)[0]
    return _transformed(
        ctx, x, None if length is None else ctx.ints(length)[0], along, bool(inverse), bool(onesided)
    )


def _waves(rows: int, columns: int, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines of every product of two places, in turns of `length`."""
    angle = 2 * np.pi / length * (np.outer(np.arange(rows), np.arange(columns)) % length)
    return np.cos(angle), np.sin(angle)


def _transformed(
    ctx: Context, x: Tensor, length: int | None, axis: int, inverse: bool, onesided: bool
) -> Tensor:
    dims = list(ctx.dims(x))
    axis = ctx.axis(axis, len(dims))
    size = dims[axis]
    if isinstance(size, SymInt):
        ctx.fail(f"transforms the open dimension {size}; import the model with that dimension fixed")
    if length is None:
        length = 2 * (size - 1) if inverse and onesided else size
    parts = [ops.moveaxis(x[..., i], axis, -1) for i in range(int(dims[-1]))]
    if inverse and onesided:
        made = [_real_inverse(ctx, parts, length)]
    else:
        made = _complex(ctx, parts, length, inverse, length // 2 + 1 if onesided else length)
    y = ops.stack([ops.moveaxis(part, -1, axis) for part in made], axis=-1)
    return ctx.declare(y, [*dims[:axis], int(y.shape[axis]), *dims[axis + 1 : -1], len(made)])


def _used(part: Tensor, count: int) -> Tensor:
    """The first elements of the last axis; a longer transform has zeros after them."""
    return part if part.shape[-1] <= count else part[..., :count]


def _complex(ctx: Context, parts: list[Tensor], length: int, inverse: bool, kept: int) -> list[Tensor]:
    parts = [_used(part, length) for part in parts]
    cosine, sine = (
        wave.astype(ctx.dtype(parts[0])) for wave in _waves(int(parts[0].shape[-1]), kept, length)
    )
    if inverse:
        cosine, sine = cosine / length, -sine / length
    real, imaginary = ops.matmul(parts[0], cosine), ops.negative(ops.matmul(parts[0], sine))
    if len(parts) > 1:
        real = ctx.add(real, ops.matmul(parts[1], sine))
        imaginary = ctx.add(imaginary, ops.matmul(parts[1], cosine))
    return [real, imaginary]


def _real_inverse(ctx: Context, parts: list[Tensor], length: int) -> Tensor:
    """Of the first half of a spectrum, whose other half is its mirror image."""
    parts = [_used(part, length // 2 + 1) for part in parts]
    rows = int(parts[0].shape[-1])
    weights = np.full((rows, 1), 2.0)
    weights[0] = 1.0
    if length % 2 == 0 and rows == length // 2 + 1:
        weights[-1] = 1.0
    cosine, sine = (
        (wave * weights / length).astype(ctx.dtype(parts[0])) for wave in _waves(rows, length, length)
    )
    y = ops.matmul(parts[0], cosine)
    return y if len(parts) == 1 else ops.subtract(y, ops.matmul(parts[1], sine))


@op("STFT", since=17, static=("step", "length"))
def stft(
    ctx: Context, x: Tensor, step: Tensor, window: Tensor = None, length: Tensor = None, *, onesided: int = 1
) -> Tensor:
    """Frames of a signal, weighted by a window and transformed."""
    size = int(window.shape[0]) if length is None else ctx.ints(length)[0]
    batch, total, parts = ctx.dims(x)
    if isinstance(total, SymInt):
        ctx.fail(f"cuts the open dimension {total} into frames; import the model with that dimension fixed")
    jump = ctx.ints(step)[0]
    starts = np.arange((total - size) // jump + 1) * jump
    frames = ops.take(x, (starts[:, None] + np.arange(size)).astype("int32"), axis=1)
    frames = ctx.declare(frames, (batch, len(starts), size, parts))
    if window is not None:
        frames = ctx.declare(ops.multiply(frames, ops.reshape(window, (-1, 1))), ctx.dims(frames))
    return _transformed(ctx, frames, size, 2, False, bool(onesided))


@op("MelWeightMatrix", since=17, static=("bins", "length", "rate", "lowest", "highest"))
def mel_weights(
    ctx: Context,
    bins: Tensor,
    length: Tensor,
    rate: Tensor,
    lowest: Tensor,
    highest: Tensor,
    *,
    output_datatype: int = 1,
) -> Tensor:
    """Triangles that are equally wide in mel: a table, since all that it depends on is known."""
    count, size = int(bins.item()), int(length.item())
    low, high = (2595 * np.log10(1 + float(edge.item()) / 700) for edge in (lowest, highest))
    mels = low + np.arange(count + 2) * (high - low) / (count + 2)
    edges = ((size + 1) * (700 * (10 ** (mels / 2595) - 1)) // float(rate.item())).astype(int)
    places = np.arange(size // 2 + 1)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (places - left) / np.maximum(centre - left, 1)
    falling = (right - places) / np.maximum(right - centre, 1)
    table = np.where((places >= left) & (places <= centre) & (centre > left), rising, 0.0)
    table = np.where((places == centre) & (centre == left), 1.0, table)
    table = np.where((places >= centre) & (places < right) & (right > centre), falling, table)
    return table.astype(ctx.dtype_of_code(output_datatype))
