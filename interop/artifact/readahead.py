"""Every tensor of a file brought into memory of its own, by one thread, and hashed there by others.

What enters: the checked entries of a tensor file, and its record if it is to be hashed. What leaves: a mapping of
key to a private, writable array, in the order of the file; asking for one waits until it is there, so layers can
be made meanwhile.

Invariants: a byte is read once, and what is hashed is the memory that is handed out; arrays lie as their tensors
do in the file, so what is aligned there is aligned here and frameworks take it without another copy;
nothing refers to the file after `close`.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from interop.artifact.digest import Hasher
from interop.artifact.files import FileRecord, Region
from interop.errors import ArtifactError
from interop.formats.dtypes import numpy_dtype
from interop.formats.memory import pages
from interop.formats.safetensors import Entry

_CHUNK_BYTES = 32 << 20


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
        self._stop = False
        self._hasher = None if record is None else Hasher(region.size, record.piece_bytes)
        self._thread = ThreadPoolExecutor(1, "interop-read")
        self._reading = self._thread.submit(self._read_all)
        self._reading.add_done_callback(self._wake)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._entries:
            raise KeyError(name)
        with self._arrived:
            self._arrived.wait_for(lambda: name in self._arrays or self._reading.done())
        if name not in self._arrays:
            self._reading.result()
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self) -> None:
        """Wait for the end of the file; raise DigestError if its bytes are not those that were written."""
        self._reading.result()
        if self._hasher is not None and self._record is not None:
            self._region.compare(self._hasher.digest(), self._record)

    def close(self) -> None:
        """Stop reading and forget the arrays; those that were taken stay valid."""
        self._stop = True
        self._thread.shutdown()
        if self._hasher is not None:
            self._hasher.close()
        self._arrays.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_all(self) -> None:
        for chunk in self._chunks():
            if self._stop:
                break
            arrays = self._read(chunk)
            with self._arrived:
                self._arrays.update(arrays)
                self._arrived.notify_all()

    def _wake(self, reading: Future[None]) -> None:
        """Reading has ended, perhaps with an error: nobody should wait for more."""
        with self._arrived:
            self._arrived.notify_all()

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
        memory = pages(offset + chunk.end - chunk.start)
        data = memoryview(memory)[offset : offset + chunk.end - chunk.start]
        for at in range(0, len(data), _CHUNK_BYTES):
            piece = data[at : at + _CHUNK_BYTES]
            self._fill(piece, chunk.start + at)
            if self._hasher is not None:
                self._hasher.add(piece)
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
