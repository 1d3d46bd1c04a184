"""A file of weights beside a Keras model: its tensors, and what says which of them is which variable.

Enters: a model, a path and its format. Leaves: the open tensors, a function that makes a `Matched` of the model as it
is when it is called, and the objects whose builds could change that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from interop.errors import FormatError
from interop.formats import TensorMapping, keras_zip, open_tensors
from interop.formats.h5 import open_groups
from interop.rebuild.weights.matching import Matched, names_below

Stored = tuple[TensorMapping, Callable[[], Matched], list[Any]]


def open_stored(model: Any, path: Path, kind: str) -> Stored:
    """Open a file of weights for a model.

    Args:
        model: a Keras model or layer.
        path: the file; of a checkpoint its prefix.
        kind: a name of `interop.formats.FORMATS`, or ``"interop"``.

    Raises:
        FormatError: the file is damaged or of another format.
    """
    from interop.rebuild.weights.object_paths import match_paths

    if kind == "tf":
        return _open_checkpoint(model, path)
    if kind in ("h5", "keras"):
        from interop.rebuild.weights.keras_layout import match_keras_layout

        groups = open_groups(keras_zip.open_member(path) if kind == "keras" else path.open("rb"), str(path))
        if not groups.is_legacy:
            return groups.tensors, lambda: match_keras_layout(groups, model), [model]
        if not groups.object_paths:
            from interop.rebuild.legacy.h5_file import open_h5
            from interop.rebuild.weights.legacy_layout import match_legacy_layout

            try:
                with open_h5(path) as file:
                    stored = file.layers()
            except BaseException:
                groups.tensors.close()
                raise
            return groups.tensors, lambda: match_legacy_layout(stored, groups.tensors, model), [model]
        groups.tensors.close()
    tensors = _artifact_weights(path) if kind == "interop" else open_tensors(path, kind)
    return tensors, lambda: match_paths(tensors, model), [model]


def _artifact_weights(path: Path) -> TensorMapping:
    from interop.artifact.bundle import open_bundle

    with open_bundle(path, verify_digest=False) as bundle:
        return bundle.weights


def _open_checkpoint(model: Any, prefix: Path) -> Stored:
    from interop.capture.keras import compat, paths
    from interop.rebuild.weights.object_graph import match_graph, owners, read_graph

    tensors = open_tensors(prefix, "tf")
    try:
        graph = read_graph(tensors)
    except FormatError:
        tensors.close()
        raise

    def match() -> Matched:
        names_in = partial(names_below, paths.walk(model))
        return match_graph(graph, tensors.shapes, model, names_in, optional=compat.optimizer_of(model))

    return tensors, match, owners(model)
