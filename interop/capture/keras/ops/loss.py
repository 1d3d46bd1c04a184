"""Cross entropies and the peak signal to noise ratio, in their stable forms."""

from __future__ import annotations

import math
from typing import Any

import keras

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import merge
from interop.graph.record import Value


def _merged(target: Any, output: Any) -> list[Any]:
    if len(target.shape) != len(output.shape):
        raise ValueError(f"target {target.shape} and output {output.shape} must have one shape")
    return [merge(a, b) for a, b in zip(target.shape, output.shape, strict=True)]


def _elementwise_spec(operation: Any, target: Any, output: Any) -> Any:
    return compat.tensor_spec(_merged(target, output), output.dtype)


def _class_spec(operation: Any, target: Any, output: Any) -> Any:
    shape = _merged(target, output)
    del shape[operation.axis]
    return compat.tensor_spec(shape, output.dtype)


def _clipped(e: Emit, x: Value) -> Value:
    """Probabilities kept off 0 and 1 by Keras' epsilon."""
    epsilon = compat.epsilon(None)
    return e.node("Clip", x, e.like(epsilon, x), e.like(1.0 - epsilon, x), shape=x.shape)


@op("BinaryCrossentropy", since=13, spec=_elementwise_spec)
def binary_crossentropy(e: Emit, target: Any, output: Any, *, from_logits: bool) -> Value:
    target, output = e.tensor(target, e.spec.dtype), e.tensor(output, e.spec.dtype)
    if from_logits:
        # max(x, 0) - x z + log(1 + exp(-|x|))
        tail = e.unary("Softplus", e.unary("Neg", e.unary("Abs", output)))
        linear = e.binary("Sub", e.unary("Relu", output), e.binary("Mul", output, target))
        return e.binary("Add", linear, tail)
    output, one = _clipped(e, output), e.like(1, output)
    hit = e.binary("Mul", target, e.unary("Log", output))
    miss = e.binary("Mul", e.binary("Sub", one, target), e.unary("Log", e.binary("Sub", one, output)))
    return e.unary("Neg", e.binary("Add", hit, miss))


def _log_probabilities(e: Emit, output: Value, axis: int, from_logits: bool) -> Value:
    if from_logits:
        return e.unary("LogSoftmax", output, axis=axis)
    total = e.reduce("ReduceSum", output, [axis], True)
    return e.unary("Log", _clipped(e, e.binary("Div", output, total)))


@op("CategoricalCrossentropy", since=13, spec=_class_spec)
def categorical_crossentropy(e: Emit, target: Any, output: Any, *, from_logits: bool, axis: int) -> Value:
    target, output = e.tensor(target, e.spec.dtype), e.tensor(output, e.spec.dtype)
    logs = _log_probabilities(e, output, axis % output.rank, from_logits)
    return e.unary("Neg", e.reduce("ReduceSum", e.binary("Mul", target, logs), [axis]))


def _sparse_spec(operation: Any, target: Any, output: Any) -> Any:
    axis = operation.axis % len(output.shape)
    rest = [*output.shape[:axis], *output.shape[axis + 1 :]]
    given = list(target.shape)
    if len(given) == len(output.shape):
        del given[axis if given[axis] == 1 else -1]
    return compat.tensor_spec([merge(a, b) for a, b in zip(given, rest, strict=True)], output.dtype)


@op("SparseCategoricalCrossentropy", since=13, spec=_sparse_spec)
def sparse_categorical_crossentropy(
    e: Emit, target: Any, output: Any, *, from_logits: bool, axis: int
) -> Value:
    """The negated log probability at the target's place on the class axis."""
    output, index = e.tensor(output, e.spec.dtype), e.tensor(target, "int64")
    axis = axis % output.rank
    if index.rank < output.rank:
        index = e.unsqueeze(index, [axis])
    if not from_logits and keras.config.backend() == "tensorflow":
        # TensorFlow clips first and then normalises.
        logs = e.unary("LogSoftmax", e.unary("Log", _clipped(e, output)), axis=axis)
    else:
        logs = _log_probabilities(e, output, axis, from_logits)
    shape = (*output.dims[:axis], 1, *output.dims[axis + 1 :])
    picked = e.node("GatherElements", logs, index, shape=shape, axis=axis)
    return e.unary("Neg", e.squeeze(picked, [axis]))


def _psnr_spec(operation: Any, x1: Any, x2: Any) -> Any:
    _merged(x1, x2)
    return compat.tensor_spec((), str(keras.config.floatx()))


@op("PSNR", since=13, spec=_psnr_spec)
def psnr(e: Emit, x1: Any, x2: Any, *, max_val: float) -> Value:
    """20 log10(max_val) - 10 log10(mean square difference)."""
    x1, x2 = e.tensor(x1), e.tensor(x2)
    dtype = compat.result_type(x1.dtype, x2.dtype, float)
    x1, x2 = e.cast(x1, dtype), e.cast(x2, dtype)
    difference = e.binary("Sub", x1, x2)
    error = e.unary("Log", e.reduce("ReduceMean", e.binary("Mul", difference, difference), None))
    scaled = e.binary("Mul", error, e.like(-10 / math.log(10), error))
    return e.binary("Add", scaled, e.like(20 * math.log10(float(max_val)), error))
