"""The tensor files of an artifact: where each tensor lies, written once and mapped in place.

What enters: sources by key. What leaves: the placements that the graph points at, the files, and lazy
mappings of them.

Invariant: a `Placement` is the safetensors entry of the same name, and nothing else: key == initializer name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from interop.artifact.files import Region
from interop.errors import ArtifactError, FormatError
from interop.formats import safetensors
from interop.formats.mapping import TensorMapping
from interop.formats.source import TensorSource
from interop.memory import calls

if TYPE_CHECKING:
    from interop.artifact.sinks import Added, Sink


class Placement(NamedTuple):
    """Where one tensor lies: a file beside the graph, and the bytes ``[offset, offset + length)`` of it."""

    location: str
    offset: int
    length: int


class TensorFile(NamedTuple):
    """A tensor file that is planned but not written: its name, layout and sources."""

    name: str
    layout: safetensors.Layout
    sources: Mapping[str, TensorSource]

    @classmethod
    def plan(cls, name: str, sources: Mapping[str, TensorSource]) -> TensorFile:
        """Lay out a file.

        Raises:
            ArtifactError: a source has a dtype that the format cannot hold.
        """
        try:
            layout = safetensors.plan(
                {key: (source.dtype, tuple(source.shape)) for key, source in sources.items()}
            )
        except FormatError as e:
            raise ArtifactError(f"{name} cannot be written: {e}") from e
        return cls(name, layout, sources)

    def placements(self) -> dict[str, Placement]:
        """Key to placement, in file order."""
        return placements(self.name, self.layout.entries)

    def write(self, sink: Sink, *, between: Callable[[], object] | None = None) -> Added:
        """Write it, with a few tensors in memory at a time.

        Args:
            sink: takes the file.
            between: called before each part, some 1 MB; what it raises ends the writing.

        Raises:
            ArtifactError: a source's values are not of the dtype and shape it announced.
        """
        try:
            chunks = safetensors.stream(self.layout, self.sources)
            if between is not None:
                chunks = _with_calls(chunks, between)
            return sink.add(self.name, self.layout.size_bytes, chunks, align=True)
        except FormatError as e:
            raise ArtifactError(f"{self.name} cannot be written: {e}") from e


def _with_calls(chunks: Iterable[memoryview], between: Callable[[], object]) -> Iterator[memoryview]:
    for chunk in chunks:
        for part in calls(chunk):
            between()
            yield part


def placements(name: str, entries: Mapping[str, safetensors.Entry], start: int = 0) -> dict[str, Placement]:
    """The placements of entries; `start` is where they begin to count."""
    return {key: Placement(name, entry.begin - start, entry.size_bytes) for key, entry in entries.items()}


def read_entries(region: Region) -> dict[str, safetensors.Entry]:
    """Read and check the header of a tensor file of an artifact; offsets count from the descriptor's start.

    Raises:
        ArtifactError: the header breaks a rule of the format.
    """
    try:
        return safetensors.read_header(region.descriptor, region.start, region.size, region.name)
    except FormatError as e:
        raise ArtifactError(f"the artifact's tensors cannot be read: {e}") from e


def map_region(region: Region, entries: Mapping[str, safetensors.Entry]) -> TensorMapping:
    """Map the tensors of a checked tensor file."""
    return safetensors.map_tensors(region.descriptor, entries, region.name)
