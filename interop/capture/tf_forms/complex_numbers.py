"""Complex numbers, as floats with a last axis of two, and the transforms that make them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.keras.symint import is_symbolic
from interop.capture.tf_forms.registry import (
    COMPLEX,
    Operation,
    dtype_of,
    form,
    keras_form,
    known,
    on_complex,
    where,
)
from interop.errors import UnsupportedOp
from interop.graph.record import Value


def _parts(e: Emit, x: Value) -> tuple[Value, Value]:
    def part(place: int) -> Value:
        return e.node("Gather", x, e.scalar(place, "int64"), shape=x.dims[:-1], axis=x.rank - 1)

    return part(0), part(1)


def _joined(e: Emit, real: Value, imaginary: Value) -> Value:
    pair = [e.node("Unsqueeze", part, [-1]) for part in (real, imaginary)]
    return e.node("Concat", *pair, axis=-1)


@form("Complex")
def _complex(e: Emit, node: Operation, real: Value, imaginary: Value) -> Value:
    shape = e.node("Shape", e.node("Add", real, imaginary), dtype="int64")
    return _joined(e, e.node("Expand", real, shape), e.node("Expand", imaginary, shape))


@form("Real")
def _real(e: Emit, node: Operation, x: Value) -> Value:
    return _parts(e, x)[0]


@form("Imag")
def _imag(e: Emit, node: Operation, x: Value) -> Value:
    return _parts(e, x)[1]


@form("Conj")
def _conj(e: Emit, node: Operation, x: Value) -> Value:
    real, imaginary = _parts(e, x)
    return _joined(e, real, e.unary("Neg", imaginary))


@form("ComplexAbs")
def _complex_abs(e: Emit, node: Operation, x: Value) -> Value:
    return e.node("ReduceL2", x, [-1], keepdims=0)


@form("Angle")
def _angle(e: Emit, node: Operation, x: Value) -> Any:
    real, imaginary = _parts(e, x)
    return keras_form(e, "Arctan2", imaginary, real)


def _transform(e: Emit, pair: tuple[Value, Value], axes: int, *, inverse: bool = False) -> Any:
    from interop.capture.keras.ops.signal import transform  # brings Keras in

    return transform(e, pair, axes, inverse=inverse)


_TRANSFORMS = {
    f"{inverse}FFT{axes}": (int(axes[:1] or 1), bool(inverse))
    for inverse in ("", "I")
    for axes in ("", "2D", "3D")
}


@form(*_TRANSFORMS)
def _fft(e: Emit, node: Operation, x: Value) -> Value:
    axes, inverse = _TRANSFORMS[node.node.op_type]
    return _joined(e, *_transform(e, _parts(e, x), axes, inverse=inverse))


@on_complex("Cast")
def _cast(e: Emit, node: Operation, x: Value) -> Value:
    """From and to complex numbers; a real one that was complex keeps its real part."""
    given, wanted = (dtype_of(values[0]) in COMPLEX for values in (node.node.inputs, node.node.outputs))
    if given and wanted:
        return e.cast(x, node.dtypes[0])
    if given:
        return _parts(e, x)[0]
    x = e.cast(x, node.dtypes[0])
    return _joined(e, x, e.binary("Mul", x, e.like(0, x)))


@on_complex("Add", "Sub", "Neg")
def _alike(e: Emit, node: Operation, *values: Value) -> Value:
    return e.node(node.node.op_type, *values)


@on_complex("Mul")
def _product(e: Emit, node: Operation, x: Value, y: Value) -> Value:
    (a, b), (c, d) = _parts(e, x), _parts(e, y)
    real = e.node("Sub", e.node("Mul", a, c), e.node("Mul", b, d))
    return _joined(e, real, e.node("Add", e.node("Mul", a, d), e.node("Mul", b, c)))


@on_complex("Transpose")
def _transpose(e: Emit, node: Operation, x: Value) -> Value:
    perm = node.get("perm", tuple(range(x.rank - 1))[::-1])
    return e.node("Transpose", x, perm=[*perm, x.rank - 1])


@on_complex("Reshape")
def _reshape(e: Emit, node: Operation, x: Value, shape: Value) -> Value:
    return e.node("Reshape", x, e.node("Concat", shape, [2], dtype="int64", axis=0))


@on_complex("Squeeze", "Unsqueeze")
def _squeezed(e: Emit, node: Operation, x: Value, axes: Value) -> Value:
    return e.node(node.node.op_type, x, _before_the_last(e, axes))


@on_complex("Concat")
def _concat(e: Emit, node: Operation, *values: Value) -> Value:
    axis = node.get("axis")
    return e.node("Concat", *values, axis=axis - 1 if axis < 0 else axis)


def _before_the_last(e: Emit, axes: Value) -> Value:
    """Axes counted from the end move by the one that the parts are along."""
    moved = e.node("Sub", axes, e.like(1, axes))
    return where(e, e.node("Less", axes, e.like(0, axes), dtype="bool"), moved, axes)


@on_complex("Slice")
def _slice(
    e: Emit, node: Operation, x: Value, starts: Value, ends: Value, axes: Value, *steps: Value
) -> Value:
    return e.node("Slice", x, starts, ends, _before_the_last(e, axes), *steps)


@form("RFFT2D")
def _rfft2(e: Emit, node: Operation, x: Value, length: Value) -> Value:
    """The lengths must be those of the axes: ``tf.signal.rfft2d`` fills up, and this would have to crop."""
    rows, count = (int(n) for n in known(length, "fft_length of tf.signal.rfft2d"))
    if any(is_symbolic(dim) for dim in x.dims[-2:]) or x.dims[-2:] != (rows, count):
        raise UnsupportedOp(
            f"tf.signal.rfft2d with fft_length {(rows, count)} of axes of other or open sizes has no ONNX form. Leave "
            "fft_length out, and fix these sizes"
        )
    whole = _joined(e, *_transform(e, (x, e.binary("Mul", x, e.like(0, x))), 2))
    return e.node("Slice", whole, [0], [count // 2 + 1], [-2])


@form("RFFT")
def _rfft(e: Emit, node: Operation, x: Value, length: Value) -> Value:
    count = int(known(length, "fft_length of tf.signal.rfft").item())
    e.spec = [SimpleNamespace(dtype=x.dtype)]
    return _joined(e, *keras_form(e, "RFFT", x, fft_length=count))


@form("IRFFT")
def _irfft(e: Emit, node: Operation, x: Value, length: Value) -> Any:
    count = int(known(length, "fft_length of tf.signal.irfft").item())
    return keras_form(e, "IRFFT", _parts(e, x), fft_length=count)
