"""Named tensors in files: one module and one table row per format; `open_tensors` finds the row.

What enters: a path. What leaves: a `TensorMapping`, which reads a tensor when it is asked for.

Invariants: no format needs the framework that wrote it; nothing is unpickled; a damaged file raises
FormatError and nothing else; importing this package loads none of the formats.
"""

from __future__ import annotations

import errno
import os
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from interop.errors import FormatError
from interop.formats.mapping import TensorMapping
from interop.formats.tensorbundle.files import find_prefix

__all__ = [
    "FORMATS",
    "Format",
    "TensorMapping",
    "find_prefix",
    "found",
    "holds_tensors",
    "open_tensors",
    "require",
]


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
    Format("torch", (".pt", ".pth", ".bin"), "interop.formats.torch"),
    Format("shards", (".index.json",), "interop.formats.shards"),
    Format("keras_shards", (".weights.json",), "interop.formats.keras_shards"),
    Format("tf", (".index",), "interop.formats.tensorbundle.reader"),
    Format("onnx", (".onnx",), "interop.formats.onnx"),
    Format("orbax", (), "interop.formats.orbax"),
)


def open_tensors(path: str | os.PathLike[str], format: str | None = None) -> TensorMapping:
    """Open a file of named tensors lazily.

    Args:
        path: the file; of a TensorFlow checkpoint its prefix, its index, or the folder of its state file; the folder of
            an Orbax checkpoint; a folder with one ``.safetensors`` file or index.
        format: a name of `FORMATS`; None: by the file's ending, or by what is beside or in it.

    Raises:
        FormatError: no such format, or the file is not valid in it.
        FileNotFoundError: nothing is at `path`.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    row, path = found(path) if format is None else (_by_name(format), path)
    prefix = require(path)
    if row.name == "tf":
        path = prefix or path
        if path.is_dir() and prefix is None:
            raise FormatError(
                f"{path} is a folder in which no checkpoint is named as the newest; give the prefix of one in it, such "
                f"as {path / 'ckpt-1'}"
            )
    elif path.is_dir() and row.name not in ("orbax", "keras"):
        raise FormatError(f"{path} is a folder; expected a file of format {row.name}")
    opened = import_module(row.module).open_file(path)
    assert isinstance(opened, TensorMapping)
    return opened


def require(path: Path) -> Path | None:
    """The prefix that a path means, or None if it is another file or folder.

    Raises:
        FileNotFoundError: it is nothing.
    """
    prefix = find_prefix(path)
    if prefix is None and not path.exists():
        from difflib import get_close_matches

        here = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = get_close_matches(path.name, sorted({name.removesuffix(".index") for name in here}))
        meant = f"; in its folder is {', '.join(close)}" if close else ""
        raise FileNotFoundError(
            errno.ENOENT, f"nothing is there, nor a checkpoint of that prefix{meant}", os.fspath(path)
        )
    return prefix


def found(path: Path) -> tuple[Format, Path]:
    """The format of a path, and the file or folder that is meant.

    Raises:
        FormatError: it is of no format.
    """
    if prefix := find_prefix(path):
        return _by_name("tf"), prefix
    if not path.is_dir():
        return _by_suffix(path), path
    row = _in_folder(path)
    if row is None:
        raise FormatError(
            f"{path} is a folder with neither one .safetensors file or index, nor a checkpoint of TensorFlow or Orbax"
        )
    return row


def holds_tensors(folder: Path) -> bool:
    """Whether a folder is no artifact, but one of those that `open_tensors` opens."""
    is_artifact = any((folder / name).exists() for name in ("model.onnx", "weights.safetensors"))
    return not is_artifact and (find_prefix(folder) is not None or _in_folder(folder) is not None)


def _in_folder(path: Path) -> tuple[Format, Path] | None:
    from interop.formats.keras_zip import is_unzipped
    from interop.formats.orbax import find_item

    for pattern in ("*.safetensors.index.json", "*.safetensors", "*.bin.index.json"):
        files = sorted(path.glob(pattern))
        if len(files) == 1:
            return _by_suffix(files[0]), files[0]
    if is_unzipped(path):
        return _by_name("keras"), path
    item = find_item(path)
    return None if item is None else (_by_name("orbax"), item)


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
