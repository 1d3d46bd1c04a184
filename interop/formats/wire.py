"""Protobuf's wire format, one level at a time: where the fields of a message lie, without parsing what is in them.

Enters: bytes, usually mapped from a file that is larger than one wants to hold. Leaves: bounds. Invariant: nothing
beyond the given end is read.

Spec: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from interop.errors import FormatError

_VARINT, _FIXED64, _CHUNK, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message: number, whether it holds bytes, where it begins, its value begins, it ends."""

    number: int
    is_chunk: bool
    start: int
    value: int
    end: int


def fields(data: memoryview, start: int, end: int) -> Iterator[Field]:
    """The fields of a message that lies in these bytes.

    Raises:
        FormatError: they are no message.
    """
    position = start
    while position < end:
        begin = position
        tag, position = read_varint(data, position, end)
        kind = tag & 7
        if not tag >> 3:
            raise FormatError(f"the bytes are no message of protobuf: field 0 at byte {begin}")
        value = position
        if kind == _VARINT:
            _, position = read_varint(data, position, end)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _CHUNK:
            length, value = read_varint(data, position, end)
            position = value + length
        else:
            raise FormatError(f"the bytes are no message of protobuf: wire type {kind} at byte {begin}")
        if position > end:
            raise FormatError(
                f"the bytes are no message of protobuf: the field at byte {begin} runs out of bounds"
            )
        yield Field(tag >> 3, kind == _CHUNK, begin, value, position)


def read_varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """A number, and where it ends.

    Raises:
        FormatError: it does not end.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise FormatError(f"the bytes are no message of protobuf: a number at byte {position} does not end")
