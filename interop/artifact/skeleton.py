"""A plain ``.onnx`` file without the values embedded in it: what a guard needs to see, and no more memory.

What enters: the bytes of a ``ModelProto`` of any size, usually mapped. What leaves: a serialised
``ModelProto`` that differs only in that long fields of the main graph's initializers (their values) are gone.

Invariant: only the outermost levels are walked (model, graph, initializers), with a bound for every length,
so that the cost is that of counting nodes; protobuf parses, and judges, the rest.

Spec: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from interop.errors import ArtifactError

_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_KEPT_BYTES = 4096
_VARINT, _FIXED64, _CHUNK, _FIXED32 = 0, 1, 2, 5


class _Field(NamedTuple):
    """One field of a message: number, whether it holds bytes, where it begins, its value begins, it ends."""

    number: int
    is_chunk: bool
    start: int
    value: int
    end: int


def without_values(data: memoryview) -> bytes:
    """Copy a ``ModelProto`` without the long values of its graph's initializers.

    Raises:
        ArtifactError: the bytes are no protobuf message.
    """
    out = bytearray()
    for field in _fields(data, 0, len(data)):
        if field.number == _GRAPH and field.is_chunk:
            _put(out, _GRAPH, _graph(data, field.value, field.end))
        else:
            out += data[field.start : field.end]
    return bytes(out)


def _graph(data: memoryview, start: int, end: int) -> bytes:
    out = bytearray()
    for field in _fields(data, start, end):
        if field.number == _INITIALIZER and field.is_chunk and field.end - field.value > _KEPT_BYTES:
            _put(out, _INITIALIZER, _tensor(data, field.value, field.end))
        else:
            out += data[field.start : field.end]
    return bytes(out)


def _tensor(data: memoryview, start: int, end: int) -> bytes:
    out = bytearray()
    for field in _fields(data, start, end):
        if not field.is_chunk or field.end - field.value <= _KEPT_BYTES:
            out += data[field.start : field.end]
    return bytes(out)


def _fields(data: memoryview, start: int, end: int) -> Iterator[_Field]:
    position = start
    while position < end:
        begin = position
        tag, position = _read_varint(data, position, end)
        kind = tag & 7
        value = position
        if kind == _VARINT:
            _, position = _read_varint(data, position, end)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _CHUNK:
            length, value = _read_varint(data, position, end)
            position = value + length
        else:
            raise ArtifactError(f"the bytes are not an ONNX model: wire type {kind} at byte {begin}")
        if position > end:
            raise ArtifactError(
                f"the bytes are not an ONNX model: the field at byte {begin} runs out of bounds"
            )
        yield _Field(tag >> 3, kind == _CHUNK, begin, value, position)


def _read_varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ArtifactError(f"the bytes are not an ONNX model: a number at byte {position} does not end")


def _put(out: bytearray, number: int, value: bytes) -> None:
    for part in (number << 3 | _CHUNK, len(value)):
        while part > 0x7F:
            out.append(part & 0x7F | 0x80)
            part >>= 7
        out.append(part)
    out += value
