"""The safetensors format: a JSON header, then the bytes of the tensors, mapped in place.

What enters: sources or a file. What leaves: aligned files that strict readers accept, and mappings that
read nothing before it is asked for.

Invariants of a file written here:

- the header is padded with spaces so that the data starts at a multiple of 4096;
- tensors lie without gaps, sorted by ``(nbytes % 64 != 0, -itemsize, key)``: every tensor is aligned
  to its element, and all but the small odd ones to a cache line, with no padding tensors;
- the same tensors always give the same bytes.

Spec: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from interop.errors import FormatError
from interop.formats.dtypes import BY_NAME, BY_SAFETENSORS, numpy_dtype, size_bytes
from interop.formats.mapping import TensorMapping
from interop.formats.source import MappedSource, TensorSource, little_endian_bytes
from interop.memory import calls

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA_ALIGNMENT = 4096
"""The data of a file written here starts at a multiple of this (the page size of the machines we know)."""

MAX_HEADER_BYTES = 100_000_000
"""The limit of the reference implementation; a longer header is refused before it is read."""

_LENGTH_BYTES = 8
_TENSOR_ALIGNMENT = 64
_MAX_RANK = 32
_READ_TOGETHER_BYTES = 16 << 20  # as much as is hashed at once
_METADATA = "__metadata__"

# A tensor in the header, laid out as writers do it, this one and the reference; a comma is put after the last.
_ROW = re.compile(
    r'"([^"\\\x00-\x1f]*)":\{"dtype":"(\w+)","shape":\[([\d,]*)\],"data_offsets":\[(\d+),(\d+)\]\},', re.ASCII
)
_ROW_FRAME = len('"":{"dtype":"","shape":[],"data_offsets":[,]},')


class Entry(NamedTuple):
    """One tensor of a file; `begin` and `end` count bytes from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.begin


class Layout(NamedTuple):
    """Where everything lies in a file: the header's bytes, each tensor in file order, the file's size."""

    header: bytes
    entries: dict[str, Entry]
    size_bytes: int


class _Header(NamedTuple):
    entries: dict[str, Entry]
    metadata: dict[str, str]


def plan(
    specs: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> Layout:
    """Lay out a file for tensors given as name to (dtype name, shape), with texts beside them.

    Raises:
        FormatError: a dtype that the format does not have, or a reserved name.
    """
    for key, (dtype, _) in specs.items():
        if dtype not in BY_NAME:
            raise FormatError(f"tensor {key!r} has dtype {dtype}, which safetensors cannot hold")
        if key == _METADATA:
            raise FormatError(f"a tensor cannot be called {_METADATA!r}: safetensors reserves the name")
    sizes = {key: size_bytes(dtype, shape) for key, (dtype, shape) in specs.items()}

    def order(key: str) -> tuple[bool, int, str]:
        return sizes[key] % _TENSOR_ALIGNMENT != 0, -BY_NAME[specs[key][0]].itemsize, key

    offset = 0
    relative: dict[str, Entry] = {}
    for key in sorted(specs, key=order):
        dtype, shape = specs[key]
        relative[key] = Entry(dtype, tuple(shape), offset, offset + sizes[key])
        offset += sizes[key]
    told = {_METADATA: dict(metadata)} if metadata else {}
    text = json.dumps(
        told
        | {
            key: {
                "dtype": BY_NAME[entry.dtype].safetensors,
                "shape": list(entry.shape),
                "data_offsets": [entry.begin, entry.end],
            }
            for key, entry in relative.items()
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()
    start = -(-(_LENGTH_BYTES + len(text)) // DATA_ALIGNMENT) * DATA_ALIGNMENT
    length = start - _LENGTH_BYTES
    if length > MAX_HEADER_BYTES:
        raise FormatError(
            f"{len(specs)} tensors need a header of {length} bytes; {MAX_HEADER_BYTES} is the limit"
        )
    entries = {
        key: Entry(entry.dtype, entry.shape, start + entry.begin, start + entry.end)
        for key, entry in relative.items()
    }
    return Layout(length.to_bytes(_LENGTH_BYTES, "little") + text.ljust(length), entries, start + offset)


def stream(layout: Layout, sources: Mapping[str, TensorSource]) -> Iterator[memoryview]:
    """The bytes of a file, header first, one tensor at a time.

    Tensors are read when their turn comes, some together: between writes a framework takes ten times as long for each.

    Raises:
        FormatError: a source gave an array that is not of the dtype and shape it announced.
    """
    yield memoryview(layout.header)
    for keys in _batches(layout.entries):
        arrays = [sources[key].read() for key in keys]
        for key, array in zip(keys, arrays, strict=True):
            entry = layout.entries[key]
            if array.dtype.name != entry.dtype or array.shape != entry.shape:
                raise FormatError(
                    f"tensor {key!r} was announced as {entry.dtype}{list(entry.shape)} "
                    f"but its values are {array.dtype.name}{list(array.shape)}"
                )
            yield little_endian_bytes(array)


def _batches(entries: Mapping[str, Entry]) -> Iterator[list[str]]:
    """Keys in order, as many together as are in memory at once; a larger tensor is alone."""
    batch: list[str] = []
    size = 0
    for key, entry in entries.items():
        if batch and size + entry.size_bytes > _READ_TOGETHER_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += entry.size_bytes
    if batch:
        yield batch


def write(
    file: BinaryIO, sources: Mapping[str, TensorSource], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a file, a few tensors at a time, with texts beside them.

    Raises:
        FormatError: a dtype that the format does not have, or values that are not what was announced.
    """
    layout = plan({key: (source.dtype, tuple(source.shape)) for key, source in sources.items()}, metadata)
    for piece in stream(layout, sources):
        for part in calls(piece):
            file.write(part)


def rewrite(path: Path, file: BinaryIO, sources: Mapping[str, TensorSource]) -> None:
    """Write a file that is what the one at `path` is, its metadata and layout too, but for the tensors given.

    Raises:
        FormatError: the file is not valid, or a value is not of the dtype and shape that the file has.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(descriptor).st_size
        entries = read_header(descriptor, 0, size, str(path))
        ordered = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
        header = os.pread(descriptor, min((e.begin for e in ordered.values()), default=size), 0)
        with map_tensors(descriptor, entries, str(path)) as kept:
            merged = {name: sources.get(name) or MappedSource(kept, name) for name in ordered}
            for piece in stream(Layout(header, ordered, size), merged):
                file.write(piece)
                kept.forget()
    finally:
        os.close(descriptor)


def open_file(path: Path) -> TensorMapping:
    """Map a safetensors file.

    Raises:
        FormatError: the file is not valid safetensors.
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(descriptor).st_size
        header = _read_header(descriptor, 0, size, str(path))
        return map_tensors(descriptor, header.entries, str(path), header.metadata)
    finally:
        os.close(descriptor)


def read_header(descriptor: int, start: int, size: int, source: str) -> dict[str, Entry]:
    """Read and check the header of safetensors data at bytes ``[start, start + size)`` of an open file.

    Args:
        descriptor: an open file descriptor; its position is not used.
        start: where the safetensors data begins in the file (0 unless it lies in an archive).
        size: its size in bytes.
        source: what it is, for messages.

    Returns:
        Name to entry, in the order of the header; offsets count from the start of the FILE.

    Raises:
        FormatError: anything the format forbids: a header too long, out of bounds, not JSON, with
            duplicate names, unknown dtypes, wrong sizes, gaps or overlaps.
    """
    return _read_header(descriptor, start, size, source).entries


def _read_header(descriptor: int, start: int, size: int, source: str) -> _Header:
    prefix = os.pread(descriptor, _LENGTH_BYTES, start)
    if size < _LENGTH_BYTES or len(prefix) < _LENGTH_BYTES:
        raise FormatError(f"{source}: {size} bytes is too short for a safetensors file")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError(f"{source}: the header claims {length} bytes; {MAX_HEADER_BYTES} is the limit")
    if _LENGTH_BYTES + length > size:
        raise FormatError(f"{source}: the header claims {length} bytes but the file ends before")
    text = os.pread(descriptor, length, start + _LENGTH_BYTES)
    data_start = start + _LENGTH_BYTES + length
    return _parse(text, data_start, size - _LENGTH_BYTES - length, source)


def map_tensors(
    descriptor: int,
    entries: Mapping[str, Entry],
    source: str,
    metadata: Mapping[str, str] | None = None,
) -> TensorMapping:
    """Map an open file and return its tensors as views of the map; no byte is read before it is used."""
    size = os.fstat(descriptor).st_size
    held: list[mmap.mmap] = [mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)] if size else []

    def read(name: str) -> NDArray[Any]:
        entry = entries[name]
        dtype = numpy_dtype(entry.dtype)
        try:
            if entry.size_bytes == 0:
                return np.empty(entry.shape, dtype)
            count = entry.size_bytes // dtype.itemsize
            array = np.frombuffer(held[0], dtype, count, entry.begin).reshape(entry.shape)
        except ValueError as e:
            raise FormatError(f"{source}: tensor {name!r} of shape {entry.shape} cannot be made: {e}") from e
        return array if array.flags.aligned else array.copy()

    def forget() -> None:
        if held and hasattr(mmap, "MADV_DONTNEED"):
            held[0].madvise(mmap.MADV_DONTNEED)

    specs = {name: (entry.dtype, entry.shape) for name, entry in entries.items()}
    return TensorMapping(specs, read, held.clear, source, forget, metadata)


def _parse(text: bytes, data_start: int, data_size: int, source: str) -> _Header:
    """Parse and check a header; `data_size` bytes of data follow it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise FormatError(f"{source}: the header names {twice!r} more than once")
        return found

    if (plain := _plain_entries(text, data_start, data_size)) is not None:
        return _Header(plain, {})
    if not text.startswith(b"{"):
        raise FormatError(f"{source}: the header does not begin with '{{': not a safetensors file")
    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except FormatError:
        raise
    except (ValueError, RecursionError) as e:
        raise FormatError(f"{source}: the header is not JSON: {e}") from e
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{source}: {_METADATA} must map strings to strings")
    entries = {name: _entry(name, value, data_start, source) for name, value in header.items()}
    position = data_start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            what = "overlaps the one before it" if entry.begin < position else "leaves a gap before it"
            raise FormatError(f"{source}: tensor {name!r} {what}")
        position = entry.end
    if position != data_start + data_size:
        raise FormatError(
            f"{source}: the tensors take {position - data_start} bytes but {data_size} follow the header"
        )
    return _Header(entries, metadata)


def _plain_entries(text: bytes, data_start: int, data_size: int) -> dict[str, Entry] | None:
    """The entries of a header that lists tensors in file order and nothing else, as writers do.

    None: it is another, or breaks a rule; reading it as JSON tells which. This takes a third of the time.
    """
    try:
        told = text.rstrip(b" ").decode()
    except UnicodeDecodeError:
        return None
    if not (told.startswith("{") and told.endswith("}")):
        return None
    told = told[1:-1] + ","
    rows: list[tuple[str, str, str, str, str]] = _ROW.findall(told)
    if sum(map(len, chain.from_iterable(rows))) + len(rows) * _ROW_FRAME != len(told):
        return None  # something lies between the rows
    entries: dict[str, Entry] = {}
    kinds: dict[tuple[str, str], tuple[str, tuple[int, ...], int] | None] = {}
    end, told_end = 0, "0"
    for name, tag, sizes, first, last in rows:
        if (tag, sizes) not in kinds:
            kinds[tag, sizes] = _kind(tag, sizes)
        kind = kinds[tag, sizes]
        if kind is None or first != told_end:
            return None
        dtype, shape, length = kind
        begin, end = end, end + length
        told_end = str(end)
        if last != told_end:
            return None
        entries[name] = Entry(dtype, shape, data_start + begin, data_start + end)
    complete = end == data_size and len(entries) == len(rows) and _METADATA not in entries
    return entries if complete else None


def _kind(tag: str, sizes: str) -> tuple[str, tuple[int, ...], int] | None:
    """Dtype, shape and size in bytes of a dtype and a list of sizes as the header has them."""
    try:
        shape = tuple(map(int, sizes.split(","))) if sizes else ()
    except ValueError:
        return None
    if tag not in BY_SAFETENSORS or len(shape) > _MAX_RANK or ",".join(map(str, shape)) != sizes:
        return None
    dtype = BY_SAFETENSORS[tag].name
    return dtype, shape, size_bytes(dtype, shape)


def _entry(name: str, value: Any, data_start: int, source: str) -> Entry:
    """Check one tensor's description: its dtype, shape, offsets, and that they agree."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{source}: tensor {name!r} needs exactly dtype, shape and data_offsets")
    tag, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(tag, str) or tag not in BY_SAFETENSORS:
        raise FormatError(f"{source}: tensor {name!r} has unknown dtype {tag!r}")
    if not _naturals(shape) or len(shape) > _MAX_RANK:
        raise FormatError(
            f"{source}: tensor {name!r} has shape {shape!r}; expected at most {_MAX_RANK} sizes"
        )
    if not _naturals(offsets) or len(offsets) != 2:
        raise FormatError(f"{source}: tensor {name!r} has data_offsets {offsets!r}; expected [begin, end]")
    dtype = BY_SAFETENSORS[tag].name
    begin, end = offsets
    if end - begin != size_bytes(dtype, shape):
        raise FormatError(
            f"{source}: tensor {name!r} of {dtype}{shape} needs {size_bytes(dtype, shape)} bytes "
            f"but its offsets span {end - begin}"
        )
    return Entry(dtype, tuple(shape), data_start + begin, data_start + end)


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
