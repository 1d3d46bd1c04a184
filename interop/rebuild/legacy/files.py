"""Opens any file that Keras wrote.

Enters: a path and its kind. Leaves: a model, with the account of its tensors and of what changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interop.errors import FormatError
from interop.rebuild.from_config import Rebuilt
from interop.rebuild.legacy import current
from interop.rebuild.legacy.assembly import Description, assemble
from interop.rebuild.legacy.keras_file import load_old_keras
from interop.rebuild.legacy.kinds import Kind, is_old, read_json, zipped_json
from interop.rebuild.legacy.saved_model import load_saved_model
from interop.rebuild.legacy.whole_h5 import load_h5


def load(
    path: Path, kind: Kind, *, custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Rebuilt:
    """Open a file as a model on the backend that runs.

    Raises:
        FormatError: the file is damaged, or holds no model.
        MissingClassError: classes or functions that were not passed, all of them.
        RebuildError: the model has something that Keras 3 does not; names it.
        WeightsError: tensors and variables do not fit.
    """
    if kind == "h5":
        return load_h5(path, custom_objects, compile)
    if kind == "keras":
        config, metadata = zipped_json(path)
        if is_old(metadata.get("keras_version")):
            return load_old_keras(path, config, custom_objects, compile)
        return current.load_keras(path, config, custom_objects, compile)
    if kind == "json":
        return _load_json(path, custom_objects)
    return load_saved_model(path, custom_objects, compile)


def _load_json(path: Path, custom_objects: Mapping[str, Any] | None) -> Rebuilt:
    config = read_json(path.read_bytes(), str(path))
    if "module" in config and "keras_version" not in config:
        return current.load_json(config, str(path), custom_objects)
    if not {"class_name", "config"} <= config.keys():
        raise FormatError(f"{path} has no class name and config; expected what model.to_json() gives")
    return assemble(Description(config), custom_objects=custom_objects)
