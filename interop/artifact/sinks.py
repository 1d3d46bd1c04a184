"""Where the files of an artifact are written: a folder or a zip, hashed while they are written.

What enters: a file's name, size and bytes, piece by piece. What leaves: the file on disk (synced), and its
record. A thread hashes each piece while the next system call writes it; nothing is read back or hashed twice.

Invariant: a piece is referred to, never copied, and at most `_QUEUED` pieces wait for the hash.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from interop.artifact.archive import ArchiveEntry, central_directory, local_header
from interop.artifact.files import FileRecord
from interop.errors import ArtifactError

_PIECE_BYTES = 1 << 20
_QUEUED = 8
_FLUSH_BYTES = 16 << 20
_SYNC_FILE_RANGE_WRITE = 2


class Sink(Protocol):
    """Takes the files of an artifact one after the other."""

    def add(self, name: str, size: int, chunks: Iterable[memoryview], *, align: bool = False) -> FileRecord:
        """Write one file of exactly `size` bytes and return its record; `align` asks for aligned data."""
        ...

    def finish(self) -> None:
        """Complete and sync what was written."""
        ...


class DirectorySink:
    """Writes files into a folder; each is synced when it is complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, size: int, chunks: Iterable[memoryview], *, align: bool = False) -> FileRecord:
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            sha256, _ = _pour(descriptor, name, size, chunks, with_crc=False)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return FileRecord(size, sha256)

    def finish(self) -> None:
        """Nothing is left to do: the caller syncs the folder."""


class ArchiveSink:
    """Writes entries of a STORED zip into an open, empty file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._entries: list[ArchiveEntry] = []

    def add(self, name: str, size: int, chunks: Iterable[memoryview], *, align: bool = False) -> FileRecord:
        header_start = self._position
        header = local_header(name, size, 0, header_start, align=align)
        _write_all(self._descriptor, memoryview(header))
        sha256, crc32 = _pour(self._descriptor, name, size, chunks, with_crc=True)
        # The checksum stands before the data but is known after it.
        final = local_header(name, size, crc32, header_start, align=align)
        os.pwrite(self._descriptor, final, header_start)
        start = header_start + len(header)
        self._entries.append(ArchiveEntry(name, header_start, start, size, crc32))
        self._position = start + size
        return FileRecord(size, sha256)

    def finish(self) -> None:
        _write_all(self._descriptor, memoryview(central_directory(self._entries, self._position)))
        os.fsync(self._descriptor)


def _pour(
    descriptor: int, name: str, size: int, chunks: Iterable[memoryview], *, with_crc: bool
) -> tuple[str, int]:
    """Write chunks while a thread hashes them; return SHA-256 and CRC-32 (0 unless asked for)."""
    sha256, crc32, written, flushed = hashlib.sha256(), 0, 0, 0
    pieces: queue.Queue[memoryview | None] = queue.Queue(_QUEUED)

    def hash_pieces() -> None:
        while (piece := pieces.get()) is not None:
            sha256.update(piece)

    hasher = threading.Thread(target=hash_pieces, name="interop-hash", daemon=True)
    hasher.start()
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        for chunk in chunks:
            for at in range(0, len(chunk), _PIECE_BYTES):
                piece = chunk[at : at + _PIECE_BYTES]
                pieces.put(piece)
                _write_all(descriptor, piece)
                written += len(piece)
                if with_crc:
                    crc32 = zlib.crc32(piece, crc32)
                if written - flushed >= _FLUSH_BYTES:
                    _start_flush(descriptor, start + flushed, written - flushed)
                    flushed = written
    finally:
        pieces.put(None)
        hasher.join()
    if written != size:
        raise ArtifactError(f"{name} came out as {written} bytes; {size} were planned")
    return sha256.hexdigest(), crc32


class FlushedFile(io.FileIO):
    """A file that is on its way to the disk while it is written, so that the fsync at the end finds little to do."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(os.dup(descriptor), "wb")
        self._waiting = 0

    def write(self, data: Any, /) -> int:
        written = super().write(data) or 0
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
