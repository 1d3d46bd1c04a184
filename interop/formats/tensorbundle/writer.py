"""A checkpoint is written: one tensor at a time into a data file, then the index.

Enters: sources by key, whose dtype may be ``"string"`` (``read`` then gives an object array of ``bytes``). Leaves: the
bytes of ``<prefix>.data-...`` and of ``<prefix>.index``.

Invariants: tensors lie in the order of their keys, without gaps; the same tensors give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.messages import varint
from interop.formats.source import TensorSource, little_endian_bytes
from interop.formats.tensorbundle import schema
from interop.formats.tensorbundle.elements import NUMBERS, STRING, array_dtype
from interop.formats.tensorbundle.reader import strings_crc
from interop.formats.tensorbundle.table import masked, table_bytes

_PIECE_BYTES = 4 << 20


def write_data(file: BinaryIO, sources: Mapping[str, TensorSource]) -> dict[str, Any]:
    """Write the tensors of a checkpoint with one data file; returns what `write_index` needs.

    Raises:
        FormatError: a dtype that TensorFlow does not have, or values that are not what was announced.
    """
    entries, offset = {}, 0
    for key in sorted(sources, key=str.encode):
        source = sources[key]
        if not key or key.startswith("\0"):
            raise FormatError(f"a tensor cannot be called {key!r} in a checkpoint")
        if source.dtype not in NUMBERS:
            raise FormatError(f"tensor {key!r} has dtype {source.dtype}, which a checkpoint cannot hold")
        array = source.read()
        if array.shape != tuple(source.shape) or array.dtype != array_dtype(source.dtype):
            raise FormatError(
                f"tensor {key!r} was announced as {source.dtype}{list(source.shape)} "
                f"but its values are {array.dtype.name}{list(array.shape)}"
            )
        size, crc = _write_strings(file, array) if source.dtype == STRING else _write_numbers(file, array)
        shape = schema.message("Shape", dim=[schema.message("Dim", size=dim) for dim in array.shape])
        entries[key] = schema.message(
            "BundleEntry",
            dtype=NUMBERS[source.dtype],
            shape=shape,
            offset=offset,
            size=size,
            crc32c=masked(crc),
        )
        offset += size
    return entries


def write_index(entries: Mapping[str, Any], *, shards: int = 1) -> bytes:
    """The index of what `write_data` wrote: the first of `shards` data files, of which the others are empty."""
    version = schema.message("Version", producer=1)
    header = schema.message("BundleHeader", num_shards=shards, version=version)
    pairs = {b"": header.SerializeToString()}
    for key, entry in entries.items():
        # TensorFlow asks whether a scalar has a shape, not whether the shape has dimensions.
        entry.shape.SetInParent()
        pairs[key.encode()] = entry.SerializeToString(deterministic=True)
    return table_bytes(pairs)


def _write_numbers(file: BinaryIO, array: NDArray[Any]) -> tuple[int, int]:
    data = np.frombuffer(little_endian_bytes(array), np.uint8)
    crc = 0
    for start in range(0, data.size, _PIECE_BYTES):
        piece = data[start : start + _PIECE_BYTES]
        crc = google_crc32c.extend(crc, piece)
        file.write(piece.data)
    return data.size, crc


def _write_strings(file: BinaryIO, array: NDArray[Any]) -> tuple[int, int]:
    items = [bytes(item) for item in array.reshape(-1)]
    lengths = [len(item) for item in items]
    crc = strings_crc(lengths)
    stored = masked(crc).to_bytes(4, "little")
    head, content = b"".join(map(varint, lengths)) + stored, b"".join(items)
    file.write(head + content)
    crc = google_crc32c.extend(google_crc32c.extend(crc, stored), content)
    return len(head) + len(content), crc
