"""Convolutions and poolings: Keras' layouts around ONNX's channels-first operators.

Kernels stay in Keras' layout (hwio) with a Transpose in the graph, which runtimes fold at load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import op
from interop.capture.keras.symint import is_symbolic
from interop.errors import UnsupportedOp
from interop.graph.record import Value


def channels_first(e: Emit, x: Value, data_format: str) -> Value:
    """``x`` as (batch, channels, ...)."""
    if data_format == "channels_first":
        return x
    return e.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)])


def restored(e: Emit, x: Value, data_format: str) -> Value:
    """A channels-first result in the layer's own layout."""
    if data_format == "channels_first":
        return x
    return e.transpose(x, [0, *range(2, x.rank), 1])


def per_axis(value: Any, rank: int) -> list[int]:
    """An int for every spatial axis."""
    return [int(value)] * rank if isinstance(value, int) else [int(v) for v in value]


def _padding(
    sizes: Sequence[Any], kernel: list[int], strides: list[int], dilation: list[int], padding: str
) -> dict[str, Any]:
    """ONNX padding attributes for "valid" or "same"; exact for static and dynamic sizes."""
    if padding == "valid":
        return {}
    begins, ends = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilation, strict=True):
        reach = d * (k - 1) + 1
        if s == 1:
            total = reach - 1
        elif is_symbolic(size):
            if d != 1:
                raise UnsupportedOp("strides with dilation and padding='same' on a dynamic dimension")
            return {"auto_pad": "SAME_UPPER"}
        else:
            total = max((-(-int(size) // s) - 1) * s + reach - int(size), 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return {"pads": begins + ends} if any(begins + ends) else {}


def _convolve(
    e: Emit,
    x: Value,
    weight: Value,
    kernel: list[int],
    groups: int,
    strides: Any,
    padding: str,
    data_format: str,
    dilation_rate: Any,
) -> Value:
    rank = len(kernel)
    stride, dilation = per_axis(strides, rank), per_axis(dilation_rate, rank)
    x = channels_first(e, x, data_format)
    sizes = x.dims[2:]
    shape = tuple(e.spec.shape)
    if data_format == "channels_last":
        shape = (shape[0], shape[-1], *shape[1:-1])
    result = e.node(
        "Conv",
        x,
        weight,
        shape=shape,
        kernel_shape=kernel,
        strides=stride,
        dilations=dilation,
        group=groups,
        **_padding(sizes, kernel, stride, dilation, padding),
    )
    return restored(e, result, data_format)


def _conv_spec(operation: Any, inputs: Any, kernel: Any) -> Any:
    from interop.capture.keras import compat
    from interop.capture.keras.shapes import compute_conv_output_shape

    shape = compute_conv_output_shape(
        inputs.shape,
        kernel.shape[-1],
        kernel.shape[:-2],
        operation.strides,
        operation.padding,
        _format(operation.data_format),
        operation.dilation_rate,
    )
    return compat.tensor_spec(shape, compat.result_type(inputs.dtype, kernel.dtype))


def _depthwise_spec(operation: Any, inputs: Any, kernel: Any) -> Any:
    from interop.capture.keras import compat
    from interop.capture.keras.shapes import compute_conv_output_shape

    shape = compute_conv_output_shape(
        inputs.shape,
        kernel.shape[-1] * kernel.shape[-2],
        kernel.shape[:-2],
        operation.strides,
        operation.padding,
        _format(operation.data_format),
        operation.dilation_rate,
    )
    return compat.tensor_spec(shape, compat.result_type(inputs.dtype, kernel.dtype))


def _format(data_format: str | None) -> str:
    import keras

    return data_format or str(keras.config.image_data_format())


@op("Conv", since=11, spec=_conv_spec)
def conv(
    e: Emit,
    inputs: Value,
    kernel: Value,
    *,
    strides: Any,
    padding: str,
    data_format: str | None,
    dilation_rate: Any,
) -> Value:
    layout = _format(data_format)
    inputs, kernel = e.cast(inputs, e.spec.dtype), e.cast(kernel, e.spec.dtype)
    rank = kernel.rank - 2
    channels = inputs.dims[-1 if layout == "channels_last" else 1]
    weight = e.transpose(kernel, [rank + 1, rank, *range(rank)])
    groups = int(channels) // int(kernel.dims[-2])
    sizes = [int(dim) for dim in kernel.dims[:rank]]
    return _convolve(e, inputs, weight, sizes, groups, strides, padding, layout, dilation_rate)


@op("DepthwiseConv", since=14, spec=_depthwise_spec)
def depthwise_conv(
    e: Emit,
    inputs: Value,
    kernel: Value,
    *,
    strides: Any,
    padding: str,
    data_format: str | None,
    dilation_rate: Any,
) -> Value:
    inputs, kernel = e.cast(inputs, e.spec.dtype), e.cast(kernel, e.spec.dtype)
    return _depthwise(e, inputs, kernel, strides, padding, _format(data_format), dilation_rate)


def _depthwise(
    e: Emit, x: Value, kernel: Value, strides: Any, padding: str, layout: str, dilation_rate: Any
) -> Value:
    rank = kernel.rank - 2
    sizes = [int(dim) for dim in kernel.dims[:rank]]
    channels, multiplier = (int(dim) for dim in kernel.dims[rank:])
    weight = e.transpose(kernel, [rank, rank + 1, *range(rank)])
    weight = e.reshape(weight, (channels * multiplier, 1, *sizes))
    return _convolve(e, x, weight, sizes, channels, strides, padding, layout, dilation_rate)


def _pool(op_type: str, e: Emit, x: Value, pool_size: Any, strides: Any, padding: str, layout: str) -> Value:
    rank = x.rank - 2
    kernel = per_axis(pool_size, rank)
    stride = kernel if strides is None else per_axis(strides, rank)
    x = channels_first(e, x, layout)
    shape = tuple(e.spec.shape)
    if layout == "channels_last":
        shape = (shape[0], shape[-1], *shape[1:-1])
    pads = _padding(x.dims[2:], kernel, stride, [1] * rank, padding)
    result = e.node(op_type, x, shape=shape, kernel_shape=kernel, strides=stride, **pads)
    return restored(e, result, layout)


@op("MaxPool", since=12)
def max_pool(
    e: Emit, inputs: Value, *, pool_size: Any, strides: Any, padding: str, data_format: str | None
) -> Value:
    return _pool("MaxPool", e, inputs, pool_size, strides, padding, _format(data_format))


@op("AveragePool", since=11)
def average_pool(
    e: Emit, inputs: Value, *, pool_size: Any, strides: Any, padding: str, data_format: str | None
) -> Value:
    """Averages leave padded positions out, as Keras' do."""
    return _pool("AveragePool", e, inputs, pool_size, strides, padding, _format(data_format))
