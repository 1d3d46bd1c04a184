"""``.weights.h5`` files in Keras' layout: written with the object path of every variable, read from any Keras 3.

Enters: a model and an HDF5 file. Leaves: the file, or a `Matched`.

A file of this toolkit says of each dataset which object path it has (attribute ``object_path``), and is matched by
that. It also has what Keras leaves out: seeds, and the factors of LoRA, which Keras adds to the kernel. A file of Keras
says less: the group's path, which ends in attributes, in list positions, or, for layers whose attribute sorts after
``layers``, in a number among the layers of the same class; and in newer versions the layer's name. So:

- layers that were given a name belong to the layer of that name, wherever both have one in the same container;
- layers that only a number tells apart are ambiguous if several have the same shapes: a class whose attributes were
  renamed or reordered would otherwise swap their values. Who knows that they were not may have them by order;
- everything else belongs to the group of its path.

The state of an optimizer is a list in this layout. In a file of Keras it goes by the order, as in Keras, but only where
the weights lie in the same groups as those of the model, and as many tensors of the same shapes; else nothing takes it.

Keras itself reads both kinds of files. Layout: keras/src/saving/saving_lib.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras

from interop.capture.keras import compat, paths
from interop.errors import WeightsError
from interop.formats.h5 import LAYER_ORDER, OBJECT_PATH, Groups, set_texts
from interop.rebuild.from_config import OPTIMIZER_PREFIX
from interop.rebuild.optimizers import orders
from interop.rebuild.weights.layer_order import layer_order, ranks
from interop.rebuild.weights.matching import Matched, Pair, keys_below, names_below
from interop.rebuild.weights.object_paths import match_paths

_ADVICE = (
    "files of interop.save_weights have names; by_order=True takes these by their numbers, as Keras does: right if the "
    "class still makes these layers in the order that it had when the file was saved"
)
_BESIDE = "interop_variables"
"""The group of variables that Keras stores nowhere."""


def write_keras_layout(model: Any, path: Path, named: Mapping[str, Any]) -> None:
    """Write variables of a model and of its optimizer, by object path, one at a time."""
    import h5py

    keys = {id(variable): key for key, variable in named.items()}
    written: dict[str, Any] = {}
    has_state = any(key.startswith(OPTIMIZER_PREFIX) for key in named)
    with h5py.File(path, "w", locking=False) as file:
        set_texts(file, LAYER_ORDER, layer_order(model))
        for stored in compat.stored_objects(model):
            if isinstance(stored.saveable, keras.optimizers.Optimizer) and not has_state:
                continue
            group = file.require_group(f"{stored.path}/vars".lstrip("/"))
            if isinstance(name := getattr(stored.saveable, "name", None), str):
                group.attrs["name"] = name
            for index, value in stored.values.items():
                # What is a variable without a key is not wanted, or a metric of compile(), made anew by Keras.
                key = keys.get(id(value))
                if key in written:  # Keras lists the variables of an optimizer in an optimizer twice
                    group[index] = written[key]
                elif key is not None:
                    written[key] = _write(group, index, value, key)
                elif not compat.is_variable(value):
                    _write(group, index, value, None)
        for key, variable in named.items():
            if key not in written:
                _write(file, f"{_BESIDE}/{key}", variable, key)


def _write(group: Any, name: str, value: Any, key: str | None) -> Any:
    array = compat.to_numpy(value)
    is_bfloat16 = array.dtype.name == "bfloat16"
    dataset = group.create_dataset(name, data=array.view("V2") if is_bfloat16 else array)
    if is_bfloat16:
        dataset.attrs["dtype"] = "bfloat16"
    dataset.attrs[OBJECT_PATH] = key or ""
    return dataset


def _objects(model: Any) -> tuple[list[compat.StoredObject], list[compat.StoredObject]]:
    """What Keras stores of layers, and of optimizers."""
    found: tuple[list[compat.StoredObject], list[compat.StoredObject]] = ([], [])
    for stored in compat.stored_objects(model):
        found[isinstance(stored.saveable, keras.optimizers.Optimizer)].append(stored)
    return found


def match_keras_layout(file: Groups, model: Any, *, by_order: bool = False) -> Matched:
    """Match a file with the variables a model has now; `by_order`: layers that only a number tells apart too."""
    if file.object_paths:
        return _by_object_path(file, model, by_order=by_order)
    walked = paths.walk(model)
    keys, roles = walked.variables, walked.roles
    here, optimizers = _objects(model)
    groups = _renamed(here, file)
    doubtful = set[str]() if by_order else _in_doubt(here, file)
    plain = _plain(file.tensors)
    matched, taken = Matched(advice=_ADVICE), set()
    for stored in here:
        merged = compat.merged_variables(stored)
        for index, value in {**stored.values, **merged}.items():
            key = "/".join([groups.get(stored.path, stored.path), "vars", index]).lstrip("/")
            key = key if key in file.tensors else plain.get(_bare(key), key)
            if key not in file.tensors or not compat.is_variable(value):
                continue
            taken.add(key)
            if id(value) not in keys:
                continue  # a metric of compile(), which Keras resets before it counts
            if stored.path in doubtful:
                matched.ambiguous.append(key)
            else:
                matched.pairs.append(Pair(key, keys[id(value)], value))
                if index in merged:
                    matched.zeros += [
                        (keys[id(v)], v) for v in compat.adapters(stored.saveable) if id(v) in keys
                    ]
    named = {pair.name for pair in matched.pairs} | {name for name, _ in matched.zeros}
    seeds = any(roles[name] == "seed" for name in named)
    matched.missing = [n for n in sorted(roles) if n not in named and (seeds or roles[n] != "seed")]
    unbuilt = {s.path: s.saveable for s in here if not getattr(s.saveable, "built", True)}
    taken |= _match_optimizers(optimizers, model, file, matched, certain=not groups and not doubtful)
    inside = keys_below(file.tensors, {groups.get(path, path) for path in unbuilt})
    waiting = set(file.tensors if "" in unbuilt else ()).union(
        *(inside[groups.get(path, path)] for path in unbuilt)
    )
    for key in file.tensors:
        if key not in taken:
            (matched.deferred if key in waiting else matched.unexpected).append(key)
    for path, layer in unbuilt.items():
        if path and path not in doubtful:
            place = groups.get(path, path)
            matched.parts[id(layer)] = partial(_match_part, inside[place], place, layer, walked)
    return matched


def _match_optimizers(
    optimizers: Iterable[compat.StoredObject], model: Any, file: Groups, matched: Matched, *, certain: bool
) -> set[str]:
    """Match lists of an optimizer's variables, and tell what is matched or waits."""
    own = paths.optimizer_variables(model)
    names = {id(variable): OPTIMIZER_PREFIX + key for key, variable in own.items()}
    told, named, missing = set[str](), set[str](), list[str]()
    for stored in optimizers:
        place = f"{stored.path}/vars/"
        there = {key for key in file.tensors if key.startswith(place)}
        listed = [
            {place + index: variable for index, variable in zip(stored.values, order, strict=True)}
            for order in orders(stored.saveable, list(stored.values.values()))
        ]
        here = next((each for each in listed if _fits(each, file)), listed[0])
        called = {key: names.get(id(variable), OPTIMIZER_PREFIX + key) for key, variable in here.items()}
        if certain and here.keys() == there and _fits(here, file):
            matched.pairs += [Pair(key, called[key], here[key]) for key in sorted(there)]
            named |= set(called.values())
        elif certain and not stored.saveable.built:
            matched.deferred += sorted(there)
        elif there:
            missing += called.values()
            continue
        told |= there
    matched.missing += [name for name in dict.fromkeys(missing) if name not in named]
    return told


def _fits(here: Mapping[str, Any], file: Groups) -> bool:
    """Whether the file has a tensor of the same shape for every variable."""
    return all(
        key in file.tensors and tuple(variable.shape) == tuple(file.tensors.shapes[key])
        for key, variable in here.items()
    )


def _match_part(there: list[str], place: str, layer: Any, walked: paths.ObjectPaths) -> Matched:
    """Match a layer with the group at `place`; what holds layers in lists is left to `match_keras_layout`."""
    names = names_below(walked, layer)
    here = _objects(layer)[0]
    matched = Matched()
    if _containers(here):
        matched.missing = list(names.values())
        return matched
    values = {f"{place}/{s.path}/vars/{i}".replace("//", "/"): v for s in here for i, v in s.values.items()}
    plain = _plain(there)
    values = {key if key in there else plain.get(_bare(key), key): value for key, value in values.items()}
    for key, value in values.items():
        if id(value) in names and key in there:
            matched.pairs.append(Pair(key, names[id(value)], value))
    named = {pair.name for pair in matched.pairs}
    waits = any(not getattr(s.saveable, "built", True) for s in here)
    matched.missing = [name for name in names.values() if name not in named]
    (matched.deferred if waits else matched.unexpected).extend(key for key in there if key not in values)
    return matched


def _bare(path: str) -> str:
    """A path without the underscores that attributes begin with: Keras 2 and 3 hide other ones.

    >>> _bare("layers/multi_head_attention/_key_dense/vars/0")
    'layers/multi_head_attention/key_dense/vars/0'
    """
    return "/".join(segment.lstrip("_") or segment for segment in path.split("/"))


def _plain(keys: Iterable[str]) -> dict[str, str]:
    """Keys by what they are without such underscores, where that is still one key."""
    bare = {key: _bare(key) for key in keys}
    counts = Counter(bare.values())
    return {name: key for key, name in bare.items() if counts[name] == 1}


def _by_object_path(file: Groups, model: Any, *, by_order: bool) -> Matched:
    """As for any file by object path, with the keys of this one."""
    if len(set(file.object_paths.values())) < len(file.object_paths):
        raise WeightsError(f"{file.tensors.source} gives one object path to several tensors")
    back = {path: key for key, path in file.object_paths.items()}
    shapes = {path: file.tensors.shapes[key] for path, key in back.items()}
    order = ranks(file.tensors.metadata, file.tensors.source)
    found = match_paths(shapes, model, order, by_order=by_order).renamed(back.__getitem__)
    told = file.object_paths.keys() | file.computed
    found.unexpected += [key for key in file.tensors if key not in told]
    return found


def _renamed(here: Iterable[compat.StoredObject], file: Groups) -> dict[str, str]:
    """Path of a layer's group as this model counts -> its path in the file, where given names say they differ."""
    moved: dict[str, str] = {}
    for container, layers in _containers(here).items():
        given = {s.saveable.name: s.path for s in layers if compat.automatic_name(s.saveable) is None}
        there = {
            name: path
            for path, name in file.layer_names.items()
            if path.rpartition("/")[0] == container and name in given
        }
        for name, path in given.items():
            if name in there:
                moved[path] = there[name]
        used = set(moved.values())
        for stored in layers:
            name = file.layer_names.get(stored.path)
            other = stored.path not in moved and (stored.path in used or (name in given))
            if other:
                moved[stored.path] = ""
    return {path: _below(path, moved) for path in [s.path for s in here] if _below(path, moved) != path}


def _below(path: str, moved: Mapping[str, str]) -> str:
    """A path with the groups above it renamed."""
    parts = path.split("/")
    for count in range(len(parts), 0, -1):
        start = "/".join(parts[:count])
        if start in moved:
            return "/".join([moved[start] or "\0", *parts[count:]])
    return path


def _in_doubt(here: Iterable[compat.StoredObject], file: Groups) -> set[str]:
    """Paths of objects under layers that only a number tells from others of the same shapes."""
    here = list(here)
    doubtful: set[str] = set()
    for layers in _containers(s for s in here if s.numbered).values():
        alike = Counter(_shapes(s.path, file) for s in layers)
        for stored in layers:
            named = compat.automatic_name(stored.saveable) is None and stored.path in file.layer_names
            if alike[_shapes(stored.path, file)] > 1 and not named:
                doubtful |= {
                    s.path for s in here if s.path == stored.path or s.path.startswith(stored.path + "/")
                }
    return doubtful


def _shapes(path: str, file: Groups) -> tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]:
    """Class and shapes of everything in a group."""
    stem = path.rpartition("/")[2].rstrip("0123456789").rstrip("_")
    inside = sorted(
        (key.removeprefix(path), tuple(file.tensors.shapes[key]))
        for key in file.tensors
        if key.startswith(path + "/")
    )
    return stem, tuple(inside)


def _containers(stored: Iterable[compat.StoredObject]) -> dict[str, list[Any]]:
    """Layers by the group they are in."""
    found: dict[str, list[Any]] = {}
    for item in stored:
        container = item.path.rpartition("/")[0]
        if container.rpartition("/")[2] == "layers":
            found.setdefault(container, []).append(item)
    return found
