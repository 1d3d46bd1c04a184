"""Convolutions. Source: https://onnx.ai/onnx/operators/onnx__Conv.html.

Keras convolves with channels last on every backend; with channels first TensorFlow has no kernels on a CPU. So a
handler moves the channels; layers (``lift/``) keep them last from one convolution to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras import KerasTensor, ops

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op
from interop.rebuild.windows import Window, single, window


@op("Conv", since=1)
def conv(
    ctx: Context,
    x: Tensor,
    w: Tensor,
    b: Tensor = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    have = ctx.dims(x)
    sides = window(ctx, have[2:], tuple(w.shape)[2:], auto_pad, dilations, pads, strides)
    rank = len(have) - 2
    kernel = ops.transpose(w, (*range(2, rank + 2), 1, 0))
    moved = _padded(ops.transpose(x, (0, *range(2, rank + 2), 1)), sides)
    # TensorFlow has no strides with dilations: every place is computed and some are kept.
    both = max(sides.dilations) > 1 and max(sides.strides) > 1
    steps = sides.strides if not both else (1,) * rank
    # A symbolic ops.conv knows no groups (Keras 3.15), so a model has a convolution for each of them.
    parts = [(moved, kernel)]
    if group > 1 and isinstance(moved, KerasTensor):
        parts = list(zip(ops.split(moved, group, -1), ops.split(kernel, group, -1), strict=True))
    made = [
        ops.conv(
            part,
            weights,
            strides=single(steps),
            padding="valid",
            data_format="channels_last",
            dilation_rate=single(sides.dilations),
        )
        for part, weights in parts
    ]
    y = made[0] if len(made) == 1 else ops.concatenate(made, -1)
    if both:
        y = y[(slice(None), *(slice(None, None, stride) for stride in sides.strides))]
    if b is not None:
        y = ctx.add(y, b)
    y = ops.transpose(y, (0, rank + 1, *range(1, rank + 1)))
    return ctx.declare(y, (have[0], int(w.shape[0]), *sides.outputs))


def _padded(x: Tensor, sides: Window) -> Tensor:
    if not any(any(pair) for pair in sides.pads):
        return x
    return ops.pad(x, ((0, 0), *sides.pads, (0, 0)), constant_values=0)
