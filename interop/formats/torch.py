"""What ``torch.save`` writes (``.pt``, ``.pth``, ``.bin``), read without PyTorch and without unpickling.

Enters: a path. Leaves: a lazy mapping of every tensor in the file, by its way through dicts, lists and modules:
``{"model": {"0.weight": w}}`` has ``model.0.weight``. Of a module that was saved as a whole, the tensors have the names
of its ``state_dict``; its code is not needed.

The pickle in the file is read as a description (see `opcodes`): whatever it would call is only compared by name with
the few functions that make tensors, and what is none of these is passed over.

Invariants: a tensor never reaches outside its storage; a storage's checksum is checked before its first use, where
there is one (files of PyTorch before 1.6 have none).

Layout: ``torch/serialization.py`` and ``caffe2/serialize/inline_container.h`` in PyTorch.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.dtypes import BY_NAME, numpy_dtype
from interop.formats.keras_zip import GARBAGE
from interop.formats.mapping import TensorMapping
from interop.formats.opcodes import Call, Global, Reference, described
from interop.formats.source import TensorSource

_ZIP = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_NAMES = 1_000_000
_DEEPEST = 100
_MAX_RANK = 32
_ALIGNMENT = 64
_MODULE_PARTS = ("_parameters", "_buffers", "_modules")

_STORAGES = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True)
class View:
    """A tensor: where it lies in which storage; steps and start count elements."""

    storage: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    steps: tuple[int, ...]

    @property
    def end_bytes(self) -> int:
        """Bytes of its storage that it needs."""
        if 0 in self.shape:
            return 0
        reach = sum((size - 1) * step for size, step in zip(self.shape, self.steps, strict=True))
        return (self.start + reach + 1) * BY_NAME[self.dtype].itemsize

    def of(self, data: Any) -> NDArray[Any]:
        """The tensor as a view of its storage's bytes."""
        dtype = numpy_dtype(self.dtype)
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        flat = np.frombuffer(
            data, dtype, self.end_bytes // dtype.itemsize - self.start, self.start * dtype.itemsize
        )
        return as_strided(flat, self.shape, [step * dtype.itemsize for step in self.steps])


@dataclass(frozen=True)
class _Stored:
    """A file that is open: its tensors, how long each storage is, and what reads one."""

    views: dict[str, View]
    sizes: Mapping[str, int]
    read: Callable[[str], bytes]
    close: Callable[[], None]
    big_endian: bool = False


def open_file(path: Path) -> TensorMapping:
    """Open a file of ``torch.save``.

    Raises:
        FormatError: it is none, is damaged, or holds no tensors.
        OSError: it cannot be opened.
    """
    file = path.open("rb")
    try:
        stored = _opened(file, str(path))
        for name, view in stored.views.items():
            if view.end_bytes > stored.sizes.get(view.storage, -1):
                raise FormatError(f"{path}: tensor {name!r} reaches outside of its storage {view.storage!r}")
        if not stored.views:
            raise FormatError(
                f"{path}: no tensors are in it; expected what torch.save(model.state_dict(), ...) writes"
            )
    except FormatError:
        file.close()
        raise
    except GARBAGE as error:
        file.close()
        raise FormatError(f"{path}: not what torch.save writes: {error}") from error
    last: dict[str, bytes] = {}

    def read(name: str) -> NDArray[Any]:
        view = stored.views[name]
        try:
            if view.storage not in last:
                last.clear()
                last[view.storage] = stored.read(view.storage)
            array = view.of(last[view.storage])
        except FormatError:
            raise
        except GARBAGE as error:
            raise FormatError(f"{path}: tensor {name!r} is damaged: {error}") from error
        return array.byteswap() if stored.big_endian else array

    def close() -> None:
        last.clear()
        stored.close()

    specs = {name: (view.dtype, view.shape) for name, view in stored.views.items()}
    return TensorMapping(specs, read, close, str(path))


def rewrite(path: Path, file: BinaryIO, sources: Mapping[str, TensorSource]) -> None:
    """Write a file that is what the one at `path` is, but for the tensors given; one storage is in memory at a time.

    Raises:
        FormatError: it is a file of PyTorch before 1.6, or damaged.
    """
    with path.open("rb") as old:
        if old.read(len(_ZIP)) != _ZIP:
            raise FormatError(
                f"{path} was written by PyTorch before 1.6, and is not changed here; load it and save it anew"
            )
        old.seek(0)
        stored = _opened(old, str(path))
        if stored.big_endian:
            raise FormatError(f"{path} is big-endian, and is not changed here; load it and save it anew")
        changed: dict[str, list[str]] = {}
        for name in sources:
            changed.setdefault(stored.views[name].storage, []).append(name)
        with zipfile.ZipFile(old) as before, zipfile.ZipFile(file, "w") as after:
            for info in before.infolist():
                data = bytearray(before.read(info))
                for name in changed.get(_storage_key(info.filename) or "", ()):
                    stored.views[name].of(memoryview(data))[...] = sources[name].read()
                made = zipfile.ZipInfo(info.filename, info.date_time)
                start = file.tell() + 30 + len(info.filename.encode())
                made.extra = _padding(start)
                after.writestr(made, memoryview(data))


def _padding(start: int) -> bytes:
    """An extra field after which data that would begin at `start` is aligned, as PyTorch writes it."""
    missing = -(start + 4) % _ALIGNMENT
    return b"FB" + missing.to_bytes(2, "little") + b"Z" * missing


def _opened(file: BinaryIO, source: str) -> _Stored:
    start = file.read(len(_ZIP))
    file.seek(0)
    return _zipped(file, source) if start == _ZIP else _sequence(file, source)


def _storage_key(filename: str) -> str | None:
    """``archive/data/3`` -> ``3``; None for what is no storage."""
    parts = filename.split("/")
    return parts[-1] if len(parts) >= 2 and parts[-2] == "data" else None


def _zipped(file: BinaryIO, source: str) -> _Stored:
    archive = zipfile.ZipFile(file)
    packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise FormatError(f"{source}: {packed[0]} is compressed, which torch.save never does")
    infos = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in infos if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise FormatError(f"{source}: it has {len(pickles)} data.pkl; expected one, as torch.save writes")
    folder = pickles[0].removesuffix("data.pkl")
    storages = {
        key: info
        for name, info in infos.items()
        if name.startswith(folder) and (key := _storage_key(name)) is not None
    }
    order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in infos else b"little"
    views = dict(_named(described(archive.read(pickles[0]), source), source))
    return _Stored(
        views,
        {key: info.file_size for key, info in storages.items()},
        lambda key: archive.read(storages[key]),
        file.close,
        order.strip() == b"big",
    )


def _sequence(file: BinaryIO, source: str) -> _Stored:
    """The form before PyTorch 1.6: four pickles, the keys of storages, then each with its length before it."""
    if described(file, source) != _MAGIC:
        raise FormatError(f"{source}: not what torch.save writes")
    described(file, source)
    system = described(file, source)
    views = dict(_named(described(file, source), source))
    keys = described(file, source)
    itemsize = {view.storage: BY_NAME[view.dtype].itemsize for view in views.values()}
    places: dict[str, tuple[int, int]] = {}
    end = file.seek(0, 1)
    size = file.seek(0, 2)
    for key in map(str, keys if isinstance(keys, list) else []):
        file.seek(end)
        count = int.from_bytes(file.read(8), "little")
        places[key] = (end + 8, count * itemsize.get(key, 1))
        end += 8 + places[key][1]
    if end > size:
        raise FormatError(f"{source}: it ends before its tensors do")

    def read(key: str) -> bytes:
        file.seek(places[key][0])
        return file.read(places[key][1])

    little = not isinstance(system, dict) or system.get("little_endian", True)
    return _Stored(views, {key: length for key, (_, length) in places.items()}, read, file.close, not little)


def _named(root: Any, source: str) -> Iterator[tuple[str, View]]:
    """Every tensor under a value, by its way."""
    seen: set[str] = set()
    visited = 0
    waiting: list[tuple[str, Any, int]] = [("", root, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        visited += 1
        if visited > _MOST_NAMES or depth > _DEEPEST:
            raise FormatError(f"{source}: it nests too deeply, or names too much")
        view = _view(value, path, source) if isinstance(value, Call) else None
        if view is not None:
            if path in seen:
                raise FormatError(f"{source}: two tensors are called {path!r}")
            seen.add(path)
            yield path, view
            continue
        inner = [(f"{path}.{key}" if path else str(key), item, depth + 1) for key, item in _inside(value)]
        waiting.extend(reversed(inner))


def _inside(value: Any) -> list[tuple[Any, Any]]:
    """What a value holds, by key."""
    if isinstance(value, Call):
        state = value.state if isinstance(value.state, dict) else {}
        held = [(part, state[part]) for part in _MODULE_PARTS if isinstance(state.get(part), dict)]
        if held:
            return [item for _, part in held for item in part.items()]
        return [*value.items.items(), *state.items()]
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    return []


def _view(call: Call, path: str, source: str) -> View | None:
    """The tensor that a call would make; None if it makes something else."""
    for _ in range(4):
        name = call.function.name if isinstance(call.function, Global) else ""
        arguments = call.arguments
        if name.startswith("_rebuild_parameter") and arguments and isinstance(arguments[0], Call):
            call = arguments[0]
        elif name == "_rebuild_from_type_v2" and len(arguments) > 2 and isinstance(arguments[2], tuple):
            call = Call(arguments[0], arguments[2])
        else:
            break
    if not name.startswith("_rebuild"):
        return None
    if name not in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3") or len(arguments) < 4:
        raise FormatError(f"{source}: {path!r} is a tensor of a kind that is not read here ({name})")
    reference, start, shape, steps = arguments[:4]
    kind, key, dtype = _storage(reference)
    if name == "_rebuild_tensor_v3" and len(arguments) > 6 and isinstance(arguments[6], Global):
        dtype = arguments[6].name
    numbers = [start, *shape, *steps] if isinstance(shape, tuple) and isinstance(steps, tuple) else [-1]
    natural = all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)
    if dtype not in BY_NAME or not natural or len(shape) != len(steps) or len(shape) > _MAX_RANK:
        raise FormatError(f"{source}: {path!r} is no tensor that is read here ({kind}, {shape!s:.60})")
    if math.prod(shape) > 1 << 62:
        raise FormatError(f"{source}: {path!r} of shape {shape} is too large")
    return View(key, dtype, shape, start, steps)


def _storage(reference: Any) -> tuple[str, str, str]:
    """Class, key and dtype of a storage."""
    value = reference.value if isinstance(reference, Reference) else None
    if (
        isinstance(value, tuple)
        and len(value) >= 5
        and value[0] == "storage"
        and isinstance(value[1], Global)
    ):
        if len(value) > 5 and value[5] is not None:
            return "a view of a storage", "", ""
        return value[1].name, str(value[2]), _STORAGES.get(value[1].name, "")
    return "no storage", "", ""
