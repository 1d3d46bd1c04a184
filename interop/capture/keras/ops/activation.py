"""Activation functions, as native ONNX operators wherever the opset has one."""

from __future__ import annotations

import math
from typing import Any

from interop.capture.keras.emit import Emit, axis_list
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.ops.elementwise import choose
from interop.capture.keras.registry import op
from interop.graph.record import Value

_SELU_ALPHA, _SELU_GAMMA = 1.6732632423543772, 1.0507009873554805


@op("Relu", since=14)
def relu(e: Emit, x: Value) -> Value:
    return e.unary("Relu", x)


@op("ReLU", since=16)
def relu_with_options(
    e: Emit, x: Value, *, negative_slope: float, max_value: float | None, threshold: float
) -> Value:
    """The ReLU of ``keras.activations.relu``: slope below the threshold, identity above, capped."""
    if not negative_slope and not threshold:
        return (
            e.unary("Relu", x)
            if max_value is None
            else e.node("Clip", x, e.like(0, x), e.like(max_value, x), shape=x.shape)
        )
    if not threshold:
        result = e.unary("LeakyRelu", x, alpha=float(negative_slope))
    else:
        offset = e.like(threshold, x)
        below = e.binary("Mul", e.binary("Sub", x, offset), e.like(negative_slope, x))
        above = e.binary("Greater", x, offset, dtype="bool")
        result = e.node("Where", above, x, below, dtype=x.dtype, shape=x.shape)
    return result if max_value is None else e.binary("Min", result, e.like(max_value, x))


@op("Relu6", since=13)
def relu6(e: Emit, x: Value) -> Value:
    return e.node("Clip", x, e.like(0, x), e.like(6, x), shape=x.shape)


@op("LeakyRelu", since=16)
def leaky_relu(e: Emit, x: Value, *, negative_slope: float) -> Value:
    return e.unary("LeakyRelu", x, alpha=float(negative_slope))


@op("Sigmoid", since=13)
def sigmoid(e: Emit, x: Value) -> Value:
    return e.unary("Sigmoid", e.cast(x, e.spec.dtype))


@op("LogSigmoid", since=1)
def log_sigmoid(e: Emit, x: Value) -> Value:
    return e.unary("Neg", e.unary("Softplus", e.unary("Neg", x)))


@op("HardSigmoid", since=6)
def hard_sigmoid(e: Emit, x: Value) -> Value:
    return e.unary("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@op("HardSilu", since=14)
def hard_silu(e: Emit, x: Value) -> Value:
    return e.unary("HardSwish", x)


@op("HardTanh", since=13)
def hard_tanh(e: Emit, x: Value) -> Value:
    return e.node("Clip", x, e.like(-1, x), e.like(1, x), shape=x.shape)


@op("Silu", since=14)
def silu(e: Emit, x: Value) -> Value:
    return e.binary("Mul", x, e.unary("Sigmoid", x))


@op("Softplus", since=1)
def softplus(e: Emit, x: Value) -> Value:
    return e.unary("Softplus", e.cast(x, e.spec.dtype))


@op("Softsign", since=1)
def softsign(e: Emit, x: Value) -> Value:
    return e.unary("Softsign", e.cast(x, e.spec.dtype))


@op("Elu", since=6)
def elu(e: Emit, x: Value, *, alpha: float) -> Value:
    return e.unary("Elu", x, alpha=float(alpha))


@op("Celu", since=12)
def celu(e: Emit, x: Value, *, alpha: float) -> Value:
    return e.unary("Celu", x, alpha=float(alpha))


@op("Selu", since=6)
def selu(e: Emit, x: Value) -> Value:
    return e.unary("Selu", x, alpha=_SELU_ALPHA, gamma=_SELU_GAMMA)


@op("Gelu", since=20)
def gelu(e: Emit, x: Value, *, approximate: bool) -> Value:
    return e.unary("Gelu", x, approximate="tanh" if approximate else "none")


@op("Gelu", since=14)
def gelu_decomposed(e: Emit, x: Value, *, approximate: bool) -> Value:
    """Gelu before opset 20, in the form runtimes recognise and fuse."""
    if approximate:
        cube = e.binary("Mul", e.binary("Mul", x, x), x)
        inner = e.binary("Add", x, e.binary("Mul", cube, e.like(0.044715, x)))
        curve = e.unary("Tanh", e.binary("Mul", inner, e.like(math.sqrt(2 / math.pi), x)))
    else:
        curve = e.unary("Erf", e.binary("Div", x, e.like(math.sqrt(2), x)))
    return e.binary("Mul", e.binary("Mul", x, e.binary("Add", curve, e.like(1, x))), e.like(0.5, x))


def _softmax(e: Emit, op_type: str, x: Value, axis: Any) -> Value:
    if isinstance(axis, int):
        return e.unary(op_type, x, axis=axis)
    axes = axis_list(axis, x.rank)
    kept = [place for place in range(x.rank) if place not in axes]
    order = kept + axes
    moved = e.transpose(x, order)
    flat = e.reshape(moved, (*(x.dims[place] for place in kept), math.prod(x.dims[place] for place in axes)))
    result = e.reshape(e.unary(op_type, flat, axis=-1), moved.dims)
    return e.transpose(result, [order.index(place) for place in range(x.rank)])


@op("Softmax", since=13)
def softmax(e: Emit, x: Value, *, axis: Any) -> Value:
    return _softmax(e, "Softmax", x, axis)


@op("LogSoftmax", since=13)
def log_softmax(e: Emit, x: Value, *, axis: Any) -> Value:
    return _softmax(e, "LogSoftmax", x, axis)


@op("Glu", since=14)
def glu(e: Emit, x: Value, *, axis: int) -> Value:
    axis = axis % x.rank
    half = x.dims[axis] // 2
    shape = tuple(half if i == axis else dim for i, dim in enumerate(x.dims))
    value, gate = e.slice(x, axis, 0, half), e.slice(x, axis, half, None)
    value.shape = gate.shape = shape
    return e.binary("Mul", value, e.unary("Sigmoid", gate))


@op("SparseSigmoid", since=6)
def sparse_sigmoid(e: Emit, x: Value) -> Value:
    """Linear from 0 at -1 to 1 at 1."""
    return e.unary("HardSigmoid", x, alpha=0.5, beta=0.5)


@op("SparsePlus", since=16)
def sparse_plus(e: Emit, x: Value) -> Value:
    """0 up to -1, then (x + 1)² / 4, and x itself from 1 on."""
    one = e.like(1, x)
    root = e.unary("Relu", e.binary("Add", x, one))
    bow = e.binary("Mul", e.binary("Mul", root, root), e.like(0.25, x))
    return choose(e, e.binary("Less", x, one, dtype="bool"), bow, x)


@op("Squareplus", since=14)
def squareplus(e: Emit, x: Value, *, b: Any) -> Value:
    root = e.unary("Sqrt", e.binary("Add", e.binary("Mul", x, x), e.tensor(b, x.dtype)))
    return e.binary("Mul", e.binary("Add", x, root), e.like(0.5, x))


@op("TanhShrink", since=14)
def tanh_shrink(e: Emit, x: Value) -> Value:
    return e.binary("Sub", x, e.unary("Tanh", x))


@op("SoftShrink", since=9)
def soft_shrink(e: Emit, x: Value, *, threshold: float) -> Value:
    return e.unary("Shrink", x, lambd=float(threshold), bias=float(threshold))


@op("HardShrink", since=9)
def hard_shrink(e: Emit, x: Value, *, threshold: float) -> Value:
    return e.unary("Shrink", x, lambd=float(threshold), bias=0.0)


@op("Threshold", since=16)
def threshold_(e: Emit, x: Value, *, threshold: float, default_value: float) -> Value:
    above = e.binary("Greater", x, e.like(threshold, x), dtype="bool")
    return choose(e, above, x, e.like(default_value, x))


@op("Sparsemax", since=16)
def sparsemax(e: Emit, x: Value, *, axis: int) -> Value:
    """As Keras computes it, which sums the cumulative sums of the support, not its last one."""
    axis = axis % x.rank
    length = e.size(x.dims[axis])
    outputs = [(x.dtype, x.dims), ("int64", x.dims)]
    ranked, _ = e.nodes("TopK", x, length, outputs=outputs, axis=axis)
    total = e.node("CumSum", ranked, e.scalar(axis, "int64"), shape=x.dims)
    one = e.like(1, x)
    ranks = e.cast(e.binary("Add", counting(e, x.dims[axis]), e.scalar(1, "int64")), x.dtype)
    ranks = e.reshape(ranks, (x.dims[axis],) + (1,) * (x.rank - 1 - axis))
    surplus = e.binary("Div", e.binary("Sub", total, one), ranks)
    support = e.cast(e.binary("Greater", ranked, surplus, dtype="bool"), x.dtype)
    supported = e.reduce("ReduceSum", e.binary("Mul", total, support), [axis], keepdims=True)
    count = e.reduce("ReduceSum", support, [axis], keepdims=True)
    level = e.binary("Div", e.binary("Sub", supported, one), count)
    return e.unary("Relu", e.binary("Sub", x, level))
