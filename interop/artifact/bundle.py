"""An artifact as a whole: four files written together or not at all, and opened only after they were checked.

What enters: a config, a function that serialises the graph once it knows where each weight lies, and
sources of tensors. What leaves: a folder or a zip (a path ending in ``.interop``), or an open `Bundle`.

Invariants: a writer never publishes what its own reader would refuse; nothing is mapped, and no byte given
to ONNX Runtime, before the guard has passed it; the same model gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from interop.artifact import archive, guard
from interop.artifact import config as config_file
from interop.artifact.files import (
    CONFIG,
    GRAPH,
    MAX_GRAPH_BYTES,
    NAMES,
    OPTIMIZER,
    WEIGHTS,
    FileRecord,
    Region,
    cache_root,
    existing,
    is_zip,
    open_regular,
)
from interop.artifact.relocate import relocate
from interop.artifact.schema import float_types, parse_model
from interop.artifact.signature import Signature
from interop.artifact.tensors import Placement, TensorFile, map_region, read_entries
from interop.errors import ArtifactError, InteropError
from interop.formats.mapping import TensorMapping
from interop.formats.source import ArraySource, TensorSource

if TYPE_CHECKING:
    from interop.artifact.readahead import ReadAhead

__all__ = [
    "ArraySource",
    "Bundle",
    "BundleFiles",
    "Placement",
    "SessionSource",
    "TensorSource",
    "open_bundle",
    "write_bundle",
]


@dataclass(frozen=True)
class BundleFiles:
    """What was written: the artifact's path, each file's record, and the bytes on disk in all."""

    path: Path
    records: dict[str, FileRecord]
    size_bytes: int


@dataclass(frozen=True)
class SessionSource:
    """What ONNX Runtime is given: a path to model.onnx, or bytes and the folder of their locations."""

    model: Path | bytes
    folder: Path


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
    from interop.artifact import publish, sinks

    path = Path(path)
    tensor_files = [TensorFile.plan(WEIGHTS, weights)]
    if optimizer:
        tensor_files.append(TensorFile.plan(OPTIMIZER, optimizer))
    weight_file = tensor_files[0]
    model = graph(weight_file.placements())
    _check_own(model, config, weight_file)
    with publish.stage(path, overwrite=overwrite) as staging:
        sink: sinks.Sink = (
            sinks.ArchiveSink(staging.descriptor) if is_zip(path) else sinks.DirectorySink(staging.path)
        )
        records = {file.name: file.write(sink) for file in tensor_files}
        records[GRAPH] = sink.add(GRAPH, len(model), [memoryview(model)])
        listed = {name: records[name].to_json() for name in NAMES if name in records}
        text = config_file.dump({**config, "files": listed})
        config_file.parse(text)
        records[CONFIG] = sink.add(CONFIG, len(text), [memoryview(text)])
        sink.finish()
        size = os.fstat(staging.descriptor).st_size if is_zip(path) else sum(r.size for r in records.values())
        staging.publish()
    return BundleFiles(path, {name: records[name] for name in NAMES if name in records}, size)


class Bundle:
    """An open, checked artifact.

    Attributes:
        path: the path it was opened by.
        form: ``"directory"`` or ``"zip"``.
        config: the checked content of ``config.json``.
        signature: inputs, outputs and their structures.
        float_types: the float types of its weights, and those it casts to.
    """

    def __init__(self, path: Path, real: Path, regions: dict[str, Region], *, verify_digest: bool) -> None:
        self.path = path
        self.form = "zip" if real.is_file() else "directory"
        self._real = real
        self._regions = regions
        self._verify = verify_digest
        self._opened: dict[str, TensorMapping] = {}
        self.config = config_file.parse(_region(regions, CONFIG).read(config_file.MAX_BYTES))
        self.signature = Signature.from_json(self.config["signature"])
        self._records = {
            name: FileRecord(record["size"], record["sha256"])
            for name, record in self.config["files"].items()
        }
        for name in (GRAPH, WEIGHTS):
            if name not in self._records:
                raise ArtifactError(f"config.json records no {name}")
        graph = _region(regions, GRAPH)
        graph.check_size(self._records[GRAPH])
        self._graph = graph.read(MAX_GRAPH_BYTES)
        graph.check(self._records[GRAPH])
        weights = _region(regions, WEIGHTS)
        weights.check_size(self._records[WEIGHTS])
        self._entries = read_entries(weights)
        guard.check_variables(self.config["variables"], self._entries)
        model = parse_model(self._graph)
        guard.check_artifact_graph(model, self._entries, weights.start)
        self.float_types = float_types(model)
        if verify_digest:
            self.verify_weights()

    def graph_bytes(self) -> bytes:
        """The bytes of ``model.onnx`` as stored, their digest checked."""
        return self._graph

    def verify_weights(self) -> None:
        """Hash ``weights.safetensors``; raises DigestError if it is not what was written."""
        _region(self._regions, WEIGHTS).check(self._records[WEIGHTS])

    @property
    def weights(self) -> TensorMapping:
        """Key to array, mapped in place and read-only; every variable of the model."""
        if WEIGHTS not in self._opened:
            self._opened[WEIGHTS] = map_region(_region(self._regions, WEIGHTS), self._entries)
        return self._opened[WEIGHTS]

    def read_weights(self, *, verify_digest: bool) -> ReadAhead:
        """Begin to read all weights into memory of their own; close it before the bundle."""
        from interop.artifact.readahead import ReadAhead  # opening a graph is faster without its threads

        region, record = _region(self._regions, WEIGHTS), self._records[WEIGHTS]
        return ReadAhead(region, self._entries, record if verify_digest else None)

    def read_optimizer(self, *, verify_digest: bool) -> ReadAhead | None:
        """The same of the optimizer's variables; None if there are none."""
        from interop.artifact.readahead import ReadAhead

        if OPTIMIZER not in self._records:
            return None
        region, record = _region(self._regions, OPTIMIZER), self._records[OPTIMIZER]
        region.check_size(record)
        return ReadAhead(region, read_entries(region), record if verify_digest else None)

    @property
    def framework(self) -> str:
        """Where the model came from: "keras", "torch", ..."""
        return str(self.config.get("source", {}).get("framework", "unknown"))

    @property
    def optimizer(self) -> TensorMapping | None:
        """Key to array of the optimizer's variables, or None if there are none.

        Its digest is checked on first use if the bundle was opened with ``verify_digest=True``.
        """
        if OPTIMIZER not in self._records:
            return None
        if OPTIMIZER not in self._opened:
            region = _region(self._regions, OPTIMIZER)
            region.check_size(self._records[OPTIMIZER])
            if self._verify:
                region.check(self._records[OPTIMIZER])
            self._opened[OPTIMIZER] = map_region(region, read_entries(region))
        return self._opened[OPTIMIZER]

    def session_source(self) -> SessionSource:
        """What ONNX Runtime needs to map the weights in place."""
        if self.form == "directory":
            return SessionSource(self._real / GRAPH, self._real)
        start = _region(self._regions, WEIGHTS).start
        model = parse_model(self._graph)
        return SessionSource(relocate(model, self._real.name, start), self._real.parent)

    def is_current(self) -> bool:
        """Whether the files at the path are still those that were opened (a save may have replaced them)."""
        for name, region in self._regions.items():
            path = self._real if self.form == "zip" else self._real / name
            try:
                if not os.path.samestat(os.stat(path), os.fstat(region.descriptor)):
                    return False
            except FileNotFoundError:
                return False
        return True

    def close(self) -> None:
        """Release the files. Mappings and arrays already taken stay valid."""
        _close(self._regions)
        self._regions = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_bundle(path: str | os.PathLike[str], *, verify_digest: bool) -> Bundle:
    """Open an artifact and check it.

    Args:
        path: a folder or a zip; a link to one is followed.
        verify_digest: hash the weights too (0.5 s per GB); config.json and model.onnx always are.

    Raises:
        FileNotFoundError: nothing is there.
        VersionError: it needs a newer reader.
        UnsafeFileError: it breaks a rule that no writer breaks.
        DigestError: it was changed after it was written.
        ArtifactError: it is no artifact.
    """
    path = Path(path)
    real = existing(path)
    try:
        regions = _open_zip(real) if real.is_file() else _open_directory(real)
        try:
            return Bundle(path, real, regions, verify_digest=verify_digest)
        except BaseException:
            _close(regions)
            raise
    except InteropError as e:
        raise type(e)(f"{path}: {e}") from e


def _open_zip(real: Path) -> dict[str, Region]:
    """Regions of the artifact's entries in a zip; all share one descriptor."""
    descriptor = open_regular(real)
    try:
        entries = archive.read_directory(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return {
        name: Region(name, descriptor, entry.start, entry.size)
        for name, entry in entries.items()
        if name in NAMES
    }


def _open_directory(real: Path) -> dict[str, Region]:
    """Regions of the artifact's files in a folder."""
    regions: dict[str, Region] = {}
    root = cache_root(real)
    try:
        for name in NAMES:
            if os.path.lexists(real / name):
                descriptor = open_regular(real / name, cache_root=root)
                regions[name] = Region(name, descriptor, 0, os.fstat(descriptor).st_size)
    except BaseException:
        _close(regions)
        raise
    return regions


def _close(regions: Mapping[str, Region]) -> None:
    for descriptor in {region.descriptor for region in regions.values()}:
        os.close(descriptor)


def _region(regions: Mapping[str, Region], name: str) -> Region:
    if name not in regions:
        raise ArtifactError(
            f"the artifact has no {name}; it holds {', '.join(regions) or 'none of its files'}"
        )
    return regions[name]


def _check_own(model: bytes, config: dict[str, Any], weights: TensorFile) -> None:
    """Refuse to write what the reader would refuse to open."""
    if len(model) > MAX_GRAPH_BYTES:
        raise ArtifactError(
            f"{GRAPH} would be {len(model)} bytes; a reader accepts {MAX_GRAPH_BYTES} at most"
        )
    guard.check_variables(config["variables"], weights.layout.entries)
    guard.check_artifact_graph(parse_model(model), weights.layout.entries)
