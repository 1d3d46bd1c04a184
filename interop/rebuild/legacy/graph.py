"""Functional and Sequential models of Keras 2, built from their plans, call by call.

Enters: a plan. Leaves: the model, made by calling its layers on symbolic tensors in the order in which their
inputs appear.

Keras' own reader is not used: it counts the calls of nested models in another way, and knows no operations of
TensorFlow. Keras 2 numbers the calls of a model that was made from inputs from 1, for it was called once when
it was made; where a file counts from 0 is seen from the numbers it refers to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from interop.capture.keras import compat
from interop.errors import InteropError, RebuildError
from interop.rebuild.legacy.calls import Call, Reference, references, resolved
from interop.rebuild.legacy.migration import new_name
from interop.rebuild.legacy.plan import Container, Leaf, Operation, Part

_RECURRENT = frozenset(
    {"RNN", "LSTM", "GRU", "SimpleRNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"}
)


@dataclass
class Builder:
    """Makes what was planned; classes are looked up in the scope that is active.

    Attributes:
        made: plan to the layer or model made from it, by identity, for reading weights.
    """

    made: dict[int, Any] = field(default_factory=dict)

    def part(self, plan: Part) -> Any:
        """A layer or model."""
        if isinstance(plan, Operation):
            raise RebuildError(f"{plan.name!r} is an operation of TensorFlow, not a layer")
        if isinstance(plan, Leaf):
            built = self._leaf(plan)
        else:
            built = self._sequential(plan) if plan.kind == "Sequential" else self._functional(plan)
            _freeze(built, plan, self.made)
        self.made[id(plan)] = built
        return built

    def _leaf(self, plan: Leaf) -> Any:
        try:
            return keras.saving.deserialize_keras_object(self._serialized(plan.config), safe_mode=True)
        except InteropError:
            raise
        except Exception as error:
            raise RebuildError(
                f"layer {plan.name!r} ({plan.config['class_name']}) could not be made from its config: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _serialized(self, config: Any) -> Any:
        """A config in which models inside layers are configs too."""
        if isinstance(config, Container):
            return keras.saving.serialize_keras_object(self.part(config))
        if isinstance(config, list):
            return [self._serialized(item) for item in config]
        if isinstance(config, dict):
            return {key: self._serialized(item) for key, item in config.items()}
        return config

    def _sequential(self, plan: Container) -> Any:
        model = keras.Sequential(name=new_name(plan.name))
        if plan.build_shape is not None and _has_sizes(plan.build_shape):
            first = plan.parts[0][0] if plan.parts else None
            if isinstance(first, Leaf) and first.config["class_name"] != "InputLayer":
                dtype = "int32" if first.config["class_name"] == "Embedding" else None
                model.add(keras.Input(batch_shape=tuple(plan.build_shape), dtype=dtype))
        for part, _ in plan.parts:
            model.add(self.part(part))
        return model

    def _functional(self, plan: Container) -> Any:
        graph = _Graph(plan, self)
        graph.run()
        inputs, outputs = (graph.tensors(structure) for structure in (plan.inputs, plan.outputs))
        if plan.config is None:
            return compat.functional(inputs, outputs, new_name(plan.name))
        made = plan.config
        cls = keras.saving.get_registered_object(made["registered_name"] or made["class_name"])
        return compat.functional(inputs, outputs, new_name(plan.name), cls)


def _has_sizes(shape: Any) -> bool:
    return isinstance(shape, list | tuple) and len(shape) > 1


def _freeze(model: Any, plan: Container, made: Mapping[int, Any]) -> None:
    """Set the flag of a frozen model, and those of the layers in it back to their own."""
    if not plan.frozen:
        return
    flags = {id(part): made[id(part)].trainable for part, _ in plan.parts if id(part) in made}
    model.trainable = False
    for identity, flag in flags.items():
        if made[identity].trainable != flag:
            made[identity].trainable = flag


class _Graph:
    """The calls of one Functional model, run in the order in which their inputs appear."""

    def __init__(self, plan: Container, builder: Builder) -> None:
        self._plan = plan
        self._builder = builder
        self._outputs: dict[tuple[str, int], list[Any]] = {}
        everything = [[calls for _, calls in plan.parts], plan.inputs, plan.outputs]
        self._named: set[int] = set()
        self._used = {(found.layer, found.call) for found in references(everything)}

    def _first_index(self, part: Part, count: int) -> int:
        """What the file calls the first of a layer's calls: 1 for most models, 0 for everything else."""
        if not isinstance(part, Container):
            return 0
        used = {call for layer, call in self._used if layer == part.name}
        if used and max(used) >= count:
            return 1
        return 0 if not used or 0 in used or len(used) == count else 1

    def run(self) -> None:
        """Make every layer and every call."""
        waiting: list[tuple[Part, Callable[..., Any], int, Call]] = []
        for part, calls in self._plan.parts:
            if isinstance(part, Operation):
                layer: Any = part.function
            else:
                layer = self._builder.part(part)
            if isinstance(part, Leaf) and part.config["class_name"] == "InputLayer":
                self._outputs[part.name, 0] = [layer.output]
                continue
            first = self._first_index(part, len(calls))
            waiting += [(part, layer, first + index, call) for index, call in enumerate(calls)]
        while waiting:
            ready = [self._is_ready(call) for *_, call in waiting]
            if not any(ready):
                names = ", ".join(sorted({part.name for part, *_ in waiting})[:8])
                raise RebuildError(
                    f"model {self._plan.name!r}: the inputs of {names} are never computed: the graph has a "
                    "circle, or refers to tensors that do not exist"
                )
            for item, is_ready in zip(waiting, ready, strict=True):
                if is_ready:
                    self._call(*item)
            waiting = [item for item, is_ready in zip(waiting, ready, strict=True) if not is_ready]

    def _is_ready(self, call: Call) -> bool:
        return all((found.layer, found.call) in self._outputs for found in references(call))

    def _call(self, part: Part, layer: Callable[..., Any], index: int, call: Call) -> None:
        args, kwargs = resolved(call.args, self._tensor), resolved(call.kwargs, self._tensor)
        if isinstance(part, Leaf):
            kwargs = {name: value for name, value in kwargs.items() if value is not None}
            if part.config["class_name"] in _RECURRENT and len(args) == 1 and isinstance(args[0], list):
                args, kwargs["initial_state"] = (args[0][0],), args[0][1:]
        try:
            result = layer(*args, **kwargs)
        except InteropError:
            raise
        except Exception as error:
            raise RebuildError(
                f"layer {part.name!r} could not be called as in the file: {type(error).__name__}: {error}"
            ) from error
        flat = [result] if _is_shape(result) else keras.tree.flatten(result)
        if isinstance(part, Operation):
            compat.name_operations(flat, new_name(part.name), self._named)
        self._outputs[part.name, index] = flat

    def tensors(self, structure: Any) -> Any:
        """Tensors of the model, structured as the references to them; one in a list stands alone."""
        found = resolved(structure, self._tensor)
        return found[0] if isinstance(found, list) and len(found) == 1 else found

    def _tensor(self, reference: Reference) -> Any:
        outputs = self._outputs.get((reference.layer, reference.call))
        if outputs is None or reference.output >= len(outputs):
            raise RebuildError(
                f"model {self._plan.name!r} refers to output {reference.output} of call {reference.call} of "
                f"{reference.layer!r}, which does not exist"
            )
        return outputs[reference.output]


def _is_shape(value: Any) -> bool:
    """Whether an operation gave a shape, or one size of it, and no tensor."""
    sizes = value if isinstance(value, list | tuple) else [value]
    return all(size is None or isinstance(size, int) for size in sizes)
