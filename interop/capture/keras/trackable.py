"""The objects of a model as TensorFlow's checkpoints see them: named children, and variables at the ends.

Enters: a Keras object, a variable, or a list, tuple or dict of them. Leaves: its children, each with every name that
TensorFlow, Keras 2 and Keras 3 store it under, the best first.

=====================================  ===========================================================
a layer of a Sequential or Functional  ``layer_with_weights-<n>``, ``layer-<n>`` (Keras 2)
the graph of a Sequential              ``_functional``, whose layers are in ``_operations`` (Keras 3)
what an attribute holds                the attribute's name, without and with its underscore
what a list, tuple or dict holds       its index or key
a weight that no attribute holds       its own name
=====================================  ===========================================================

Invariants: only what Keras tracks is a child, so that an attribute that merely refers to another model is none;
an optimizer's lists are named, its flat list of everything is not: Keras 2 and 3 order it differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras

from interop.capture.keras import compat

# Attributes of layers that Keras 3 renamed: (class, name in Keras 3) -> name in Keras 2.
_RENAMED = {
    ("DepthwiseConv1D", "kernel"): "depthwise_kernel",
    ("DepthwiseConv2D", "kernel"): "depthwise_kernel",
}

OPTIMIZED = "_trainable_variables"
"""The child of an optimizer that lists the variables its other lists belong to."""

EVERYTHING = "_variables"
"""The child of an optimizer of Keras 2 that lists its step and all slots."""

SLOTS: Mapping[str, str] = {
    "m": "momentum",
    "v": "velocity",
    "vhat": "velocity_hat",
    "rms": "velocity",
    "mg": "average_gradient",
    "accum_grad": "accumulated_grad",
    "accum_var": "accumulated_delta_var",
}
"""Slots of Keras 2's optimizers, and what Keras 3 calls them; one that is not here is called the same."""

_SLOT_LISTS: Mapping[str, tuple[str, ...]] = {
    "momentum": ("_momentums", "momentums", "_m"),
    "velocity": ("_velocities", "_u"),
    "velocity_hat": ("_velocity_hats",),
    "average_gradient": ("_average_gradients",),
    "accumulator": ("_accumulators",),
    "linear": ("_linears",),
    "accumulated_grad": ("_accumulated_grads",),
    "accumulated_delta_var": ("_accumulated_delta_vars",),
    "average": ("_model_variables_moving_average",),
}


def slot_lists(slot: str) -> tuple[str, ...]:
    """The lists of Keras 3's optimizers that a slot of Keras 2 can be in.

    >>> slot_lists("rms")
    ('_velocities', '_u')
    """
    return _SLOT_LISTS.get(SLOTS.get(slot, slot), ())


_FLAT_LISTS = frozenset({EVERYTHING, "_trainable_variables_indices"})


class Child(NamedTuple):
    """A child under each of its names, the best first."""

    names: tuple[str, ...]
    value: Any


class Operations(list[Any]):
    """Layers and operations of a Functional, by number."""


def children(owner: Any) -> Iterator[Child]:
    """What an object holds."""
    if isinstance(owner, Mapping):
        yield from (Child((str(key),), value) for key, value in owner.items() if holds_state(value))
    elif isinstance(owner, list | tuple):
        yield from (Child((str(i),), value) for i, value in enumerate(owner) if holds_state(value))
    elif isinstance(owner, keras.random.SeedGenerator):
        yield Child(("state",), owner.state)
    elif isinstance(owner, keras.optimizers.Optimizer):
        yield from _of_optimizer(owner)
    elif isinstance(owner, keras.Layer | keras.Metric):
        yield from _of_layer(owner)


def _of_optimizer(optimizer: Any) -> Iterator[Child]:
    yield Child((OPTIMIZED,), compat.optimized_variables(optimizer))
    for name, value in sorted(compat.attributes(optimizer).items()):
        if name not in _FLAT_LISTS and holds_state(value):
            old = ("iter",) if name.lstrip("_") == "iterations" else ()
            yield Child((*_spellings(name), *old), value)


def _of_layer(owner: Any) -> Iterator[Child]:
    tracked = [*compat.own_variables(owner), *compat.own_metrics(owner), *compat.seed_generators(owner)]
    layers = compat.sublayers(owner) if isinstance(owner, keras.Layer) else []
    wanted = {id(child) for child in (*tracked, *layers)}
    if compat.named_layers(owner) or isinstance(owner, keras.Sequential):
        yield from _of_graph(owner)
    named = set[int]()
    for name, value in sorted(compat.attributes(owner).items()):
        if id(value) in wanted:
            named.add(id(value))
            renamed = _RENAMED.get((type(owner).__name__, name.lstrip("_")))
            yield Child((*_spellings(name), *([renamed] if renamed else [])), value)
        elif isinstance(value, Mapping | list | tuple) and _ids(value, set()) & wanted:
            named |= _ids(value, set())
            yield Child(_spellings(name), value)
    for variable in compat.own_variables(owner):
        if id(variable) not in named:
            yield Child((variable.name,), variable)
    if (optimizer := compat.optimizer_of(owner)) is not None:
        yield Child(("optimizer",), optimizer)


def _of_graph(owner: Any) -> Iterator[Child]:
    """Layers by number, as Keras 2 stores them, and the graph they are in, as Keras 3 does."""
    layers = owner.layers
    with_weights = [id(layer) for layer in layers if layer.weights]
    for index, layer in enumerate(layers):
        names = [f"layer-{index}"]
        if id(layer) in with_weights and all(layer.built for layer in layers):
            names.insert(0, f"layer_with_weights-{with_weights.index(id(layer))}")
        yield Child(tuple(names), layer)
    if (graph := compat.graph_of(owner)) is not None:
        yield Child(("_functional",), graph)
    elif not isinstance(owner, keras.Sequential):
        yield Child(("_operations",), Operations(compat.operations(owner)))


def _spellings(name: str) -> tuple[str, ...]:
    """An attribute's name, then without or with a leading underscore: ``_kernel`` was ``kernel`` in Keras 2."""
    bare = name.lstrip("_")
    return (name, bare) if name != bare and bare else (name, f"_{name}")


def holds_state(value: Any) -> bool:
    """Whether an object can have variables under it, now or once it is built."""
    if isinstance(value, Mapping | list | tuple):
        items = value.values() if isinstance(value, Mapping) else value
        return any(holds_state(item) for item in items)
    return compat.is_variable(value) or isinstance(
        value,
        keras.Layer | keras.Metric | keras.optimizers.Optimizer | keras.random.SeedGenerator,
    )


def _ids(value: Any, inside: set[int]) -> set[int]:
    """Identities of everything in a container, at any depth."""
    if id(value) in inside:
        return set()
    if not isinstance(value, Mapping | list | tuple):
        return {id(value)}
    items = value.values() if isinstance(value, Mapping) else value
    return set[int]().union(*(_ids(item, inside | {id(value)}) for item in items))
