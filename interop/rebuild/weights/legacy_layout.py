"""Weights ``.h5`` files in Keras 2's layout: a group a layer, datasets by the names of its weights.

Enters: a model. Leaves: the file. It is read by object path (see ``formats.h5``): a dataset says which it has.

Layout: keras/src/legacy/saving/legacy_h5_format.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat, paths
from interop.errors import FormatError
from interop.formats.dtypes import FROM_ML_DTYPES
from interop.formats.h5 import OBJECT_PATH

_TOP = "top_level_model_weights"
_BESIDE = "interop_variables"
"""The group of what Keras 2 stores nowhere, such as seeds."""


def write_legacy_layout(model: Any, path: Path, named: Mapping[str, Any]) -> None:
    """Write variables of a model, by object path, one at a time."""
    import h5py

    groups: dict[str, dict[str, Any]] = {}
    keys = paths.object_paths(model)
    layers = model.layers if isinstance(model, keras.Model) else []
    rest = dict(named)
    weights = {layer.name: [*layer.trainable_weights, *layer.non_trainable_weights] for layer in layers}
    for name, own in {**weights, _TOP: compat.own_variables(model)}.items():
        groups[name] = {key: v for v in own if (key := keys.get(id(v))) in rest and rest.pop(key) is v}
    with h5py.File(path, "w", locking=False) as file:
        file.attrs["layer_names"] = _texts(list(weights))
        file.attrs["backend"] = np.bytes_(compat.backend())
        file.attrs["keras_version"] = np.bytes_(compat.keras_version())
        for name, variables in {**groups, _BESIDE: rest}.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = _texts([f"{key}:0" for key in variables])
            for key, variable in variables.items():
                array = compat.to_numpy(variable)
                if array.dtype.name in FROM_ML_DTYPES:
                    raise FormatError(
                        f"{key!r} is {array.dtype.name}, which .h5 cannot hold; .weights.h5 can"
                    )
                group.create_dataset(f"{key}:0", data=array).attrs[OBJECT_PATH] = key


def _texts(items: list[str]) -> Any:
    """Names as Keras stores them; an empty list too."""
    return np.array([item.encode() for item in items], dtype="S") if items else np.array([], dtype="S1")
