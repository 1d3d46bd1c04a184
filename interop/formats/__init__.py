"""Named tensors in files: one module and one table row per format; `open_tensors` finds the row.

What enters: a path. What leaves: a `TensorMapping`, which reads a tensor when it is asked for.

Invariants: no format needs the framework that wrote it; nothing is unpickled; a damaged file raises
FormatError and nothing else.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from interop.errors import FormatError
from interop.formats.mapping import TensorMapping
from interop.formats.tensorbundle.files import find_prefix

__all__ = ["FORMATS", "Format", "TensorMapping", "find_prefix", "open_tensors"]


class Format(NamedTuple):
    """A file format: its public name, the endings of its files, and the module that has its ``open_file``."""

    name: str
    suffixes: tuple[str, ...]
    module: str


FORMATS = (
    Format("safetensors", (".safetensors",), "interop.formats.safetensors"),
    Format("npz", (".npz",), "interop.formats.npz"),
    Format("keras", (".keras",), "interop.formats.keras_zip"),
    Format("h5", (".h5", ".hdf5"), "interop.formats.h5"),
    Format("tf", (".index",), "interop.formats.tensorbundle.reader"),
)


def open_tensors(path: str | os.PathLike[str], format: str | None = None) -> TensorMapping:
    """Open a file of named tensors lazily.

    Args:
        path: the file; of a TensorFlow checkpoint its prefix, its index, or the folder of its state file.
        format: a name of `FORMATS`; None: by the file's ending, or by the index beside it.

    Raises:
        FormatError: no such format, or the file is not valid in it.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    checkpoint = find_prefix(path) if format in (None, "tf") else None
    row = _by_name("tf" if checkpoint else format) if checkpoint or format else _by_suffix(path)
    if path.is_dir() and not checkpoint:
        raise FormatError(f"{path} is a folder; expected a file of format {row.name}")
    opened = import_module(row.module).open_file(checkpoint or path)
    assert isinstance(opened, TensorMapping)
    return opened


def _by_name(name: str | None) -> Format:
    for row in FORMATS:
        if row.name == name:
            return row
    raise FormatError(f"no format is called {name!r}; there are {', '.join(row.name for row in FORMATS)}")


def _by_suffix(path: Path) -> Format:
    for row in FORMATS:
        if path.name.lower().endswith(row.suffixes):
            return row
    endings = ", ".join(suffix for row in FORMATS for suffix in row.suffixes)
    raise FormatError(f"{path.name!r} does not end in one of {endings}; name its format with format=...")
