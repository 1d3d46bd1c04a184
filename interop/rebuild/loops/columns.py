"""Tensors as columns of one matrix of floats, whose rows are the batch.

Integers lie in it as digits, each of which is exact even where products keep few bits (11 on GPUs, with TensorFlow).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.sizes import Dims

_BASE = 2048  # of the digits


@dataclass(frozen=True)
class Slot:
    """How a tensor lies in columns.

    Attributes:
        dims: of the tensor.
        axis: of the batch; None if it has none, and all rows hold the same.
        dtype: of the tensor.
        cell: the type of the columns.
        infinite: whether infinite numbers are to be kept: in a product with ones and zeros they would not be numbers.
    """

    dims: Dims
    axis: int | None
    dtype: str
    cell: str
    infinite: bool = False

    @property
    def rest(self) -> tuple[int, ...]:
        """The sizes of a row."""
        return tuple(
            size for axis, size in enumerate(self.dims) if axis != self.axis and not isinstance(size, SymInt)
        )

    @property
    def elements(self) -> int:
        """How many there are in a row."""
        return math.prod(self.rest)

    @property
    def digits(self) -> int:
        """In how many columns an element lies."""
        if "int" not in self.dtype:
            return 1
        return math.ceil(8 * np.dtype(self.dtype).itemsize / math.log2(_BASE))

    @property
    def columns(self) -> int:
        """How many there are."""
        return self.elements * self.digits

    @property
    def _may_be_infinite(self) -> bool:
        return self.infinite and "float" in self.dtype

    @property
    def _limit(self) -> float:
        """What stands for infinity: a power of two, which no product rounds."""
        return float(2.0 ** (np.finfo(self.cell).maxexp - 1))

    def of_batch(self, size: int) -> Slot:
        """The same for another batch."""
        dims = tuple(size if axis == self.axis else old for axis, old in enumerate(self.dims))
        return replace(self, dims=dims)

    def encoded(self, x: Any) -> Any:
        """Elements in columns, along the last axis."""
        if self.digits == 1:
            x = x if self.dtype == self.cell else ops.cast(x, self.cell)
            return ops.clip(x, -self._limit, self._limit) if self._may_be_infinite else x
        digits = []
        for _ in range(self.digits - 1):
            digits.append(ops.mod(x, _BASE))
            x = ops.floor_divide(x, _BASE)
        return ops.cast(ops.concatenate([*digits, x], axis=-1), self.cell)

    def decoded(self, columns: Any) -> Any:
        """The elements again."""
        if self.digits == 1:
            if self._may_be_infinite:
                columns = ops.where(ops.greater_equal(columns, self._limit), math.inf, columns)
                columns = ops.where(ops.less_equal(columns, -self._limit), -math.inf, columns)
            if self.dtype == self.cell:
                return columns
            if self.dtype == "bool":
                return ops.greater(columns, 0.5)
            return ops.cast(columns, self.dtype)
        parts = ops.split(ops.cast(ops.round(columns), self.dtype), self.digits, axis=-1)
        x = parts[-1]
        for digit in parts[-2::-1]:
            x = ops.add(ops.multiply(x, _BASE), digit)
        return x

    def packed(self, x: Any) -> Any:
        """(batch, columns) of a tensor; (1, columns) if it has no batch."""
        if self.axis:
            x = ops.moveaxis(x, self.axis, 0)
        rows = 1 if self.axis is None else self.dims[self.axis]
        if len(self.dims) != 2 or self.axis is None:
            x = ops.reshape(x, (-1 if isinstance(rows, SymInt) else rows, self.elements))
        return self.encoded(x)

    def unpacked(self, columns: Any) -> Any:
        """A tensor of (batch, columns)."""
        if self.axis is None:
            return ops.reshape(self.decoded(columns[:1, :]), self.dims)
        x = self.decoded(columns)
        if len(self.dims) != 2:
            rows = self.dims[self.axis]
            x = ops.reshape(x, (-1 if isinstance(rows, SymInt) else rows, *self.rest))
        return ops.moveaxis(x, 0, self.axis) if self.axis else x


def spans_of(slots: Sequence[Slot], start: int = 0) -> list[slice]:
    """The columns of each, one after the other."""
    spans = []
    for slot in slots:
        spans.append(slice(start, start + slot.columns))
        start += slot.columns
    return spans


def joined(parts: Sequence[Any]) -> Any:
    """Columns side by side."""
    return ops.concatenate(list(parts), axis=-1) if len(parts) > 1 else parts[0]
