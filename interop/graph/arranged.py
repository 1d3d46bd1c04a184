"""Weights that are put in order only where they are written: with other axes first, times a factor for each channel.

Enters: arrays as they lie in memory. Leaves: their bytes row by row, a block at a time, in buffers that are used again.

Invariants: nothing of a weight's own size is made; what leaves is what NumPy computes of the whole array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]

BLOCK_BYTES = 4 << 20
"""A block is as many rows as fit, one at least; large enough that threads seldom wait for each other."""

_RUN = 16
"""Cells next to each other in a row that are copied at once: a cache holds the lines they come from."""


class ScaledTensor(ir.LazyTensor):  # type: ignore[misc]
    """A weight times a factor that broadcasts to it, multiplied when somebody asks for the values.

    Attributes:
        weight: an array in any order of axes.
        factor: of as many axes, that of channels and others of size 1.
    """

    __slots__ = ("factor", "weight")

    def __init__(self, weight: Array, factor: Array, name: str) -> None:
        dtype = ir.DataType.from_numpy(np.result_type(weight, factor))
        super().__init__(lambda: ir.tensor(weight * factor), dtype, ir.Shape(weight.shape), name=name)
        self.weight = weight
        self.factor = factor


def parts(tensor: Any) -> tuple[Array, Array | None]:
    """An array and the factor it is still to be multiplied with."""
    if isinstance(tensor, ScaledTensor):
        return tensor.weight, tensor.factor
    return tensor.numpy(), None


def blocks(tensors: Sequence[Any], count: int) -> Iterator[Any]:
    """The bytes of tensors that are not empty, one after the other.

    Args:
        tensors: of ``onnx_ir``, with NumPy's own element types.
        count: of buffers: a block is good until that many more were asked for.
    """
    largest = max((tensor.nbytes // tensor.shape[0] for tensor in tensors), default=0)
    turns = cycle([np.empty(max(BLOCK_BYTES, largest), np.uint8) for _ in range(count)])
    for tensor in tensors:
        array, factor = parts(tensor)
        dtype = array.dtype if factor is None else np.result_type(array, factor)
        step = max(1, BLOCK_BYTES // (tensor.nbytes // len(array)))
        for start in range(0, len(array), step):
            rows = array[start : start + step]
            buffer = next(turns)[: rows.size * dtype.itemsize]
            out = buffer.view(dtype).reshape(rows.shape)
            copy(out, rows)
            if factor is not None:
                np.multiply(out, factor[start : start + step] if len(factor) > 1 else factor, out=out)
            yield buffer.data


def copy(out: Array, array: Array) -> None:
    """Fill a contiguous array from one in another order of axes.

    NumPy fills row by row, and a row of a transposed matrix comes from as many lines of memory as it has cells: these
    are fetched again for the next row. A few columns at a time find them in the cache: five times as fast.
    """
    out, array = (each.reshape([size for size in each.shape if size > 1]) for each in (out, array))
    if array.ndim < 2 or array.strides[-1] == array.itemsize:
        out[...] = array
        return
    axis, cells = array.ndim - 1, 1
    while axis > 1 and cells * array.shape[axis] < _RUN:
        cells *= array.shape[axis]
        axis -= 1
    step = -(-_RUN // cells)
    before = (slice(None),) * axis
    for start in range(0, array.shape[axis], step):
        place = (*before, slice(start, start + step))
        out[place] = array[place]
