"""What kind of file of Keras something is, told by its first bytes; no framework is imported.

Enters: a path. Leaves: a `Kind`, or None for what is not Keras' own (an artifact, a graph).
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Literal

from interop.errors import FormatError
from interop.formats.keras_zip import is_unzipped

Kind = Literal["h5", "keras", "json", "saved_model"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_GARBAGE = (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, OSError, RuntimeError, ValueError)


def kind_of(path: Path) -> Kind | None:
    """The kind of a file, or of a folder."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "saved_model"
        return "keras" if is_unzipped(path) else None
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start == _HDF5:
        return "h5"
    if start.startswith(_ZIP) and path.suffix == ".keras":
        return "keras"
    if path.suffix == ".json":
        return "json"
    return _CLAIMED.get(path.suffix.lower())


_CLAIMED: dict[str, Kind] = {".keras": "keras", ".h5": "h5", ".hdf5": "h5"}
"""What a file is opened as, to say what is wrong with it, if its bytes do not tell."""


def read_json(data: bytes | str, source: str) -> dict[str, Any]:
    """JSON that is a mapping.

    Raises:
        FormatError: it is none.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{source} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{source} holds {type(found).__name__}; expected the config of a model")
    return found


def zipped_json(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config and the metadata in a ``.keras`` file, or a folder that Keras wrote with ``zipped=False``.

    Raises:
        FormatError: it is no such file.
    """
    names = ("config.json", "metadata.json")
    try:
        if path.is_dir():
            texts = [(path / name).read_bytes() for name in names]
        else:
            with zipfile.ZipFile(path) as archive:
                texts = [archive.read(name) for name in names]
    except _GARBAGE as error:
        raise FormatError(f"{path}: not a .keras file: {error}") from error
    config, metadata = (read_json(text, f"{path}: its config") for text in texts)
    return config, metadata


def is_old(version: Any) -> bool:
    """Whether a version of Keras, as files have it, is before 3."""
    return not isinstance(version, str) or version.split(".")[0] in ("0", "1", "2", "")
