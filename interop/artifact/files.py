"""The files of an artifact: their names, limits and records, and how one is opened without being fooled.

What enters: a path. What leaves: a `Region` (an open descriptor and a range of bytes in it), whichever of
the two forms the artifact has.

Invariants: nothing but a regular file is ever opened; the descriptor that was checked is the one that is
read and mapped, so that a file replaced meanwhile cannot slip in between.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from interop.artifact.digest import Hasher
from interop.errors import ArtifactError, DigestError, UnsafeFileError

CONFIG = "config.json"
GRAPH = "model.onnx"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"

NAMES = (CONFIG, GRAPH, WEIGHTS, OPTIMIZER)
"""Every file an artifact can have; the last is absent when there is no optimizer state."""

ZIP_SUFFIX = ".interop"
"""A path that ends so is the zip form; any other path is a directory."""

MAX_GRAPH_BYTES = 256 << 20
"""A model.onnx longer than this is refused before it is read: weights do not live in it."""

_HASH_CHUNK_BYTES = 4 << 20
_HASH_PENDING = 8
_LONGEST_NAME = 200


class FileRecord(NamedTuple):
    """What ``config.json`` records of a file."""

    size: int
    sha256: str
    piece_bytes: int | None = None

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> FileRecord:
        return cls(record["size"], record["sha256"], record.get("piece_bytes"))

    def to_json(self) -> dict[str, int | str]:
        pieces = {} if self.piece_bytes is None else {"piece_bytes": self.piece_bytes}
        return {"size": self.size, "sha256": self.sha256, **pieces}


class Region(NamedTuple):
    """A file of an artifact: bytes ``[start, start + size)`` of an open descriptor."""

    name: str
    descriptor: int
    start: int
    size: int

    def read(self, limit_bytes: int) -> bytes:
        """All of it; refused before reading when longer than the limit."""
        if self.size > limit_bytes:
            raise UnsafeFileError(f"{self.name} is {self.size} bytes; a reader accepts {limit_bytes} at most")
        data = os.pread(self.descriptor, self.size, self.start)
        if len(data) != self.size:
            raise ArtifactError(f"{self.name} ends after {len(data)} of {self.size} bytes")
        return data

    def check(self, record: FileRecord) -> None:
        """Raise DigestError unless size and digest are the recorded ones."""
        self.check_size(record)
        with closing(Hasher(self.size, record.piece_bytes, pending=_HASH_PENDING)) as hasher:
            position, end = self.start, self.start + self.size
            while position < end:
                chunk = os.pread(self.descriptor, min(_HASH_CHUNK_BYTES, end - position), position)
                if not chunk:
                    raise ArtifactError(f"{self.name} ends {end - position} bytes early")
                hasher.add(memoryview(chunk))
                position += len(chunk)
            self.compare(hasher.digest(), record)

    def compare(self, found: str, record: FileRecord) -> None:
        """Raise DigestError unless the SHA-256 found is the recorded one."""
        if found != record.sha256:
            raise DigestError(
                f"{self.name} has SHA-256 {found[:16]}... but config.json records {record.sha256[:16]}...: "
                "the file was changed after it was written, or belongs to another save"
            )

    def check_size(self, record: FileRecord) -> None:
        """Raise DigestError unless the size is the recorded one."""
        if self.size != record.size:
            raise DigestError(
                f"{self.name} is {self.size} bytes but config.json records {record.size}: "
                "the file was changed after it was written, or belongs to another save"
            )


def is_zip(path: Path) -> bool:
    """Whether a path names the zip form."""
    return path.name.endswith(ZIP_SUFFIX)


def existing(path: Path) -> Path:
    """The real path of the artifact at `path`, or of its predecessor if a save died while swapping them.

    Raises:
        FileNotFoundError: there is neither.
    """
    real = Path(os.path.realpath(path))
    if os.path.lexists(real):
        return real
    predecessor = predecessor_of(real)
    if os.path.lexists(predecessor):
        return predecessor
    raise FileNotFoundError(errno.ENOENT, "no artifact here", str(path))


def predecessor_of(target: Path) -> Path:
    """Where the old artifact waits while two folders are swapped by renames."""
    return target.parent / f".{stem(target)}.interop-old"


def stem(target: Path) -> str:
    """What hidden siblings are called after: the target's name, or its digest where it is too long."""
    name = os.fsencode(target.name)
    return target.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()


def open_regular(path: Path, *, cache_root: Path | None = None) -> int:
    """Open a regular file for reading and return its descriptor.

    Args:
        path: the file; a symbolic link is refused, except within `cache_root`.
        cache_root: where a link may lead: the ``blobs`` folder of a Hugging Face cache.

    Raises:
        UnsafeFileError: it is a link that leads elsewhere, or no regular file (a device, a pipe).
        OSError: it cannot be opened.
    """
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        if cache_root is None or target.parent != cache_root:
            raise UnsafeFileError(
                f"{path.name} is a symbolic link to {os.readlink(path)}; an artifact holds none"
            )
        path = target
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafeFileError(f"{path.name} is not a regular file")
    return descriptor


def cache_root(directory: Path) -> Path | None:
    """The folder that links of a Hugging Face snapshot directory lead to, or None for any other directory.

    The cache keeps ``<repo>/blobs/<digest>`` and ``<repo>/snapshots/<revision>/<file>`` linking there.
    """
    if directory.parent.name != "snapshots":
        return None
    blobs = directory.parent.parent / "blobs"
    return blobs if blobs.is_dir() and not blobs.is_symlink() else None
