"""Convolutions and their transposes: Keras' layouts around ONNX's channels-first operators.

Kernels stay in Keras' layout (hwio) with a Transpose in the graph, which runtimes fold at load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import compute_conv_output_shape, windows
from interop.capture.keras.symint import floor_divide, is_symbolic
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


def layout(data_format: str | None) -> str:
    """A data format, or Keras' global one."""
    return data_format or str(keras.config.image_data_format())


def missing(size: Any, kernel: int, stride: int, dilation: int = 1) -> Any:
    """How many cells padding="same" adds to an axis.

    Symbolic only where it depends on the size; then it may go below zero if the window is shorter than
    the stride, which means 0.
    """
    reach = dilation * (kernel - 1) + 1
    if stride == 1 or reach == 1:
        return reach - 1
    total = (windows(size, kernel, stride, "same") - 1) * stride + reach - size
    return total if is_symbolic(total) else max(int(total), 0)


def padded(e: Emit, x: Value, totals: Sequence[Any], strides: Sequence[int], mode: str = "constant") -> Value:
    """A channels-first operand with ``missing`` cells added, the odd one of an axis at its end."""
    # Totals stay above -stride; the shift keeps the numerator of the quotient positive.
    befores = [
        floor_divide(total + 2 * s, 2) - s if is_symbolic(total) else total // 2
        for total, s in zip(totals, strides, strict=True)
    ]
    afters = [total - before for total, before in zip(totals, befores, strict=True)]
    widths = e.sizes([0, 0, *befores, 0, 0, *afters])
    if any(is_symbolic(total) for total in totals):
        widths = e.node("Max", widths, e.scalar(0, "int64"), shape=widths.shape)
    return e.node("Pad", x, widths, mode=mode)


def same_pads(
    e: Emit, x: Value, kernel: list[int], strides: list[int], dilation: list[int], mode: str = "constant"
) -> tuple[Value, dict[str, Any]]:
    """A channels-first operand and the attributes that make padding="same", for any size.

    ``mode`` is how cells are added where attributes cannot express how many.
    """
    totals = [missing(*step) for step in zip(x.dims[2:], kernel, strides, dilation, strict=True)]
    if any(is_symbolic(total) for total in totals):
        # Runtimes refuse SAME_UPPER with dilations, and where a window is shorter than its stride.
        if all(d == 1 for d in dilation) and all(k >= s for k, s in zip(kernel, strides, strict=True)):
            return x, {"auto_pad": "SAME_UPPER"}
        return padded(e, x, totals, strides, mode), {}
    begins = [total // 2 for total in totals]
    ends = [total - begin for total, begin in zip(totals, begins, strict=True)]
    return x, {"pads": begins + ends} if any(ends) else {}


def _convolve(
    e: Emit,
    x: Value,
    weight: Value,
    groups: int,
    strides: Any,
    padding: str,
    data_format: str,
    dilation_rate: Any,
) -> Value:
    """``weight`` is (filters, channels of a group, ...)."""
    kernel = [int(dim) for dim in weight.dims[2:]]
    rank = len(kernel)
    stride, dilation = per_axis(strides, rank), per_axis(dilation_rate, rank)
    if padding not in ("valid", "same"):
        raise UnsupportedOp(f"ops.conv takes padding 'valid' or 'same'. Received: {padding!r}")
    x = channels_first(e, x, data_format)
    sizes = [
        windows(size, k, s, padding, d)
        for size, k, s, d in zip(x.dims[2:], kernel, stride, dilation, strict=True)
    ]
    shape = (x.dims[0], weight.dims[0], *sizes)
    x, pads = same_pads(e, x, kernel, stride, dilation) if padding == "same" else (x, {})
    result = e.node(
        "Conv",
        x,
        weight,
        shape=shape,
        kernel_shape=kernel,
        strides=stride,
        dilations=dilation,
        group=groups,
        **pads,
    )
    return restored(e, result, data_format)


def _spec(operation: Any, inputs: Any, kernel: Any, filters: Any) -> Any:
    shape = compute_conv_output_shape(
        inputs.shape,
        filters,
        kernel.shape[:-2],
        operation.strides,
        operation.padding,
        layout(operation.data_format),
        operation.dilation_rate,
    )
    return compat.tensor_spec(shape, compat.result_type(inputs.dtype, kernel.dtype))


def _conv_spec(operation: Any, inputs: Any, kernel: Any) -> Any:
    return _spec(operation, inputs, kernel, kernel.shape[-1])


def _depthwise_spec(operation: Any, inputs: Any, kernel: Any) -> Any:
    return _spec(operation, inputs, kernel, kernel.shape[-1] * kernel.shape[-2])


def _separable_spec(operation: Any, inputs: Any, depthwise_kernel: Any, pointwise_kernel: Any) -> Any:
    return _spec(operation, inputs, depthwise_kernel, pointwise_kernel.shape[-1])


@op("Conv", since=11, spec=_conv_spec)
def conv(
    e: Emit,
    inputs: Any,
    kernel: Any,
    *,
    strides: Any,
    padding: str,
    data_format: str | None,
    dilation_rate: Any,
) -> Value:
    inputs, kernel = e.tensor(inputs, e.spec.dtype), e.tensor(kernel, e.spec.dtype)
    return full_conv(e, inputs, kernel, strides, padding, layout(data_format), dilation_rate)


def full_conv(
    e: Emit, x: Value, kernel: Value, strides: Any, padding: str, data_format: str, dilation_rate: Any
) -> Value:
    """A convolution with a kernel in Keras' layout, in as many groups as the channels say."""
    rank = kernel.rank - 2
    channels = x.dims[-1 if data_format == "channels_last" else 1]
    weight = e.transpose(kernel, [rank + 1, rank, *range(rank)])
    groups = int(channels) // int(kernel.dims[-2])
    return _convolve(e, x, weight, groups, strides, padding, data_format, dilation_rate)


@op("DepthwiseConv", since=14, spec=_depthwise_spec)
def depthwise_conv(
    e: Emit,
    inputs: Any,
    kernel: Any,
    *,
    strides: Any,
    padding: str,
    data_format: str | None,
    dilation_rate: Any,
) -> Value:
    inputs, kernel = e.tensor(inputs, e.spec.dtype), e.tensor(kernel, e.spec.dtype)
    return _depthwise(e, inputs, kernel, strides, padding, layout(data_format), dilation_rate)


def _depthwise(
    e: Emit, x: Value, kernel: Value, strides: Any, padding: str, data_format: str, dilation_rate: Any
) -> Value:
    rank = kernel.rank - 2
    channels, multiplier = (int(dim) for dim in kernel.dims[rank:])
    weight = e.transpose(kernel, [rank, rank + 1, *range(rank)])
    weight = e.reshape(weight, (channels * multiplier, 1, *kernel.dims[:rank]))
    return _convolve(e, x, weight, channels, strides, padding, data_format, dilation_rate)


@op("SeparableConv", since=14, spec=_separable_spec)
def separable_conv(
    e: Emit,
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    *,
    strides: Any,
    padding: str,
    data_format: str | None,
    dilation_rate: Any,
) -> Value:
    """A depthwise convolution, then one of 1 cell that mixes channels."""
    inputs, depthwise_kernel, pointwise_kernel = (
        e.tensor(x, e.spec.dtype) for x in (inputs, depthwise_kernel, pointwise_kernel)
    )
    kind = layout(data_format)
    mixed = _depthwise(e, inputs, depthwise_kernel, strides, padding, kind, dilation_rate)
    return full_conv(e, mixed, pointwise_kernel, 1, "valid", kind, 1)


def _transposed_axis(
    kernel: int, stride: int, dilation: int, padding: str, output_padding: int | None
) -> tuple[int, int]:
    """Cells that a transposed convolution drops at either end of (size - 1) * stride + reach.

    Below zero at the end where it adds zeros there. One rule on every backend: "valid" drops nothing and
    reaches max(reach, stride), "same" drops half of what exceeds size * stride, the odd cell at the end.
    """
    reach = dilation * (kernel - 1) + 1
    if padding == "valid":
        return 0, -(max(stride - reach, 0) if output_padding is None else output_padding)
    excess = reach - stride if output_padding is None else reach - reach % 2 - output_padding
    begin = max(excess // 2, 0)
    return begin, excess - begin


def _conv_transpose_spec(operation: Any, inputs: Any, kernel: Any) -> Any:
    last = layout(operation.data_format) == "channels_last"
    sizes = inputs.shape[1:-1] if last else inputs.shape[2:]
    rank = len(sizes)
    stride, dilation = per_axis(operation.strides, rank), per_axis(operation.dilation_rate, rank)
    extra = _output_padding(operation.output_padding, rank)
    spatial = []
    for size, k, s, d, more in zip(sizes, kernel.shape[:-2], stride, dilation, extra, strict=True):
        begin, end = _transposed_axis(k, s, d, operation.padding, more)
        spatial.append(size * s + (d * (k - 1) + 1 - s - begin - end))
    filters = kernel.shape[-2]
    shape = (inputs.shape[0], *spatial, filters) if last else (inputs.shape[0], filters, *spatial)
    return compat.tensor_spec(shape, compat.result_type(inputs.dtype, kernel.dtype))


def _output_padding(value: Any, rank: int) -> list[int | None]:
    if value is None or isinstance(value, int):
        return [value] * rank
    return list(value)


@op("ConvTranspose", since=13, spec=_conv_transpose_spec)
def conv_transpose(
    e: Emit,
    inputs: Any,
    kernel: Any,
    *,
    strides: Any,
    padding: str,
    output_padding: Any,
    data_format: str | None,
    dilation_rate: Any,
) -> Value:
    inputs, kernel = e.tensor(inputs, e.spec.dtype), e.tensor(kernel, e.spec.dtype)
    rank = kernel.rank - 2
    kind = layout(data_format)
    sizes = [int(dim) for dim in kernel.dims[:rank]]
    stride, dilation = per_axis(strides, rank), per_axis(dilation_rate, rank)
    drops = [
        _transposed_axis(k, s, d, padding, more)
        for k, s, d, more in zip(sizes, stride, dilation, _output_padding(output_padding, rank), strict=True)
    ]
    added = [max(-end, 0) for _, end in drops]
    # ONNX wants output_padding below the stride or the dilation; the rest are plain zeros.
    beyond = [more if more >= max(s, d) else 0 for more, s, d in zip(added, stride, dilation, strict=True)]
    inner = [0 if zeros else more for more, zeros in zip(added, beyond, strict=True)]
    last = kind == "channels_last"
    final = tuple(e.spec.shape)
    spatial = final[1:-1] if last else final[2:]
    shape = (inputs.dims[0], kernel.dims[-2], *(n - zeros for n, zeros in zip(spatial, beyond, strict=True)))
    result = e.node(
        "ConvTranspose",
        channels_first(e, inputs, kind),
        e.transpose(kernel, [rank + 1, rank, *range(rank)]),
        shape=shape,
        kernel_shape=sizes,
        strides=stride,
        dilations=dilation,
        pads=[begin for begin, _ in drops] + [max(end, 0) for _, end in drops],
        output_padding=inner if any(inner) else None,
    )
    if any(beyond):
        widths = [0] * (rank + 2) + [0, 0, *beyond]
        result = e.node("Pad", result, widths, shape=(*shape[:2], *spatial))
    return restored(e, result, kind)
