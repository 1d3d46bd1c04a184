"""Sizes of dimensions that are open while a graph is interpreted.

A ``keras.KerasTensor`` says None for an open dimension, which has no identity: whether the first axis of one tensor
is as long as the second of another cannot be asked. This table answers it. Enters: tensors, and what is declared
about them. Leaves: for every tensor a tuple of numbers and ``SymInt`` expressions.

Invariants: two sizes are taken for equal only if their expressions are; a dimension nobody declared is a symbol of
its own, measured on its tensor, so that a missing declaration costs nodes and never correctness. Sizes are int32
where they become tensors of a graph of layers, as those run on every backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import KerasTensor, ops
from numpy.typing import NDArray

from interop.capture.keras.symint import Poly, SymInt, same
from interop.errors import GraphError
from interop.rebuild.broadcast import add

Dims = tuple[int, ...]
_HINT = 1009  # a size that nothing is likely to have; comparisons in Python use it


def polynomial(size: int) -> Poly:
    """The expression of a size, as a key."""
    return size.poly if isinstance(size, SymInt) else ((((), int(size)),) if size else ())


class Sizes:
    """See the module."""

    def __init__(self) -> None:
        self._dims: dict[int, tuple[Any, Dims]] = {}  # the tensor is kept, so its id stays its own
        self._witnesses: dict[Poly, tuple[Any, int]] = {}
        self._count = 0

    def copied(self) -> Sizes:
        """What is known now; neither learns what the other does afterwards."""
        made = Sizes()
        made._dims, made._witnesses, made._count = dict(self._dims), dict(self._witnesses), self._count
        return made

    def symbol(self, name: str) -> SymInt:
        """The open dimension of a name."""
        return SymInt.symbol(name, _HINT)

    def of(self, tensor: Any) -> Dims:
        """The sizes of a tensor."""
        if id(tensor) in self._dims:
            return self._dims[id(tensor)][1]
        shape = tuple(tensor.shape)
        if None not in shape:
            return self._complete(tensor, shape)
        return self.declare(tensor, (None,) * len(shape))

    def _complete(self, tensor: Any, shape: tuple[Any, ...]) -> Dims:
        """The sizes of a tensor that has them all: numbers, a trace's own symbols, and the expressions of JAX."""
        dims = tuple(
            size
            if isinstance(size, SymInt)
            else int(size)
            if isinstance(size, int)
            else self.symbol(str(size))
            for size in shape
        )
        for axis, size in enumerate(dims):
            if isinstance(size, SymInt):
                self._witnesses.setdefault(size.poly, (tensor, axis))
        return dims

    def declare(self, tensor: Any, dims: Sequence[int | None]) -> Dims:
        """Say what the open dimensions of a tensor are; None: nothing is known. Known numbers stay."""
        shape = tuple(tensor.shape)
        if None not in shape:
            return self._complete(tensor, shape)
        known: list[int] = []
        for axis, (size, declared) in enumerate(zip(shape, dims, strict=True)):
            if size is not None:
                known.append(int(size))
            elif declared is None:
                self._count += 1
                known.append(self.symbol(f"_{self._count}"))
            else:
                known.append(declared)
            if isinstance(known[-1], SymInt):
                self._witnesses.setdefault(known[-1].poly, (tensor, axis))
        self._dims[id(tensor)] = (tensor, tuple(known))
        return tuple(known)

    def broadcast(self, all_dims: Sequence[Dims]) -> list[int | None]:
        """The sizes of tensors that are broadcast together; None where it depends on values."""
        rank = max((len(dims) for dims in all_dims), default=0)
        result: list[int | None] = []
        for axis in range(-rank, 0):
            sizes = [dims[axis] for dims in all_dims if len(dims) >= -axis]
            fixed = [size for size in sizes if not isinstance(size, SymInt) and size != 1]
            open_sizes = [size for size in sizes if isinstance(size, SymInt)]
            if fixed:
                result.append(fixed[0])
            elif not open_sizes:
                result.append(1)
            else:
                result.append(
                    open_sizes[0] if all(same(size, open_sizes[0]) for size in open_sizes) else None
                )
        return result

    def measured(self, size: int) -> Any:
        """A size as a tensor without axes, or as a number."""
        if not isinstance(size, SymInt):
            return int(size)
        witness = self._witnesses.get(size.poly)
        if witness is not None:
            return _length(*witness)
        total: Any = 0
        for monomial, coefficient in size.poly:
            term: Any = int(coefficient)
            for atom in monomial:
                term = _times(term, self._atom(atom))
            total = term if isinstance(total, int) and total == 0 else total + term
        return total

    def _atom(self, atom: tuple[Any, ...]) -> Any:
        if atom[0] in ("//", "%"):
            left, right = (self.measured(_size(poly)) for poly in atom[1:])
            divide = ops.floor_divide if atom[0] == "//" else ops.mod
            return divide(left, right)
        witness = self._witnesses.get((((atom,), 1),))
        if witness is None:
            raise GraphError(f"no tensor has the dimension {atom[1]!r} that another's size depends on")
        return _length(*witness)

    def as_tensor(self, array: NDArray[Any]) -> Any:
        """An array in which sizes are symbolic, as a tensor."""
        sizes = [ops.reshape(ops.cast(self.measured(size), "int32"), (1,)) for size in array.flat]
        return ops.reshape(ops.concatenate(sizes) if len(sizes) > 1 else sizes[0], array.shape)

    def zeros(self, dims: Dims, dtype: str) -> Any:
        """Zeros of a shape in which sizes may be open: a sum of zeros that are as long as each of them."""
        join = ops.logical_or if dtype == "bool" else add
        result: Any = np.zeros([1 if isinstance(size, SymInt) else size for size in dims], dtype)
        for axis, size in enumerate(dims):
            if isinstance(size, SymInt):
                line = [1] * len(dims)
                line[axis] = -1
                result = join(ops.reshape(self._line(size, dtype), line), result)
        return result

    def _line(self, size: SymInt, dtype: str) -> Any:
        """A vector of zeros of an open length."""
        if size.poly in self._witnesses:
            return ops.zeros_like(_line_of(*self._witnesses[size.poly]), dtype=dtype)
        whole = dict(size.poly)
        fixed = whole.pop((), 0)
        if fixed < 0:  # as many fewer
            rest = _size(tuple(whole.items()))
            return self.zeros((rest,), dtype)[(slice(-fixed, None),)]
        divisor = _division(size.poly)
        if divisor is not None:  # every so manieth of the whole
            numerator, step = divisor
            return self.zeros((_size(numerator),), dtype)[(slice(step - 1, None, step),)]
        if len(size.poly) == 1:  # a product: zeros of every factor, flattened
            monomial, coefficient = size.poly[0]
            factors = [
                *([int(coefficient)] if coefficient != 1 else []),
                *(_size((((a,), 1),)) for a in monomial),
            ]
            if len(factors) > 1:
                return ops.reshape(self.zeros(tuple(factors), dtype), (-1,))
        elif all(coefficient > 0 for _, coefficient in size.poly):  # a sum: one after the other
            terms = [_size((term,)) for term in size.poly]
            return ops.concatenate([self.zeros((term,), dtype) for term in terms])
        raise GraphError(
            f"a tensor of the size {size} has to be made, which no other tensor has. Import the model with that "
            "dimension fixed"
        )

    def arange(self, size: int) -> Any:
        """0, 1, ... up to a size, int32."""
        if not isinstance(size, SymInt):
            return np.arange(size, dtype="int32")
        return self.declare_of(ops.subtract(ops.cumsum(ops.ones_like(self._line(size, "int32"))), 1), (size,))

    def declare_of(self, tensor: Any, dims: Sequence[int | None]) -> Any:
        """``declare`` that returns the tensor."""
        self.declare(tensor, dims)
        return tensor

    def same(self, a: int, b: int) -> bool:
        """Whether two sizes are equal whatever their symbols stand for."""
        return same(a, b)


def has_open_sizes(x: Any) -> bool:
    """Whether a tensor is symbolic and does not know all its sizes; a traced one does."""
    return isinstance(x, KerasTensor) and None in x.shape


def _size(poly: Poly) -> int:
    if not poly:
        return 0
    if len(poly) == 1 and poly[0][0] == ():
        return poly[0][1]
    return SymInt(_HINT, poly)


def _division(poly: Poly) -> tuple[Poly, int] | None:
    """The numerator and the denominator, if a size is one expression divided by a number."""
    if len(poly) != 1 or poly[0][1] != 1 or len(poly[0][0]) != 1 or poly[0][0][0][0] != "//":
        return None
    _, numerator, denominator = poly[0][0][0]
    return (numerator, denominator[0][1]) if [term for term, _ in denominator] == [()] else None


def _times(a: Any, b: Any) -> Any:
    return b if isinstance(a, int) and a == 1 else a * b


def _line_of(tensor: Any, axis: int) -> Any:
    """The elements of a tensor along an axis, first along all others."""
    return tensor[tuple(slice(None) if i == axis else 0 for i in range(len(tensor.shape)))]


def _length(tensor: Any, axis: int) -> Any:
    if has_open_sizes(tensor):
        return ops.sum(ops.ones_like(_line_of(tensor, axis), dtype="int32"))
    return ops.shape(tensor)[axis]
