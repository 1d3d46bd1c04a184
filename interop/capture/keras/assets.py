"""What layers keep beside their variables, as plain JSON: learned vocabularies, and files of their own.

Enters: a model; or one that was made from its config, and what was stored. Leaves: an entry a layer, by object path;
or the layers as they were. Invariant: a file is only ever written into a new temporary folder, below it.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import keras

from interop.capture.keras import compat, paths
from interop.errors import RebuildError


def stored_assets(model: Any, known: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """Object path to ``{"vocabulary": [...], "idf_weights": [...]}`` or ``{"files": {name: base64}}``.

    Args:
        model: the model.
        known: path by identity of a layer.
    """
    found: dict[str, dict[str, Any]] = {}
    for layer, path in compat.layers_with_paths(model, known):
        learned = compat.learned_vocabulary(layer)
        if learned is not None:
            found[path] = learned
        elif hasattr(layer, "save_assets") and not compat.keeps_vocabulary(layer):
            found[path] = {"files": _files(layer)}
    return dict(sorted(found.items()))


def _files(layer: Any) -> dict[str, str]:
    """What a layer's own ``save_assets`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        layer.save_assets(folder)
        written = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        return {
            file.relative_to(folder).as_posix(): base64.b64encode(file.read_bytes()).decode()
            for file in written
        }


def restore_assets(model: Any, assets: Mapping[str, Mapping[str, Any]]) -> None:
    """Give every layer what was stored of it.

    Raises:
        RebuildError: an entry belongs to no layer that can take it, or is not of the form that was stored.
    """
    layers = {path: layer for layer, path in compat.layers_with_paths(model, paths.layer_paths(model))}
    for path, entry in assets.items():
        layer = layers.get(path)
        if layer is None:
            raise RebuildError(f"there are stored assets of a layer {path!r}, which the model does not have")
        if "vocabulary" in entry and compat.keeps_vocabulary(layer):
            compat.set_learned_vocabulary(layer, dict(entry))
        elif "files" in entry and hasattr(layer, "load_assets"):
            _load_files(layer, path, entry["files"])
        else:
            raise RebuildError(
                f"layer {path!r} ({type(layer).__name__}) cannot take its stored assets ({', '.join(entry)})"
            )


def _load_files(layer: keras.Layer, path: str, files: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, encoded in files.items():
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name or not parts.parts:
                raise RebuildError(f"layer {path!r}: {name!r} is not the name of a file in its own folder")
            try:
                content = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError, TypeError) as error:
                raise RebuildError(f"layer {path!r}: the asset {name!r} is not base64: {error}") from error
            target = Path(folder, *parts.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        layer.load_assets(folder)
