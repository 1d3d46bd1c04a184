"""Weights ``.h5`` files in Keras 2's layout: a group a layer, datasets by the names of its weights.

Enters: a model, or the groups of a file. Leaves: the file, or a `Matched`. A file of this toolkit says of each dataset
which object path it has, and is matched by that. In a file of Keras, layers are found by their names, and within a
layer the tensors by order, names and shapes together (``rebuild.legacy.variables``).

Layout: keras/src/legacy/saving/legacy_h5_format.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat, paths
from interop.errors import FormatError, WeightsError
from interop.formats.dtypes import FROM_ML_DTYPES
from interop.formats.h5 import LAYER_NAMES, LAYER_ORDER, OBJECT_PATH, set_texts
from interop.rebuild.from_config import OPTIMIZER_PREFIX
from interop.rebuild.legacy.table import VARIABLES
from interop.rebuild.legacy.variables import Pairs, Stored, pair_list, variables
from interop.rebuild.weights.layer_order import layer_order
from interop.rebuild.weights.matching import Matched, Pair, names_below
from interop.rebuild.weights.object_paths import Order, renamed_level

_TOP = "top_level_model_weights"
_BESIDE = "interop_variables"
"""The group of what Keras 2 stores nowhere, such as seeds."""
_OPTIMIZER = "optimizer_weights"
"""The group in which Keras 2 has the state of an optimizer, in files of whole models."""


def write_legacy_layout(model: Any, path: Path, named: Mapping[str, Any]) -> None:
    """Write variables of a model and of its optimizer, by object path, one at a time."""
    import h5py

    groups: dict[str, dict[str, Any]] = {}
    keys = paths.object_paths(model)
    layers = model.layers if isinstance(model, keras.Model) else []
    rest = dict(named)
    weights = {layer.name: [*layer.trainable_weights, *layer.non_trainable_weights] for layer in layers}
    for name, own in {**weights, _TOP: compat.own_variables(model)}.items():
        groups[name] = {key: v for v in own if (key := keys.get(id(v))) in rest and rest.pop(key) is v}
    state = {key: rest.pop(key) for key in named if key.startswith(OPTIMIZER_PREFIX)}
    with h5py.File(path, "w", locking=False) as file:
        set_texts(file, LAYER_NAMES, list(weights))
        set_texts(file, LAYER_ORDER, layer_order(model))
        file.attrs["backend"] = np.bytes_(compat.backend())
        file.attrs["keras_version"] = np.bytes_(compat.keras_version())
        for name, variables in {**groups, _BESIDE: rest, **({_OPTIMIZER: state} if state else {})}.items():
            group = file.create_group(name)
            set_texts(group, "weight_names", [f"{key}:0" for key in variables])
            for key, variable in variables.items():
                array = compat.to_numpy(variable)
                if array.dtype.name in FROM_ML_DTYPES:
                    raise FormatError(
                        f"{key!r} is {array.dtype.name}, which .h5 cannot hold; .weights.h5 can"
                    )
                group.create_dataset(f"{key}:0", data=array).attrs[OBJECT_PATH] = key


def match_legacy_layout(
    stored: Mapping[str, Sequence[Stored]], keys: Collection[str], model: Any, *, by_order: bool = False
) -> Matched:
    """Match the tensors of a file of Keras with the variables a model has now.

    Args:
        stored: name of a layer to its tensors, in the file's order; the model's own under the empty name.
        keys: HDF5 paths of all tensors.
        model: a model, or a layer, which is then the only one.
        by_order: pair layers by their order where their names or numbers say something else.
    """
    layers = {layer.name: layer for layer in (model.layers if isinstance(model, keras.Model) else [model])}

    def fits(their: str, mine: str) -> bool:
        shapes = Counter(item.shape for item in stored[their])
        return shapes == Counter(tuple(variable.shape) for variable in variables(layers[mine]))

    names, doubtful, disputed = renamed_level(
        [name for name in stored if name],
        {name: compat.automatic_name(layer) for name, layer in layers.items()},
        Order(_ranks(stored), _ranks(layers), fits, by_order),
    )
    filled = [name for name, tensors in stored.items() if name and tensors]
    own = [layer.name for layer in layers.values() if variables(layer)]
    if len(filled) == len(own) and not any(names[name] in layers for name in filled):
        names = {
            **names,
            **dict(zip(filled, own, strict=True)),
        }  # no name in common: by order, as Keras 2 does
    walked, matched = paths.walk(model), Matched()
    if disputed:
        matched.dispute()
    root = "model_weights/" if any(key.startswith("model_weights/") for key in keys) else ""
    for name, tensors in stored.items():
        at = {id(item): f"{root}{name or _TOP}/{item.name}" for item in tensors}
        if lost := [path for path in at.values() if path not in keys]:
            raise FormatError(
                f"{lost[0]!r} is in the file under another name too, so what it is, is not certain"
            )
        layer = layers.get(names[name]) if name else model
        if layer is None:
            continue
        if name in doubtful or name in disputed:
            matched.ambiguous += at.values()
        elif name and not layer.built:
            matched.deferred += at.values()
            matched.parts[id(layer)] = partial(_match_part, layer, tensors, at, walked)
        else:
            pairs, unsure = _paired(layer, tensors, own=not name)
            known = [(v, item) for v, item in pairs if id(v) in walked.variables]
            matched.pairs += [Pair(at[id(item)], walked.variables[id(v)], v) for v, item in known]
            matched.ambiguous += [at[id(item)] for item in unsure]
    named = {pair.name for pair in matched.pairs}
    matched.missing = [n for n in sorted(walked.by_key) if n not in named and walked.roles[n] != "seed"]
    used = {*(pair.key for pair in matched.pairs), *matched.ambiguous, *matched.deferred}
    matched.unexpected = [key for key in keys if key not in used]
    return matched


def _match_part(
    layer: Any, tensors: Sequence[Stored], at: Mapping[int, str], walked: paths.ObjectPaths
) -> Matched:
    """Match a layer alone; `at` has the keys of its tensors by their identity."""
    names = names_below(walked, layer)
    pairs, unsure = _paired(layer, tensors, own=False)
    matched = Matched(ambiguous=[at[id(item)] for item in unsure])
    matched.pairs = [Pair(at[id(item)], names[id(v)], v) for v, item in pairs if id(v) in names]
    named, used = {pair.name for pair in matched.pairs}, {pair.key for pair in matched.pairs}
    matched.missing = [name for name in names.values() if name not in named]
    matched.unexpected = [key for key in at.values() if key not in used]
    return matched


def _paired(layer: Any, tensors: Sequence[Stored], *, own: bool) -> tuple[Pairs, list[Stored]]:
    """Variables of a layer (or its own only) with their tensors, and the tensors that are in doubt."""
    if not own:
        try:
            return pair_list(layer, tensors)[0], []
        except WeightsError:
            held = variables(layer)  # of other shapes, say: what is called the same is compared, and told
    else:
        held = compat.own_variables(layer)
    pairs: Pairs = []
    unsure = []
    for item in tensors:
        fitting = [v for v in held if v.name == VARIABLES.get(item.leaf, item.leaf) or v.name == item.leaf]
        alike = [other for other in tensors if other.leaf == item.leaf]
        if len(fitting) == len(alike) == 1:
            pairs.append((fitting[0], item))
        elif fitting:
            unsure.append(item)
    return pairs, unsure


def _ranks(names: Iterable[str]) -> Callable[[str], int]:
    return {name: rank for rank, name in enumerate(names)}.__getitem__
