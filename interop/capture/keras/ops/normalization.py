"""Batch, layer and root-mean-square normalisation as native ONNX operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, axis_list
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic
from interop.graph.record import Value


def _same_spec(operation: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    return compat.tensor_spec(x.shape, x.dtype)


@op("BatchNorm", since=15, spec=_same_spec)
def batch_norm(
    e: Emit,
    x: Value,
    mean: Value,
    variance: Value,
    offset: Value | None = None,
    scale: Value | None = None,
    *,
    axis: int,
    epsilon: float,
) -> Value:
    """BatchNormalization over channels at axis 1; other positions are moved there and back."""
    axis = axis % x.rank
    if axis == 0:
        return _first_axis(e, x, mean, variance, offset, scale, epsilon)
    count = mean.dims[0]
    gamma = e.constant(np.ones(int(count)), x.dtype) if scale is None else e.tensor(scale, x.dtype)
    beta = e.constant(np.zeros(int(count)), x.dtype) if offset is None else e.tensor(offset, x.dtype)
    mean, variance = e.tensor(mean, x.dtype), e.tensor(variance, x.dtype)
    there = [0, axis, *(i for i in range(1, x.rank) if i != axis)]
    back = [there.index(i) for i in range(x.rank)]
    moved = e.transpose(x, there)
    result = e.node(
        "BatchNormalization", moved, gamma, beta, mean, variance, shape=moved.shape, epsilon=float(epsilon)
    )
    return e.transpose(result, back)


def _first_axis(
    e: Emit, x: Value, mean: Any, variance: Any, offset: Any, scale: Any, epsilon: float
) -> Value:
    """Channels where ONNX has the batch, or no batch at all: x factor + shift."""
    shape = [x.dims[0], *[1] * (x.rank - 1)]
    parts = [None if part is None else e.reshape(e.tensor(part, x.dtype), shape) for part in (scale, offset)]
    mean, variance = (e.reshape(e.tensor(part, x.dtype), shape) for part in (mean, variance))
    factor = e.unary("Reciprocal", e.unary("Sqrt", e.binary("Add", variance, e.like(epsilon, x))))
    factor = factor if parts[0] is None else e.binary("Mul", factor, parts[0])
    result = e.binary("Mul", e.binary("Sub", x, mean), factor)
    return result if parts[1] is None else e.binary("Add", result, parts[1])


@op("LayerNorm", since=17, spec=_same_spec)
def layer_norm(
    e: Emit,
    x: Value,
    gamma: Value | None = None,
    beta: Value | None = None,
    *,
    axis: Any,
    epsilon: float | None,
    rms_scaling: bool,
) -> Value:
    axes = sorted(axis_list(axis, x.rank))
    epsilon = compat.epsilon(epsilon)
    if rms_scaling:
        return _scaled_by_variance(e, x, gamma, axes, epsilon)
    if any(is_symbolic(x.dims[i]) for i in axes):
        return _over_dynamic(e, x, gamma, beta, axes, epsilon)
    rest = [i for i in range(x.rank) if i not in axes]
    there = [*rest, *axes]
    back = [there.index(i) for i in range(x.rank)]
    moved = e.transpose(x, there)
    dims = tuple(int(x.dims[i]) for i in axes)
    scale = e.constant(np.ones(dims), x.dtype) if gamma is None else _shaped(e, gamma, dims, x.dtype)
    bias = None if beta is None else _shaped(e, beta, dims, x.dtype)
    result = e.node(
        "LayerNormalization",
        moved,
        scale,
        bias,
        shape=moved.shape,
        axis=len(rest) - x.rank,
        epsilon=float(epsilon),
    )
    return e.transpose(result, back)


def _over_dynamic(
    e: Emit, x: Value, gamma: Value | None, beta: Value | None, axes: list[int], epsilon: float
) -> Value:
    """Without LayerNormalization, which needs a scale of a known size."""
    wide = e.cast(x, compat.result_type(x.dtype, "float32"))
    centred = e.binary("Sub", wide, e.reduce("ReduceMean", wide, axes, True))
    spread = e.reduce("ReduceMean", e.binary("Mul", centred, centred), axes, True)
    result = e.binary("Div", centred, e.unary("Sqrt", e.binary("Add", spread, e.like(epsilon, wide))))
    result = result if gamma is None else e.binary("Mul", result, _along(e, gamma, wide, axes))
    return e.cast(result if beta is None else e.binary("Add", result, _along(e, beta, wide, axes)), x.dtype)


def _shaped(e: Emit, x: Value, dims: tuple[int, ...], dtype: str) -> Value:
    return e.reshape(e.tensor(x, dtype), dims)


def _along(e: Emit, x: Value, like: Value, axes: list[int]) -> Value:
    """A parameter of the normalised axes, broadcastable against ``like``."""
    return e.reshape(e.tensor(x, like.dtype), [like.dims[i] if i in axes else 1 for i in range(like.rank)])


def _scaled_by_variance(e: Emit, x: Value, gamma: Value | None, axes: list[int], epsilon: float) -> Value:
    """Keras' ``rms_scaling``: x * rsqrt(variance + epsilon) * gamma, the mean left in place."""
    from interop.capture.keras.ops.reduction import variance

    spread = e.binary("Add", variance(e, x, axes, True), e.like(epsilon, x))
    result = e.binary("Div", x, e.unary("Sqrt", spread))
    return result if gamma is None else e.binary("Mul", result, _along(e, gamma, x, axes))


@op("RMSNorm", since=14, spec=_same_spec)
def rms_norm(e: Emit, x: Value, scale: Value | None = None, *, axis: Any, epsilon: float | None) -> Value:
    axes, epsilon = axis_list(axis, x.rank), compat.epsilon(epsilon)
    # As Keras: squares of half precision numbers would overflow.
    wide = e.cast(x, compat.result_type(x.dtype, "float32"))
    power = e.reduce("ReduceMean", e.binary("Mul", wide, wide), axes, True)
    result = e.binary("Div", wide, e.unary("Sqrt", e.binary("Add", power, e.like(epsilon, wide))))
    result = result if scale is None else e.binary("Mul", result, _along(e, scale, wide, axes))
    return e.cast(result, x.dtype)


@op("RMSNorm", since=23, spec=_same_spec)
def native_rms_norm(
    e: Emit, x: Value, scale: Value | None = None, *, axis: Any, epsilon: float | None
) -> Value:
    """As one operator where it means the same: over the last axes, in single precision."""
    axes = sorted(axis_list(axis, x.rank))
    sizes = [x.dims[i] for i in axes]
    last = axes == list(range(x.rank - len(axes), x.rank))
    if x.dtype != "float32" or not last or any(is_symbolic(size) for size in sizes):
        return rms_norm(e, x, scale, axis=axis, epsilon=epsilon)
    gamma = e.constant(np.ones(sizes), x.dtype) if scale is None else _shaped(e, scale, tuple(sizes), x.dtype)
    epsilon = float(compat.epsilon(epsilon))
    return e.node("RMSNormalization", x, gamma, shape=x.shape, axis=-len(axes), epsilon=epsilon)
