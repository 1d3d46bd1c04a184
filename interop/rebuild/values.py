"""What a name of the graph stands for while the graph is interpreted.

A ``Value`` is one of

- known: a NumPy array. Integer arrays may hold symbolic sizes (``SymInt``); their dtype is then ``object``;
- computed: a tensor, in one or more orders of its axes (its *forms*);
- a parameter: a known array that becomes a tensor when somebody computes with it;
- anything else an operator may return: a Python list (a sequence), None (an empty optional).

Invariants: all forms of a value hold the same elements; ``form(p)`` is the ONNX tensor transposed by ``p``, made at
most once; the array of a parameter never becomes part of a graph of layers by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from interop.capture.keras.symint import SymInt
from interop.rebuild.sizes import Sizes

Array = NDArray[Any]
Permutation = tuple[int, ...]


class Value:
    """See the module."""

    __slots__ = ("_forms", "_other", "_parameter", "array", "counts", "renamed", "sizes")

    def __init__(
        self,
        sizes: Sizes,
        *,
        array: Array | None = None,
        tensor: Any = None,
        permutation: Permutation | None = None,
        parameter: Callable[[], Any] | None = None,
    ) -> None:
        """A value.

        Args:
            sizes: the table of symbolic sizes of this interpretation.
            array: if it is known.
            tensor: if it is computed.
            permutation: of the axes of `tensor`; None: as in the graph.
            parameter: makes the tensor of a parameter, whose `array` is known.
        """
        self.sizes = sizes
        self.array = array
        self._parameter = parameter
        self.renamed = False  # by a Transpose that has not moved anything
        self.counts: Array | None = None  # the sizes that a tensor of floats holds
        self._forms: dict[Permutation, Any] = {}
        self._other: Any = None
        if isinstance(tensor, list | tuple) or (tensor is None and array is None):
            self._other = tensor
        elif tensor is not None:
            self._forms[permutation or tuple(range(len(tensor.shape)))] = tensor

    def copied(self, sizes: Sizes) -> Value:
        """The same value with another table of sizes; forms that are made of one are not the other's."""
        made = Value(sizes, array=self.array, parameter=self._parameter)
        made.renamed, made._forms, made._other = self.renamed, dict(self._forms), self._other
        made.counts = self.counts
        return made

    @property
    def is_known(self) -> bool:
        """Whether it is an array that stays as it is (a parameter changes in training)."""
        return self.array is not None and self._parameter is None

    @property
    def permutation(self) -> Permutation | None:
        """The order of axes the tensor is at hand in, where that is not the graph's own."""
        if not self._forms:
            return None
        first = next(iter(self._forms))
        return None if tuple(range(len(first))) in self._forms else first

    @property
    def rank(self) -> int | None:
        """Number of axes; None for what is no tensor."""
        if self.array is not None:
            return int(self.array.ndim)
        return len(next(iter(self._forms))) if self._forms else None

    def tensor(self) -> Any:
        """What a handler computes with: the array if it is known, else the tensor in the graph's own order."""
        if self.array is not None and self._parameter is None:
            return (
                self.sizes.as_tensor(self.array)
                if self.array.dtype == object and _sizes(self.array)
                else self.array
            )
        rank = self.rank
        return self._other if rank is None else self.form(tuple(range(rank)))

    def form(self, permutation: Permutation) -> Any:
        """The tensor with its axes in an order, made once."""
        if self._parameter is not None and not self._forms:
            made = self._parameter()
            self._forms[tuple(range(len(made.shape)))] = made
        if permutation not in self._forms:
            if self.is_known:
                return np.transpose(self.tensor(), permutation)
            have, tensor = next(iter(self._forms.items()))
            axes = tuple(have.index(axis) for axis in permutation)
            moved = ops.transpose(tensor, axes)
            dims = self.sizes.of(tensor)
            self.sizes.declare(moved, tuple(dims[axis] for axis in axes))
            self._forms[permutation] = moved
        return self._forms[permutation]


def transposed(value: Value, permutation: Permutation) -> Value | None:
    """A value with its axes in an order, without moving anything: its forms are those of the other, renamed.

    None of what is not computed yet.
    """
    if not value._forms or value.array is not None:
        return None
    made = Value(value.sizes)
    made.renamed = True
    for have, tensor in value._forms.items():
        made._forms[tuple(permutation.index(axis) for axis in have)] = tensor
    return made


def _sizes(array: Array) -> bool:
    return any(isinstance(item, SymInt) for item in array.flat)
