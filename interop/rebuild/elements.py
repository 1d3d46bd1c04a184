"""Where the elements of variables went: followed through anything that only moves them, or changes their sign.

Enters: variables by shape and type. They are filled with numbers that say which element each is, a graph is made of
them, and its initializers are looked at: where one of these numbers stands, its element went. Leaves: variables, from
what stands in the same places of another copy of that graph.

A number is a digit of an element's index: a value of the narrowest float type around, by its bit pattern, as moving
and widening keep that exactly. Of float32 one digit is enough for any model, narrower types take several, and one
graph each. The first patterns are the smallest normal numbers, so that what arithmetic makes of them is mostly none of
them. Mostly: whoever uses the result has to make the graph again, and compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from interop.formats.dtypes import numpy_dtype

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Alphabet:
    """Digits: the values of a type that follow on `first`, `size` of them, by their bit patterns."""

    dtype: str
    first: int
    size: int

    @property
    def _bits(self) -> np.dtype[Any]:
        return np.dtype(f"u{numpy_dtype(self.dtype).itemsize}")

    def count(self, start: int, stop: int, dtype: str) -> Array:
        """One-digit numbers of a type, which is this one or wider."""
        bits = np.arange(self.first + start, self.first + stop, dtype=self._bits)
        return bits.view(numpy_dtype(self.dtype)).astype(numpy_dtype(dtype), copy=False)

    def written(self, digits: Array, dtype: str) -> Array:
        """Digits as numbers of a type, which is this one or wider."""
        bits = (digits + self.first).astype(self._bits)
        return bits.view(numpy_dtype(self.dtype)).astype(numpy_dtype(dtype), copy=False)

    def read(self, numbers: Array) -> tuple[Array, Mask, Mask]:
        """The digits, which of the numbers are some, and which of them have changed their sign."""
        own = numpy_dtype(self.dtype)
        with np.errstate(all="ignore"):
            narrow = np.ascontiguousarray(numbers.astype(own, copy=False))
        bits = narrow.view(self._bits)
        negative = np.zeros(bits.shape, bool)
        if own.kind != "i":
            sign = self._bits.type(1 << (8 * own.itemsize - 1))
            negative = bits >= sign
            bits = bits & ~sign
        digits = bits - self._bits.type(self.first)
        valid = digits < self.size
        if own != numbers.dtype:
            valid &= narrow.astype(numbers.dtype) == numbers
        return digits, valid, negative


# The positive normal numbers, narrowest type first; the integers above zero.
_FLOATS = (
    _Alphabet("float8_e5m2", 0x04, 0x7C - 0x04),
    _Alphabet("float8_e4m3fn", 0x08, 0x7F - 0x08),
    _Alphabet("float16", 0x0400, 0x7C00 - 0x0400),
    _Alphabet("bfloat16", 0x0080, 0x7F80 - 0x0080),
    _Alphabet("float32", 0x00800000, 0x7F800000 - 0x00800000),
    _Alphabet("float64", 1 << 52, 0x7FF << 52),
)
_INTEGERS = tuple(
    _Alphabet(name, 1, (1 << bits) - 1)
    for name, bits in (("int8", 7), ("uint8", 7), ("int16", 15), ("uint16", 15), ("int32", 31), ("int64", 62))
)


@dataclass
class _Kind:
    """All variables of floats, or of integers, one after the other.

    Attributes:
        alphabet: of the digits.
        starts: where each variable begins, by key.
        size: how many elements there are.
        found: values of the elements, once some are known.
        known: which are.
    """

    alphabet: _Alphabet
    starts: dict[str, int]
    size: int
    found: Array = field(default_factory=lambda: np.empty(0))
    known: Mask = field(default_factory=lambda: np.empty(0, bool))

    @property
    def digits(self) -> int:
        """How many an index takes."""
        return max(1, math.ceil(math.log(max(self.size, 2)) / math.log(self.alphabet.size)))


class Elements:
    """The elements of some variables."""

    def __init__(self, variables: Mapping[str, tuple[tuple[int, ...], str]], others: Iterable[str]) -> None:
        """Number the elements.

        Args:
            variables: shape and dtype by key.
            others: dtypes they may be cast to on their way.
        """
        self._variables = dict(variables)
        self._kinds: dict[str, _Kind] = {}
        dtypes = {dtype for _, dtype in variables.values()}
        for kind, alphabets in (("float", _FLOATS), ("int", _INTEGERS)):
            own = [key for key, (_, dtype) in variables.items() if _kind_of(dtype) == kind]
            if not own:
                continue
            present = dtypes | set(others) if kind == "float" else dtypes
            alphabet = next(each for each in alphabets if each.dtype in present)
            if {"float16", "bfloat16"} <= present and alphabet.dtype in ("float16", "bfloat16"):
                alphabet = _FLOATS[0]  # whose numbers both have
            sizes = [math.prod(variables[key][0]) for key in own]
            starts = np.cumsum([0, *sizes]).tolist()
            self._kinds[kind] = _Kind(alphabet, dict(zip(own, starts, strict=False)), starts[-1])
        self._seen: dict[str, list[Array]] = {}

    @property
    def passes(self) -> int:
        """How many graphs it takes."""
        return max((kind.digits for kind in self._kinds.values()), default=1)

    def numbers(self, number: int) -> dict[str, Array]:
        """What to fill the variables with for one graph."""
        made = {}
        for kind in self._kinds.values():
            for key, start in kind.starts.items():
                shape, dtype = self._variables[key]
                stop = start + math.prod(shape)
                if kind.digits == 1:
                    filled = kind.alphabet.count(start, stop, dtype)
                else:
                    digits = np.arange(start, stop) // kind.alphabet.size**number % kind.alphabet.size
                    filled = kind.alphabet.written(digits, dtype)
                made[key] = filled.reshape(shape)
        return made

    def look_at(self, tensors: Mapping[str, Array]) -> None:
        """See what stands in the tensors of one graph after the other."""
        for name, tensor in tensors.items():
            self._seen.setdefault(name, []).append(tensor)

    def take(self, name: str, values: Array, known: Mask | None = None) -> tuple[str, ...]:
        """Take values that stand where the elements of a tensor do; returns the variables they belong to.

        Args:
            name: of the tensor, as it was looked at.
            values: in its shape.
            known: which of the values are any; None: all.
        """
        seen = self._seen.pop(name, [])
        kind = self._kinds.get(_kind_of(values.dtype.name))
        if kind is None or not seen or not values.size:
            return ()
        index, valid, negative = kind.alphabet.read(seen[0])
        for number, tensor in enumerate(seen[1 : kind.digits], 1):
            digits, digit_valid, _ = kind.alphabet.read(tensor)
            index = index.astype("uint64") + digits.astype("uint64") * np.uint64(kind.alphabet.size**number)
            valid &= digit_valid
        valid &= index < kind.size
        if kind is self._kinds.get("int") and not (valid | (seen[0] == 0)).all():
            return ()  # small numbers may stand anywhere
        if negative.any():
            values = np.where(negative, -values, values)
        if known is not None:
            valid &= known
        if not kind.known.size:
            dtypes = [numpy_dtype(self._variables[key][1]) for key in kind.starts]
            widest = max((*dtypes, values.dtype), key=lambda dtype: dtype.itemsize)
            kind.found, kind.known = np.zeros(kind.size, widest), np.zeros(kind.size, bool)
        if valid.all() and (steps := _steps(index)) is not None:
            for array, source in ((kind.found, values), (kind.known, np.True_)):
                strides = [step * array.itemsize for step in steps]
                as_strided(array[index.flat[0] :], index.shape, strides)[...] = source
            return self._owners(kind, index.flat[[0, -1]])
        index, values = index[valid], values[valid]
        kind.found[index] = values
        kind.known[index] = True
        return self._owners(kind, index)

    def _owners(self, kind: _Kind, index: Array) -> tuple[str, ...]:
        if not index.size:
            return ()
        keys, starts = list(kind.starts), list(kind.starts.values())
        places = np.searchsorted(starts, [index.min(), index.max()], side="right") - 1
        if places[0] != places[1]:
            places = np.unique(np.searchsorted(starts, index, side="right") - 1)
        return tuple(dict.fromkeys(keys[place] for place in places))

    def variable(self, key: str) -> tuple[Array, Mask] | None:
        """A variable's values, and which of them are known; None if none is."""
        shape, dtype = self._variables[key]
        kind = self._kinds.get(_kind_of(dtype))
        if kind is None or not kind.known.size or not math.prod(shape):
            return None
        part = slice(kind.starts[key], kind.starts[key] + math.prod(shape))
        known = kind.known[part]
        if not known.any():
            return None
        return kind.found[part].astype(numpy_dtype(dtype), copy=False).reshape(shape), known.reshape(shape)


def _steps(index: Array) -> list[int] | None:
    """By how much an index grows along each axis, if it always grows by that: so it is after axes were reordered.

    Writing to such places in order is several times faster than one by one.
    """
    first = index.flat[0]
    corners = [
        np.take(index, 1, axis).flat[0] if size > 1 else first for axis, size in enumerate(index.shape)
    ]
    if any(corner < first for corner in corners):
        return None
    steps = [int(corner - first) for corner in corners]
    expected = np.full((1,) * index.ndim, first)
    for axis, (size, step) in enumerate(zip(index.shape, steps, strict=True)):
        along = np.arange(size, dtype=index.dtype) * index.dtype.type(step)
        expected = expected + along.reshape(-1, *(1,) * (index.ndim - axis - 1))
    return steps if np.array_equal(index, expected) else None


def _kind_of(dtype: str) -> str:
    if "float" in dtype and not dtype.startswith("float4"):
        return "float"
    return "int" if dtype in {alphabet.dtype for alphabet in _INTEGERS} else "other"
