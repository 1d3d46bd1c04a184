"""A layer, or a model, that computes the function of one whose class is not there.

Enters: a config with the ONNX functions of the original, how it was called, its variables, and the layers inside it
whose classes are known. Leaves: a Keras layer with the same variable keys that trains, saves and is captured again.

Invariants: the function passes the checks of a ``model.onnx`` before it is looked at; calls of layers that are there go
to those layers, with masks and the training flag; everything else is computed with the table of ``rebuild/ops``;
what a saved artifact says about the layer is what it said about the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from interop.capture.keras import compat, paths
from interop.capture.keras.standin import Role, StandIn
from interop.errors import RebuildError
from interop.graph.invocations import decode, leaves
from interop.rebuild.interpreter import Interpreter, Override, Scope
from interop.rebuild.program import ChildCall, Invocation, Program, bind_arguments


class _Revived(StandIn):
    """What a revived layer and a revived model have in common; the Keras class comes second in their bases."""

    def _revive(self, program: Program, children: Mapping[str, Any]) -> None:
        """Make variables and take in the layers; the Keras class is initialised."""
        self._program = program
        self.autocast = False
        compat.set_call_signature(self, self._program.signature, masking=self._program.how["masking"])
        made: dict[str, Any] = dict(children)
        for record in self._program.variables:
            made[record["key"]] = self._part(record)
        self._parts = made
        compat.set_build_shapes(self, None)

    def _part(self, record: Mapping[str, Any]) -> Any:
        if record["role"] == "seed":
            return keras.random.SeedGenerator(0)
        layer: Any = self
        return layer.add_weight(
            shape=tuple(record["shape"]),
            dtype=record["dtype"],
            initializer="zeros",
            trainable=record["trainable"],
            autocast=False,
            name=record["key"].rpartition("/")[2],
        )

    @property
    def original(self) -> dict[str, Any]:
        """See `StandIn`."""
        return self._program.original

    @property
    def how(self) -> dict[str, Any]:
        """See `StandIn`."""
        return self._program.how

    def parts(self) -> Iterable[tuple[str, Any]]:
        """See `StandIn`."""
        return [(key, part) for key, part in self._parts.items()]

    def role_of(self, variable: Any) -> Role:
        """See `StandIn`."""
        key = next(key for key, part in self._parts.items() if part is variable)
        return "metric" if self._program.role_of(key) == "metric" else "weight"

    @property
    def input_specs(self) -> Any:
        """See `StandIn`."""
        return self._program.input_specs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Shapes and dtypes of the outputs.

        JAX has expressions for open sizes that refuse to be compared, so it is asked for two numbers in their place.
        """
        if keras.backend.backend() != "jax":
            base: Any = super()
            return base.compute_output_spec(*args, **kwargs)
        first, second = (compat.filled_output_spec(self.call, args, kwargs, size) for size in (5, 7))

        def merged(one: Any, other: Any) -> Any:
            sizes = [a if a == b else None for a, b in zip(one.shape, other.shape, strict=True)]
            return keras.KerasTensor(sizes, one.dtype)

        return keras.tree.map_structure(merged, first, second)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """None where the original ended masks; else what Keras does, for outputs that ``call`` gave none."""
        base: Any = super()
        return None if self._program.ends_masks else base.compute_mask(inputs, previous_mask)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the function."""
        bound = compat.call_signature(self).bind(*args, **kwargs).arguments
        training = bool(bound.pop("training", False))
        for invocation in self._program.invocations:
            inputs = bind_arguments(invocation, bound)
            if inputs is not None:
                return self._run(invocation, inputs, training)
        layer: Any = self
        raise RebuildError(
            f"{layer.name!r}, which stands for a {self.original['class_name']}, is called with "
            f"{_described(bound)}. Its class is lost, and it was saved for calls with "
            f"{'; or '.join(str(i) for i in self._program.invocations)}. For others, pass the class: "
            f"load_model(path, custom_objects={{{self.original['class_name']!r}: ...}})"
        )

    def _run(self, invocation: Invocation, inputs: Mapping[int, Any], training: bool) -> Any:
        with compat.without_autocast():
            variables = self._variables_by_key()
            given = [_as_saved(inputs[i], dtype) for i, (dtype, _) in enumerate(invocation.inputs)]
            # A layer inside that is not built yet has none; its call builds it.
            given += [variables[key].value if key in variables else None for key in invocation.variables]
            interpreter = Interpreter(self._program.opsets, functions=self._program.functions)
            for node, call in invocation.calls.items():
                part = self._parts[call.part]
                interpreter.overrides[node] = _child_call(interpreter, node, call, part, training)
            values = [interpreter.value(tensor) for tensor in given]
            outputs = [_tensor(value) for value in interpreter.run(invocation.function, values)]
        for place, (kind, index) in invocation.masks.items():
            compat.set_mask(outputs[place], outputs[index] if kind == "output" else given[index])
        return decode(invocation.results, lambda index: outputs[index])

    def _variables_by_key(self) -> dict[str, Any]:
        """Variables by the key they had in the saved model, which may lie outside of this layer."""
        if self._program.bound:
            return self._program.bound
        found = paths.walk(self).by_key
        keys: dict[str, Any] = {}
        for place, segment in self._program.places.items():
            prefix = f"{segment}/"
            for key, variable in found.items():
                if key == segment:
                    keys[place] = variable
                elif key.startswith(prefix):
                    keys[f"{place}/{key.removeprefix(prefix)}"] = variable
        if all(key in keys for each in self._program.invocations for key in each.variables):
            self._program.bound = keys
        return keys

    def get_config(self) -> dict[str, Any]:
        """The function, how it is called, and the layers inside."""
        layer: Any = self
        children = {
            segment: keras.saving.serialize_keras_object(part)
            for segment, part in self._parts.items()
            if isinstance(part, keras.Layer)
        }
        return {
            "name": layer.name,
            "trainable": layer.trainable,
            "revived": self._program.config,
            "children": children,
        }

    @classmethod
    def from_config(cls: Any, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The layer that a config describes."""
        children = {
            segment: keras.saving.deserialize_keras_object(child, custom_objects=custom_objects)
            for segment, child in config["children"].items()
        }
        return cls(
            config["revived"], children, name=config.get("name"), trainable=config.get("trainable", True)
        )


@keras.saving.register_keras_serializable(package="interop")
class RevivedLayer(_Revived, keras.layers.Layer):  # type: ignore[misc]
    """A layer that computes the function of one whose class is not there."""

    def __init__(
        self,
        revived: Mapping[str, Any],
        children: Mapping[str, Any],
        *,
        name: Any = None,
        trainable: bool = True,
    ) -> None:
        """A layer from what ``get_config`` says."""
        program = Program(revived, children)
        keras.layers.Layer.__init__(self, name=name, trainable=trainable, dtype=program.how["dtype"])
        self._revive(program, children)


@keras.saving.register_keras_serializable(package="interop")
class RevivedModel(_Revived, keras.Model):  # type: ignore[misc]
    """A model that computes the graph of one whose class is not there."""

    def __init__(
        self,
        revived: Mapping[str, Any],
        children: Mapping[str, Any],
        *,
        name: Any = None,
        trainable: bool = True,
    ) -> None:
        """A model from what ``get_config`` says."""
        program = Program(revived, children)
        keras.Model.__init__(self, name=name, trainable=trainable, dtype=program.how["dtype"])
        self._revive(program, children)


def _as_saved(tensor: Any, dtype: str) -> Any:
    """A tensor in the element type that the function takes; a float stays a float, whatever its width."""
    if keras.backend.standardize_dtype(tensor.dtype) == dtype:
        return tensor
    return ops.cast(tensor, dtype)


def _tensor(value: Any) -> Any:
    made = value.tensor()
    return ops.convert_to_tensor(made) if isinstance(made, np.ndarray) else made


def _described(bound: Mapping[str, Any]) -> str:
    def one(item: Any) -> str:
        if hasattr(item, "shape"):
            return f"{keras.backend.standardize_dtype(item.dtype)}{tuple(item.shape)}"
        return repr(item)

    return ", ".join(f"{name}={keras.tree.map_structure(one, item)}" for name, item in bound.items())


def _child_call(interpreter: Interpreter, node: Any, call: ChildCall, layer: Any, training: bool) -> Override:
    """What calls a layer in place of its function."""

    def compute(scope: Scope) -> None:
        def at(index: int) -> Any:
            return _tensor(scope[node.inputs[index]])

        keywords = {name: decode(item, at) for name, item in call.keywords.items()}
        if call.takes_training:
            keywords["training"] = training
        positional = [decode(item, at) for item in call.positional]
        result = layer(*positional, **keywords)
        tensors = [leaf for leaf in leaves(result) if leaf is not None]
        for place, tensor in zip(call.results, tensors, strict=True):
            scope[node.outputs[place]] = interpreter.value(tensor)
        for index, place in call.masks.items():
            mask = compat.mask_of(tensors[index])
            if mask is None:
                mask = layer.compute_mask(
                    positional[0] if positional else next(iter(keywords.values())), None
                )
            scope[node.outputs[place]] = interpreter.value(mask)

    return compute
