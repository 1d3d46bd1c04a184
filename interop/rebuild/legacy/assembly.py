"""A model of Keras 2 becomes one of Keras 3: planned, built, filled and compiled.

Enters: the configs of a file and what can pair its tensors with variables. Leaves: a built model and the
account of every tensor and every change.

Invariants: nothing is built before every class is found; no initializer runs for a variable that has a stored
value; nothing of a file is imported or run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from interop.capture.keras import compat, paths
from interop.rebuild.classes import Resolver
from interop.rebuild.from_config import OPTIMIZER_PREFIX, Rebuilt, fill, finalize, initialize_rest, staged
from interop.rebuild.legacy import table
from interop.rebuild.legacy.compilation import (
    Tensors,
    account,
    build_optimizer,
    derived,
    plan_compilation,
)
from interop.rebuild.legacy.graph import Builder
from interop.rebuild.legacy.plan import Container, Part, Planner
from interop.rebuild.legacy.variables import Pairs, Stored
from interop.status import Change, LoadStatus


class Source(Protocol):
    """The tensors of a file."""

    def prepare(self, model: Any) -> None:
        """Give layers what they had learned and do not keep in variables, before they are built."""
        ...

    def pair(self, model: Any, plan: Part, builder: Builder) -> tuple[Pairs, list[Stored]]:
        """Pairs of a variable and its tensor, and the tensors that are left over."""
        ...

    def slots(self, model: Any, plan: Part, builder: Builder, pairs: Pairs) -> tuple[Tensors, list[Stored]]:
        """Tensors by the key of their optimizer variable, and those left over."""
        ...


@dataclass(frozen=True)
class Description:
    """What a file says of a model.

    Attributes:
        config: of the model.
        training: how it was compiled; None if it was not.
        source: its tensors; None for a config alone.
        current: whether Keras 3 wrote it.
        call_inputs: symbolic arguments with which to call a model that is not built by its config.
    """

    config: Mapping[str, Any]
    training: Any = None
    source: Source | None = None
    current: bool = False
    call_inputs: Sequence[Any] | None = None


def assemble(
    described: Description, *, custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Rebuilt:
    """Make the model that a file of Keras 2 describes.

    Raises:
        MissingClassError: classes or functions that were not passed, all of them.
        RebuildError: the model has something that Keras 3 does not; names it.
        WeightsError: the tensors do not fit.
    """
    resolver = Resolver(custom_objects)
    planner = Planner(resolver, described.current)
    plan = planner.part(described.config)
    compilation = plan_compilation(described.training, planner, resolver) if compile else None
    resolver.check()
    builder = Builder()
    with keras.saving.CustomObjectScope(resolver.known), compat.safe_scope():
        with compat.deferred_variables() as made:
            model = staged("made from its config", lambda: builder.part(plan))
            if described.source is not None:
                staged("given what its layers had learned", partial(described.source.prepare, model))
            _build(model, plan, described.call_inputs)
        pairs, left = described.source.pair(model, plan, builder) if described.source else ([], [])
        status = _load(model, pairs, left) if described.source else LoadStatus()
        initialize_rest(made)
        compat.finish_layers(model)
        finalize(model)
        changes = [*planner.changes, *_states(left), *_vocabularies(model, described.source)]
        if compilation is not None:
            staged("compiled", lambda: compilation.apply(model))
            if described.source is not None:
                source = described.source
                more, lost = staged(
                    "given the state of its optimizer",
                    lambda: _load_optimizer(model, plan, builder, source, pairs),
                )
                status, changes = status + more, changes + lost
    return Rebuilt(model, status + LoadStatus(changes=tuple(dict.fromkeys(changes))))


def _build(model: Any, plan: Part, call_inputs: Sequence[Any] | None) -> None:
    if model.built:
        return
    if isinstance(plan, Container) and plan.build_shape is not None:
        staged("built", lambda: model.build(tuple(plan.build_shape)))
    elif call_inputs is not None:
        staged("built", lambda: model(*call_inputs))


def _load(model: Any, pairs: Pairs, left: Sequence[Stored]) -> LoadStatus:
    keys, roles = paths.object_paths(model), paths.variable_roles(model)
    weights = {key: v for key, v in paths.named_variables(model).items() if roles[key] == "weight"}
    tensors = {keys[id(variable)]: stored for variable, stored in pairs if id(variable) in keys}
    apart = [stored for variable, stored in pairs if id(variable) not in keys]  # of layers off the graph
    unexpected = tuple(item.name for item in (*left, *apart) if item.leaf not in table.STATES)
    return fill(weights, _Reading(tensors), set(tensors), "") + LoadStatus(unexpected=unexpected)


def _states(left: Sequence[Stored]) -> Iterator[Change]:
    for item in left:
        if item.leaf in table.STATES:
            yield Change(
                item.name, table.STATES[item.leaf], "left out: Keras 3 keeps it in another form", True
            )


def _vocabularies(model: Any, source: Source | None) -> Iterator[Change]:
    """What lookup layers lack that had learned words, where the file does not have them."""
    layers = compat.all_layers(model) if source is not None else []
    inside = {
        id(child) for layer in layers for child in compat.sublayers(layer) if compat.keeps_vocabulary(layer)
    }
    for layer in layers:
        if compat.lacks_vocabulary(layer) and id(layer) not in inside:
            where = f"{type(layer).__name__} {layer.name!r}"
            yield Change(
                where, "the vocabulary it learned", "empty: give it one with set_vocabulary", lost=True
            )


def _load_optimizer(
    model: Any, plan: Part, builder: Builder, source: Source, pairs: Pairs
) -> tuple[LoadStatus, list[Change]]:
    build_optimizer(model)
    found, left = source.slots(model, plan, builder, pairs)
    iterations = int(found["iterations"].read()) if "iterations" in found else 0
    values: dict[str, Stored] = {**found}
    if "iterations" in found:  # Keras 1 counted in float32
        values["iterations"] = _constant(found["iterations"].name, iterations)
    for key, value in derived(model, found, iterations).items():
        values[key] = _constant(key, value)
    own = paths.optimizer_variables(model)
    status = fill({key: own[key] for key in values}, _Reading(values), set(values), OPTIMIZER_PREFIX)
    initialize_rest(list(own.values()))
    return status, account(model, values, left)


def _constant(key: str, value: Any) -> Stored:
    array = np.asarray(value, "int64" if isinstance(value, int) else "float32")
    return Stored(key, (), lambda: array)


class _Reading(Mapping[str, NDArray[Any]]):
    """Stored tensors by key, each read when it is asked for."""

    def __init__(self, tensors: Mapping[str, Stored]) -> None:
        self._tensors = tensors

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self._tensors[key].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
