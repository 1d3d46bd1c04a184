"""The index of a checkpoint: a sorted table of keys and values, in LevelDB's format.

Enters: a file, or keys with values. Leaves: all pairs as a dict in key order, or the file's bytes.

Invariants: every block's checksum is checked before it is parsed; keys strictly ascend.

Spec: https://github.com/google/leveldb/blob/main/doc/table_format.md and tensorflow/core/lib/io/format.h
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile

import google_crc32c

from interop.errors import FormatError
from interop.formats.messages import varint

_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_BLOCK_BYTES = 1 << 18
_UNCOMPRESSED = b"\0"
_MAX_VARINT_BYTES = 10


def masked(crc: int) -> int:
    """A CRC32C as it is stored beside what it covers.

    >>> hex(masked(0)), hex(masked(0xffffffff))
    ('0xa282ead8', '0xa282ead7')
    """
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_table(data: bytes, source: str) -> dict[bytes, bytes]:
    """All pairs of a table, given its whole file.

    Raises:
        FormatError: the file is no table, or is damaged.
    """
    if len(data) < _FOOTER_BYTES or data[-8:] != _MAGIC:
        raise FormatError(f"{source}: not the index of a checkpoint: it does not end in a table's footer")
    try:
        footer = data[-_FOOTER_BYTES:]
        _, position = _read_handle(footer, 0)
        index, _ = _read_handle(footer, position)
        pairs: dict[bytes, bytes] = {}
        last: bytes | None = None
        for _, handle in _pairs(_block(data, index)):
            for key, value in _pairs(_block(data, _read_handle(handle, 0)[0])):
                if last is not None and key <= last:
                    raise _Damage(f"key {key[:80]!r} does not come after {last[:80]!r}")
                pairs[key] = value
                last = key
    except _Damage as e:
        raise FormatError(f"{source}: the index is damaged: {e}") from e
    return pairs


def table_bytes(pairs: Mapping[bytes, bytes]) -> bytes:
    """The file of a table; `pairs` come in ascending order of their keys."""
    file, index = bytearray(), bytearray()
    block, last = bytearray(), b""

    def close(content: bytearray) -> bytes:
        """Append a block, whose pairs share no prefixes but have one restart; returns its handle."""
        body = bytes(content) + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
        handle = varint(len(file)) + varint(len(body))
        crc = google_crc32c.value(body + _UNCOMPRESSED)
        file.extend(body + _UNCOMPRESSED + masked(crc).to_bytes(4, "little"))
        return handle

    for key, value in pairs.items():
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(last, key, strict=False))))
        block += _pair(key, value, shared)
        last = key
        if len(block) >= _BLOCK_BYTES:
            index += _pair(last, close(block), 0)
            block, last = bytearray(), b""
    if block or not index:
        index += _pair(last, close(block), 0)
    meta = close(bytearray())
    footer = meta + close(index)
    return bytes(file) + footer.ljust(_FOOTER_BYTES - 8, b"\0") + _MAGIC


class _Damage(Exception):
    """What is wrong with a table; becomes a FormatError that names the file."""


def _pair(key: bytes, value: bytes, shared: int) -> bytes:
    return varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value


def _block(data: bytes, handle: tuple[int, int]) -> bytes:
    """The pairs of a block, without its restarts."""
    start, size = handle
    if start + size + _TRAILER_BYTES > len(data) - _FOOTER_BYTES or size < 8:
        raise _Damage(f"a block of {size} bytes at {start} is not inside the file")
    body, kind = data[start : start + size], data[start + size : start + size + 1]
    stored = int.from_bytes(data[start + size + 1 : start + size + _TRAILER_BYTES], "little")
    if masked(google_crc32c.value(body + kind)) != stored:
        raise _Damage(f"the block at {start} does not match its checksum")
    if kind != _UNCOMPRESSED:
        raise _Damage(f"the block at {start} is compressed, which TensorFlow never does")
    restarts = int.from_bytes(body[-4:], "little")
    if 4 * (restarts + 1) > size:
        raise _Damage(f"the block at {start} has {restarts} restarts in {size} bytes")
    return body[: size - 4 * (restarts + 1)]


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    position, key = 0, b""
    while position < len(block):
        shared, position = _read_varint(block, position)
        own, position = _read_varint(block, position)
        length, position = _read_varint(block, position)
        if shared > len(key) or position + own + length > len(block):
            raise _Damage("a pair reaches out of its block")
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + length]
        position += length


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    start, position = _read_varint(data, position)
    size, position = _read_varint(data, position)
    return (start, size), position


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position
    raise _Damage("a number does not end")
