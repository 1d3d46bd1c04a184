"""A plain ``.onnx`` file without the values embedded in it: what a guard needs to see, and no more memory.

What enters: the bytes of a ``ModelProto`` of any size, usually mapped. What leaves: a serialised
``ModelProto`` that differs only in that long fields of the main graph's initializers (their values) are gone.

Invariant: only the outermost levels are walked (model, graph, initializers), with a bound for every length,
so that the cost is that of counting nodes; protobuf parses, and judges, the rest.
"""

from __future__ import annotations

from interop.errors import ArtifactError, FormatError
from interop.formats.wire import fields

_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_KEPT_BYTES = 4096
_CHUNK = 2  # the wire type


def without_values(data: memoryview) -> bytes:
    """Copy a ``ModelProto`` without the long values of its graph's initializers.

    Raises:
        ArtifactError: the bytes are no protobuf message.
    """
    out = bytearray()
    try:
        for field in fields(data, 0, len(data)):
            if field.number == _GRAPH and field.is_chunk:
                _put(out, _GRAPH, _graph(data, field.value, field.end))
            else:
                out += data[field.start : field.end]
    except FormatError as error:
        raise ArtifactError(f"the bytes are not an ONNX model: {error}") from error
    return bytes(out)


def _graph(data: memoryview, start: int, end: int) -> bytes:
    out = bytearray()
    for field in fields(data, start, end):
        if field.number == _INITIALIZER and field.is_chunk and field.end - field.value > _KEPT_BYTES:
            _put(out, _INITIALIZER, _tensor(data, field.value, field.end))
        else:
            out += data[field.start : field.end]
    return bytes(out)


def _tensor(data: memoryview, start: int, end: int) -> bytes:
    out = bytearray()
    for field in fields(data, start, end):
        if not field.is_chunk or field.end - field.value <= _KEPT_BYTES:
            out += data[field.start : field.end]
    return bytes(out)


def _put(out: bytearray, number: int, value: bytes) -> None:
    for part in (number << 3 | _CHUNK, len(value)):
        while part > 0x7F:
            out.append(part & 0x7F | 0x80)
            part >>= 7
        out.append(part)
    out += value
