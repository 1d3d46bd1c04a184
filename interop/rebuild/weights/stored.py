"""A file of weights beside a Keras model: its tensors, and what says which of them is which variable.

Enters: a model, a path and its format. Leaves: a `Stored`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from interop.errors import FormatError
from interop.formats import TensorMapping, keras_zip, open_tensors
from interop.formats.h5 import LAYER_ORDER, open_groups
from interop.formats.keras_shards import open_sharded
from interop.formats.mapping import joined
from interop.rebuild.from_config import OPTIMIZER_PREFIX
from interop.rebuild.weights.matching import Matched, names_below


class Stored(NamedTuple):
    """An open file of weights.

    Attributes:
        tensors: in the file.
        match: says which of them is which variable of the model, as the model is when it is called.
        has_state: whether the file has the state of an optimizer for a model that has one.
    """

    tensors: TensorMapping
    match: Callable[[], Matched]
    has_state: bool = False


def open_stored(model: Any, path: Path, kind: str, *, by_order: bool = False) -> Stored:
    """Open a file of weights for a model.

    Args:
        model: a Keras model or layer.
        path: the file; of a checkpoint its prefix.
        kind: a name of `interop.formats.FORMATS`, or ``"interop"``.
        by_order: what only numbers and the order in the model tell apart goes by the order.

    Raises:
        FormatError: the file is damaged or of another format.
    """
    from interop.capture.keras import compat
    from interop.rebuild.weights.layer_order import ranks
    from interop.rebuild.weights.object_paths import match_paths

    compiled = compat.optimizer_of(model) is not None
    if kind == "tf":
        return _open_checkpoint(model, path)
    if kind in ("h5", "keras", "keras_shards"):
        from interop.rebuild.weights.keras_layout import match_keras_layout

        if kind == "keras_shards":
            groups = open_sharded(path)
        else:
            groups = open_groups(
                keras_zip.open_member(path) if kind == "keras" else path.open("rb"), str(path)
            )
        if not groups.is_legacy:
            has_state = any(key.startswith("optimizer/") for key in groups.tensors)
            match = partial(match_keras_layout, groups, model, by_order=by_order)
            return Stored(groups.tensors, match, compiled and has_state)
        if not groups.object_paths:
            from interop.rebuild.legacy.h5_file import open_h5
            from interop.rebuild.weights.legacy_layout import match_legacy_layout

            try:
                with open_h5(path) as file:
                    stored = file.layers()
            except BaseException:
                groups.tensors.close()
                raise
            match = partial(match_legacy_layout, stored, groups.tensors, model, by_order=by_order)
            return Stored(groups.tensors, match)
        groups.tensors.close()
    tensors = _artifact(path, with_state=compiled) if kind == "interop" else open_tensors(path, kind)
    has_state = any(key.startswith(OPTIMIZER_PREFIX) for key in tensors)

    def match_by_path() -> Matched:
        order = ranks(tensors.metadata, tensors.source)
        return match_paths(tensors.shapes, model, order, by_order=by_order)

    return Stored(tensors, match_by_path, compiled and has_state)


def _artifact(path: Path, *, with_state: bool) -> TensorMapping:
    """The weights of an artifact, and the state of its optimizer for a model that has one."""
    from interop.artifact.bundle import open_bundle

    with open_bundle(path, verify_digest=True) as bundle:
        parts, source = [bundle.weights], bundle.weights.source
        if with_state and bundle.optimizer is not None:
            parts.append(joined([bundle.optimizer], source, OPTIMIZER_PREFIX.__add__))
        order = bundle.config["model"].get(LAYER_ORDER, []) if bundle.framework == "keras" else None
    told = {} if order is None else {LAYER_ORDER: json.dumps(order)}
    return joined(parts, source, metadata=told)


def _open_checkpoint(model: Any, prefix: Path) -> Stored:
    from interop.capture.keras import compat, paths
    from interop.rebuild.weights.object_graph import match_graph, read_graph

    tensors = open_tensors(prefix, "tf")
    try:
        graph = read_graph(tensors)
    except FormatError:
        tensors.close()
        raise
    optimizer = compat.optimizer_of(model)

    def match() -> Matched:
        walked = paths.walk(model)
        state = {id(v): OPTIMIZER_PREFIX + key for key, v in paths.optimizer_variables(model).items()}

        def names_in(layer: Any) -> Mapping[int, str]:
            return names_below(walked, layer) | (state if layer is model else {})

        return match_graph(graph, tensors.shapes, model, names_in, optional=optimizer)

    return Stored(tensors, match, optimizer is not None and "optimizer" in graph.nodes[0].children)
