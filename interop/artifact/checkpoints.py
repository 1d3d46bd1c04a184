"""TensorFlow checkpoints and other weight files, written so that a reader finds the old one or the new one, whole.

Enters: sources by key and where to. Leaves: the files.

A checkpoint is two files or more, which no file system replaces in one step. Its index says how many data files there
are, and their names say it too: a checkpoint that replaces another is written with another number of data files, so
both stand side by side until the new index, in one rename, takes the place of the old.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from interop.artifact.publish import stage_file
from interop.formats.source import TensorSource
from interop.formats.tensorbundle.files import STATE_FILE, files_of, index_of, shard_of
from interop.formats.tensorbundle.writer import write_data, write_index

_SHARDS = re.compile(r"\.data-\d{5}-of-(\d{5})$")


def write_checkpoint(prefix: Path, sources: Mapping[str, TensorSource]) -> None:
    """Write a checkpoint; what was at the prefix is replaced in one step. Its folder is made, as TensorFlow makes it.

    Raises:
        FormatError: a tensor that a checkpoint cannot hold; what was there is intact.
        OSError: the disk is full or fails; what was there is intact.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    old = [path for path in files_of(prefix) if _SHARDS.search(path.name)]
    taken = {int(match[1]) for path in old if (match := _SHARDS.search(path.name))}
    shards = 1 if 1 not in taken else 2 if 2 not in taken else max(taken) + 1
    with stage_file(shard_of(prefix, 0, shards)) as staging:
        with os.fdopen(os.dup(staging.descriptor), "wb") as file:
            entries = write_data(file, sources)
        staging.publish()
    for empty in range(1, shards):
        shard_of(prefix, empty, shards).touch()
    write_file(index_of(prefix), write_index(entries, shards=shards))
    for path in old:
        path.unlink()


def write_state(folder: Path, newest: str, kept: Sequence[str]) -> None:
    """Tell TensorFlow's ``latest_checkpoint(folder)`` which checkpoints there are, oldest first."""
    lines = [f'model_checkpoint_path: "{_quoted(newest)}"']
    lines += [f'all_model_checkpoint_paths: "{_quoted(name)}"' for name in kept]
    write_file(folder / STATE_FILE, ("\n".join(lines) + "\n").encode())


def write_file(path: Path, data: bytes) -> None:
    """Write a small file in one step."""
    with stage_file(path) as staging:
        with os.fdopen(os.dup(staging.descriptor), "wb") as file:
            file.write(data)
        staging.publish()


def _quoted(name: str) -> str:
    """A name in protobuf's text format."""
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in name.encode()
    )
