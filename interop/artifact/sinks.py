"""Where the files of an artifact are written: a folder or a zip, hashed while they are written.

What enters: a file's name, size and bytes, chunk by chunk. What leaves: the file on disk (synced), and its
record, once threads have hashed it: that may go on while its user does something else.

Invariant: nothing is copied, and a chunk is let go before the next is asked for.
"""

from __future__ import annotations

import ctypes
import io
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from interop.artifact.archive import ArchiveEntry, central_directory, local_header
from interop.artifact.digest import Hasher, piece_bytes_for
from interop.artifact.files import FileRecord
from interop.errors import ArtifactError
from interop.memory import calls

_FLUSH_BYTES = 16 << 20
_SYNC_FILE_RANGE_WRITE = 2


@dataclass(frozen=True)
class Added:
    """A file whose bytes are written, and may still be being hashed."""

    size: int
    piece_bytes: int | None
    hasher: Hasher

    def record(self) -> FileRecord:
        """Wait for the digest."""
        return FileRecord(self.size, self.hasher.digest(), self.piece_bytes)


class Sink(Protocol):
    """Takes the files of an artifact one after the other."""

    def add(self, name: str, size: int, chunks: Iterable[memoryview], *, align: bool = False) -> Added:
        """Write one file of exactly `size` bytes; `align` asks for aligned data."""
        ...

    def clear(self) -> None:
        """Take back what was added."""
        ...

    def finish(self) -> None:
        """Complete and sync what was written."""
        ...

    def close(self) -> None:
        """Stop hashing and release the files, finished or not."""
        ...


class DirectorySink:
    """Writes files into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, Hasher] = {}

    def add(self, name: str, size: int, chunks: Iterable[memoryview], *, align: bool = False) -> Added:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._open[descriptor] = hasher = Hasher(size, piece_bytes_for(size))
        _pour(descriptor, name, size, chunks, hasher)
        return Added(size, hasher.piece_bytes, hasher)

    def clear(self) -> None:
        self.close()
        for path in self._folder.iterdir():
            path.unlink()

    def finish(self) -> None:
        """The caller syncs the folder."""
        for descriptor in self._open:
            os.fsync(descriptor)

    def close(self) -> None:
        for descriptor, hasher in self._open.items():
            hasher.close()
            os.close(descriptor)
        self._open.clear()


class ArchiveSink:
    """Writes entries of a STORED zip into an open, empty file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._entries: list[ArchiveEntry] = []
        self._hashers: list[Hasher] = []

    def add(self, name: str, size: int, chunks: Iterable[memoryview], *, align: bool = False) -> Added:
        header_start = self._position
        header = local_header(name, size, 0, header_start, align=align)
        _write_all(self._descriptor, memoryview(header))
        hasher = Hasher(size, piece_bytes_for(size))
        self._hashers.append(hasher)
        crc32 = _pour(self._descriptor, name, size, chunks, hasher, with_crc=True)
        # The checksum stands before the data but is known after it.
        final = local_header(name, size, crc32, header_start, align=align)
        os.pwrite(self._descriptor, final, header_start)
        start = header_start + len(header)
        self._entries.append(ArchiveEntry(name, header_start, start, size, crc32))
        self._position = start + size
        return Added(size, hasher.piece_bytes, hasher)

    def clear(self) -> None:
        self.close()
        self._position = 0
        self._entries.clear()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)

    def finish(self) -> None:
        _write_all(self._descriptor, memoryview(central_directory(self._entries, self._position)))
        os.fsync(self._descriptor)

    def close(self) -> None:
        for hasher in self._hashers:
            hasher.close()
        self._hashers.clear()


def _pour(
    descriptor: int,
    name: str,
    size: int,
    chunks: Iterable[memoryview],
    hasher: Hasher,
    *,
    with_crc: bool = False,
) -> int:
    """Write chunks and let them be hashed; return their CRC-32 (0 unless asked for).

    A long file is hashed where the kernel keeps it: its chunks are free once they are written, and each piece needs
    Python's lock once.
    """
    crc32, written, flushed, told = 0, 0, 0, 0
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    for chunk in chunks:
        for data in calls(chunk):
            if written + len(data) > size:
                raise ArtifactError(f"{name} comes out longer than the {size} bytes that were planned")
            _write_all(descriptor, data)
            written += len(data)
            if hasher.piece_bytes is None:
                hasher.add(data)
            elif written - told >= hasher.piece_bytes:
                hasher.add_written(descriptor, start + told, hasher.piece_bytes)
                told += hasher.piece_bytes
            if with_crc:
                crc32 = zlib.crc32(data, crc32)
            if written - flushed >= _FLUSH_BYTES:
                _start_flush(descriptor, start + flushed, written - flushed)
                flushed = written
    if written != size:
        raise ArtifactError(f"{name} came out as {written} bytes; {size} were planned")
    if hasher.piece_bytes is not None:
        hasher.add_written(descriptor, start + told, size - told)
    return crc32


class FlushedFile(io.FileIO):
    """A file that is on its way to the disk while it is written, so that the fsync at the end finds little to do."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(os.dup(descriptor), "wb")
        self._waiting = 0

    def write(self, data: Any, /) -> int:
        written = super().write(next(calls(memoryview(data)), b"")) or 0
        self._waiting += written
        if self._waiting >= _FLUSH_BYTES:
            _start_flush(self.fileno(), self.tell() - self._waiting, self._waiting)
            self._waiting = 0
        return written


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _start_flush(descriptor: int, start: int, length: int) -> None:
    """Ask the kernel to begin writing to disk what was written, so that the fsync at the end finds it done.

    Only Linux has the call, and it is advice: a failure says nothing about the data, fsync does.
    """
    call = _sync_file_range()
    if call is not None:
        call(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), "sync_file_range", None)
