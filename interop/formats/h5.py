"""HDF5 weights (``.h5``, ``.weights.h5``), of Keras 2 and 3, with names as object paths.

What enters: a path, or an open file. What leaves: a lazy mapping. HDF5's own paths repeat how Keras nests
groups; they are shortened to the path of the object that holds the variable:

==========================================  ==========================
in the file                                 name here
==========================================  ==========================
``layers/dense_1/vars/0`` (Keras 3)         ``head/0``: the recorded layer name and the variable's index
``encoder/vars/1`` (Keras 3)                ``encoder/1``
``model_weights/head/head/kernel:0``        ``head/kernel``
``optimizer/vars/2``                        ``optimizer/2``
anything with attribute ``object_path``     what that says (files of ``interop.save_weights``)
anything else                               as in the file
==========================================  ==========================

A damaged file is a FormatError where HDF5 notices. HDF5 keeps no checksum of most of a file, and its library
may crash the process on one that was tampered with: open files of strangers elsewhere first, or ask for
safetensors. (A ``.keras`` file is safer: its zip has a checksum of all of it, which is checked.)

Invariants: names are unique (where shortening would make two alike, both keep HDF5's path); links to other
files, and data stored in them, are never followed.

Spec: https://docs.hdfgroup.org/hdf5/v1_14/_f_m_t3.html; layout of Keras: ``keras/src/saving/saving_lib.py``
and ``legacy_h5_format.py``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.dtypes import BY_NAME, numpy_dtype
from interop.formats.mapping import TensorMapping
from interop.formats.source import TensorSource

OBJECT_PATH = "object_path"
"""The attribute by which a dataset says what it is."""

LAYER_NAMES = "layer_names"
"""The attribute that lists layers in the layout of Keras 2."""

LAYER_ORDER = "layer_order"
"""What says in which order layers come whose names do not: an attribute, or a text beside tensors."""

_MAX_ATTRIBUTE_BYTES = 64_000
"""HDF5 keeps attributes in an object header of 64 KiB."""

DAMAGED = (KeyError, MemoryError, OSError, OverflowError, RuntimeError, SystemError, TypeError, ValueError)
"""What h5py raises on damaged bytes."""


def open_file(path: Path) -> TensorMapping:
    """Open an HDF5 file of weights.

    Raises:
        FormatError: it is no HDF5 file, is damaged, or refers to other files.
        OSError: it cannot be opened.
    """
    return open_stream(path.open("rb"), str(path))


def open_stream(stream: BinaryIO, source: str) -> TensorMapping:
    """Open HDF5 data from a seekable stream, which the mapping then owns; `source` names it in messages."""
    return open_groups(stream, source, shorten=True).tensors


@dataclass(frozen=True)
class Groups:
    """A file, and what it says beside its values.

    Attributes:
        tensors: name to array.
        object_paths: name to object path, where a dataset says so.
        short: name to the name that `open_stream` gives it.
        layer_names: path of a group to the name of its layer, where its ``vars`` group says so.
        is_legacy: whether it is in the layout of Keras 2.
        computed: names of what is computed of other tensors in the file; a dataset says so by an empty object path.
    """

    tensors: TensorMapping
    object_paths: Mapping[str, str]
    short: Mapping[str, str]
    layer_names: Mapping[str, str]
    is_legacy: bool
    computed: frozenset[str] = frozenset()


def open_groups(stream: BinaryIO, source: str, *, shorten: bool = False) -> Groups:
    """Open HDF5 data with what its attributes say; names are HDF5's paths unless they are to be shortened.

    Raises:
        FormatError: it is no HDF5 file, is damaged, or refers to other files.
    """
    import h5py

    try:
        file = h5py.File(stream, "r")
        datasets = _datasets(file, source)
        is_legacy = has_texts(file.get("model_weights", file), LAYER_NAMES)
        named = {path: name for path, item in datasets.items() if (name := _text(item, OBJECT_PATH))}
        layers = {
            path.removesuffix("vars").removesuffix("/"): name
            for path, group in _groups(file).items()
            if path.rpartition("/")[2] == "vars" and (name := _text(group, "name"))
        }
        short = _object_paths(file, list(datasets))
        names = short if shorten else {path: _current(path) for path in datasets}
        specs = {names[path]: (_dtype(dataset), tuple(dataset.shape)) for path, dataset in datasets.items()}
        order = list(texts(file, LAYER_ORDER)) if has_texts(file, LAYER_ORDER) else None
        metadata = {} if order is None else {LAYER_ORDER: json.dumps(order)}
        marks = {path: item.attrs.get(OBJECT_PATH) for path, item in datasets.items()}
    except FormatError:
        stream.close()
        raise
    except DAMAGED as e:
        stream.close()
        raise FormatError(f"{source}: not an HDF5 file of weights: {e}") from e
    by_name = {names[path]: dataset for path, dataset in datasets.items()}

    def read(name: str) -> NDArray[Any]:
        dataset = by_name[name]
        if dataset.dtype.hasobject:
            raise FormatError(f"{source}: {name!r} holds text or references, not numbers")
        try:
            array = np.asarray(dataset[()])
        except DAMAGED as e:
            raise FormatError(f"{source}: tensor {name!r} is damaged: {e}") from e
        return array.view(numpy_dtype(specs[name][0])) if array.dtype.kind == "V" else array

    def close() -> None:
        by_name.clear()
        file.close()
        stream.close()

    return Groups(
        TensorMapping(specs, read, close, source, metadata=metadata),
        {names[path]: name for path, name in named.items()},
        {names[path]: name for path, name in short.items()},
        {_current(path): name for path, name in layers.items()},
        is_legacy,
        frozenset(names[path] for path, mark in marks.items() if isinstance(mark, str) and not mark),
    )


def has_texts(group: Any, name: str) -> bool:
    """Whether a group has an attribute that lists texts, whole or in pieces."""
    return name in group.attrs or f"{name}0" in group.attrs


def texts(group: Any, name: str) -> Iterator[str]:
    """The texts of an attribute that lists some; a long one is stored in pieces: ``name0``, ``name1``, ..."""
    keys = (
        [name]
        if name in group.attrs
        else takewhile(group.attrs.__contains__, map(f"{name}{{}}".format, count()))
    )
    for key in keys:
        for item in group.attrs[key]:
            yield item.decode("utf-8") if isinstance(item, bytes) else str(item)


def set_texts(group: Any, name: str, items: Sequence[str]) -> None:
    """Store an attribute that lists texts, in pieces where it is too long for one, as Keras does."""
    encoded = [item.encode() for item in items]
    width = max(map(len, encoded), default=1)
    if len(encoded) * width <= _MAX_ATTRIBUTE_BYTES:
        group.attrs[name] = np.array(encoded, dtype=f"S{width or 1}")
        return
    step = max(_MAX_ATTRIBUTE_BYTES // width, 1)
    for piece in range(0, len(encoded), step):
        group.attrs[f"{name}{piece // step}"] = np.array(encoded[piece : piece + step])


def replace(path: Path, sources: Mapping[str, TensorSource]) -> None:
    """Give datasets of a file other values, in place, one at a time.

    Args:
        path: an HDF5 file of weights.
        sources: by the names that `open_file` gives.

    Raises:
        FormatError: it is no HDF5 file, or is damaged.
    """
    import h5py

    try:
        with h5py.File(path, "r+", locking=False) as file:
            names = {
                name: inside for inside, name in _object_paths(file, list(_datasets(file, str(path)))).items()
            }
            for name, source in sources.items():
                array, dataset = source.read(), file[names[name]]
                dataset[...] = array.view(dataset.dtype) if dataset.dtype.kind == "V" else array
    except FormatError:
        raise
    except DAMAGED as e:
        raise FormatError(f"{path}: its tensors could not be written: {e}") from e


def _current(path: str) -> str:
    """The path of a group in files of Keras before 3.0 that have the layout of Keras 3."""
    return path.replace("_layer_checkpoint_dependencies", "layers")


def _groups(file: Any) -> dict[str, Any]:
    """Path to group; links to other files are not followed."""
    import h5py

    found: dict[str, Any] = {}
    file.visititems(
        lambda path, item: found.__setitem__(path, item) if isinstance(item, h5py.Group) else None
    )
    return found


def _text(item: Any, attribute: str) -> str:
    """An attribute if it is a text, else an empty one."""
    value = item.attrs.get(attribute)
    return value if isinstance(value, str) else ""


def _datasets(file: Any, source: str) -> dict[str, Any]:
    """HDF5 path to dataset, for every dataset that lies in the file itself (hard links, each object once)."""
    import h5py

    found: dict[str, Any] = {}

    def visit(path: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            raise FormatError(f"{source}: {path!r} keeps its data in other files; they are not read")
        if item.shape is None:
            raise FormatError(f"{source}: {path!r} is a dataset without a shape")
        found[path] = item

    file.visititems(visit)
    return found


def _object_paths(file: Any, paths: list[str]) -> dict[str, str]:
    """HDF5 path to the name used here."""
    legacy = "model_weights" if "model_weights" in file else ""
    is_legacy = has_texts(file[legacy] if legacy else file, LAYER_NAMES)

    def layer_name(group: str) -> str:
        recorded = file.get(f"{group}/vars")
        return "" if recorded is None else _text(recorded, "name")

    short = {
        path: _text(file[path], OBJECT_PATH)
        or (_legacy_path(path, legacy) if is_legacy else short_name(path, layer_name))
        for path in paths
    }
    taken = Counter(short.values())
    return {path: short[path] if taken[short[path]] == 1 else path for path in paths}


def _legacy_path(path: str, root: str) -> str:
    """``model_weights/head/head/kernel:0`` -> ``head/kernel``."""
    parts = path.split("/")
    if root and parts[0] != root:
        return path
    parts = parts[1:] if root else parts
    if len(parts) > 2 and parts[0] == parts[1]:
        parts = parts[1:]
    return "/".join(parts).removesuffix(":0")


def short_name(path: str, layer_name: Callable[[str], str]) -> str:
    """``layers/dense_1/vars/0`` -> ``head/0``, where the group says that its layer is called ``head``.

    Args:
        path: in a file of Keras 3.
        layer_name: the name that a group says its layer has; empty if it says none.
    """
    parts = path.split("/")
    if len(parts) < 2 or parts[-2] != "vars" or not parts[-1].isdigit():
        return path
    owner = parts[:-2]
    named: list[str] = []
    for index, part in enumerate(owner):
        if index and owner[index - 1] == "layers":
            named[-1:] = [layer_name("/".join(owner[: index + 1])) or part]
        else:
            named.append(part)
    return "/".join([*named, parts[-1]])


def _dtype(dataset: Any) -> str:
    """The dtype's name; Keras stores bfloat16 as opaque bytes and says so in an attribute."""
    recorded = dataset.attrs.get("dtype")
    if dataset.dtype.kind == "V" and isinstance(recorded, str) and recorded in BY_NAME:
        return recorded
    name: str = dataset.dtype.name
    return name
