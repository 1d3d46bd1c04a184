"""Variables that are stored in parts: where each part goes, and the key it is stored under.

Enters: a shape and the slices that an index lists for it. Leaves: boxes, and keys of other entries.

Invariant: the boxes of a variable cover each of its elements once.

Spec: tensorflow/core/util/saved_tensor_slice_util.cc and tensorflow/core/lib/strings/ordered_code.cc
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from interop.errors import FormatError

Box = tuple[tuple[int, int | None], ...]
"""Start and length in each dimension; a length of None is all of it."""

_MAX_PARTS = 10_000


def boxes(slices: Sequence[Any], shape: tuple[int, ...], source: str) -> list[Box]:
    """The boxes of ``Slice`` messages.

    Raises:
        FormatError: they do not cover the shape, each element once.
    """
    if len(slices) > _MAX_PARTS:
        raise FormatError(f"{source}: it is stored in {len(slices)} parts; {_MAX_PARTS} is the limit")
    found = []
    for part in slices:
        if len(part.extent) != len(shape):
            raise FormatError(f"{source}: a part has {len(part.extent)} dimensions; expected {len(shape)}")
        found.append(tuple((extent.start, extent.length or None) for extent in part.extent))
    _check_cover(found, shape, source)
    return found


def box_shape(box: Box, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How large a box is."""
    return tuple(dim if length is None else length for (_, length), dim in zip(box, shape, strict=True))


def box_index(box: Box) -> tuple[slice, ...]:
    """What a box is in NumPy's indexing."""
    return tuple(slice(None) if length is None else slice(start, start + length) for start, length in box)


def part_key(name: bytes, box: Box) -> bytes:
    r"""The key of a part's own entry.

    >>> part_key(b"w", ((0, 3), (0, None)))
    b'\x00w\x00\x01\x01\x02\x80\x83\x80\x7f'
    """
    key = _natural(0) + _escaped(name) + b"\0\x01" + _natural(len(box))
    for start, length in box:
        key += _integer(start) + _integer(-1 if length is None else length)
    return key


def _check_cover(found: list[Box], shape: tuple[int, ...], source: str) -> None:
    for box in found:
        for (start, length), dim in zip(box, shape, strict=True):
            if start < 0 or (length is not None and (length < 0 or start + length > dim)):
                raise FormatError(f"{source}: part {box} lies outside of shape {shape}")
    if sum(math.prod(box_shape(box, shape)) for box in found) != math.prod(shape):
        raise FormatError(f"{source}: its {len(found)} parts do not add up to shape {shape}")
    if not shape:
        return
    starts = np.array([[0 if length is None else start for start, length in box] for box in found], np.int64)
    ends = starts + np.array([box_shape(box, shape) for box in found], np.int64)
    for index in range(len(found) - 1):
        rest = slice(index + 1, None)
        overlap = (starts[index] < ends[rest]) & (starts[rest] < ends[index])
        if overlap.all(axis=1).any():
            raise FormatError(f"{source}: its parts overlap at {found[index]}")


def _escaped(name: bytes) -> bytes:
    return b"".join(b"\0\xff" if byte == 0 else b"\xff\0" if byte == 0xFF else bytes([byte]) for byte in name)


def _natural(value: int) -> bytes:
    """A natural number, so that bytes sort as numbers do: its length, then its bytes, the highest first."""
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(content)]) + content


def _integer(value: int) -> bytes:
    """A signed number of up to 63 bits: the count of leading ones is its length in bytes."""
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    content = bytearray(value.to_bytes(10, "big", signed=True)[-length:])
    header = ((0xFFFF << (16 - length)) & 0xFFFF).to_bytes(2, "big")
    for index in range(min(2, length)):
        content[index] ^= header[index]
    return bytes(content)
