"""An artifact as a whole, opened only after it was checked.

What enters: the path of a folder or a zip. What leaves: an open `Bundle`.

Invariant: nothing is mapped, and no byte given to ONNX Runtime, before the guard has passed it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from interop.artifact import config as config_file
from interop.artifact import guard
from interop.artifact.digest import digest_of
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
    open_regular,
)
from interop.artifact.inlining import inline_calls
from interop.artifact.outline import Outline, outline_of
from interop.artifact.relocate import embed_folded, relocate
from interop.artifact.schema import float_types, parse_model, serialize_model
from interop.artifact.signature import Signature
from interop.artifact.tensors import map_region, read_entries
from interop.errors import ArtifactError, InteropError
from interop.formats.mapping import TensorMapping

if TYPE_CHECKING:
    from interop.artifact.private import PrivateTensors


class SessionSource(NamedTuple):
    """What ONNX Runtime is given: a graph, and the folder that the locations of its weights count from."""

    model: bytes
    folder: Path


class Bundle:
    """An open, checked artifact.

    Attributes:
        path: the path it was opened by.
        form: ``"directory"`` or ``"zip"``.
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
        self._config = _region(regions, CONFIG).read(config_file.MAX_BYTES)
        head = config_file.parse_head(self._config)
        self.signature = Signature.from_json(head["signature"])
        self._records = {name: FileRecord.from_json(record) for name, record in head["files"].items()}
        for name in (GRAPH, WEIGHTS):
            if name not in self._records:
                raise ArtifactError(f"config.json records no {name}")
        graph = _region(regions, GRAPH)
        graph.check_size(self._records[GRAPH])
        self._graph = graph.read(MAX_GRAPH_BYTES)
        graph.compare(digest_of(self._graph, self._records[GRAPH].piece_bytes), self._records[GRAPH])
        weights = _region(regions, WEIGHTS)
        weights.check_size(self._records[WEIGHTS])
        self._entries = read_entries(weights)
        model = parse_model(self._graph)
        outline = guard.check_artifact_graph(model, self._entries, weights.start)
        self._parsed: tuple[Any, Outline] | None = (model, outline)
        self.float_types = float_types(model, outline)
        if verify_digest:
            self.verify_weights()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``.

        Raises:
            ArtifactError: what it says of the model, which opening a graph does not look at, is malformed, or
                it lists other variables than there are weights.
        """
        try:
            config = config_file.parse(self._config)
            guard.check_variables(config["variables"], self._entries)
            return config
        except InteropError as e:
            raise type(e)(f"{self.path}: {e}") from e

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
            _ = self.config  # it lists these, or raises
            self._opened[WEIGHTS] = map_region(_region(self._regions, WEIGHTS), self._entries)
        return self._opened[WEIGHTS]

    def read_weights(self, *, verify_digest: bool) -> PrivateTensors:
        """All weights as arrays of their own, which are hashed meanwhile; close it before the bundle."""
        from interop.artifact.private import PrivateTensors  # opening a graph is faster without it

        _ = self.config  # it lists these, or raises
        region, record = _region(self._regions, WEIGHTS), self._records[WEIGHTS]
        return PrivateTensors(region, self._entries, record if verify_digest else None)

    def read_optimizer(self, *, verify_digest: bool) -> PrivateTensors | None:
        """The same of the optimizer's variables; None if there are none."""
        from interop.artifact.private import PrivateTensors

        if OPTIMIZER not in self._records:
            return None
        region, record = _region(self._regions, OPTIMIZER), self._records[OPTIMIZER]
        region.check_size(record)
        return PrivateTensors(region, read_entries(region), record if verify_digest else None)

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

    def session_source(self, *, inlined: bool = True) -> SessionSource:
        """What ONNX Runtime needs to map the weights in place; `inlined`: without the layers' functions."""
        is_zip = self.form == "zip"
        file = self._real if is_zip else Path(os.path.realpath(self._real / WEIGHTS))
        model, outline = self._take_parsed()
        if inlined:
            inline_calls(model, outline, {key: entry.size_bytes for key, entry in self._entries.items()})
        if is_zip or file.name != WEIGHTS:
            relocate(model, self._entries, file.name)
        embed_folded(model, self._entries, _region(self._regions, WEIGHTS).descriptor)
        return SessionSource(serialize_model(model), file.parent)

    def _take_parsed(self) -> tuple[Any, Outline]:
        """The graph, parsed, for one who changes it."""
        parsed, self._parsed = self._parsed, None
        if parsed is None:
            model = parse_model(self._graph)
            parsed = model, outline_of(model)
        return parsed

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
        verify_digest: hash the weights too (0.5 s per GB and core); config.json and model.onnx always are.

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
    from interop.artifact import archive  # opening a folder is faster without it

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
