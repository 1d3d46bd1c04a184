"""Files whose keys are object paths, such as ``encoder/dense/kernel``, and a model.

Enters: keys and a model. Leaves: a `Matched`.

Keys that are equal belong together. Names that Keras numbers by itself (``dense_3``) depend on how many layers a
process made before. Of the layers of one class in one container, therefore:

- if the file's names are among the model's, or the other way round, equal names belong together;
- else, if there are equally many, they belong together in the order of their numbers;
- else they are ambiguous.

Where a file says how its layers come (``layer_order``), those that so belong together must come in one order. If they
do not, because code that makes the last layer first counts them backwards, they are paired by their order if only
then the shapes are right, or if the caller asks for it; and are ambiguous if the shapes are right both ways.

Seeds that are not stored are not missing if the file has none: they are no weights, and many files leave them out.

The state of an optimizer lies beside, under ``optimizer:`` and the object path of the variable that a slot is for. It
follows that variable wherever it went, and is not missing if the file has none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from interop.capture.keras import compat, paths
from interop.capture.keras.order import automatic_names
from interop.rebuild.from_config import OPTIMIZER_PREFIX
from interop.rebuild.weights.matching import Matched, Pair, keys_below

Tree = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


class Order(NamedTuple):
    """How layers come in the container of a file and in that of a model.

    Attributes:
        stored: rank of a stored layer by its name; of equal ranks the lower number comes first.
        here: rank of a layer in the model by its name.
        fits: whether the stored layer of a name has the shapes of the layer of another name.
        counts: whether the order counts more than the names.
    """

    stored: Callable[[str], int]
    here: Callable[[str], int]
    fits: Callable[[str, str], bool]
    counts: bool


def match_paths(
    shapes: Shapes, model: Any, ranks: Mapping[str, int] | None = None, *, by_order: bool = False
) -> Matched:
    """Match the tensors of a file with the variables a model has now.

    Args:
        shapes: key to shape.
        model: a model or a layer.
        ranks: by path, of layers that do not come in the order of the numbers in their names; None if the file does not
            say which do.
        by_order: pair layers by their order where their names or numbers say something else.
    """
    state = [key for key in shapes if key.startswith(OPTIMIZER_PREFIX)]
    shapes = {key: shape for key, shape in shapes.items() if not key.startswith(OPTIMIZER_PREFIX)}
    walked = paths.walk(model)
    layers = compat.layers_with_paths(model, walked.layers)
    unbuilt = [path for layer, path in layers if not layer.built]
    matched = Matched()
    renaming = _Renaming(
        shapes,
        {key: tuple(variable.shape) for key, variable in walked.by_key.items()},
        automatic_names(model, walked.layers),
        unbuilt,
        ranks,
        by_order,
        matched,
    )
    renaming.descend(_tree(shapes), _tree(walked.by_key))
    renamed, places = renaming.renamed, renaming.places
    found = {target: key for key, target in renamed.items() if target in walked.by_key}
    matched.pairs = [Pair(key, target, walked.by_key[target]) for target, key in sorted(found.items())]
    doubtful = set(matched.ambiguous)
    for key in shapes:
        target = renamed.get(key)  # none for one that another continues, or that has an empty name in it
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
    inside = keys_below(shapes, {places[path] for path in unbuilt if path in places})
    for layer, path in layers:
        if path and not layer.built:
            place = places.get(path, path)
            below = {key: shapes[key] for key in inside.get(place, [])}
            matched.parts[id(layer)] = partial(_match_part, below, place, layer, path, ranks, by_order)
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


def _match_part(
    shapes: Shapes, place: str, layer: Any, path: str, ranks: Mapping[str, int] | None, by_order: bool
) -> Matched:
    """Match a layer at `path` with the tensors below `place`."""
    inside = {key.removeprefix(f"{place}/"): shape for key, shape in shapes.items()}
    if ranks is not None:
        ranks = {
            key.removeprefix(f"{place}/"): rank for key, rank in ranks.items() if key.startswith(f"{place}/")
        }
    found = match_paths(inside, layer, ranks, by_order=by_order)
    return found.renamed(partial(_join, place), partial(_join, path))


@dataclass
class _Renaming:
    """The path that each stored key has in a model.

    Attributes:
        stored: shapes in the file.
        here: shapes in the model.
        automatic: stem and number by path in the model, in its order.
        unbuilt: paths of layers that have no variables yet.
        ranks: as for `match_paths`.
        by_order: as for `match_paths`.
        matched: where ambiguous keys are told.
        renamed: path in the model of each key of the file.
        places: path in the file of each owner in the model.
    """

    stored: Shapes
    here: Shapes
    automatic: Mapping[str, tuple[str, int]]
    unbuilt: Collection[str]
    ranks: Mapping[str, int] | None
    by_order: bool
    matched: Matched
    renamed: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rank_here = {path: rank for rank, path in enumerate(self.automatic)}
        self._to_come: dict[str, list[str]] = {}
        for path in self.unbuilt:
            container, _, name = path.rpartition("/")
            self._to_come.setdefault(container, []).append(name)

    def descend(self, stored: Tree, target: Tree, stored_path: str = "", target_path: str = "") -> None:
        """Rename a level, and those below."""
        order = None
        if (ranks := self.ranks) is not None:

            def fits(their: str, mine: str) -> bool:
                theirs = self._shapes(self.stored, stored[their], _join(stored_path, their))
                own = self._shapes(self.here, target.get(mine, {}), _join(target_path, mine))
                return theirs <= own or own <= theirs

            order = Order(
                lambda name: ranks.get(_join(stored_path, name), 0),
                lambda name: self._rank_here[_join(target_path, name)],
                fits,
                self.by_order,
            )
        here = {
            name: self.automatic.get(_join(target_path, name))
            for name in [*target, *self._to_come.get(target_path, [])]
        }
        names, doubtful, disputed = renamed_level(stored, here, order)
        if disputed:
            self.matched.dispute()
        for name, value in stored.items():
            key, new = _join(stored_path, name), _join(target_path, names[name])
            if name in doubtful or name in disputed:
                self.matched.ambiguous.extend(_leaves(value, key))
            elif value is None:
                self.renamed[key] = new
            else:
                self.places[new] = key
                self.descend(value, target.get(names[name]) or {}, key, new)

    def _shapes(self, known: Shapes, tree: Tree | None, path: str) -> Counter[tuple[int, ...]]:
        return Counter(tuple(known[key]) for key in _leaves(tree, path))


class Level(NamedTuple):
    """The name in the model of each stored object of a container; those in doubt; those whose order disagrees."""

    names: dict[str, str]
    doubtful: set[str]
    disputed: set[str]


def renamed_level(
    stored: Iterable[str], here: Mapping[str, tuple[str, int] | None], order: Order | None = None
) -> Level:
    """The name that each stored object of a container has here.

    Args:
        stored: names in the file.
        here: names in the model, with stem and number of those that Keras numbered by itself.
        order: how they come; None if the file does not say.

    >>> renamed_level(["dense_1", "dense_2"], {"dense_7": ("dense", 7), "dense_8": ("dense", 8)}).names
    {'dense_1': 'dense_7', 'dense_2': 'dense_8'}
    """
    level = Level({name: name for name in stored}, set(), set())
    numbered: dict[str, dict[str, int]] = {}
    for name, found in here.items():
        if found is not None:
            numbered.setdefault(found[0], {})[name] = found[1]
    for stem, mine in numbered.items():
        theirs = {
            name: int(match[1] or 0)
            for name in level.names
            if (match := re.fullmatch(rf"{re.escape(stem)}(?:_(\d+))?", name))
            and (name in mine or name not in here)
        }
        if mine.keys() <= theirs.keys() or theirs.keys() <= mine.keys():
            paired = {name: name for name in theirs if name in mine}
        elif len(mine) == len(theirs):
            by_number = (sorted(side, key=side.__getitem__) for side in (theirs, mine))
            paired = dict(zip(*by_number, strict=True))
        else:
            level.doubtful.update(theirs)
            continue
        if order is not None:
            ranked = sorted(paired, key=lambda name: (order.stored(name), theirs[name]))
            ordered = dict(zip(ranked, sorted(paired.values(), key=order.here), strict=True))
            if ordered != paired and not order.counts:
                fitting = [each for each in (paired, ordered) if all(map(order.fits, each, each.values()))]
                if len(fitting) == 2:
                    level.disputed.update(paired)
                paired = fitting[0] if fitting else paired
            elif order.counts:
                paired = ordered
        level.names.update(paired)
    return level


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
