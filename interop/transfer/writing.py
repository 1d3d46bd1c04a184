"""Files of tensors written anew, with other values under the same names.

Enters: a path, and sources by name. Leaves: the path. Invariants: all else in the file stays (metadata, layout,
configs, optimizer, text); one tensor is in memory at a time; a file is the old one until the new one is complete.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from interop.artifact.checkpoints import write_checkpoint
from interop.artifact.publish import rename_exchange, stage_file
from interop.artifact.sinks import SyncedFile
from interop.errors import WeightsError
from interop.formats import found, h5, keras_zip, npz, open_tensors, orbax, safetensors, shards, torch
from interop.formats.dtypes import numpy_dtype
from interop.formats.source import MappedSource, TensorSource

Sources = Mapping[str, TensorSource]


def rewrite(path: Path, sources: Sources) -> Path:
    """Replace tensors of a file.

    Args:
        path: a file that `open_tensors` opens.
        sources: new values by name; of the shapes that the file has, and cast to its dtypes.

    Raises:
        FormatError: the file is damaged, or of a kind that is not written.
        OSError: the disk is full or fails; what was there is intact.
    """
    row, real = found(path)
    with open_tensors(path) as tensors:
        cast = {name: Cast(source, tensors.dtypes[name]) for name, source in sources.items()}
    _REWRITERS[row.name](real, cast)
    return path


def write_new(path: Path, sources: Sources) -> Path:
    """Write a file that is not there yet: ``.safetensors`` or ``.npz``.

    Raises:
        WeightsError: another ending.
    """
    writers = {".safetensors": safetensors.write, ".npz": npz.write}
    if path.suffix not in writers:
        raise WeightsError(
            f"{path} does not exist. A new file is written as {' or '.join(writers)}; for any other kind, give one "
            "with the names and shapes that are wanted, and its values are replaced"
        )
    _staged(path, lambda file: writers[path.suffix](file, sources))
    return path


@dataclass(frozen=True, eq=False)
class Cast:
    """A source in another dtype."""

    source: TensorSource
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def read(self) -> NDArray[Any]:
        return self.source.read().astype(numpy_dtype(self.dtype), copy=False)


def _staged(path: Path, write: Callable[[BinaryIO], None]) -> None:
    with stage_file(path) as staging:
        with io.BufferedWriter(SyncedFile(staging.descriptor)) as file:
            write(file)
        staging.publish()


def _safetensors(path: Path, sources: Sources) -> None:
    _staged(path, lambda file: safetensors.rewrite(path, file, sources))


def _torch(path: Path, sources: Sources) -> None:
    _staged(path, lambda file: torch.rewrite(path, file, sources))


def _npz(path: Path, sources: Sources) -> None:
    with npz.open_file(path) as tensors:
        merged = {name: sources.get(name) or MappedSource(tensors, name) for name in tensors}
        _staged(path, lambda file: npz.write(file, merged))


def _h5(path: Path, sources: Sources) -> None:
    with stage_file(path) as staging:
        shutil.copyfile(path, staging.path)
        h5.replace(staging.path, sources)
        staging.publish()


def _keras(path: Path, sources: Sources) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        inside = Path(folder) / "weights.h5"
        with keras_zip.open_member(path) as member, inside.open("wb") as file:
            shutil.copyfileobj(member, file)
        h5.replace(inside, sources)
        _staged(path, lambda file: keras_zip.rewrite(path, file, inside))


def _checkpoint(prefix: Path, sources: Sources) -> None:
    with open_tensors(prefix, "tf") as tensors:
        write_checkpoint(prefix, {name: sources.get(name) or MappedSource(tensors, name) for name in tensors})


def _shards(index: Path, sources: Sources) -> None:
    """Every file is complete before the first takes its place."""
    files: dict[str, dict[str, TensorSource]] = {}
    where = shards.read_index(index)
    for name, source in sources.items():
        files.setdefault(where[name], {})[name] = source
    with ExitStack() as stack:
        staged = []
        for file, some in files.items():
            path = index.parent / file
            row, _ = found(path)
            if row.name not in ("safetensors", "torch"):
                raise WeightsError(f"{path}: shards are written as .safetensors and .bin, not as {row.name}")
            staging = stack.enter_context(stage_file(path))
            with io.BufferedWriter(SyncedFile(staging.descriptor)) as new:
                (safetensors if row.name == "safetensors" else torch).rewrite(path, new, some)
            staged.append(staging)
        for staging in staged:
            staging.publish()


def _orbax(item: Path, sources: Sources) -> None:
    with tempfile.TemporaryDirectory(dir=item.parent, prefix=f".{item.name}.") as folder:
        copy = Path(folder) / item.name
        shutil.copytree(item, copy)
        orbax.replace(copy, sources)
        rename_exchange(copy, item)


_REWRITERS: dict[str, Callable[[Path, Sources], None]] = {
    "safetensors": _safetensors,
    "shards": _shards,
    "npz": _npz,
    "h5": _h5,
    "keras": _keras,
    "torch": _torch,
    "tf": _checkpoint,
    "orbax": _orbax,
}
