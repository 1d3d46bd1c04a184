"""Optimizers that a model holds in attributes of its own, beside the one it was compiled with.

Enters: what the config says of each, by path. Leaves: a model whose attributes hold optimizers of the same settings,
built for the variables they had, so that their state can be loaded.

An optimizer that is there already, for the class or its ``compile`` made it, stays if it is of the same class. Where
there is none, as in a class that gets them from a ``compile`` whose arguments nothing recorded, it is made and set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from interop.capture.keras import compat, paths
from interop.rebuild.classes import Resolver
from interop.status import Change


def is_held(key: str) -> bool:
    """Whether a tensor belongs to such an optimizer: no other key has a colon, which ends the attribute's path."""
    return ":" in key


def prepare_held(resolver: Resolver, described: Mapping[str, Any], revive: bool) -> dict[str, Any]:
    """What the config says of each, its classes found; without those that lack one, where that is no error."""
    found: dict[str, Any] = {}
    for path, held in described.get("optimizers", {}).items():
        mark = resolver.found.mark()
        prepared = resolver.prepare(held["object"], path)
        lost = resolver.found.names_since(mark)
        if revive and lost:
            resolver.found.reset(mark)
            resolver.found.changes.append(
                Change(
                    path, f"an optimizer that uses {', '.join(lost)}", "left out with its state", lost=True
                )
            )
        else:
            found[path] = {**held, "object": prepared}
    return found


def restore_held(model: Any, described: Mapping[str, Any]) -> None:
    """Make the optimizers that are missing, and the variables of all."""
    owners = {path: layer for layer, path in compat.layers_with_paths(model, paths.layer_paths(model))}
    named = paths.named_variables(model)
    for saved in described.values():
        owner = owners.get(saved["owner"])
        if owner is None:
            continue
        there = compat.attributes(owner).get(saved["attribute"])
        if not isinstance(there, keras.optimizers.Optimizer) or _is_built_otherwise(there, saved, named):
            there = keras.saving.deserialize_keras_object(saved["object"], safe_mode=True)
            setattr(owner, saved["attribute"], there)
        build_optimizer(there, saved, named)


def _is_built_otherwise(optimizer: Any, saved: Mapping[str, Any], named: Mapping[str, Any]) -> bool:
    """Whether one of the saved class has variables for others, such as Keras makes for a model that is frozen now."""
    if not optimizer.built or type(optimizer).__name__ != saved["class"]:
        return False
    wanted = {id(named[key]) for key in saved["variables"] if key in named}
    return {id(variable) for variable in compat.optimized_variables(optimizer)} != wanted


def orders(optimizer: Any, variables: Sequence[Any]) -> list[list[Any]]:
    """The orders in which versions of Keras 3 list variables of an optimizer, today's first.

    Until 3.7, Nadam listed its ``u_product`` before the slots, after the step and the learning rate.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    product = compat.attributes(inner).get("_u_product")
    rest = [v for v in variables if v is not product]
    if len(rest) == len(variables):
        return [rest]
    place = next((at for at, v in enumerate(rest, 1) if v.name == "learning_rate"), 0)
    return [list(variables), [*rest[:place], product, *rest[place:]]]


def build_optimizer(optimizer: Any, saved: Mapping[str, Any], named: Mapping[str, Any]) -> None:
    """Make the variables of an optimizer for those it had them for, by key."""
    if saved["built"] and not optimizer.built:
        with compat.deferred_variables():
            optimizer.build([named[key] for key in saved["variables"] if key in named])
