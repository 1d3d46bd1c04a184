"""Every tensor of a file as an array of its own, to be written to, while threads hash the file.

What enters: the checked entries of a tensor file, and its record if it is to be hashed. What leaves: a mapping of
key to a private, writable array.

A short file is read. A long one is mapped, copy on write, as PyTorch, safetensors and ONNX Runtime map theirs: no byte
is copied before somebody writes to it, and what is hashed is what the array shows. So a file in use is to be replaced,
as every writer here does, and not written into.

Invariants: arrays lie as their tensors do in the file, so what is aligned there is aligned here and frameworks take it
without a copy; arrays that were taken stay valid when this is closed.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.artifact.digest import PIECE_BYTES, Hasher
from interop.artifact.files import FileRecord, Region
from interop.errors import ArtifactError
from interop.formats.dtypes import numpy_dtype
from interop.formats.safetensors import Entry
from interop.memory import pages


class PrivateTensors(Mapping[str, NDArray[Any]]):
    """The tensors of one file. `close` stops the threads.

    Args:
        region: the file.
        entries: its checked header.
        record: what ``config.json`` says of the file; None: it is not hashed.

    Raises:
        ArtifactError: the file is shorter than it was when it was opened.
    """

    def __init__(self, region: Region, entries: Mapping[str, Entry], record: FileRecord | None) -> None:
        self._region = region
        self._entries = entries
        self._record = record
        self._memory, self._skip = _read(region) if region.size <= PIECE_BYTES else _mapped(region)
        self._hasher = None if record is None else Hasher(region.size, record.piece_bytes)
        if self._hasher is not None:
            self._hasher.add(memoryview(self._memory)[self._skip : self._skip + region.size])

    def __getitem__(self, name: str) -> NDArray[Any]:
        entry = self._entries[name]
        dtype = numpy_dtype(entry.dtype)
        if entry.size_bytes == 0:
            return np.empty(entry.shape, dtype)
        count = entry.size_bytes // dtype.itemsize
        start = self._skip + entry.begin - self._region.start
        array = np.frombuffer(self._memory, dtype, count, start).reshape(entry.shape)
        return array if array.flags.aligned else array.copy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self) -> None:
        """Wait for the digest; raise DigestError if the bytes are not those that were written."""
        if self._hasher is not None and self._record is not None:
            self._region.compare(self._hasher.digest(), self._record)

    def close(self) -> None:
        """Stop hashing."""
        if self._hasher is not None:
            self._hasher.close()


def _read(region: Region) -> tuple[mmap.mmap, int]:
    """Memory that holds the file, and where in it."""
    skip = region.start % mmap.PAGESIZE
    memory = pages(skip + region.size)
    free, position = memoryview(memory)[skip : skip + region.size], region.start
    while free:
        count = os.preadv(region.descriptor, [free], position)
        if count == 0:
            raise ArtifactError(f"{region.name} ends {len(free)} bytes early: it was cut short")
        free, position = free[count:], position + count
    return memory, skip


def _mapped(region: Region) -> tuple[mmap.mmap, int]:
    """The file, copied page by page where it is written to, and where in the mapping."""
    skip = region.start % mmap.ALLOCATIONGRANULARITY
    try:
        memory = mmap.mmap(
            region.descriptor, skip + region.size, access=mmap.ACCESS_COPY, offset=region.start - skip
        )
    except ValueError as e:
        raise ArtifactError(f"{region.name} is shorter than {region.size} bytes: it was cut short") from e
    return memory, skip
