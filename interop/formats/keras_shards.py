"""Keras' weights in several HDF5 files, with an index (``m.weights.json``) beside them.

Enters: the path of the index. Leaves: what `h5` makes of one file, of all of them together.

Invariant: only files in the folder of the index are opened, and those it names must hold what it says.

Layout: ``ShardedH5IOStore`` in ``keras/src/saving/saving_lib.py``.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from interop.errors import FormatError
from interop.formats.h5 import Groups, open_groups, short_name
from interop.formats.mapping import TensorMapping, joined
from interop.formats.shards import weight_map

SUFFIX = ".weights.json"


def open_file(path: Path) -> TensorMapping:
    """Open the files of an index, with names as `h5` shortens them.

    Raises:
        FormatError: the index or a file is damaged, or does not hold what the index says.
        OSError: a file cannot be opened.
    """
    return open_sharded(path, shorten=True).tensors


def open_sharded(path: Path, *, shorten: bool = False) -> Groups:
    """The same with what the attributes of the files say; names are HDF5's paths unless they are to be shortened."""
    places = _read_index(path)
    opened: dict[str, Groups] = {}
    try:
        for file in sorted({file for files in places.values() for file in files}):
            if not (path.parent / file).is_file():
                raise FormatError(f"{path}: its file {file} is missing")
            opened[file] = open_groups((path.parent / file).open("rb"), f"{path.parent / file}")
        for group, files in places.items():
            inside = f"{group.strip('/')}/".lstrip("/")
            for file in files:
                if not any(name.startswith(inside) for name in opened[file].tensors):
                    raise FormatError(f"{path}: {group!r} is not in {file}, where the index says")
        return _joined(opened, str(path), shorten=shorten)
    except BaseException:
        for groups in opened.values():
            with suppress(OSError):
                groups.tensors.close()
        raise


def _joined(opened: dict[str, Groups], source: str, *, shorten: bool) -> Groups:
    parts: list[Any] = list(opened.values())
    layers = {path: name for part in parts for path, name in part.layer_names.items()}
    named = {name: path for part in parts for name, path in part.object_paths.items()}
    names = [name for part in parts for name in part.tensors]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise FormatError(f"{source}: {twice[0]!r} is in two files")
    short = {name: short_name(name, lambda group: layers.get(group, "")) for name in names}
    taken = Counter(short.values())
    short = {name: called if taken[called] == 1 else name for name, called in short.items()}
    tensors = joined([part.tensors for part in parts], source, short.__getitem__ if shorten else str)
    return Groups(tensors, named, short, layers, is_legacy=False)


def _read_index(path: Path) -> dict[str, list[str]]:
    """Group to the files that it lies in."""
    places = weight_map(path)
    if not places:
        raise FormatError(f"{path}: the index names no group")
    found: dict[str, list[str]] = {}
    for group, files in places.items():
        listed = [files] if isinstance(files, str) else files
        if not isinstance(listed, list) or not all(
            isinstance(f, str) and f.endswith(".weights.h5") for f in listed
        ):
            raise FormatError(f"{path}: {group!r} is in {files!r:.80}; expected names of .weights.h5 files")
        if outside := [file for file in listed if Path(file).name != file or "\0" in file]:
            raise FormatError(f"{path}: {group!r} is in {outside[0]!r}, which is no file beside the index")
        found[group] = listed
    return found
