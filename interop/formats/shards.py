"""Tensors in several files with an index beside them, as Hugging Face writes large models.

Enters: the path of a ``<name>.index.json``. Leaves: a lazy mapping over all the files.

Invariant: only files in the folder of the index are opened.

Spec: https://huggingface.co/docs/huggingface_hub/package_reference/serialization
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.mapping import TensorMapping

INDEX_SUFFIX = ".index.json"
_MAX_INDEX_BYTES = 100_000_000


def weight_map(path: Path) -> dict[str, Any]:
    """What an index says of where weights are.

    Raises:
        FormatError: it is no index.
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise FormatError(f"{path}: an index of over {_MAX_INDEX_BYTES} bytes is not read")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: the index is not JSON: {error}") from error
    files = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(files, dict):
        raise FormatError(f"{path}: the index has no weight_map of name to file")
    return files


def read_index(path: Path) -> dict[str, str]:
    """Name of each tensor to name of its file.

    Raises:
        FormatError: it is no such index.
        OSError: it cannot be read.
    """
    files = weight_map(path)
    for name, file in files.items():
        if not isinstance(file, str) or not file or Path(file).name != file or "\0" in file:
            raise FormatError(f"{path}: {name!r} is in {file!r}, which is no file beside the index")
        if file.endswith(INDEX_SUFFIX):
            raise FormatError(f"{path}: {name!r} is in another index, {file!r}")
    return files


def open_file(path: Path) -> TensorMapping:
    """Open an index and the headers of its files.

    Raises:
        FormatError: the index or a file is damaged, or a tensor is not where the index says.
        OSError: a file cannot be opened.
    """
    from interop.formats import open_tensors

    files = read_index(path)
    opened: dict[str, TensorMapping] = {}

    def close() -> None:
        for shard in opened.values():
            with suppress(OSError):
                shard.close()

    try:
        for file in dict.fromkeys(files.values()):
            if not (path.parent / file).is_file():
                raise FormatError(f"{path}: its file {file} is missing")
            opened[file] = open_tensors(path.parent / file)
        specs = {}
        for name, file in files.items():
            if name not in opened[file]:
                raise FormatError(f"{path}: {name!r} is not in {file}, where the index says")
            specs[name] = (opened[file].dtypes[name], opened[file].shapes[name])
    except BaseException:
        close()
        raise

    def read(name: str) -> NDArray[Any]:
        return opened[files[name]][name]

    return TensorMapping(specs, read, close, str(path))
