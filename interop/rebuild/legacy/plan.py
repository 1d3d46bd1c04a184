"""What is to be made of the config of a model of Keras 2, before anything is made.

Enters: the config of a Functional or Sequential model, or of any layer. Leaves: a plan, in which every layer's
config is migrated, every class is found and every call is read.

Invariant: nothing is built; what is missing is noted with the resolver, so that all of it is known at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from interop.errors import RebuildError
from interop.rebuild.classes import Resolver
from interop.rebuild.legacy import table
from interop.rebuild.legacy.calls import Call, parse, parse_call
from interop.rebuild.legacy.migration import CONTAINERS, Migration, class_name
from interop.rebuild.legacy.operations import Function, operation
from interop.rebuild.legacy.raw_operations import raw_operation
from interop.status import Change

_OPERATIONS = frozenset(
    {
        "TFOpLambda",
        "SlicingOpLambda",
        "TensorFlowOpLayer",
        "ClassMethod",
        "InstanceMethod",
        "InstanceProperty",
    }
)
_GRAPH = frozenset({"layers", "input_layers", "output_layers"})


@dataclass(frozen=True)
class Leaf:
    """A layer that is made from its config alone."""

    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """A function of TensorFlow, to be called where the layer was."""

    name: str
    function: Function


@dataclass(frozen=True)
class Container:
    """A Functional or Sequential model, or a class of the user that is made like one.

    Attributes:
        name: of the model.
        kind: ``"Functional"`` or ``"Sequential"``.
        parts: its layers in the file's order, each with the calls that were made of it.
        inputs: references to its input tensors, structured; None for a Sequential.
        outputs: the same of its outputs.
        build_shape: shape to build a Sequential for that has no input; else None.
        config: its migrated config, if it is a class of the user.
        frozen: whether the model as a whole is not trainable.
    """

    name: str
    kind: str
    parts: tuple[tuple[Leaf | Operation | Container, tuple[Call, ...]], ...]
    inputs: Any = None
    outputs: Any = None
    build_shape: Any = None
    config: Mapping[str, Any] | None = None
    frozen: bool = False


Part = Leaf | Operation | Container


class Planner:
    """Makes plans of models; `changes` tells what the migration changed.

    Args:
        resolver: looks up classes and functions.
        current: whether the configs are those of Keras 3.
    """

    def __init__(self, resolver: Resolver, current: bool = False) -> None:
        self._resolver = resolver
        self._migration = Migration(self.container, current, _own_classes(resolver))

    @property
    def changes(self) -> list[Change]:
        """What is not as the file says."""
        return self._migration.changes

    def part(self, spec: Mapping[str, Any]) -> Part:
        """The plan of one layer or model."""
        if not isinstance(spec, Mapping) or not isinstance(spec.get("config"), dict | list):
            raise RebuildError(f"the config of a layer is {spec!r:.80}; expected a class name and a config")
        name, _ = class_name(spec)
        kind = table.CLASSES.get(name, name)
        if kind in CONTAINERS or _is_functional(spec["config"]):
            return self.container(kind, spec)
        if not isinstance(spec["config"], dict):
            raise RebuildError(f"the config of {name} is {spec['config']!r:.80}; expected a mapping")
        if name in _OPERATIONS:
            called = spec.get("name", spec["config"].get("name", name))
            return Operation(str(called), self._operation(name, spec["config"]))
        migrated = self._migration.object(spec)
        where = str(spec["config"].get("name", spec.get("name", name)))
        return Leaf(where, self._resolver.prepare(migrated, where))

    def object(self, config: Mapping[str, Any], family: str) -> Any:
        """The migrated config of an object that is no layer, its classes found."""
        return self._resolver.prepare(self._migration.object(config, family), family)

    def container(self, kind: str, spec: Mapping[str, Any]) -> Container:
        """The plan of a model."""
        config = spec["config"]
        if isinstance(config, list):  # a Sequential of Keras 2.2 and before
            config = {"name": spec.get("name", "sequential"), "layers": config}
        layers = config.get("layers")
        if not isinstance(layers, list):
            raise RebuildError(f"the config of {kind} {config.get('name')!r} has no list of layers")
        planned = [self.part(layer) for layer in layers]
        names = {part.name for part in planned}
        parts = tuple((part, _calls(layer, names)) for part, layer in zip(planned, layers, strict=True))
        own = None
        if kind not in CONTAINERS:
            settings = {key: value for key, value in config.items() if key not in _GRAPH}
            own = self._resolver.prepare(self._migration.object({**spec, "config": settings}))
            kind = "Functional"
        return Container(
            name=str(config.get("name", kind.lower())),
            kind=kind,
            parts=parts,
            inputs=parse(config.get("input_layers"), names),
            outputs=parse(config.get("output_layers"), names),
            build_shape=config.get("build_input_shape") or _first_shape(layers)
            if kind == "Sequential"
            else None,
            config=own,
            frozen=config.get("trainable") is False,
        )

    def _operation(self, kind: str, config: Mapping[str, Any]) -> Function:
        if kind == "TensorFlowOpLayer":
            return raw_operation(config)
        name = config.get("function")
        if kind not in ("TFOpLambda", "SlicingOpLambda") or not isinstance(name, str):
            raise RebuildError(
                f"layer {config.get('name')!r} calls a method of a TensorFlow object ({kind}), which is not "
                "translated to Keras 3"
            )
        return operation(name)


def _own_classes(resolver: Resolver) -> dict[str, type]:
    """The classes of the user by name: a LocallyConnected1D of theirs is made as they say."""
    known = {**keras.saving.get_custom_objects(), **resolver.known}
    return {
        name.removeprefix("Custom>"): value
        for name, value in known.items()
        if isinstance(value, type) and value.__module__.split(".")[0] != "keras"
    }


def _is_functional(config: Any) -> bool:
    return isinstance(config, dict) and config.keys() >= _GRAPH


def _calls(layer: Mapping[str, Any], names: set[str]) -> tuple[Call, ...]:
    calls = layer.get("inbound_nodes") or ()
    if not isinstance(calls, list | tuple):
        raise RebuildError(f"layer {layer.get('name')!r}: inbound_nodes is {calls!r:.80}; expected a list")
    return tuple(parse_call(node, names) for node in calls)


def _first_shape(layers: list[Any]) -> Any:
    """The input shape that the first layer of a Sequential carries, where there is no input layer."""
    for layer in layers[:1]:
        config = layer.get("config") if isinstance(layer, dict) else None
        if isinstance(config, dict) and layer.get("class_name") != "InputLayer":
            if "batch_input_shape" in config:
                return config["batch_input_shape"]
            if isinstance(config.get("config"), dict | list):
                return None
    return None
