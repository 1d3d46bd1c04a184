"""Output shapes with symbolic dimensions kept: the rules Keras computes through NumPy or ``int``.

While tracing these stand in for the functions of the same name in ``keras.src.ops.operation_utils``
(see compat.py), so that Keras' own shape inference stays exact on symbolic sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from interop.capture.keras.symint import SymInt, equated, floor_divide, is_symbolic, is_unknown, same

Dims = tuple[Any, ...]


class Unify(Exception):
    """Two dimensions must be equal for the model to make sense; trace again with them equal."""

    def __init__(self, left: Any, right: Any) -> None:
        super().__init__(f"dimension {left} must equal dimension {right}")
        self.left = left
        self.right = right


def merge(a: Any, b: Any) -> Any:
    """One dimension of a broadcast."""
    if same(a, b):
        return a
    if not is_symbolic(a) and a == 1:
        return b
    if not is_symbolic(b) and b == 1:
        return a
    if is_unknown(a) or is_unknown(b):
        return b if is_unknown(a) else a
    needed = equated(a, b)
    if needed is not None:
        raise Unify(*needed)
    # Equal for some sizes, as x and 2 * (x // 2): traced with such sizes, and left to the operator at run time.
    if int(a) == int(b) and is_symbolic(a - b):
        return a
    raise ValueError(f"dimensions {a} and {b} cannot be broadcast together")


def broadcast_shapes(shape1: Sequence[Any], shape2: Sequence[Any]) -> list[Any]:
    """NumPy broadcasting of two shapes."""
    rank = max(len(shape1), len(shape2))
    left = [1] * (rank - len(shape1)) + list(shape1)
    right = [1] * (rank - len(shape2)) + list(shape2)
    return [merge(a, b) for a, b in zip(left, right, strict=True)]


def windows(size: Any, kernel: int, stride: int, padding: str, dilation: int = 1) -> Any:
    """How many windows of a convolution or pooling fit along one axis."""
    if padding in ("same", "causal"):
        return floor_divide(size + stride - 1, stride)
    reach = dilation * (kernel - 1) + 1
    count = floor_divide(size - reach, stride) + 1 if is_symbolic(size) else (size - reach) // stride + 1
    if count <= 0:
        raise ValueError(
            f"a window of {reach} does not fit into an input of size {int(size)} with padding='valid'"
        )
    return count


def _per_axis(value: Any, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, int) else tuple(int(v) for v in value)


def compute_conv_output_shape(
    input_shape: Sequence[Any],
    filters: Any,
    kernel_size: Sequence[int],
    strides: Any = 1,
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Any = 1,
) -> Dims:
    """Shape of a convolution: floor((d - k_eff)/s) + 1, or ceil(d/s) with same padding."""
    last = data_format == "channels_last"
    spatial = input_shape[1:-1] if last else input_shape[2:]
    rank = len(spatial)
    if len(kernel_size) != rank:
        raise ValueError(
            f"a kernel of size {tuple(kernel_size)} does not fit an input of shape {input_shape}"
        )
    sizes = [
        windows(size, kernel, stride, padding, dilation)
        for size, kernel, stride, dilation in zip(
            spatial, kernel_size, _per_axis(strides, rank), _per_axis(dilation_rate, rank), strict=True
        )
    ]
    return (input_shape[0], *sizes, filters) if last else (input_shape[0], filters, *sizes)


def compute_pooling_output_shape(
    input_shape: Sequence[Any],
    pool_size: Any,
    strides: Any,
    padding: str = "valid",
    data_format: str = "channels_last",
) -> Dims:
    """Shape of a pooling; the same formulas as a convolution."""
    last = data_format == "channels_last"
    rank = len(input_shape) - 2
    size = _per_axis(pool_size, rank)
    channels = input_shape[-1] if last else input_shape[1]
    return compute_conv_output_shape(
        input_shape, channels, size, size if strides is None else strides, padding, data_format
    )


def compute_reshape_output_shape(
    input_shape: Sequence[Any], newshape: Sequence[Any], newshape_arg_name: str = "newshape"
) -> Dims:
    """The target of a reshape, its -1 resolved symbolically."""
    if not any(is_symbolic(d) for d in (*input_shape, *newshape)) and -1 not in newshape:
        if math.prod(input_shape) != math.prod(newshape):
            raise ValueError(
                f"an input of shape {tuple(input_shape)} cannot take the shape {tuple(newshape)}"
            )
        return tuple(newshape)
    unknown = [i for i, d in enumerate(newshape) if not is_symbolic(d) and d == -1]
    if len(unknown) > 1:
        raise ValueError(f"`{newshape_arg_name}` may have one -1 at most. Received: {tuple(newshape)}")
    if not unknown:
        return tuple(newshape)
    known = math.prod(d for i, d in enumerate(newshape) if i not in unknown)
    size = math.prod(input_shape)
    if not is_symbolic(size) and not is_symbolic(known) and size % known:
        raise ValueError(f"an input of shape {tuple(input_shape)} cannot take the shape {tuple(newshape)}")
    resolved = list(newshape)
    resolved[unknown[0]] = floor_divide(size, known)
    return tuple(resolved)


def slice_bounds(key: slice, length: Any) -> tuple[Any, Any, int, Any]:
    """A Python slice on an axis as (start, stop, step, resulting length), symbolic sizes kept.

    The stop of a full reverse slice is None: it has no number that ONNX would not read as negative.
    """
    step = 1 if key.step is None else int(key.step)
    if not is_symbolic(length) and not is_symbolic(key.start) and not is_symbolic(key.stop):
        start, stop, step = key.indices(length)
        count = len(range(start, stop, step))
        return start, (None if step < 0 and stop < 0 else stop), step, count

    def clamp(bound: Any) -> Any:
        if int(bound) < 0:
            bound = length + bound
        if int(bound) < 0:
            return 0
        return length if int(bound) > int(length) else bound

    if step == 1:
        start = 0 if key.start is None else clamp(key.start)
        stop = length if key.stop is None else clamp(key.stop)
        return start, stop, 1, max(stop - start, 0)
    if step > 1:
        start = 0 if key.start is None else clamp(key.start)
        stop = length if key.stop is None else clamp(key.stop)
        return start, stop, step, floor_divide(stop - start + step - 1, step)
    first = length - 1 if key.start is None else clamp(key.start)
    first = length - 1 if int(first) >= int(length) else first
    if key.stop is None:
        return first, None, step, floor_divide(first - step, -step)
    last = clamp(key.stop)
    return first, last, step, floor_divide(first - last - step - 1, -step)


def is_static(shape: Sequence[Any]) -> bool:
    """Whether no dimension is symbolic."""
    return not any(isinstance(dim, SymInt) for dim in shape)
