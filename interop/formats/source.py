"""A tensor that is about to be written: what it is, and how to get its values when its turn comes.

What enters is whatever holds the values (a framework's variable, an array, another file); what leaves
is one array at a time, so that writing a model never needs a second copy of all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from interop.formats.mapping import TensorMapping


@runtime_checkable
class TensorSource(Protocol):
    """One tensor to be written; `read` is called once, shortly before it is written, and its result freed after."""

    @property
    def dtype(self) -> str:
        """NumPy or ``ml_dtypes`` name of the element type, such as ``"float32"`` or ``"bfloat16"``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions; ``()`` for a scalar."""
        ...

    def read(self) -> NDArray[Any]:
        """The values, as an array of exactly this dtype and shape."""
        ...


class ArraySource:
    """A source over an array that is already in memory (or mapped from a file)."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    @property
    def dtype(self) -> str:
        return self.array.dtype.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self) -> NDArray[Any]:
        return self.array


class MappedSource:
    """A tensor of an open file, read when it is written."""

    def __init__(self, tensors: TensorMapping, name: str) -> None:
        self.tensors = tensors
        self.name = name

    @property
    def dtype(self) -> str:
        return self.tensors.dtypes[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensors.shapes[self.name]

    def read(self) -> NDArray[Any]:
        return self.tensors[self.name]


def little_endian_bytes(array: NDArray[Any]) -> memoryview:
    """The values of `array` as flat bytes in C order, without a copy where they already lie so."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.byteorder == ">":
        flat = flat.astype(flat.dtype.newbyteorder("<"))
    return flat.view(np.uint8).data if flat.size else memoryview(b"")
