"""Checkpoints of Orbax, which JAX and Flax write: folders of Zarr arrays, most often inside an OCDBT store.

Enters: a folder: a checkpoint, an item of one, or that of a ``CheckpointManager``, whose newest step is meant. Leaves:
a lazy mapping of names with slashes, ``params/dense/kernel``. TensorStore, on which Orbax stands, reads the arrays.

Invariant: whatever TensorStore says of damaged files comes out as a FormatError.

Layout: https://orbax.readthedocs.io/en/latest/guides/checkpoint/checkpoint_format.html
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.dtypes import BY_NAME
from interop.formats.mapping import TensorMapping
from interop.formats.source import TensorSource

_METADATA = "_METADATA"
_STORE = "manifest.ocdbt"
_HEADERS = {".zarray": "zarr", "zarr.json": "zarr3"}
_MAX_METADATA_BYTES = 100_000_000
_GARBAGE = (
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def find_item(path: Path) -> Path | None:
    """The folder with the arrays of a checkpoint that a path means; None if it is none."""
    if not path.is_dir():
        return None
    if (path / _METADATA).is_file():
        return path
    items = [inner for inner in sorted(path.iterdir()) if (inner / _METADATA).is_file()]
    if len(items) == 1:
        return items[0]
    if items:
        raise FormatError(
            f"{path} has the items {', '.join(item.name for item in items)}; give the path of one of them"
        )
    steps = [inner for inner in path.iterdir() if inner.name.isdigit() and inner.is_dir()]
    return find_item(max(steps, key=lambda step: int(step.name))) if steps else None


def open_file(path: Path) -> TensorMapping:
    """Open a checkpoint.

    Raises:
        FormatError: it is none or damaged, or TensorStore is not installed.
    """
    item = find_item(path)
    if item is None:
        raise FormatError(f"{path} is no checkpoint of Orbax: no folder in it has {_METADATA}")
    names = _names(item)
    try:
        arrays = {
            names.get(key, key.replace(".", "/")): _array(item, key, driver)
            for key, driver in _keys(item).items()
        }
        specs = {}
        for name, array in arrays.items():
            dtype = str(array.dtype.name)
            if dtype not in BY_NAME:
                raise FormatError(f"{item}: {name!r} is {dtype}, which is not read here")
            specs[name] = (dtype, tuple(int(size) for size in array.shape))
    except _GARBAGE as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{item}: not a checkpoint of Orbax: {error!s:.200}") from error

    def read(name: str) -> NDArray[Any]:
        try:
            return np.array(arrays[name].read().result())
        except _GARBAGE as error:
            raise FormatError(f"{item}: tensor {name!r} is damaged: {error!s:.200}") from error

    return TensorMapping(specs, read, arrays.clear, str(item))


def replace(item: Path, sources: Mapping[str, TensorSource]) -> None:
    """Give arrays of a checkpoint other values, in place, one at a time."""
    names = {name: key for key, name in _names(item).items()}
    drivers = _keys(item)
    for name, source in sources.items():
        key = names.get(name, name.replace("/", "."))
        try:
            _array(item, key, drivers[key], write=True).write(source.read()).result()
        except _GARBAGE as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{item}: tensor {name!r} could not be written: {error!s:.200}") from error


def _tensorstore() -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise FormatError(
            "checkpoints of Orbax are read through TensorStore, which is not installed: pip install tensorstore"
        ) from error
    return tensorstore


def _base(item: Path) -> dict[str, Any]:
    """The store of a checkpoint's arrays as TensorStore names it."""
    if (item / _STORE).is_file():
        return {"driver": "ocdbt", "base": f"file://{item.resolve()}/"}
    return {"driver": "file", "path": f"{item.resolve()}/"}


def _keys(item: Path) -> dict[str, str]:
    """Key of each array to the driver that reads it."""
    if (item / _STORE).is_file():
        store = _tensorstore().KvStore.open(_base(item)).result()
        listed = [key.decode() for key in store.list().result()]
    else:
        listed = [f"{file.parent.name}/{file.name}" for file in item.glob("*/*") if file.name in _HEADERS]
    found = {}
    for key in listed:
        folder, _, last = key.rpartition("/")
        if last in _HEADERS and folder:
            found[folder] = _HEADERS[last]
    return found


def _array(item: Path, key: str, driver: str, *, write: bool = False) -> Any:
    base = _base(item)
    inside = f"{key}/" if base["driver"] == "ocdbt" else f"{base['path']}{key}/"
    spec = {"driver": driver, "kvstore": {**base, "path": inside}}
    return _tensorstore().open(spec, open=True, read=True, write=write).result()


def _names(item: Path) -> dict[str, str]:
    """Key of each array to its name, where the metadata tell: a key's dots may be part of a name."""
    file = item / _METADATA
    if file.stat().st_size > _MAX_METADATA_BYTES:
        raise FormatError(f"{file}: metadata of over {_MAX_METADATA_BYTES} bytes are not read")
    try:
        tree = json.loads(file.read_bytes())["tree_metadata"]
        paths = [[str(part) for part in ast.literal_eval(key)] for key in tree]
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise FormatError(f"{file}: not the metadata of a checkpoint: {error!s:.200}") from error
    return {".".join(path): "/".join(path) for path in paths}
