"""What the files of a checkpoint are called, and which checkpoint a path means.

Enters: a path. Leaves: a prefix, or the name of one of its files.
"""

from __future__ import annotations

import re
from pathlib import Path

from interop.errors import FormatError

INDEX_SUFFIX = ".index"
STATE_FILE = "checkpoint"
"""The text file in which TensorFlow keeps the name of the newest checkpoint of a folder."""

_NEWEST = re.compile(rb'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_MAX_STATE_BYTES = 1 << 20


def index_of(prefix: Path) -> Path:
    """The index of a checkpoint."""
    return prefix.with_name(prefix.name + INDEX_SUFFIX)


def shard_of(prefix: Path, shard: int, shards: int) -> Path:
    """A file with tensors of a checkpoint."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def files_of(prefix: Path) -> list[Path]:
    """The files of a checkpoint that exist: its index, and all its data files."""
    escaped = re.escape(prefix.name)
    name = re.compile(rf"{escaped}(\.data-\d{{5}}-of-\d{{5}}|{re.escape(INDEX_SUFFIX)})")
    return sorted(path for path in prefix.parent.iterdir() if name.fullmatch(path.name))


def find_prefix(path: Path) -> Path | None:
    """The prefix that a path means, or None if there is no checkpoint.

    A path is a prefix, an index file, a folder with a ``checkpoint`` state file (its newest), or a SavedModel.

    Raises:
        FormatError: the state file cannot be read.
    """
    if path.name and index_of(path).is_file():
        return path
    if path.name.endswith(INDEX_SUFFIX) and path.is_file():
        return path.with_name(path.name.removesuffix(INDEX_SUFFIX))
    if (path / "saved_model.pb").is_file() and index_of(path / "variables" / "variables").is_file():
        return path / "variables" / "variables"
    if (path / STATE_FILE).is_file():
        return _newest(path / STATE_FILE)
    return None


def _newest(state: Path) -> Path:
    with state.open("rb") as file:
        match = _NEWEST.search(file.read(_MAX_STATE_BYTES))
    try:
        name = match[1].decode("unicode_escape").encode("latin-1").decode() if match else ""
    except UnicodeError as e:
        raise FormatError(f"{state}: the name of the newest checkpoint is not text: {e}") from e
    if not name or "\0" in name:
        raise FormatError(f"{state}: it does not name a newest checkpoint")
    return state.parent / name
