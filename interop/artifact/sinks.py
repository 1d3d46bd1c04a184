"""Where the files of an artifact are written: a folder or a zip, hashed while they are written.

What enters: a file's name, size and bytes, chunk by chunk. What leaves: the file on disk (synced), and its
record, once threads have hashed it: that may go on while its user does something else.

Invariant: nothing is copied, and a chunk is let go before the next is asked for.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from interop.artifact.archive import ArchiveEntry, central_directory, local_header
from interop.artifact.digest import Hasher, piece_bytes_for
from interop.artifact.files import FileRecord
from interop.errors import ArtifactError
from interop.memory import calls

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_SYNC_BYTES = 64 << 20
_sync = getattr(os, "fdatasync", os.fsync)  # Linux has it


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


class Syncer:
    """Has a long file go to the disk while it is written, so that the sync at the end finds little to do.

    A machine may hold back what it was merely told to start writing; one sync after the other runs beside the writing.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._thread: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None
        self._waiting = 0

    def wrote(self, count: int) -> None:
        """Count bytes; start a sync if they are many and none is running."""
        self._waiting += count
        if self._waiting >= _SYNC_BYTES and (self._running is None or self._running.done()):
            self._start()

    def finish(self) -> None:
        """Sync all that was written.

        Raises:
            OSError: what was written did not reach the disk.
        """
        self.close()
        self.check()
        os.fsync(self._descriptor)

    def check(self) -> None:
        """Raise the OSError of a sync that failed: the system tells it once, and not to the next."""
        if self._running is not None:
            self._running.result()

    def hurry(self) -> None:
        """Nothing more comes for now: what is left of a long file goes to the disk meanwhile."""
        if self._running is not None:
            self._start()

    def close(self) -> None:
        """Wait for a sync that is running; the descriptor is not used after it."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _start(self) -> None:
        if self._thread is None:
            from concurrent.futures import ThreadPoolExecutor  # opening a graph is faster without it

            self._thread = ThreadPoolExecutor(1, "interop-sync")
        before, self._waiting = self._running, 0
        self._running = self._thread.submit(self._sync_after, before)

    def _sync_after(self, before: Future[None] | None) -> None:
        if before is not None:
            before.result()
        _sync(self._descriptor)


class DirectorySink:
    """Writes files into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, tuple[Hasher, Syncer]] = {}

    def add(self, name: str, size: int, chunks: Iterable[memoryview], *, align: bool = False) -> Added:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._open[descriptor] = hasher, syncer = Hasher(size, piece_bytes_for(size)), Syncer(descriptor)
        _pour(descriptor, name, size, chunks, hasher, syncer)
        return Added(size, hasher.piece_bytes, hasher)

    def clear(self) -> None:
        self.close()
        for path in self._folder.iterdir():
            path.unlink()

    def finish(self) -> None:
        """The caller syncs the folder."""
        for _, syncer in self._open.values():
            syncer.finish()

    def close(self) -> None:
        for descriptor, (hasher, syncer) in self._open.items():
            hasher.close()
            syncer.close()
            os.close(descriptor)
        self._open.clear()


class ArchiveSink:
    """Writes entries of a STORED zip into an open, empty file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._syncer = Syncer(descriptor)
        self._position = 0
        self._entries: list[ArchiveEntry] = []
        self._hashers: list[Hasher] = []

    def add(self, name: str, size: int, chunks: Iterable[memoryview], *, align: bool = False) -> Added:
        header_start = self._position
        header = local_header(name, size, 0, header_start, align=align)
        _write_all(self._descriptor, memoryview(header))
        hasher = Hasher(size, piece_bytes_for(size))
        self._hashers.append(hasher)
        crc32 = _pour(self._descriptor, name, size, chunks, hasher, self._syncer, with_crc=True)
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
        self._syncer.finish()

    def close(self) -> None:
        self._syncer.close()
        for hasher in self._hashers:
            hasher.close()
        self._hashers.clear()


def _pour(
    descriptor: int,
    name: str,
    size: int,
    chunks: Iterable[memoryview],
    hasher: Hasher,
    syncer: Syncer,
    *,
    with_crc: bool = False,
) -> int:
    """Write chunks and let them be hashed; return their CRC-32 (0 unless asked for).

    A long file is hashed where the kernel keeps it: its chunks are free once they are written, and each piece needs
    Python's lock once.
    """
    crc32, written, told = 0, 0, 0
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
            syncer.wrote(len(data))
    if written != size:
        raise ArtifactError(f"{name} came out as {written} bytes; {size} were planned")
    if hasher.piece_bytes is not None:
        hasher.add_written(descriptor, start + told, size - told)
        hasher.hurry()
    syncer.hurry()
    return crc32


class SyncedFile(io.FileIO):
    """A file that is on its way to the disk while it is written, so that the fsync at the end finds little to do."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(os.dup(descriptor), "wb")
        self._syncer = Syncer(self.fileno())

    def write(self, data: Any, /) -> int:
        written = super().write(next(calls(memoryview(data)), b"")) or 0
        self._syncer.wrote(written)
        return written

    def close(self) -> None:
        try:
            if not self.closed:
                self._syncer.close()
                self._syncer.check()
        finally:
            super().close()


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
