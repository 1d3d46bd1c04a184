"""An artifact is written: its files together, or none.

What enters: a config, a function that serialises the graph once it knows where each weight lies, and
sources of tensors. What leaves: a folder or a zip (a path ending in ``.interop``). Weights that are known before
the graph is are written and hashed while it is being made.

Invariants: a writer never publishes what its own reader would refuse; the same model gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interop.artifact import config as config_file
from interop.artifact import guard, publish, sinks
from interop.artifact.ahead import Ahead
from interop.artifact.files import (
    CONFIG,
    GRAPH,
    MAX_GRAPH_BYTES,
    NAMES,
    OPTIMIZER,
    WEIGHTS,
    FileRecord,
    is_zip,
)
from interop.artifact.schema import parse_model
from interop.artifact.tensors import Placement, TensorFile
from interop.errors import ArtifactError
from interop.formats.source import TensorSource


@dataclass(frozen=True)
class BundleFiles:
    """What was written: the artifact's path, each file's record, and the bytes on disk in all."""

    path: Path
    records: dict[str, FileRecord]
    size_bytes: int


def write_bundle(
    path: str | os.PathLike[str],
    *,
    config: dict[str, Any],
    graph: Callable[[Mapping[str, Placement]], bytes],
    weights: Mapping[str, TensorSource],
    optimizer: Mapping[str, TensorSource] | None = None,
    overwrite: bool = True,
) -> BundleFiles:
    """Write an artifact atomically.

    Args:
        path: where; the zip form if it ends in ``.interop``, else a folder.
        config: everything of ``config.json`` but ``files`` and ``digest``, which are added.
        graph: given where each weight lies, returns the serialised ``ModelProto`` whose every initializer is
            external data there.
        weights: key to source; each is read once, when it is written.
        optimizer: the same for the optimizer's variables; None or empty: no such file.
        overwrite: whether an existing artifact is replaced.

    Returns:
        What was written.

    Raises:
        FileExistsError: something exists and `overwrite` is false, or it holds foreign entries (listed).
        ArtifactError: what was to be written is no valid artifact; nothing was replaced.
        OSError: the disk is full or fails; nothing was replaced.
    """
    with writing(path, overwrite=overwrite) as writer:
        return writer.finish(config=lambda: config, graph=graph, weights=weights, optimizer=optimizer)


@contextmanager
def writing(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[BundleWriter]:
    """Prepare to write an artifact; what was not finished is removed on the way out.

    Args:
        path: where; the zip form if it ends in ``.interop``, else a folder.
        overwrite: whether an existing artifact is replaced.

    Raises:
        FileExistsError: something exists and `overwrite` is false, or it holds foreign entries (listed).
        FileNotFoundError: the folder it is to be in does not exist.
    """
    path = Path(path)
    with publish.stage(path, overwrite=overwrite) as staging:
        sink = sinks.ArchiveSink(staging.descriptor) if is_zip(path) else sinks.DirectorySink(staging.path)
        with closing(sink), closing(BundleWriter(path, staging, sink)) as writer:
            yield writer


class BundleWriter:
    """An artifact on its way to a path: nothing is there before `finish` has returned."""

    def __init__(self, path: Path, staging: publish.Staging, sink: sinks.Sink) -> None:
        self._path = path
        self._staging = staging
        self._sink = sink
        self._begun: Ahead | None = None

    def begin(self, weights: Mapping[str, TensorSource], steady: bool) -> None:
        """Write weights that are likely to be those of `finish`, while the graph is made.

        Args:
            weights: key to source; read in another thread.
            steady: whether they keep their values until `finish`; else all are read before this returns.
        """
        self._begun = Ahead(TensorFile.plan(WEIGHTS, weights), self._sink)
        if not steady:
            self._begun.result()

    def close(self) -> None:
        """Give up what was begun and not finished."""
        if self._begun is not None:
            self._begun.close()

    def finish(
        self,
        *,
        config: Callable[[], dict[str, Any]],
        graph: Callable[[Mapping[str, Placement]], bytes],
        weights: Mapping[str, TensorSource],
        optimizer: Mapping[str, TensorSource] | None = None,
    ) -> BundleFiles:
        """Write the rest and publish the artifact.

        Arguments and errors are those of `write_bundle`; `config` is called when the graph is made.
        """
        file = TensorFile.plan(WEIGHTS, weights)
        state = TensorFile.plan(OPTIMIZER, optimizer) if optimizer else None
        model = graph(file.placements())
        described = config()
        _check_own(model, described, file)
        added = {WEIGHTS: self._weights(file)}
        if state is not None:
            added[OPTIMIZER] = state.write(self._sink)
        added[GRAPH] = self._sink.add(GRAPH, len(model), [memoryview(model)])
        listed = {name: added[name].record().to_json() for name in NAMES if name in added}
        text = config_file.dump({**described, "files": listed})
        config_file.parse(text)
        added[CONFIG] = self._sink.add(CONFIG, len(text), [memoryview(text)])
        self._sink.finish()
        size = sum(file.size for file in added.values())
        if is_zip(self._path):
            size = os.fstat(self._staging.descriptor).st_size
        self._staging.publish()
        return BundleFiles(self._path, {name: added[name].record() for name in NAMES if name in added}, size)

    def _weights(self, file: TensorFile) -> sinks.Added:
        """What was begun, if that is what was meant to be written."""
        if self._begun is not None:
            added = self._begun.result()
            if self._begun.file.layout == file.layout:
                return added
            self._sink.clear()
        return file.write(self._sink)


def _check_own(model: bytes, config: dict[str, Any], weights: TensorFile) -> None:
    """Refuse to write what the reader would refuse to open."""
    if len(model) > MAX_GRAPH_BYTES:
        raise ArtifactError(
            f"{GRAPH} would be {len(model)} bytes; a reader accepts {MAX_GRAPH_BYTES} at most"
        )
    guard.check_variables(config["variables"], weights.layout.entries)
    guard.check_artifact_graph(parse_model(model), weights.layout.entries)
