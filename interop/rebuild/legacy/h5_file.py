"""HDF5 files of Keras 1 and 2: a model's configs, and the tensors of its layers in order.

Enters: a path. Leaves: the JSON in its attributes, and per layer a list of named tensors, read when asked for.

Invariant: a damaged file raises FormatError and nothing else; links to other files are not followed.

Spec: tf_keras ``saving/legacy/hdf5_format.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats.h5 import DAMAGED, LAYER_NAMES, texts
from interop.rebuild.legacy.variables import Stored

_MODEL, _OPTIMIZER, _TOP = "model_weights", "optimizer_weights", "top_level_model_weights"


class H5File:
    """An open HDF5 file of a model or of its weights.

    Attributes:
        keras_version: of the Keras that wrote it; ``"1"`` where it does not say.
    """

    def __init__(self, file: Any, source: str) -> None:
        self._file = file
        self._source = source
        self._weights = file.get(_MODEL, file)
        self.keras_version = str(self.text("keras_version") or "1")

    @property
    def is_keras_1(self) -> bool:
        """Whether Keras 1 wrote it."""
        return self.keras_version.split(".")[0] in ("0", "1")

    def text(self, name: str) -> str | None:
        """A text attribute of the file, or of its weights."""
        with self._reading(f"the attribute {name!r}"):
            for owner in (self._file, self._weights):
                if name in owner.attrs:
                    return _text(owner.attrs[name])
        return None

    def json(self, name: str) -> Any:
        """An attribute that holds JSON; None if there is none."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{self._source}: its {name} is no JSON: {error}") from error

    def layers(self) -> dict[str, list[Stored]]:
        """Layer name to its tensors, in the order of the file; the model's own under the empty name."""
        with self._reading("the names of its layers"):
            found = {name: self._group(self._weights, name) for name in texts(self._weights, LAYER_NAMES)}
            if _TOP in self._weights and _TOP not in found:
                found[""] = self._group(self._weights, _TOP)
        return found

    def optimizer(self) -> list[Stored]:
        """The tensors of the optimizer, in order; empty if there are none."""
        with self._reading("the state of its optimizer"):
            return self._group(self._file, _OPTIMIZER) if _OPTIMIZER in self._file else []

    def _group(self, owner: Any, name: str) -> list[Stored]:
        group = owner[name]
        return [self._stored(group, weight) for weight in texts(group, "weight_names")]

    def tensors(self) -> dict[str, Stored]:
        """Every tensor in the file by its HDF5 path."""
        import h5py

        found: dict[str, Stored] = {}

        def visit(path: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[path] = self._stored(self._file, path)

        with self._reading("its tensors"):
            self._file.visititems(visit)
        return found

    def _stored(self, group: Any, name: str) -> Stored:
        import h5py

        dataset = group[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise FormatError(f"{self._source}: {name!r} is no tensor")
        if dataset.external or dataset.is_virtual:
            raise FormatError(f"{self._source}: {name!r} keeps its data in another file; it is not read")
        if dataset.dtype.hasobject:
            raise FormatError(f"{self._source}: {name!r} holds text or references, not numbers")
        return Stored(name, tuple(dataset.shape), self._reader(dataset, name))

    def _reader(self, dataset: Any, name: str) -> Callable[[], NDArray[Any]]:
        def read() -> NDArray[Any]:
            with self._reading(f"tensor {name!r}"):
                return np.asarray(dataset[()])

        return read

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except FormatError:
            raise
        except DAMAGED as error:
            raise FormatError(f"{self._source}: {what} could not be read: {error}") from error


@contextmanager
def open_h5(path: Path) -> Iterator[H5File]:
    """Open an HDF5 file for a block.

    Raises:
        FormatError: it is none.
        OSError: it cannot be opened.
    """
    with path.open("rb") as stream, open_stream(stream, str(path)) as file:
        yield file


@contextmanager
def open_stream(stream: BinaryIO, source: str) -> Iterator[H5File]:
    """The same from a stream; `source` names it in messages."""
    import h5py

    try:
        file = h5py.File(stream, "r")
    except DAMAGED as error:
        raise FormatError(f"{source}: not an HDF5 file: {error}") from error
    with file:
        try:
            opened = H5File(file, source)
        except DAMAGED as error:
            raise FormatError(f"{source}: not an HDF5 file of Keras: {error}") from error
        yield opened


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
