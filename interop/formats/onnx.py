"""The initializers of an ``.onnx`` file, without onnx: what a graph learned, by the graph's own names.

What enters: a path. What leaves: a lazy mapping; a tensor's values are read when it is asked for, from the file or
from the one beside it that the graph names. Constants inside nodes and subgraphs are no initializers and stay out.

Invariants: the file is mapped and never held; external data lies in the folder of the graph; a tensor has as many
bytes as its shape says.

Spec: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, TensorProto
"""

from __future__ import annotations

import math
import mmap
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.dtypes import BY_ONNX, HALF_BYTES, numpy_dtype, size_bytes
from interop.formats.mapping import TensorMapping
from interop.formats.messages import ONNX_TENSOR, message_classes
from interop.formats.wire import fields

_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_RAW_DATA = 9  # of TensorProto
_STRING, _COMPLEX128, _UINT4, _INT4 = 8, 15, 21, 22
_OTHERS = {_STRING: "string", _COMPLEX128: "complex128", _UINT4: "uint4", _INT4: "int4"}
_MOST_AXES = 32
_TYPED = {
    **dict.fromkeys(("float32", "complex64"), "float_data"),
    **dict.fromkeys(("float64", "complex128"), "double_data"),
    **dict.fromkeys(("uint32", "uint64"), "uint64_data"),
    "int64": "int64_data",
    "string": "string_data",
}


class _Place(NamedTuple):
    """Where the values of a tensor are: its bytes in the graph's file or another, or its whole message, if `typed`."""

    dtype: str
    shape: tuple[int, ...]
    file: Path | None
    start: int
    end: int
    typed: bool = False


@cache
def _tensor_message() -> Any:
    return message_classes("interop.formats.onnx", ONNX_TENSOR)["TensorProto"]


def open_file(path: Path) -> TensorMapping:
    """Open a graph's initializers.

    Raises:
        FormatError: the file is no graph, a tensor is not what its shape says, or lies outside of the folder.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise FormatError(f"{path} is empty")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        with memoryview(mapped) as data:
            places = _places(data, path)
    except (DecodeError, ValueError) as error:
        mapped.close()
        raise FormatError(f"{path}: no valid .onnx file: {error}") from error

    def read(name: str) -> NDArray[Any]:
        place = places[name]
        if place.file is not None:
            with place.file.open("rb") as beside:
                beside.seek(place.start)
                return _array(name, place, beside.read(place.end - place.start), path)
        held = mapped[place.start : place.end]
        return _typed(held, place) if place.typed else _array(name, place, held, path)

    specs = {name: (place.dtype, place.shape) for name, place in places.items()}
    return TensorMapping(specs, read, mapped.close, str(path))


def _places(data: memoryview, path: Path) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for start, end in _initializers(data):
        raw, header = None, bytearray()
        for field in fields(data, start, end):
            if field.number == _RAW_DATA and field.is_chunk:
                raw = field.value, field.end
            else:
                header += data[field.start : field.end]
        tensor = _tensor_message().FromString(bytes(header))
        if not tensor.name or tensor.name in places:
            raise FormatError(f"two initializers are called {tensor.name!r}, or one has no name")
        places[tensor.name] = _place(tensor, raw, (start, end), path)
    return places


def _initializers(data: memoryview) -> Iterator[tuple[int, int]]:
    found = False
    for outer in fields(data, 0, len(data)):
        if outer.number == _GRAPH and outer.is_chunk:
            found = True
            for inner in fields(data, outer.value, outer.end):
                if inner.number == _INITIALIZER and inner.is_chunk:
                    yield inner.value, inner.end
    if not found:
        raise FormatError("it holds no graph")


def _place(tensor: Any, raw: tuple[int, int] | None, whole: tuple[int, int], path: Path) -> _Place:
    where, shape = f"initializer {tensor.name!r}", tuple(tensor.dims)
    row = BY_ONNX.get(tensor.data_type)
    dtype = row.name if row is not None else _OTHERS.get(tensor.data_type)
    if dtype is None:
        raise FormatError(f"{where} has the element type {tensor.data_type}, which NumPy has no name for")
    if len(shape) > _MOST_AXES or (shape and min(shape) < 0):
        raise FormatError(f"{where} has shape {list(shape)}")
    needed = _bytes_of(dtype, shape)
    if tensor.data_location:
        return _outside(tensor, dtype, shape, needed, where, path.parent)
    if raw is not None:
        if dtype == "string" or raw[1] - raw[0] != needed:
            raise FormatError(f"{where} is {dtype}{list(shape)} and holds {raw[1] - raw[0]} bytes")
        return _Place(dtype, shape, None, *raw)
    count = len(getattr(tensor, _TYPED.get(dtype, "int32_data")))
    values = math.prod(shape)
    if count != (-(-values // 2) if dtype in HALF_BYTES else values * (1 + dtype.startswith("complex"))):
        raise FormatError(f"{where} is {dtype}{list(shape)} and holds {count} values")
    return _Place(dtype, shape, None, *whole, typed=True)


def _bytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    if dtype == "string":
        return 0
    return 16 * math.prod(shape) if dtype == "complex128" else size_bytes(dtype, shape)


def _outside(
    tensor: Any, dtype: str, shape: tuple[int, ...], needed: int, where: str, folder: Path
) -> _Place:
    """Values in a file of the same folder."""
    found = {entry.key: entry.value for entry in tensor.external_data}
    location, root = found.get("location", ""), os.path.realpath(folder)
    file = os.path.realpath(os.path.join(root, location))
    if not location or os.path.isabs(location) or os.path.commonpath([root, file]) != root:
        raise FormatError(f"{where} has its data in {location!r}, outside the folder of the model")
    if not os.path.isfile(file):
        raise FormatError(f"{where} has its data in {location!r}, which is no file beside the model")
    numbers = [found.get("offset", "0"), found.get("length", str(needed))]
    if dtype == "string" or not all(re.fullmatch(r"[0-9]{1,18}", number) for number in numbers):
        raise FormatError(f"{where} is {dtype} with external data at {numbers}")
    start, length = map(int, numbers)
    if length != needed or start + length > os.path.getsize(file):
        raise FormatError(f"{where} needs {needed} bytes; {location!r} has not got them at {start}")
    return _Place(dtype, shape, Path(file), start, start + length)


def _array(name: str, place: _Place, held: bytes, path: Path) -> NDArray[Any]:
    if len(held) != place.end - place.start:
        raise FormatError(f"{path}: the file of {name!r} has become shorter")
    if place.dtype in HALF_BYTES:
        return _halves(np.frombuffer(held, np.uint8), place)
    dtype = np.dtype("complex128") if place.dtype == "complex128" else numpy_dtype(place.dtype)
    return np.frombuffer(held, dtype.newbyteorder("<")).astype(dtype).reshape(place.shape)


def _halves(packed: NDArray[np.uint8], place: _Place) -> NDArray[Any]:
    """Two values in a byte, the first in its low half."""
    import ml_dtypes

    both = np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(-1)[: math.prod(place.shape)]
    if place.dtype == "int4":
        both = ((both.astype(np.int8) ^ 8) - 8).astype(np.int8)
    return both.astype(getattr(ml_dtypes, place.dtype)).reshape(place.shape)


def _typed(message: bytes, place: _Place) -> NDArray[Any]:
    values = getattr(_tensor_message().FromString(message), _TYPED.get(place.dtype, "int32_data"))
    if place.dtype == "string":
        made = np.empty(len(values), object)
        made[:] = list(values)
        return made.reshape(place.shape)
    if place.dtype in HALF_BYTES:
        return _halves(np.array(values, np.int64).astype(np.uint8), place)
    if place.dtype.startswith("complex"):
        parts = np.array(values, "float32" if place.dtype == "complex64" else "float64")
        return parts.view(place.dtype).reshape(place.shape)
    dtype = numpy_dtype(place.dtype)
    if place.dtype == "float16" or place.dtype.startswith(("bfloat", "float8")):  # their bits
        bits = np.array(values, np.int64).astype(f"uint{8 * dtype.itemsize}")
        return bits.view(dtype).reshape(place.shape)
    return np.array(values).astype(dtype).reshape(place.shape)
