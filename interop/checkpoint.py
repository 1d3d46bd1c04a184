"""Objects saved by the names they are given: ``Checkpoint``.

Enters: Keras objects and variables by name, in lists, tuples and dicts as well. Leaves: a TensorFlow checkpoint,
written and read without TensorFlow, that ``tf.train.Checkpoint`` with the same names restores; and the way back.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import WeightsError

if TYPE_CHECKING:
    from interop.status import LoadStatus


class Checkpoint:
    """A set of named objects that is saved and restored together.

    Args:
        **objects: layers, models, optimizers, metrics, seed generators, variables, and lists, tuples and dicts of
            them. The names are the first part of the keys in the file.

    Raises:
        WeightsError: an object has nothing that could be saved.

    Example:
        >>> import keras, tempfile, numpy as np
        >>> first, second = keras.layers.Dense(2), keras.layers.Dense(2)
        >>> first.build((None, 3)), second.build((None, 3))
        (None, None)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Checkpoint(dense=first).save(folder + "/ckpt")
        ...     status = Checkpoint(dense=second).restore(path).assert_consumed()
        >>> status.loaded
        ('dense/bias', 'dense/kernel')
    """

    def __init__(self, **objects: Any) -> None:
        from interop.backend import choose_backend

        choose_backend()
        from interop.capture.keras.trackable import holds_state

        for name, value in objects.items():
            if not holds_state(value):
                raise WeightsError(
                    f"Checkpoint({name}=...) takes layers, optimizers, metrics, variables, or lists and dicts of "
                    f"them. Received: {name}={value!r:.80}"
                )
        self._objects = dict(objects)
        self._saves = 0

    def save(self, prefix: str | os.PathLike[str]) -> str:
        """Write ``<prefix>-<n>``, where n counts the saves of this object, restored ones included.

        Optimizers are saved with their slots, seed generators with their state. The folder's ``checkpoint`` file
        names the newest, as ``tf.train.latest_checkpoint`` expects.

        Returns:
            The path to restore.

        Raises:
            WeightsError: no object has a variable yet.
            OSError: the disk is full or fails; what stood there is intact.
        """
        from interop.artifact.checkpoints import write_checkpoint, write_state
        from interop.formats.tensorbundle.objects import VARIABLE_VALUE, Node, Value, key_of
        from interop.rebuild.weights.object_graph import SAVE_COUNTER, graph_of
        from interop.weights import graph_sources

        stored = graph_of(self._objects, lambda variable: True)
        if not stored.variables:
            raise WeightsError(
                f"none of {', '.join(self._objects)} has a variable yet; build or call them first"
            )
        self._saves += 1
        key = key_of([SAVE_COUNTER])
        stored.graph.nodes[0].children[SAVE_COUNTER] = len(stored.graph.nodes)
        stored.graph.nodes.append(Node(values={VARIABLE_VALUE: Value(key, SAVE_COUNTER)}))
        path = Path(f"{os.fspath(prefix)}-{self._saves}")
        write_checkpoint(path, {**graph_sources(stored), key: _Count(self._saves)})
        write_state(path.parent, path.name, [path.name])
        return str(path)

    def restore(self, prefix: str | os.PathLike[str]) -> LoadStatus:
        """Give the objects the values of a checkpoint, written here or by TensorFlow.

        Values find their variables by the names of attributes on the way from the names given here, so an object
        of another class with the same structure takes them too. What is not built yet gets its values when it is.

        Args:
            prefix: what ``save`` returned, or a folder whose newest checkpoint is meant.

        Returns:
            What became of every tensor and variable; ``.assert_consumed()`` raises unless all matched.

        Raises:
            WeightsError: a shape differs, a value could belong to several variables, or nothing matched. Nothing
                was assigned then.
            FormatError: the files are damaged, or no checkpoint with objects.
            FileNotFoundError: nothing is there.
        """
        from interop.formats import find_prefix, open_tensors
        from interop.rebuild.weights.loading import load
        from interop.rebuild.weights.matching import Matched
        from interop.rebuild.weights.object_graph import SAVE_COUNTER, match_graph, owners, read_graph

        path = Path(prefix)
        tensors = open_tensors(find_prefix(path) or path, "tf")
        try:
            graph = read_graph(tensors)
            counter = graph.nodes[0].children.get(SAVE_COUNTER)
            counter_key = None if counter is None else graph.nodes[counter].key

            def match() -> Matched:
                matched = match_graph(graph, tensors.shapes, self._objects, lambda root: {})
                matched.unexpected = [key for key in matched.unexpected if key != counter_key]
                return matched

            saves = int(tensors[counter_key]) if counter_key in tensors and counter_key is not None else 0
            status = load(tensors, match, owners(self._objects), skip_mismatch=None)
        except BaseException:
            tensors.close()
            raise
        self._saves = saves
        return status


@dataclass(frozen=True)
class _Count:
    """The number of saves, as TensorFlow stores it."""

    count: int
    dtype: str = "int64"
    shape: tuple[int, ...] = ()

    def read(self) -> NDArray[Any]:
        return np.array(self.count, np.int64)
