"""Every tensor of a file brought into memory of its own, by one thread, and hashed there by another.

What enters: the checked entries of a tensor file, and its record if it is to be hashed. What leaves: a mapping of
key to a private, writable array, in the order of the file; asking for one waits until it is there, so layers can
be made meanwhile.

Invariants: a byte is read once, and what is hashed is the memory that is handed out; arrays lie as their tensors
do in the file, so what is aligned there is aligned here and frameworks take it without another copy;
nothing refers to the file after `close`.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from interop.artifact.files import FileRecord, Region
from interop.errors import ArtifactError
from interop.formats.dtypes import numpy_dtype
from interop.formats.safetensors import Entry

_CHUNK_BYTES = 32 << 20
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


@dataclass
class _Chunk:
    """Neighbouring tensors, which share one piece of memory: bytes ``[start, end)`` of the file."""

    start: int
    end: int
    names: list[str]


class ReadAhead(Mapping[str, NDArray[Any]]):
    """The tensors of one file, in its order. A context manager; leaving it stops the threads.

    Args:
        region: the file; its descriptor must stay open until `close`.
        entries: its checked header.
        record: what ``config.json`` says of the file; None: it is not hashed.
    """

    def __init__(self, region: Region, entries: Mapping[str, Entry], record: FileRecord | None) -> None:
        self._region = region
        self._entries = entries
        self._record = record
        self._arrays: dict[str, NDArray[Any]] = {}
        self._arrived = threading.Condition()
        self._error: BaseException | None = None
        self._stop = False
        self._done = False
        self._sha256 = hashlib.sha256()
        self._pieces: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        work = [self._read_all] if record is None else [self._read_all, self._hash_all]
        self._threads = [threading.Thread(target=each, name="interop-read", daemon=True) for each in work]
        for thread in self._threads:
            thread.start()

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._entries:
            raise KeyError(name)
        with self._arrived:
            self._arrived.wait_for(lambda: name in self._arrays or self._done)
        if name not in self._arrays:
            self._raise()
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self) -> None:
        """Wait for the end of the file; raise DigestError if its bytes are not those that were written."""
        self._join()
        self._raise()
        if self._record is not None:
            self._region.compare(self._sha256.hexdigest(), self._record)

    def close(self) -> None:
        """Stop reading and forget the arrays; those that were taken stay valid."""
        self._stop = True
        self._join()
        self._arrays.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _read_all(self) -> None:
        try:
            for chunk in self._chunks():
                if self._stop:
                    break
                arrays = self._read(chunk)
                with self._arrived:
                    self._arrays.update(arrays)
                    self._arrived.notify_all()
        except BaseException as error:  # raised again in the thread that waits
            self._error = error
        with self._arrived:
            self._done = True
            self._arrived.notify_all()
        self._pieces.put(None)

    def _hash_all(self) -> None:
        while (piece := self._pieces.get()) is not None:
            if not self._stop:
                self._sha256.update(piece)

    def _chunks(self) -> Iterator[_Chunk]:
        """The whole region in pieces that end where a tensor ends."""
        end = self._region.start + self._region.size
        chunk = _Chunk(self._region.start, self._region.start, [])
        for name, entry in sorted(self._entries.items(), key=lambda item: item[1].begin):
            chunk.end = entry.end
            chunk.names.append(name)
            if chunk.end - chunk.start >= _CHUNK_BYTES:
                yield chunk
                chunk = _Chunk(chunk.end, chunk.end, [])
        chunk.end = end
        if chunk.names or chunk.end > chunk.start:
            yield chunk

    def _read(self, chunk: _Chunk) -> dict[str, NDArray[Any]]:
        offset = chunk.start % mmap.PAGESIZE
        memory = _memory(offset + chunk.end - chunk.start)
        data = memoryview(memory)[offset : offset + chunk.end - chunk.start]
        for at in range(0, len(data), _CHUNK_BYTES):
            piece = data[at : at + _CHUNK_BYTES]
            self._fill(piece, chunk.start + at)
            if self._record is not None:
                self._pieces.put(piece)
        return {name: self._array(name, memory, offset - chunk.start) for name in chunk.names}

    def _fill(self, piece: memoryview, position: int) -> None:
        while piece:
            count = os.preadv(self._region.descriptor, [piece], position)
            if count == 0:
                raise ArtifactError(f"{self._region.name} ends {len(piece)} bytes early: it was cut short")
            piece, position = piece[count:], position + count

    def _array(self, name: str, memory: mmap.mmap, shift: int) -> NDArray[Any]:
        entry = self._entries[name]
        dtype = numpy_dtype(entry.dtype)
        if entry.size_bytes == 0:
            return np.empty(entry.shape, dtype)
        count = entry.size_bytes // dtype.itemsize
        array = np.frombuffer(memory, dtype, count, entry.begin + shift).reshape(entry.shape)
        return array if array.flags.aligned else array.copy()


def _memory(size: int) -> mmap.mmap:
    """Private, zeroed memory, in large pages where the system has them: a gigabyte has 262,144 small ones."""
    memory = mmap.mmap(-1, max(size, 1), **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
