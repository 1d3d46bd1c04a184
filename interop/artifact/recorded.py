"""The Keras model behind a plain ``.onnx`` file, in one entry of the file's metadata.

Enters: a dict of plain values, or the text of an entry. Leaves: the other of the two. The entry is JSON, deflated, in
base64: the configs of a network repeat themselves, and take a twentieth of their size.

Invariants: reading it runs nothing and makes no more than ``MAX_BYTES``; whether what it says is true of the graph is
for the reader to find out (``rebuild/original.py``).
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import ArtifactError
from interop.formats.dtypes import numpy_dtype

KEY = "interop.config"
"""Of the entry in ``ModelProto.metadata_props``."""

FORMAT = 1
"""The version this code writes, and the newest it reads."""

MAX_BYTES = 64 << 20
"""A longer text is refused before it is read."""

_LEVEL = 6


def encoded(content: Mapping[str, Any]) -> str:
    """The entry's text."""
    text = json.dumps({"format": FORMAT, **content}, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), _LEVEL)).decode()


def decoded(text: str) -> dict[str, Any]:
    """What an entry says.

    Raises:
        ArtifactError: it is no such entry, or is of a newer version.
    """
    try:
        stream = zlib.decompressobj()
        plain = stream.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
        if stream.unconsumed_tail:
            raise ArtifactError(f"it holds more than {MAX_BYTES >> 20} MiB")
        content = json.loads(plain)
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        raise (
            error if isinstance(error, ArtifactError) else ArtifactError(f"it is damaged: {error}")
        ) from error
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise ArtifactError("it is damaged: it says no format")
    if content["format"] > FORMAT:
        raise ArtifactError(f"it has format {content['format']}; this interop reads {FORMAT}")
    return content


def array_to_json(array: NDArray[Any]) -> dict[str, Any]:
    """An array of numbers, little endian, row by row."""
    data = base64.b64encode(_little(np.ascontiguousarray(array)).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def array_from_json(value: Any) -> NDArray[Any]:
    """The array.

    Raises:
        ArtifactError: it is none.
    """
    try:
        data = bytearray(base64.b64decode(value["data"], validate=True))
        return _little(np.frombuffer(data, numpy_dtype(value["dtype"]))).reshape(value["shape"])
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ArtifactError(f"it holds a broken array: {error}") from error


def _little(array: NDArray[Any]) -> NDArray[Any]:
    """From this machine's order of bytes to little endian, or back."""
    return array.byteswap() if sys.byteorder == "big" else array
