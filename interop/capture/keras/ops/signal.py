"""Fourier transforms. Complex numbers are pairs of real tensors, as in ``keras.ops``; ONNX's DFT and STFT have
the pair as a last axis of size 2.

ONNX Runtime transforms lengths that are no power of two by Bluestein's algorithm, which in float32 is off by
3e-4 of the largest value at length 1000: those run in float64.
Sources: https://onnx.ai/onnx/operators/onnx__DFT.html, onnx__STFT.html.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.ops.elementwise import choose
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic, same
from interop.graph.record import Value

Pair = tuple[Value, Value]

# More overlapping frames than this are summed by a transposed convolution.
_SHIFTS = 8


def _exact(e: Emit, x: Value, length: Any) -> Value:
    """``x`` in the dtype in which a transform of this length is exact."""
    if x.dtype == "float64":
        return x
    power = not is_symbolic(length) and length & (length - 1) == 0
    return e.cast(x, "float32" if power else "float64")


def _joined(e: Emit, real: Value, imaginary: Value) -> Value:
    return e.concat([e.unsqueeze(part, [-1]) for part in (real, imaginary)], -1)


def _parts(e: Emit, x: Value, dtype: str) -> Pair:
    """Real and imaginary parts of what an ONNX transform returns."""
    half = (x.dtype, (*x.dims[:-1], 1))
    if e.opset >= 18:
        parts = e.nodes("Split", x, outputs=[half, half], axis=-1, num_outputs=2)
    else:
        parts = e.nodes("Split", x, outputs=[half, half], axis=-1)
    real, imaginary = (e.cast(e.squeeze(part, [-1]), dtype) for part in parts)
    return real, imaginary


def _dft(e: Emit, x: Value, axis: int, *, inverse: bool = False, onesided: bool = False) -> Value:
    """A transform along one axis of (..., 1 or 2)."""
    if x.rank == 2:  # the operator wants a batch
        batched = e.unsqueeze(x, [0])
        return e.squeeze(_dft(e, batched, axis + 1, inverse=inverse, onesided=onesided), [0])
    length = x.dims[axis]
    count = length // 2 + 1 if onesided else length
    dims = (*x.dims[:axis], count, *x.dims[axis + 1 : -1], 2)
    inputs: list[Any] = [x] if e.opset < 20 else [x, None, e.scalar(axis, "int64")]
    attribute = axis if e.opset < 20 else None
    return e.node("DFT", *inputs, shape=dims, axis=attribute, inverse=int(inverse), onesided=int(onesided))


def transform(e: Emit, pair: Any, axes: int, *, inverse: bool = False) -> Pair:
    """A complex transform over the last axes, one after the other."""
    real, imaginary = pair
    dtype = real.dtype
    rank = real.rank
    result = _joined(e, real, imaginary)
    for axis in range(rank - axes, rank):
        exact = _exact(e, result, result.dims[axis])
        result = _dft(e, exact, axis, inverse=inverse)
    return _parts(e, result, dtype)


@op("FFT", since=17)
def fft(e: Emit, x: Any) -> Pair:
    return transform(e, x, 1)


@op("FFT2", since=17)
def fft2(e: Emit, x: Any) -> Pair:
    return transform(e, x, 2)


@op("IFFT2", since=17)
def ifft2(e: Emit, x: Any) -> Pair:
    return transform(e, x, 2, inverse=True)


def _resized(e: Emit, x: Value, length: Any) -> Value:
    """The last axis cropped or filled with zeros to a length."""
    present = x.dims[-1]
    if same(present, length):
        return x
    if not is_symbolic(present) and not is_symbolic(length) and present > length:
        cropped = e.slice(x, -1, 0, length)
    else:
        # A size that is not known may be the shorter or the longer one: fill up, then crop.
        amount = e.size(length) if is_symbolic(present) else e.size(length - present)
        fill = e.concat([e.constant(np.zeros(2 * x.rank - 1, np.int64)), amount], 0)
        cropped = e.node("Pad", x, fill, e.like(0, x), shape=(*x.dims[:-1], present + length))
        if is_symbolic(present):
            cropped = e.slice(cropped, -1, 0, length)
    cropped.shape = (*x.dims[:-1], length)
    return cropped


@op("RFFT", since=17)
def rfft(e: Emit, x: Value, *, fft_length: int | None) -> Pair:
    dtype = e.spec[0].dtype
    real = e.cast(x, dtype)
    length = real.dims[-1] if fft_length is None else fft_length
    real = _exact(e, _resized(e, real, length), length)
    result = _dft(e, e.unsqueeze(real, [-1]), real.rank - 1, onesided=True)
    return _parts(e, result, dtype)


def _inverse_real(e: Emit, pair: Any, length: Any) -> Value:
    """The real signal of half a spectrum.

    The other half is the mirrored conjugate, so it doubles the real part of every frequency but the zeroth and,
    for even lengths, the middle one.
    """
    real, imaginary = pair
    bins = length // 2 + 1
    result = _joined(e, _resized(e, real, bins), _resized(e, imaginary, bins))
    result = _exact(e, result, length)
    weights = _mirror_weights(e, bins, length, result.dtype)
    result = e.binary("Mul", result, weights)
    turned = e.transpose(result, [*range(result.rank - 2), result.rank - 1, result.rank - 2])
    whole = _resized(e, turned, length)
    whole = e.transpose(whole, [*range(whole.rank - 2), whole.rank - 1, whole.rank - 2])
    signal = _dft(e, whole, whole.rank - 2, inverse=True)
    return _parts(e, signal, real.dtype)[0]


def _mirror_weights(e: Emit, bins: Any, length: Any, dtype: str) -> Value:
    """(bins, 1): how often each frequency counts."""
    if not is_symbolic(length):
        weights = np.full((int(bins), 1), 2.0)
        weights[0] = 1
        if length % 2 == 0:
            weights[-1] = 1
        return e.constant(weights, dtype)
    numbers = counting(e, bins)
    first = e.binary("Equal", numbers, e.scalar(0, "int64"), dtype="bool")
    middle = e.binary("Equal", e.binary("Add", numbers, numbers), e.size(length), dtype="bool")
    once = e.binary("Or", first, middle, dtype="bool")
    return e.unsqueeze(choose(e, once, e.scalar(1, dtype), e.scalar(2, dtype)), [1])


@op("IRFFT", since=17)
def irfft(e: Emit, x: Any, *, fft_length: int | None) -> Value:
    length = 2 * (x[0].dims[-1] - 1) if fft_length is None else fft_length
    return _inverse_real(e, x, length)


def _window(e: Emit, window: Any, sequence_length: int, fft_length: int, dtype: str) -> Value | None:
    """A window as long as the transform, zeros around it."""
    left = (fft_length - sequence_length) // 2
    around = (left, fft_length - sequence_length - left)
    if isinstance(window, Value):
        pads = e.constant(around, "int64")
        return e.node("Pad", e.cast(window, dtype), pads, e.scalar(0, dtype), shape=(fft_length,))
    if window is None:
        return None
    if isinstance(window, str):
        angle = 2 * np.pi * np.arange(sequence_length) / sequence_length
        base = {"hann": 0.5, "hamming": 0.54}[window]
        values = base - (1 - base) * np.cos(angle)
    else:
        values = keras.ops.convert_to_numpy(window)
    return e.constant(np.pad(values, around), dtype)


def _reflected(e: Emit, x: Value, amount: int) -> Value:
    """The last axis extended on both sides by its mirror image."""
    if not amount:
        return x
    pads = np.zeros(2 * x.rank, np.int64)
    pads[[x.rank - 1, -1]] = amount
    return e.node("Pad", x, pads, shape=(*x.dims[:-1], x.dims[-1] + 2 * amount), mode="reflect")


@op("STFT", since=17)
def stft(
    e: Emit,
    x: Value,
    *,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    window: Any,
    center: bool,
) -> Pair:
    if window is None and keras.backend.backend() == "torch":
        window = np.ones(sequence_length)  # torch has zeros around it, the others no window at all
    signal = _reflected(e, x, fft_length // 2) if center else x
    signal = _exact(e, signal, fft_length)
    batch = signal.dims[:-1]
    shape = e.spec[0].shape
    taper = _window(e, window, sequence_length, fft_length, signal.dtype)
    if signal.rank != 2:
        flat = 1
        for dim in batch:
            flat = flat * dim
        signal = e.reshape(signal, (flat, signal.dims[-1]))
    result = e.node(
        "STFT",
        e.unsqueeze(signal, [-1]),
        e.scalar(sequence_stride, "int64"),
        taper,
        e.scalar(fft_length, "int64"),
        shape=(signal.dims[0], shape[-2], shape[-1], 2),
        onesided=1,
    )
    real, imaginary = (e.reshape(part, shape) for part in _parts(e, result, x.dtype))
    return real, imaginary


def _overlapped(e: Emit, frames: Value, stride: int) -> Value:
    """Frames (..., count, length) added up, each ``stride`` after the one before."""
    count, length = frames.dims[-2], int(frames.dims[-1])
    total = (count - 1) * stride + length
    shifts = -(-length // stride)
    if shifts > _SHIFTS:
        return _convolved(e, frames, stride, total)
    blocks = _resized(e, frames, shifts * stride)
    rows = count + shifts - 1
    batch = frames.dims[:-2]
    summed: Value | None = None
    for shift in range(shifts):
        part = e.slice(blocks, -1, shift * stride, (shift + 1) * stride)
        pads = np.zeros(2 * frames.rank, np.int64)
        pads[frames.rank - 2], pads[-2] = shift, shifts - 1 - shift
        moved = e.node("Pad", part, pads, e.like(0, part), shape=(*batch, rows, stride))
        summed = moved if summed is None else e.binary("Add", summed, moved)
    assert summed is not None
    return _resized(e, e.reshape(summed, (*batch, rows * stride)), total)


def _convolved(e: Emit, frames: Value, stride: int, total: Any) -> Value:
    """The same by a transposed convolution whose kernels are unit impulses."""
    count, length = frames.dims[-2], int(frames.dims[-1])
    batch = frames.dims[:-2]
    flat = 1
    for dim in batch:
        flat = flat * dim
    columns = e.transpose(e.reshape(frames, (flat, count, length)), [0, 2, 1])
    kernel = e.constant(np.eye(length)[:, None, :], frames.dtype)
    summed = e.node("ConvTranspose", columns, kernel, shape=(flat, 1, total), strides=[stride])
    return e.reshape(summed, (*batch, total))


@op("ISTFT", since=17)
def istft(
    e: Emit,
    x: Any,
    *,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None,
    window: Any,
    center: bool,
) -> Value:
    """Overlapping frames added up, divided by how much window lies over each sample."""
    frames = _inverse_real(e, x, fft_length)
    taper = _window(e, window, sequence_length, fft_length, frames.dtype)
    backend = keras.backend.backend()
    actual = backend == "jax" or (backend == "torch" and center and sequence_length == fft_length)
    if taper is None:
        signal = _overlapped(e, frames, sequence_stride)
        if backend == "jax":  # divides by what there is, then by what there would be in the middle
            ones = e.expand(e.constant(np.ones((1, fft_length)), frames.dtype), frames.dims[-2:])
            signal = e.binary("Div", signal, _overlapped(e, ones, sequence_stride))
            signal = e.binary("Mul", signal, e.like(fft_length / sequence_stride, signal))
    elif actual:
        signal = _overlapped(e, e.binary("Mul", frames, taper), sequence_stride)
        weight = e.expand(e.unsqueeze(e.binary("Mul", taper, taper), [0]), frames.dims[-2:])
        weight = _overlapped(e, weight, sequence_stride)
        bare = e.binary("LessOrEqual", weight, e.like(1e-10, weight), dtype="bool")
        weight = choose(e, bare, e.like(1, weight), weight)
        signal = e.binary("Div", signal, weight)
    else:
        taper = e.binary("Div", taper, _steady_weight(e, taper, fft_length, sequence_stride))
        signal = _overlapped(e, e.binary("Mul", frames, taper), sequence_stride)
    start = fft_length // 2 if center else 0
    stop = start + length if length is not None else signal.dims[-1] - start
    result = e.slice(signal, -1, start, stop)
    result.shape = tuple(e.spec.shape)
    return result


def _steady_weight(e: Emit, taper: Value, fft_length: int, stride: int) -> Value:
    """The squared windows over each sample of a frame that has neighbours on all sides."""
    shifts = -(-fft_length // stride)
    squares = _resized(e, e.binary("Mul", taper, taper), shifts * stride)
    period = e.reduce("ReduceSum", e.reshape(squares, (shifts, stride)), [0])
    tiled = e.node("Tile", period, [shifts], shape=(shifts * stride,))
    return _resized(e, tiled, fft_length)
