"""The digest of a file: the SHA-256 of its bytes or, of a long file, of the SHA-256 of each of its pieces.

One SHA-256 runs on one core, at some 2 GB/s on those that have instructions for it; the pieces of a long file are
hashed side by side. So a file of more than `PIECE_BYTES` is recorded with ``piece_bytes``, and its digest is the
SHA-256 of the digests (32 bytes each) of its pieces, the last of which may be shorter. Any other file's is what
``sha256sum`` prints.

Invariants: bytes are given in order and each is hashed once; what was given is referred to until it is hashed,
never copied.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import os
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from concurrent.futures import Future, ThreadPoolExecutor

PIECE_BYTES = 16 << 20
"""The length of a piece in what is written; a file no longer than this has one digest."""

MIN_PIECE_BYTES = 1 << 20
"""A record with shorter pieces is refused: nobody writes it, and it would take long to check."""

_MOST_LANES = 4  # reading and writing go no faster than four cores hash


def piece_bytes_for(size: int) -> int | None:
    """The length of the pieces in which a file of `size` bytes is hashed; None: it is hashed whole."""
    return PIECE_BYTES if size > PIECE_BYTES else None


class Hasher:
    """Hashes a file while its bytes arrive. `close` stops the threads.

    Args:
        size: of the file, in bytes.
        piece_bytes: the length of its pieces; None: it is one.
        pending: how many parts may wait before `add` does; None: any number.
    """

    def __init__(self, size: int, piece_bytes: int | None, *, pending: int | None = None) -> None:
        self.piece_bytes = piece_bytes
        self._step = piece_bytes or max(size, 1)
        self._pieces = [hashlib.sha256() for _ in range(max(1, -(-size // self._step)))]
        lanes = min(len(self._pieces), _MOST_LANES, os.cpu_count() or 1) if size > PIECE_BYTES else 0
        self._lanes = _threads(lanes)
        self._jobs: list[Future[None]] = []
        self._room: threading.Semaphore | None = None
        if pending is not None:
            from threading import Semaphore  # opening a graph is faster without it

            self._room = Semaphore(pending)
        self._written: deque[tuple[int, Callable[[], memoryview]]] = deque()
        self._position = 0

    def add(self, data: memoryview) -> None:
        """Hash the next bytes of the file, beside whatever runs."""
        while data:
            part = data[: self._step - self._position % self._step]
            self._submit(len(part), functools.partial(_given, part))
            data = data[len(part) :]

    def add_written(self, descriptor: int, start: int, length: int) -> None:
        """The same of bytes of an open file, which stay where the kernel keeps them until their turn comes.

        They are whole pieces, or the rest of the file. A core is left to who writes them, until `hurry`.
        """
        while length:
            part = min(length, self._step)
            self._written.append(
                (self._position // self._step, functools.partial(_mapped, descriptor, start, part))
            )
            self._position += part
            start, length = start + part, length - part
        self._start(self._lanes[: max(1, (os.cpu_count() or 1) - 1)])

    def hurry(self) -> None:
        """All is written: every core hashes what is left."""
        self._start(self._lanes)

    def _submit(self, length: int, data: Callable[[], memoryview]) -> None:
        piece = self._position // self._step
        self._position += length
        if not self._lanes:
            self._pieces[piece].update(data())
            return
        if self._room is not None:
            self._room.acquire()
        self._jobs.append(self._lanes[piece % len(self._lanes)].submit(self._update, piece, data))

    def _start(self, lanes: list[ThreadPoolExecutor]) -> None:
        if self._written:
            self._jobs += [lane.submit(self._hash_written) for lane in lanes]

    def _hash_written(self) -> None:
        while self._written:
            try:
                piece, data = self._written.popleft()
            except IndexError:  # another thread took it
                return
            self._pieces[piece].update(data())

    def _update(self, piece: int, data: Callable[[], memoryview]) -> None:
        try:
            self._pieces[piece].update(data())
        finally:
            if self._room is not None:
                self._room.release()

    def digest(self) -> str:
        """Wait until all is hashed; the digest in hex. Nothing can be added after it.

        Raises:
            OSError: what was written could not be read.
        """
        self.hurry()
        for job in self._jobs:
            job.result()
        if self.piece_bytes is None:
            return self._pieces[0].hexdigest()
        return hashlib.sha256(b"".join(piece.digest() for piece in self._pieces)).hexdigest()

    def close(self) -> None:
        """Stop the threads; what waits is not hashed."""
        self._written.clear()
        for lane in self._lanes:
            lane.shutdown(cancel_futures=True)


def digest_of(data: bytes, piece_bytes: int | None) -> str:
    """The digest in hex of a file that is in memory."""
    with closing(Hasher(len(data), piece_bytes)) as hasher:
        hasher.add(memoryview(data))
        return hasher.digest()


def _threads(count: int) -> list[ThreadPoolExecutor]:
    """One executor a thread: what it is given is done in order."""
    if not count:
        return []
    from concurrent.futures import ThreadPoolExecutor  # opening a graph is faster without it

    return [ThreadPoolExecutor(1, "interop-hash") for _ in range(count)]


def _given(data: memoryview) -> memoryview:
    return data


def _mapped(descriptor: int, start: int, length: int) -> memoryview:
    """Bytes of a file as one view: hashing it needs Python's lock once."""
    skip = start % mmap.ALLOCATIONGRANULARITY
    try:
        window = mmap.mmap(descriptor, skip + length, access=mmap.ACCESS_READ, offset=start - skip)
    except OSError:  # a file system that maps no files
        return memoryview(os.pread(descriptor, length, start))
    return memoryview(window)[skip:]
