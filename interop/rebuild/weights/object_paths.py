"""Files whose keys are object paths, such as ``encoder/dense/kernel``, and a model.

Enters: keys and a model. Leaves: a `Matched`.

Keys that are equal belong together. Names that Keras numbers by itself (``dense_3``) depend on how many layers a
process made before. Of the layers of one class in one container, therefore:

- if the file's names are among the model's, or the other way round, equal names belong together;
- else, if there are equally many, they belong together in the order of their numbers;
- else they are ambiguous.

Seeds that are not stored are not missing if the file has none: they are no weights, and many files leave them out.

The state of an optimizer lies beside, under ``optimizer:`` and the object path of the variable that a slot is for. It
follows that variable wherever it went, and is not missing if the file has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from interop.capture.keras import compat, paths
from interop.rebuild.from_config import OPTIMIZER_PREFIX
from interop.rebuild.weights.matching import Matched, Pair, keys_below

Tree = dict[str, Any]


def match_paths(keys: Iterable[str], model: Any) -> Matched:
    """Match the keys of a file with the variables a model has now."""
    state = [key for key in keys if key.startswith(OPTIMIZER_PREFIX)]
    keys = [key for key in keys if not key.startswith(OPTIMIZER_PREFIX)]
    walked = paths.walk(model)
    layers = compat.layers_with_paths(model, walked.layers)
    automatic = {
        path: name
        for layer, path in layers
        if path.rpartition("/")[2] == layer.name and (name := compat.automatic_name(layer)) is not None
    }
    matched = Matched()
    renamed: dict[str, str] = {}
    places: dict[str, str] = {}
    _rename(_tree(keys), _tree(walked.by_key), "", "", automatic, renamed, matched.ambiguous, places)
    found = {target: key for key, target in renamed.items() if target in walked.by_key}
    matched.pairs = [Pair(key, target, walked.by_key[target]) for target, key in sorted(found.items())]
    doubtful = set(matched.ambiguous)
    unbuilt = [path for layer, path in layers if not layer.built]
    for key in keys:
        target = renamed.get(
            key
        )  # none for a key that another one continues, or that has an empty name in it
        if key in doubtful or (target is not None and found.get(target) == key):
            continue
        waits = target is not None and any(not path or target.startswith(f"{path}/") for path in unbuilt)
        (matched.deferred if waits else matched.unexpected).append(key)
    optional = not any(walked.roles.get(target) == "seed" for target in found)
    matched.missing = [
        name
        for name in sorted(walked.by_key)
        if name not in found and not (optional and walked.roles[name] == "seed")
    ]
    inside = keys_below(keys, {places[path] for path in unbuilt if path in places})
    for layer, path in layers:
        if path and not layer.built:
            place = places.get(path, path)
            matched.parts[id(layer)] = partial(_match_part, inside.get(place, []), place, layer, path)
    if state:
        _match_optimizer(state, model, matched)
    return matched


def _match_optimizer(keys: Iterable[str], model: Any, matched: Matched) -> None:
    """Add the state of an optimizer to what the weights of a file match."""
    own = paths.optimizer_variables(model)
    optimizer = compat.optimizer_of(model)
    waits = optimizer is not None and not optimizer.built
    renamed = {pair.key: pair.name for pair in matched.pairs}
    found = set[str]()
    for key in keys:
        stored = key.removeprefix(OPTIMIZER_PREFIX)
        variable, _, slot = stored.rpartition("/")
        name = f"{renamed[variable]}/{slot}" if variable in renamed else stored
        if name in own and name not in found:
            found.add(name)
            matched.pairs.append(Pair(key, OPTIMIZER_PREFIX + name, own[name]))
        else:
            (matched.deferred if waits else matched.unexpected).append(key)
    matched.missing += [OPTIMIZER_PREFIX + name for name in own if name not in found]


def _match_part(keys: list[str], place: str, layer: Any, path: str) -> Matched:
    """Match a layer at `path` with the keys below `place`."""
    found = match_paths([key.removeprefix(f"{place}/") for key in keys], layer)
    return found.renamed(partial(_join, place), partial(_join, path))


def _rename(
    stored: Tree,
    target: Tree,
    stored_path: str,
    target_path: str,
    automatic: Mapping[str, tuple[str, int]],
    renamed: dict[str, str],
    ambiguous: list[str],
    places: dict[str, str],
) -> None:
    """Fill `renamed` with the path each stored key has in the target, `places` the other way for owners, by level."""
    here = {name: automatic.get(_join(target_path, name)) for name in target}
    names, doubtful = renamed_level(stored, here)
    for name, value in stored.items():
        key, new = _join(stored_path, name), _join(target_path, names[name])
        if name in doubtful:
            ambiguous.extend(_leaves(value, key))
        elif value is None:
            renamed[key] = new
        else:
            inner = target.get(names[name])
            places[new] = key
            _rename(value, inner or {}, key, new, automatic, renamed, ambiguous, places)


def renamed_level(
    stored: Iterable[str], here: Mapping[str, tuple[str, int] | None]
) -> tuple[dict[str, str], set[str]]:
    """The name that each stored object of a container has here, and those whose name is in doubt.

    Args:
        stored: names in the file.
        here: names in the model, with stem and number of those that Keras numbered by itself.

    >>> renamed_level(["dense_1", "dense_2"], {"dense_7": ("dense", 7), "dense_8": ("dense", 8)})
    ({'dense_1': 'dense_7', 'dense_2': 'dense_8'}, set())
    """
    names = {name: name for name in stored}
    doubtful: set[str] = set()
    numbered: dict[str, dict[str, int]] = {}
    for name, found in here.items():
        if found is not None:
            numbered.setdefault(found[0], {})[name] = found[1]
    for stem, mine in numbered.items():
        theirs = {
            name: int(match[1] or 0)
            for name in names
            if (match := re.fullmatch(rf"{re.escape(stem)}(?:_(\d+))?", name))
            and (name in mine or name not in here)
        }
        if mine.keys() <= theirs.keys() or theirs.keys() <= mine.keys():
            continue
        if len(mine) == len(theirs):
            ordered = (sorted(side, key=side.__getitem__) for side in (theirs, mine))
            names.update(zip(*ordered, strict=True))
        else:
            doubtful |= theirs.keys()
    return names, doubtful


def _tree(keys: Iterable[str]) -> Tree:
    """Nested dicts of the segments of keys; None at the ends."""
    root: Tree = {}
    for key in keys:
        *owners, last = key.split("/")
        node = root
        for segment in owners:
            inner = node.get(segment)
            if inner is None:
                inner = node[segment] = {}
            node = inner
        node.setdefault(last, None)
    return root


def _leaves(value: Tree | None, path: str) -> Iterator[str]:
    if value is None:
        yield path
        return
    for name, inner in value.items():
        yield from _leaves(inner, _join(path, name))


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
