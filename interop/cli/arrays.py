"""Arrays in and out of ``.npy`` and ``.npz`` files.

Invariants: an ``.npy`` file is mapped, not read; nothing is unpickled; a file appears complete or not at all.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from interop.errors import FormatError

Array = np.ndarray[Any, Any]


def read_arrays(path: Path) -> Array | dict[str, Array]:
    """The array of an ``.npy`` file, or the arrays of an ``.npz`` file by name.

    Raises:
        FileNotFoundError: nothing is at `path`.
        FormatError: it is neither, is damaged, or holds Python objects.
    """
    if path.suffix not in (".npy", ".npz"):
        raise FormatError(
            f"{path} ends in {path.suffix!r}; expected .npy (one array) or .npz (arrays by name)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        if path.suffix == ".npy":
            mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, KeyError) as e:
        raise FormatError(f"{path} cannot be read: {e}") from e


def write_arrays(path: Path, names: Sequence[str], arrays: Sequence[Array]) -> None:
    """Write one array to ``.npy``, or any number by name to ``.npz``.

    Raises:
        FormatError: the ending does not fit.
    """
    if path.suffix == ".npy" and len(arrays) != 1:
        raise FormatError(
            f"{path} holds one array, but there are {len(arrays)}: {', '.join(names)}; use .npz"
        )
    if path.suffix not in (".npy", ".npz"):
        raise FormatError(
            f"{path} ends in {path.suffix!r}; expected .npy (one array) or .npz (arrays by name)"
        )
    descriptor, staged = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if path.suffix == ".npy":
                np.save(file, arrays[0], allow_pickle=False)
            else:
                _write_archive(file, dict(zip(names, arrays, strict=True)))
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        os.replace(staged, path)
    except BaseException:
        os.unlink(staged)
        raise


def _write_archive(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """Write ``.npz``; ``np.savez`` takes names as keywords, and not every name is free there."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
