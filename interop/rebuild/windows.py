"""Where a window of a convolution or pooling lies: padding, strides, dilations and the sizes that come out.

Source: the attributes of https://onnx.ai/onnx/operators/onnx__Conv.html and onnx__MaxPool.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interop.capture.keras.symint import SymInt, floor_divide
from interop.rebuild.context import Context


@dataclass(frozen=True)
class Window:
    """A window that moves over places.

    Attributes:
        kernel: its size.
        strides: steps between windows.
        dilations: steps between elements of a window.
        pads: places added before and after each axis.
        excess: places the last window reaches beyond the padding, with `ceil_mode`.
        outputs: how many windows there are along each axis; may be open.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    excess: tuple[int, ...]
    outputs: tuple[int, ...]


def window(
    ctx: Context,
    sizes: Sequence[int],
    kernel: Sequence[int],
    auto_pad: str,
    dilations: Sequence[int],
    pads: Sequence[int],
    strides: Sequence[int],
    ceil_mode: int = 0,
) -> Window:
    """The window that a node's attributes describe, over axes of some sizes."""
    rank = len(sizes)
    if len(kernel) != rank:
        ctx.fail(f"a window with {len(kernel)} axes over a tensor with {rank} axes of places")
    strides, dilations = tuple(strides) or (1,) * rank, tuple(dilations) or (1,) * rank
    flat = tuple(pads) or (0,) * (2 * rank)
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    sides: list[tuple[int, int]] = []
    excess, outputs = [], []
    for axis, size in enumerate(sizes):
        step = strides[axis]
        if auto_pad.startswith("SAME"):
            sides.append(_same(ctx, size, reach[axis], step, auto_pad))
        else:
            sides.append((0, 0) if auto_pad == "VALID" else (flat[axis], flat[axis + rank]))
        room = size + sum(sides[-1]) - reach[axis]
        count = floor_divide(room, step) + 1
        beyond = 0
        if ceil_mode:
            if isinstance(size, SymInt) and step > 1:
                ctx.fail(f"ceil_mode over the open dimension {size}; export the model with that size fixed")
            # The window that is added must begin inside the input or the padding before it.
            if not isinstance(size, SymInt) and room % step and count * step < size + sides[-1][0]:
                beyond = step - room % step
                count += 1
        excess.append(beyond)
        outputs.append(count)
    return Window(tuple(kernel), strides, dilations, tuple(sides), tuple(excess), tuple(outputs))


def single(steps: Sequence[int]) -> int | tuple[int, ...]:
    """A number where one will do for all axes: read from a file again, JAX does not take what was a tuple."""
    return steps[0] if len(set(steps)) == 1 else tuple(steps)


def _same(ctx: Context, size: int, reach: int, step: int, auto_pad: str) -> tuple[int, int]:
    """Padding with which there are ``ceil(size / step)`` windows."""
    if isinstance(size, SymInt) and step > 1:
        ctx.fail(
            f"{auto_pad} in steps of {step} over the open dimension {size}: the padding depends on its value"
        )
    total = reach - 1 if isinstance(size, SymInt) else max(0, (-(-size // step) - 1) * step + reach - size)
    less, more = total // 2, total - total // 2
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)
