"""The ``.keras`` format: the ``model.weights.h5`` inside a zip, read in place, or in a folder.

What enters: a path. What leaves: the lazy mapping of the HDF5 file inside, named as `h5` says.

Invariant: the zip is never unpacked to disk; a member that is stored (as Keras writes it) is read where it
lies, and a compressed one is inflated in memory, up to a limit. Its CRC-32 is checked before HDF5, whose
library may crash on damaged bytes, sees it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from interop.errors import FormatError
from interop.formats import h5
from interop.formats.mapping import TensorMapping

_MEMBER = "model.weights.h5"
_SHARDS = "model.weights.json"
_LOCAL_HEADER_BYTES = 30
_CHUNK_BYTES = 4 << 20
_MAX_INFLATED_BYTES = 4 << 30
GARBAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError, ValueError)
"""What a damaged zip raises."""


def is_unzipped(path: Path) -> bool:
    """Whether a folder is what Keras writes with ``zipped=False``."""
    return all((path / name).is_file() for name in (_MEMBER, "metadata.json", "config.json"))


def open_file(path: Path) -> TensorMapping:
    """Open a ``.keras`` file.

    Raises:
        FormatError: it is no valid ``.keras`` file, or its weights are sharded.
        OSError: it cannot be opened.
    """
    return h5.open_stream(open_member(path), str(path))


def open_member(path: Path) -> BinaryIO:
    """The HDF5 file inside a ``.keras`` file, its checksum checked, as a stream.

    Raises:
        FormatError, OSError: as `open_file`.
    """
    if path.is_dir():
        return (path / _MEMBER).open("rb")
    file = path.open("rb")
    try:
        return _member(file, path)
    except FormatError:
        file.close()
        raise
    except GARBAGE as e:
        file.close()
        raise FormatError(f"{path}: not a .keras file: {e}") from e


def _member(file: BinaryIO, path: Path) -> BinaryIO:
    """A stream of the weights inside; it owns `file`."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if _MEMBER not in names:
            why = "its weights are sharded" if _SHARDS in names else f"it has no {_MEMBER}"
            raise FormatError(f"{path}: not a .keras file that can be read here: {why}")
        info = archive.getinfo(_MEMBER)
        if info.compress_type != zipfile.ZIP_STORED:
            if info.file_size > _MAX_INFLATED_BYTES:
                raise FormatError(
                    f"{path}: {_MEMBER} inflates to {info.file_size} bytes; store it uncompressed"
                )
            data = io.BytesIO(archive.read(info))
            file.close()
            return data
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
        if len(header) != _LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04":
            raise FormatError(f"{path}: {_MEMBER} has no header where the zip says")
        start = (
            info.header_offset
            + _LOCAL_HEADER_BYTES
            + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        )
    crc32, position, end = 0, start, start + info.file_size
    file.seek(start)
    while position < end and (chunk := file.read(min(_CHUNK_BYTES, end - position))):
        crc32 = zlib.crc32(chunk, crc32)
        position += len(chunk)
    if position != end or crc32 != info.CRC:
        raise FormatError(f"{path}: {_MEMBER} does not match its checksum: the file is damaged")
    return io.BufferedReader(_Window(file, start, info.file_size))


def rewrite(path: Path, file: BinaryIO, weights: Path) -> None:
    """Write a ``.keras`` file that is what the one at `path` is, but for the HDF5 file inside.

    Raises:
        FormatError: `path` is no valid ``.keras`` file.
    """
    try:
        with zipfile.ZipFile(path) as before, zipfile.ZipFile(file, "w") as after:
            for info in before.infolist():
                if info.filename == _MEMBER:
                    after.write(weights, _MEMBER)
                else:
                    after.writestr(info, before.read(info))
    except GARBAGE as e:
        raise FormatError(f"{path}: not a .keras file: {e}") from e


class _Window(io.RawIOBase):
    """Bytes ``[start, start + size)`` of a file, as a file; closing it closes the file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._size - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
