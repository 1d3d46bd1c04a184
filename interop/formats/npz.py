"""The ``.npz`` format: a zip of ``.npy`` files, read without unpickling anything.

What enters: a path. What leaves: a lazy mapping; only the small headers are read on opening.

Spec: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.dtypes import FROM_ML_DTYPES
from interop.formats.mapping import TensorMapping
from interop.formats.source import TensorSource

_SUFFIX = ".npy"
_MAX_HEADER_BYTES = 10_000

# What zipfile, zlib and numpy.lib.format raise on damaged bytes; none of it is a bug of the caller's.
_GARBAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)


def write(
    file: BinaryIO, sources: Mapping[str, TensorSource], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a file, one tensor at a time, with texts beside them in the comment of the zip.

    Texts that are too long for one (64 kB) are left out.

    Raises:
        FormatError: a dtype that NumPy itself does not have.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for key, source in sources.items():
            if source.dtype in FROM_ML_DTYPES:
                raise FormatError(f"{key!r} is {source.dtype}, which .npz cannot hold; .safetensors can")
            with archive.open(zipfile.ZipInfo(f"{key}{_SUFFIX}"), "w", force_zip64=True) as member:
                npy.write_array(member, source.read(), allow_pickle=False)
        comment = json.dumps(metadata).encode() if metadata else b""
        archive.comment = comment if len(comment) <= zipfile.ZIP_MAX_COMMENT else b""


def open_file(path: Path) -> TensorMapping:
    """Open an ``.npz`` file.

    Raises:
        FormatError: it is no valid ``.npz``, or holds objects, which only pickle could read.
        OSError: it cannot be opened.
    """
    file = path.open("rb")
    try:
        archive = zipfile.ZipFile(file)
        specs = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(_SUFFIX)
            if name in specs:
                raise FormatError(f"{path}: two arrays are called {name!r}")
            with archive.open(info) as member:
                shape, _, dtype = _read_header(member, name, info.file_size)
            specs[name] = (dtype.name, shape)
    except FormatError:
        file.close()
        raise
    except _GARBAGE as e:
        file.close()
        raise FormatError(f"{path}: not an .npz file: {e}") from e

    def read(name: str) -> NDArray[Any]:
        info = next(i for i in archive.infolist() if i.filename.removesuffix(_SUFFIX) == name)
        try:
            with archive.open(info) as member:
                shape, fortran, dtype = _read_header(member, name, info.file_size)
                data = member.read()
            return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        except FormatError:
            raise
        except _GARBAGE as e:
            raise FormatError(f"{path}: array {name!r} is damaged: {e}") from e

    return TensorMapping(specs, read, file.close, str(path), metadata=_metadata(archive.comment))


def _metadata(comment: bytes) -> dict[str, str]:
    """The texts in a comment; none if it is somebody else's."""
    try:
        told = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    return (
        {key: text for key, text in told.items() if isinstance(text, str)} if isinstance(told, dict) else {}
    )


def _read_header(member: IO[bytes], name: str, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read an ``.npy`` header: shape, Fortran order, dtype; checked against the size of the member."""
    version = npy.read_magic(member)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(member, max_header_size=_MAX_HEADER_BYTES)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(member, max_header_size=_MAX_HEADER_BYTES)
    else:
        raise FormatError(f"array {name!r} has .npy version {version}; expected 1.0 or 2.0")
    if dtype.hasobject:
        raise FormatError(
            f"array {name!r} holds Python objects: they are pickled, and nothing is unpickled here"
        )
    if dtype.itemsize == 0 or any(dim < 0 for dim in shape):
        raise FormatError(f"array {name!r} has shape {shape} of {dtype}; expected sizes of a numeric dtype")
    if math.prod(shape) * dtype.itemsize != size - member.tell():
        raise FormatError(f"array {name!r} of {dtype}{list(shape)} does not fit its {size} bytes")
    return shape, fortran, dtype
