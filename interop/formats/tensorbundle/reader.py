"""A checkpoint is opened: its entries, and the tensors they point at.

Enters: a prefix. Leaves: a `TensorMapping` of every key to its array; tensors of bytes are object arrays of
``bytes`` of dtype ``"string"``, the object graph among them.

Invariants: opening reads the index only; a tensor is read into memory of its own, in pieces whose CRC32C is
computed while they are in the processor's cache, and is handed out only if it matches; nothing is allocated for bytes
that the files do not have.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.mapping import TensorMapping
from interop.formats.tensorbundle import schema, slices
from interop.formats.tensorbundle.elements import NAMES, STRING, array_dtype
from interop.formats.tensorbundle.files import INDEX_SUFFIX, find_prefix, index_of, shard_of
from interop.formats.tensorbundle.table import masked, read_table
from interop.memory import buffer

_MAX_INDEX_BYTES = 1 << 30
_MAX_SHARDS = 100_000
_PIECE_BYTES = 4 << 20
_MAX_RANK = 32
_VERSION = 1


class _Entry(NamedTuple):
    """Where a tensor lies; `parts` are the boxes it is stored in, none for one piece."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int
    parts: tuple[slices.Box, ...]


def open_file(path: Path) -> TensorMapping:
    """Open a checkpoint by its prefix, its index file, or a folder that has one (see `files.find_prefix`).

    Raises:
        FormatError: it is no checkpoint, is damaged, or has a type that has no values (a resource, a variant).
        FileNotFoundError: there is no index.
    """
    prefix = find_prefix(path) or path.with_name(path.name.removesuffix(INDEX_SUFFIX))
    index = index_of(prefix)
    if index.stat().st_size > _MAX_INDEX_BYTES:
        raise FormatError(f"{index}: an index of over {_MAX_INDEX_BYTES} bytes is not read")
    pairs = read_table(index.read_bytes(), str(index))
    header = schema.parse("BundleHeader", pairs.pop(b"", b""), f"{index}: header")
    if not 1 <= header.num_shards <= _MAX_SHARDS or header.endianness not in (0, 1):
        raise FormatError(f"{index}: not the index of a checkpoint: it has no valid header")
    if header.version.min_consumer > _VERSION:
        raise FormatError(
            f"{index}: version {header.version.min_consumer} of the format is needed to read it; "
            f"this reader has {_VERSION}"
        )
    bundle = _Bundle(prefix, header.num_shards, "<>"[header.endianness], str(index))
    entries: dict[str, _Entry] = {}
    for raw, value in pairs.items():
        if raw.startswith(b"\0"):
            bundle.parts[raw] = value
        else:
            key = raw.decode(errors="backslashreplace")
            entries[key] = bundle.entry(key, value)
    return TensorMapping(
        {key: (entry.dtype, entry.shape) for key, entry in entries.items()},
        lambda key: bundle.read(entries[key]),
        bundle.close,
        str(prefix),
    )


class _Bundle:
    """The open files of a checkpoint."""

    def __init__(self, prefix: Path, shards: int, byte_order: str, index: str) -> None:
        self.prefix = prefix
        self.parts: dict[bytes, bytes] = {}
        self._shards = shards
        self._byte_order = byte_order
        self._index = index
        self._files: dict[int, tuple[int, int]] = {}

    def entry(self, key: str, value: bytes) -> _Entry:
        """Parse and check the entry of a key."""
        where = f"{self._index}: {key!r}"
        message = schema.parse("BundleEntry", value, where)
        shape = tuple(dim.size for dim in message.shape.dim)
        if message.dtype not in NAMES:
            raise FormatError(f"{where}: type {message.dtype} has no values that can be read")
        if message.shape.unknown_rank or len(shape) > _MAX_RANK or any(dim < 0 for dim in shape):
            raise FormatError(f"{where}: shape {shape} is not that of a stored tensor")
        if not 0 <= message.shard_id < self._shards or message.offset < 0 or message.size < 0:
            raise FormatError(
                f"{where}: it points at {message.size} bytes at {message.offset} of shard {message.shard_id} "
                f"of {self._shards}"
            )
        dtype = NAMES[message.dtype]
        parts = tuple(slices.boxes(message.slices, shape, where)) if message.slices else ()
        needed = math.prod(shape) * (1 if dtype == STRING else array_dtype(dtype).itemsize)
        if not parts and (message.size < needed or (dtype != STRING and message.size != needed)):
            raise FormatError(f"{where}: {dtype}{list(shape)} does not fit its {message.size} bytes")
        crc = message.crc32c
        return _Entry(key, dtype, shape, message.shard_id, message.offset, message.size, crc, parts)

    def read(self, entry: _Entry) -> NDArray[Any]:
        """The values of an entry."""
        where = f"{self.prefix}: {entry.key!r}"
        try:
            if entry.parts:
                return self._read_parts(entry, where)
            if entry.dtype == STRING:
                return self._read_strings(entry, where)
            return self._read_numbers(entry, where)
        except (MemoryError, ValueError) as e:
            if isinstance(e, FormatError):
                raise
            raise FormatError(f"{where}: {entry.dtype}{list(entry.shape)} cannot be made: {e}") from e

    def close(self) -> None:
        for descriptor, _ in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _read_parts(self, entry: _Entry, where: str) -> NDArray[Any]:
        found = []
        for box in entry.parts:
            key = slices.part_key(entry.key.encode(), box)
            if key not in self.parts:
                raise FormatError(f"{where}: its part {box} is not stored")
            part = self.entry(f"{entry.key} {box}", self.parts[key])
            if part.parts or (part.dtype, part.shape) != (entry.dtype, slices.box_shape(box, entry.shape)):
                raise FormatError(
                    f"{where}: its part {box} is {part.dtype}{list(part.shape)}, which does not fit"
                )
            found.append((box, part))
        dtype = array_dtype(entry.dtype)
        array = buffer(math.prod(entry.shape) * dtype.itemsize).view(dtype).reshape(entry.shape)
        for box, part in found:
            array[slices.box_index(box)] = self.read(part)
        return array

    def _read_numbers(self, entry: _Entry, where: str) -> NDArray[Any]:
        data = buffer(entry.size)
        crc = self._fill(entry.shard, entry.offset, data, where)
        self._check(crc, entry.crc32c, where)
        array = data.view(array_dtype(entry.dtype)).reshape(entry.shape)
        if entry.dtype == "bool" and data.size and data.max() > 1:
            raise FormatError(f"{where}: a boolean is neither 0 nor 1")
        if self._byte_order == ">" and array.dtype.itemsize > 1:
            array = array.byteswap()
        return array

    def _read_strings(self, entry: _Entry, where: str) -> NDArray[Any]:
        """Lengths as varints, their masked CRC32C, then the bytes; the entry's CRC covers fixed-size lengths."""
        data = np.empty(entry.size, np.uint8)
        self._fill(entry.shard, entry.offset, data, where)
        content, position, count = data.tobytes(), 0, math.prod(entry.shape)
        lengths = []
        for _ in range(count):
            length, shift = 0, 0
            while True:
                if position >= len(content) or shift > 63:
                    raise FormatError(f"{where}: the length of a string does not end")
                byte = content[position]
                position += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            lengths.append(length)
        if position + 4 + sum(lengths) != len(content):
            raise FormatError(f"{where}: its strings do not fit their {entry.size} bytes")
        crc = strings_crc(lengths)
        stored, position = content[position : position + 4], position + 4
        if masked(crc) != int.from_bytes(stored, "little"):
            raise FormatError(f"{where}: the lengths of its strings do not match their checksum")
        crc = google_crc32c.extend(google_crc32c.extend(crc, stored), content[position:])
        self._check(crc, entry.crc32c, where)
        array = np.empty(count, object)
        for index, length in enumerate(lengths):
            array[index] = content[position : position + length]
            position += length
        return array.reshape(entry.shape)

    def _check(self, crc: int, stored: int, where: str) -> None:
        if masked(crc) != stored:
            raise FormatError(f"{where}: its bytes do not match their checksum: the file is damaged")

    def _fill(self, shard: int, offset: int, data: NDArray[np.uint8], where: str) -> int:
        """Read into `data`; returns the CRC32C of what was read."""
        descriptor, size = self._file(shard)
        if offset + data.size > size:
            raise FormatError(f"{where}: the file of shard {shard} ends before its last byte")
        crc, position = 0, 0
        while position < data.size:
            piece = data[position : position + _PIECE_BYTES]
            count = os.preadv(descriptor, [piece.data], offset + position)
            if count <= 0:
                raise FormatError(f"{where}: the file of shard {shard} ends before its last byte")
            crc = google_crc32c.extend(crc, piece[:count])
            position += count
        return crc

    def _file(self, shard: int) -> tuple[int, int]:
        """Descriptor and size of a data file, opened when first needed."""
        if shard not in self._files:
            path = shard_of(self.prefix, shard, self._shards)
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError as e:
                raise FormatError(f"{path} is missing, which {self._index} refers to") from e
            self._files[shard] = descriptor, os.fstat(descriptor).st_size
        return self._files[shard]


def strings_crc(lengths: list[int]) -> int:
    """The CRC32C of the lengths of strings: 4 bytes each, 8 for one that needs them."""
    fixed = b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths)
    crc: int = google_crc32c.value(fixed)
    return crc
