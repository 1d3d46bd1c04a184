"""Transposed and deformable convolution. Source: https://onnx.ai/onnx/operators/onnx__ConvTranspose.html and
https://onnx.ai/onnx/operators/onnx__DeformConv.html. Channels as in ``convolution``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from keras import KerasTensor, ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op
from interop.rebuild.sampling import sampled
from interop.rebuild.windows import window


def _sides(
    ctx: Context,
    sizes: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
    auto_pad: str,
    output_padding: Sequence[int],
    output_shape: Sequence[int],
    pads: Sequence[int],
) -> tuple[list[int], list[int]]:
    """How many places are cut in front of each axis of the full result, and how many are kept."""
    rank = len(sizes)
    fronts, kept = [], []
    flat = tuple(pads) or (0,) * (2 * rank)
    for i, size in enumerate(sizes):
        full = (size - 1) * strides[i] + reach[i] + output_padding[i]
        if output_shape or auto_pad.startswith("SAME"):
            wanted = output_shape[len(output_shape) - rank + i] if output_shape else size * strides[i]
            cut = full - wanted
            if isinstance(cut, SymInt):
                ctx.fail(
                    f"output_shape over the open dimension {size}; import the model with that dimension fixed"
                )
            less = cut // 2
            fronts.append(less if auto_pad == "SAME_UPPER" else cut - less)
            kept.append(wanted)
        else:
            before, after = (0, 0) if auto_pad == "VALID" else (flat[i], flat[i + rank])
            fronts.append(before)
            kept.append(full - before - after)
    return fronts, kept


def _spread(kernel: Tensor, dilations: Sequence[int]) -> Tensor:
    """A kernel (places..., out, in) with zeros between its places; TensorFlow transposes no dilated ones."""
    for axis, step in enumerate(dilations):
        if step > 1:
            size = kernel.shape[axis]
            zeros = ops.zeros_like(kernel)
            apart = ops.stack([kernel, *[zeros] * (step - 1)], axis=axis + 1)
            shape = [*kernel.shape[:axis], size * step, *kernel.shape[axis + 1 :]]
            kernel = ops.reshape(apart, shape)[(slice(None),) * axis + (slice(0, (size - 1) * step + 1),)]
    return kernel


@op("ConvTranspose", since=1)
def conv_transpose(
    ctx: Context,
    x: Tensor,
    w: Tensor,
    b: Tensor = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    output_padding: Sequence[int] = (),
    output_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    have = ctx.dims(x)
    rank = len(have) - 2
    steps, spread = tuple(strides) or (1,) * rank, tuple(dilations) or (1,) * rank
    extra = tuple(output_padding) or (0,) * rank
    reach = [(int(size) - 1) * step + 1 for size, step in zip(w.shape[2:], spread, strict=True)]
    fronts, kept = _sides(ctx, have[2:], reach, steps, auto_pad, extra, output_shape, pads)
    kernel = _spread(ops.transpose(w, (*range(2, rank + 2), 1, 0)), spread)
    moved = ctx.declare(ops.transpose(x, (0, *range(2, rank + 2), 1)), (have[0], *have[2:], have[1]))
    width = int(w.shape[0]) // group
    parts = [
        _full(
            ctx,
            moved if group == 1 else moved[..., width * i : width * (i + 1)],
            kernel if group == 1 else kernel[..., width * i : width * (i + 1)],
            steps,
            reach,
        )
        for i in range(group)
    ]
    y = parts[0] if group == 1 else ops.concatenate(parts, axis=-1)
    y = _cut(ctx, y, have[2:], reach, steps, fronts, kept)
    if b is not None:
        y = ctx.add(y, b)
    y = ops.transpose(y, (0, rank + 1, *range(1, rank + 1)))
    return ctx.declare(y, (have[0], int(w.shape[1]) * group, *kept))


def _full(ctx: Context, x: Tensor, kernel: Tensor, strides: Sequence[int], reach: Sequence[int]) -> Tensor:
    """Every place that an element of `x` reaches; channels last, the kernel (places..., out, in).

    In a model by a convolution over `x` with zeros between its elements: the operation of Keras mixes two of its
    arguments up (Keras 3.15, ``ConvTranspose.call`` in ``keras/src/ops/nn.py``).
    """
    if not isinstance(x, KerasTensor):
        step = strides[0] if len(set(strides)) == 1 else tuple(strides)
        return ops.conv_transpose(x, kernel, strides=step, padding="valid", data_format="channels_last")
    for axis, step in enumerate(strides, start=1):
        if step > 1:
            dims = list(ctx.dims(x))
            apart = ops.stack([x, *[ops.zeros_like(x)] * (step - 1)], axis=axis + 1)
            apart = ctx.declare(apart, [*dims[: axis + 1], step, *dims[axis + 1 :]])
            dims[axis] = dims[axis] * step
            x = ctx.reshape(apart, dims)
            dims[axis] = dims[axis] - (step - 1)
            x = ctx.declare(x[(slice(None),) * axis + (slice(0, -(step - 1)),)], dims)
    sides = [(size - 1, max(size, step) - 1) for size, step in zip(reach, strides, strict=True)]
    padded = ops.pad(x, ((0, 0), *sides, (0, 0)), constant_values=0)
    turned = ops.flip(kernel, axis=tuple(range(len(reach))))
    return ops.conv(padded, ops.swapaxes(turned, -1, -2), padding="valid", data_format="channels_last")


def _cut(
    ctx: Context,
    y: Tensor,
    sizes: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
    fronts: Sequence[int],
    kept: Sequence[int],
) -> Tensor:
    """The places that are kept; beyond what Keras made there are zeros."""
    before, after, index = [], [], [slice(None)]
    for i, size in enumerate(sizes):
        made = (size - 1) * strides[i] + max(reach[i], strides[i])
        back = made - fronts[i] - kept[i]
        if isinstance(back, SymInt):
            ctx.fail(f"what is cut of the open dimension {size} depends on its value")
        before.append(max(0, -fronts[i]))
        after.append(max(0, -back))
        index.append(slice(max(0, fronts[i]), -back if back > 0 else None))
    y = y[tuple(index)]
    if any(before) or any(after):
        y = ops.pad(y, ((0, 0), *zip(before, after, strict=True), (0, 0)), constant_values=0)
    return y


@op("DeformConv", since=19)
def deform_conv(
    ctx: Context,
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor = None,
    mask: Tensor = None,
    *,
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    offset_group: int = 1,
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """A convolution whose places are moved by fractions: every place of the kernel is sampled by itself."""
    batch, channels, *sizes = ctx.dims(x)
    rank, kernel = len(sizes), tuple(int(size) for size in w.shape[2:])
    sides = window(ctx, sizes, kernel, "NOTSET", dilations, pads, strides)
    outputs = [int(size) for size in sides.outputs]
    count = int(np.prod(kernel))
    moves = ctx.reshape(offset, (batch, offset_group, count, rank, *outputs))
    weights = None if mask is None else ctx.reshape(mask, (batch, offset_group, count, *outputs))
    lines = np.meshgrid(
        *(
            np.arange(n) * step - side[0]
            for n, step, side in zip(outputs, sides.strides, sides.pads, strict=True)
        ),
        indexing="ij",
    )
    width = channels // offset_group
    columns = []
    for place, offsets in enumerate(product(*map(range, kernel))):
        parts = []
        for part in range(offset_group):
            coordinates = [
                ops.add(
                    moves[:, part, place, axis],
                    (lines[axis] + offsets[axis] * sides.dilations[axis]).astype("float32"),
                )
                for axis in range(rank)
            ]
            values = sampled(
                ctx, x[:, part * width : (part + 1) * width], coordinates, "linear", "zeros", True
            )
            if weights is not None:
                values = ops.multiply(values, ops.expand_dims(weights[:, part, place], 1))
            parts.append(values)
        columns.append(parts[0] if offset_group == 1 else ops.concatenate(parts, axis=1))
    stacked = ops.stack(columns, axis=2)  # batch, channels, places of the kernel, places of the result
    filters = int(w.shape[0])
    results = []
    for i in range(group):
        slab = stacked[:, i * channels // group : (i + 1) * channels // group]
        flat = ctx.reshape(slab, (batch, channels // group * count, int(np.prod(outputs))))
        part = w[i * filters // group : (i + 1) * filters // group]
        results.append(ops.matmul(ops.reshape(part, (filters // group, -1)), flat))
    y = results[0] if group == 1 else ops.concatenate(results, axis=1)
    y = ctx.reshape(y, (batch, filters, *outputs))
    return y if b is None else ctx.add(y, ops.reshape(b, (1, -1) + (1,) * rank))
