"""What every reader returns: names to arrays, read one at a time, with dtypes and shapes known at once.

Invariants: opening reads no tensor; arrays are read-only; ``.shapes`` and ``.dtypes`` have the same keys
in the same order as the mapping; arrays that were handed out stay valid after ``close``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TensorMapping(Mapping[str, "NDArray[Any]"]):
    """A read-only, lazy mapping of tensor name to array.

    Args:
        specs: name to (dtype name, shape), in the order of the file.
        read: reads one tensor by name.
        close: releases the file.
        source: what the tensors come from, for messages.
        forget: gives back the memory of what was read.
        metadata: texts that the file has beside its tensors.
    """

    def __init__(
        self,
        specs: Mapping[str, tuple[str, tuple[int, ...]]],
        read: Callable[[str], NDArray[Any]],
        close: Callable[[], None],
        source: str,
        forget: Callable[[], None] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._specs = dict(specs)
        self._dtypes = MappingProxyType({name: dtype for name, (dtype, _) in self._specs.items()})
        self._shapes = MappingProxyType({name: shape for name, (_, shape) in self._specs.items()})
        self._read = read
        self._close = close
        self._source = source
        self._forget = forget
        self._metadata = MappingProxyType(dict(metadata or {}))
        self._closed = False

    @property
    def source(self) -> str:
        """What the tensors come from."""
        return self._source

    @property
    def dtypes(self) -> Mapping[str, str]:
        """Name to dtype name, without reading a tensor."""
        return self._dtypes

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name to shape, without reading a tensor."""
        return self._shapes

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts that the file has beside its tensors, such as the ``__metadata__`` of safetensors."""
        return self._metadata

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._specs:
            raise KeyError(self._unknown(name))
        if self._closed:
            raise ValueError(f"{self._source} was closed; open it again to read {name!r}")
        array = self._read(name)
        array.flags.writeable = False
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<TensorMapping of {len(self)} tensors in {self._source}{state}>"

    def forget(self) -> None:
        """Give back the memory that tensors take which were read; those that are still used are read again."""
        if self._forget is not None and not self._closed:
            self._forget()

    def close(self) -> None:
        """Release the file. Arrays already read stay valid; reading another raises ValueError."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unknown(self, name: str) -> str:
        from difflib import get_close_matches

        close = get_close_matches(str(name), self._specs, n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        return f"no tensor {name!r} in {self._source}{hint}"


def joined(
    parts: Iterable[TensorMapping],
    source: str,
    name_of: Callable[[str], str] = str,
    *,
    metadata: Mapping[str, str] | None = None,
) -> TensorMapping:
    """Several files as one, which closes them all; a name that two of them have is that of the first.

    Args:
        parts: open files.
        source: what the tensors come from, for messages.
        name_of: new name of an old one.
        metadata: texts beside all of them.
    """
    parts = list(parts)
    places: dict[str, tuple[TensorMapping, str]] = {}
    for part in parts:
        for name in part:
            places.setdefault(name_of(name), (part, name))

    def read(name: str) -> NDArray[Any]:
        part, own = places[name]
        return part[own]

    def close() -> None:
        for part in parts:
            part.close()

    specs = {name: (part.dtypes[own], part.shapes[own]) for name, (part, own) in places.items()}
    return TensorMapping(specs, read, close, source, metadata=metadata)
