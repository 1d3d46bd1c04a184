"""Names for variables and layers that follow the objects, not Keras' counters.

A Keras layer, model or metric enters; object paths leave, such as ``encoder/dense/kernel``.
The path of a variable is its key in every file this toolkit writes and the name of its initializer.

A segment of a path is

- the layer's name under a Sequential or Functional model, because its config keeps the names;
- the attribute's name elsewhere, without leading underscores, followed by the index in a list
  and the key in a dict (``blocks/0/kernel``);
- for what no attribute holds (a bare ``add_weight``), the given name, else the index.

Invariants: every variable of ``root.variables`` has exactly one path and no two share one; a
shared object has the shortest path to it, of equals the one whose owner came first; the root's own
name is not part of a path; paths do not depend on the backend, nor on how many objects the process
made before. Where the config does not keep automatic names (``dense_7`` inside a subclass), they
are counted anew from the container: ``dense``, ``dense_1``. A Functional model that is built twice
by code, not from its config, has two sets of automatic names and so two sets of paths.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from interop.capture.keras import compat
from interop.capture.keras.standin import Role, StandIn


@dataclass(frozen=True)
class ObjectPaths:
    """Everything reachable from one root, by the identity of the object."""

    variables: dict[int, str] = field(default_factory=dict)
    layers: dict[int, str] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    by_key: dict[str, Any] = field(default_factory=dict)


def object_paths(root: Any) -> dict[int, str]:
    """Map ``id(variable)`` to its key: weights, seed states and states of attached metrics."""
    return walk(root).variables


def layer_paths(root: Any) -> dict[int, str]:
    """Map ``id(layer)`` to its path; the root's is the empty string."""
    return walk(root).layers


def named_variables(root: Any) -> dict[str, Any]:
    """Map each key to its ``keras.Variable``, sorted by key."""
    return dict(sorted(walk(root).by_key.items()))


def variable_roles(root: Any) -> dict[str, Role]:
    """Map each key to what its variable is for: a weight, a seed's state or a metric's state."""
    return walk(root).roles


def optimizer_variables(model: Any) -> dict[str, Any]:
    """Map ``<variable key>/<slot>`` and the scalars (``iterations``, ...) to optimizer variables.

    Empty when the model has no optimizer; scalars only while the optimizer is not built. Scalars of
    an inner optimizer (loss scaling) have its attribute as prefix: ``inner_optimizer/iterations``.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return {}
    taken: set[str] = set()
    slots = _optimizer_variables(optimizer, "", object_paths(model))
    return dict(sorted((_unique(key, taken), variable) for key, variable in slots))


@dataclass(frozen=True)
class HeldOptimizer:
    """An optimizer that a model, or a layer in it, holds in an attribute of its own: two of a GAN, say."""

    owner: str
    attribute: str
    optimizer: Any

    @property
    def path(self) -> str:
        """The path of the attribute."""
        return f"{self.owner}/{self.attribute}" if self.owner else self.attribute

    def variables(self, keys: Mapping[int, str]) -> dict[str, Any]:
        """The same as `optimizer_variables` for this one, its path and a colon before each key."""
        taken: set[str] = set()
        slots = _optimizer_variables(self.optimizer, "", keys)
        return {f"{self.path}:{_unique(key, taken)}": variable for key, variable in slots}


def held_optimizers(model: Any, known: Mapping[int, str] | None = None) -> dict[str, HeldOptimizer]:
    """The optimizers besides ``model.optimizer``, by path; one held twice once.

    Args:
        model: a Keras model.
        known: path by identity of a layer, if they are known.
    """
    found: dict[int, HeldOptimizer] = {}
    main = getattr(model, "optimizer", None)
    for layer, path in compat.layers_with_paths(model, layer_paths(model) if known is None else known):
        for name, value in sorted(compat.attributes(layer).items()):
            if isinstance(value, keras.optimizers.Optimizer) and value is not main:
                found.setdefault(id(value), HeldOptimizer(path, name, value))
    return {held.path: held for held in found.values()}


def held_optimizer_variables(model: Any) -> dict[str, Any]:
    """The variables of those, by ``<path>:<variable key>/<slot>``."""
    keys = object_paths(model)
    found: dict[str, Any] = {}
    for held in held_optimizers(model).values():
        found |= held.variables(keys)
    return dict(sorted(found.items()))


def _optimizer_variables(optimizer: Any, path: str, keys: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    """Slots by the variable they belong to, scalars by attribute, then those of inner optimizers."""
    references = compat.optimized_variables(optimizer)
    variables = compat.own_variables(optimizer)
    slots: dict[int, str] = {}
    inner: dict[int, tuple[str, Any]] = {}
    for name, value in sorted(compat.attributes(optimizer).items()):
        aligned = isinstance(value, list | tuple) and len(value) == len(references)
        for segments, child in _contents(value, (name.lstrip("_"),), frozenset()):
            if isinstance(child, keras.optimizers.Optimizer):
                inner.setdefault(id(child), ("/".join((path, *segments)).lstrip("/"), child))
            elif aligned and len(segments) == 2:
                reference = references[int(segments[1])]
                key = keys.get(id(reference))
                if key is not None:
                    slots.setdefault(id(child), f"{key}/{compat.slot_name(child, reference, segments[0])}")
            else:
                slots.setdefault(id(child), "/".join((path, *segments)).lstrip("/"))
    for index, variable in enumerate(variables):
        yield slots.get(id(variable), f"{path}/{index}".lstrip("/")), variable
    for inner_path, child in inner.values():
        yield from _optimizer_variables(child, inner_path, keys)


def walk(root: Any) -> ObjectPaths:
    """Visit everything under a layer, model or metric, nearest first."""
    found = ObjectPaths()
    taken: set[str] = set()
    seen: set[int] = {id(root)}
    queue: deque[tuple[Any, str, bool]] = deque([(root, "", True)])
    while queue:
        owner, path, keeps_names = queue.popleft()
        if isinstance(owner, keras.Layer):
            found.layers[id(owner)] = path
        keeps_names = keeps_names and compat.config_keeps_layer_names(owner)
        for segment, child in _children(owner, keeps_names):
            if id(child) in seen:
                continue
            seen.add(id(child))
            child_path = _unique(f"{path}/{segment}" if path else segment, taken)
            if isinstance(child, keras.Layer | keras.Metric):
                queue.append((child, child_path, keeps_names))
            elif isinstance(child, keras.random.SeedGenerator):
                _record(found, child.state, f"{child_path}/state", "seed")
            else:
                _record(found, child, child_path, _role(owner, child))
    return found


def _record(found: ObjectPaths, variable: Any, key: str, role: Role) -> None:
    found.variables[id(variable)] = key
    found.roles[key] = role
    found.by_key[key] = variable


def _role(owner: Any, variable: Any) -> Role:
    if isinstance(owner, StandIn):
        return owner.role_of(variable)
    return "metric" if isinstance(owner, keras.Metric) else "weight"


def _children(owner: Any, keeps_names: bool) -> Iterator[tuple[str, Any]]:
    """What an owner tracks, each with its segment: sublayers, then variables, seeds and metrics."""
    if isinstance(owner, StandIn):
        yield from owner.parts()
        return
    layers = compat.sublayers(owner) if isinstance(owner, keras.Layer) else []
    segments = _layer_segments(compat.named_layers(owner), keeps_names)
    state = [*compat.own_variables(owner), *compat.seed_generators(owner), *compat.own_metrics(owner)]
    tracked = [*layers, *state]
    for identity, segment in _attribute_segments(owner, {id(child) for child in tracked}).items():
        segments.setdefault(identity, segment)
    segments = {**_loose_segments(tracked, segments), **segments}
    for child in tracked:
        yield segments[id(child)], child


def _layer_segments(layers: Sequence[Any], keeps_names: bool) -> dict[int, str]:
    """Names of the layers of one container; automatic ones counted anew unless a config keeps them."""
    if keeps_names:
        return {id(layer): layer.name for layer in layers}
    automatic = {id(layer): compat.automatic_name(layer) for layer in layers}
    segments = {id(layer): layer.name for layer in layers if automatic[id(layer)] is None}
    taken = set(segments.values())
    counted = [(name, layer) for layer in layers if (name := automatic[id(layer)]) is not None]
    for (stem, _), layer in sorted(counted, key=lambda item: item[0]):
        segments[id(layer)] = _unique(stem, taken)
    return segments


def _attribute_segments(owner: Any, wanted: set[int]) -> dict[int, str]:
    """The plainest attribute that holds each wanted child: public, then shallow, then alphabetical."""
    best: dict[int, tuple[bool, int, str]] = {}
    for name, value in compat.attributes(owner).items():
        if value is None or isinstance(value, str | int | float):
            continue
        for segments, child in _contents(value, (name.lstrip("_") or "_",), frozenset()):
            if id(child) in wanted:
                rank = (name.startswith("_"), len(segments), "/".join(segments))
                best[id(child)] = min(rank, best.get(id(child), rank))
    return {identity: path for identity, (_, _, path) in best.items()}


def _contents(
    value: Any, segments: tuple[str, ...], inside: frozenset[int]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A value and, for lists, tuples and dicts, what they hold at any depth."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, list | tuple):
        items = enumerate(value)
    elif isinstance(value, Mapping):
        items = value.items()
    else:
        yield segments, value
        return
    if id(value) in inside:
        return
    for key, item in items:
        segment = str(key).replace("/", ".")
        yield from _contents(item, (*segments, segment), inside | {id(value)})


def _loose_segments(tracked: Sequence[Any], named: Mapping[int, str]) -> dict[int, str]:
    """Names for children that no attribute holds: the given name if there is one, else the index."""
    loose = [child for child in tracked if id(child) not in named]
    given = [child for child in loose if compat.automatic_name(child) is None]
    segments = {id(child): child.name for child in given}
    segments |= {id(child): str(i) for i, child in enumerate(c for c in loose if id(c) not in segments)}
    return segments


def _unique(name: str, taken: set[str]) -> str:
    """The name, or the first of ``name_1``, ``name_2``, ... that is free; marks it as taken."""
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate
