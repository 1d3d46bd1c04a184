"""A model of any form as one thing: a signature, arrays in, arrays out.

Enters: a Keras model, a ``GraphModel`` or a path. Leaves: a ``Side``.

Invariants:
- Arrays pass in the order of the signature's inputs and come back in the order of its outputs.
- Nothing a side runs changes the model: Keras runs with ``training=False``.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from interop.artifact.bundle import open_bundle
from interop.artifact.files import is_zip
from interop.artifact.signature import Signature, Structure, TensorSpec, flatten, pack
from interop.backend import choose_backend
from interop.capture.dispatch import Runnable, runnable
from interop.errors import ArtifactError, InteropError, ParityError, SignatureError
from interop.formats.dtypes import numpy_dtype
from interop.parity.exposure import expose
from interop.parity.keras_calls import recorded_calls, without_gradients
from interop.parity.reference import ReferenceSide, reference_side
from interop.runtime.session import GraphModel, open_graph

Array = np.ndarray[Any, Any]


class Side(Protocol):
    """One of the two models of a comparison."""

    @property
    def label(self) -> str:
        """What the report calls it."""

    @property
    def computed_in(self) -> frozenset[str]:
        """Float types it is known to compute in."""

    @property
    def rounded_to(self) -> frozenset[str]:
        """Element types that its quantised layers round their activations to."""

    @property
    def adopts(self) -> bool:
        """Whether it is run by the signature of the other side."""

    @property
    def signature(self) -> Signature | None:
        """The signature it carries, in the structure of the model's own calls; None if it carries none."""

    def derive_signature(self) -> Signature:
        """A signature that fits, worked out if it carries none."""

    def run(self, values: Sequence[Array], signature: Signature) -> list[Array]:
        """Outputs in the order of the signature, for inputs in its order."""

    def layer_outputs(self, values: Sequence[Array], signature: Signature) -> dict[str, list[Array]]:
        """What each layer call returned, by ``<object path>#<n>``, in the order the calls finish."""


class KerasSide:
    """Layer objects, run on the backend Keras uses."""

    adopts = True

    def __init__(self, model: Any, signature: Signature | None = None, label: str = "") -> None:
        """Take a model, with the signature it was captured with if that is not its own."""
        self.label = label or f"Keras model {model.name!r}"
        self.signature = signature
        self._model = model
        self._derived: Signature | None = None
        self._inference: Callable[..., Any] | None = None

    @property
    def computed_in(self) -> frozenset[str]:
        dtypes = frozenset(str(layer.compute_dtype) for layer in _layers(self._model))
        # Norms, attention and resizing in part on every backend; on JAX and PyTorch, products too.
        return dtypes | {"float32"} if "float64" in dtypes else dtypes

    @property
    def rounded_to(self) -> frozenset[str]:
        from interop.capture.keras.compat import rounds_activations_to

        found = (rounds_activations_to(layer) for layer in _layers(self._model))
        return frozenset(dtype for dtype in found if dtype is not None)

    def derive_signature(self) -> Signature:
        if self._derived is None:
            from interop.capture.keras import capture

            self._derived = capture(self._model).signature
        return self._derived

    def observe_signature(self, inputs: Any) -> Signature:
        """A signature read off one call: names by position, sizes as they came."""
        with without_gradients():
            result = self._model(inputs, training=False)
        input_structure, given = _taken_apart(inputs)
        output_structure, returned = _taken_apart(_without_none(result))
        return Signature(
            inputs=_observed("input", given),
            outputs=_observed("output", returned),
            input_structure=input_structure,
            output_structure=output_structure,
        )

    def run(self, values: Sequence[Array], signature: Signature) -> list[Array]:
        from interop.capture.keras.compat import inference

        if self._inference is None:
            self._inference = inference(self._model)
        return self._outputs(self._inference, values, signature)

    def _outputs(
        self, call: Callable[..., Any], values: Sequence[Array], signature: Signature
    ) -> list[Array]:
        self._check_strings(signature)
        nested, structure = pack(signature.input_structure, list(values)), signature.input_structure
        if len(values) == 1 and _takes_one_tensor(self._model):
            nested, structure = values[0], 0
        with without_gradients():
            by_name = _takes_arguments(self._model, structure)
            result = call(**nested) if by_name else call(nested)
        result = result if _has_gaps(signature.output_structure) else _without_none(result)
        found = self._returned(result, signature)
        arrays = {index: _to_numpy(leaf) for index, leaf in found.items()}
        declared = self._as_declared(arrays, signature)
        return [declared[index] for index in range(len(signature.outputs))]

    def _returned(self, result: Any, signature: Signature) -> dict[int, Any]:
        """What the model returned by the place in a signature: in its structure, or else by the outputs' names.

        An imported graph returns a dict by them; the model that the graph was made of may return anything.
        """
        where = f"the output of {self.label}"
        names = [spec.name for spec in signature.outputs]
        if isinstance(result, Mapping) and result.keys() == set(names):
            return flatten({"dict": {name: place for place, name in enumerate(names)}}, result, where)
        try:
            return flatten(signature.output_structure, result, where)
        except SignatureError as error:
            try:
                own = self.derive_signature()
                leaves = flatten(own.output_structure, result)
            except InteropError:
                raise error from None
            named = {own.outputs[place].name: leaf for place, leaf in leaves.items()}
            if named.keys() != set(names):
                raise
            return {place: named[name] for place, name in enumerate(names)}

    def _as_declared(self, arrays: dict[int, Array], signature: Signature) -> dict[int, Array]:
        """Outputs in the dtypes that are declared; some of Keras' layers give others when run eagerly.

        A functional model says which. Of others it is the operations that do, and on torch some give integers of 64
        bits instead of 32.
        """
        from interop.capture.keras.compat import functional_structure, is_functional

        if not is_functional(self._model):
            return {i: _in_width(array, signature.outputs[i].dtype) for i, array in arrays.items()}
        nested = _without_none(functional_structure(self._model)[1])
        if isinstance(signature.output_structure, int) and isinstance(nested, list | tuple):
            nested = nested[0]  # Keras returns a list of one output as that output
        declared = self._returned(nested, signature)
        dtypes = {index: str(tensor.dtype) for index, tensor in declared.items()}
        return {
            index: array
            if dtypes[index] in (array.dtype.name, "string")
            else array.astype(numpy_dtype(dtypes[index]))
            for index, array in arrays.items()
        }

    def _check_strings(self, signature: Signature) -> None:
        from interop.capture.keras.compat import backend

        strings = [spec.name for spec in signature.inputs if spec.dtype == "string"]
        if strings and backend() != "tensorflow":
            raise ParityError(
                f"Keras on {backend()} has no strings, so it cannot run the model on {', '.join(strings)}; the graph "
                "can. Compare on TensorFlow (KERAS_BACKEND=tensorflow), or go without: verify=False"
            )

    def layer_outputs(self, values: Sequence[Array], signature: Signature) -> dict[str, list[Array]]:
        with recorded_calls(self._model) as records:
            self._outputs(functools.partial(self._model, training=False), values, signature)
        return records


class ForeignSide:
    """A model of a framework other than Keras."""

    computed_in: frozenset[str] = frozenset()
    adopts = True

    def __init__(self, model: Runnable, signature: Signature | None = None) -> None:
        """Take a model, with the signature it was captured with if it was."""
        self.label = model.label
        self.rounded_to = model.rounded_to
        self.signature = signature
        self._model = model

    def derive_signature(self) -> Signature:
        raise ParityError(
            f"the inputs of {self.label} are not known. Compare with an artifact, which carries a signature"
        )

    def run(self, values: Sequence[Array], signature: Signature) -> list[Array]:
        return self._model.run(signature.input_structure, values)

    def layer_outputs(self, values: Sequence[Array], signature: Signature) -> dict[str, list[Array]]:
        return {}


class GraphSide:
    """A graph on ONNX Runtime."""

    adopts = False

    def __init__(
        self,
        graph: GraphModel,
        signature: Signature | None = None,
        rounded_to: frozenset[str] = frozenset(),
    ) -> None:
        """Take a graph, with what was known when it was captured, where that says more than the graph."""
        self._graph = graph
        self.rounded_to = rounded_to
        self._given = signature
        self._is_artifact = not graph.path.is_file() or is_zip(graph.path)
        self.label = f"graph of {graph.path}"

    @property
    def computed_in(self) -> frozenset[str]:
        return self._graph.float_types

    @property
    def signature(self) -> Signature | None:
        return self._given or (self._graph.signature if self._is_artifact else None)

    def derive_signature(self) -> Signature:
        return self._graph.signature

    def run(self, values: Sequence[Array], signature: Signature) -> list[Array]:
        found = flatten(self._graph.signature.output_structure, self._graph(_feed(values, signature)))
        return [np.asarray(found[index]) for index in range(len(signature.outputs))]

    def layer_outputs(self, values: Sequence[Array], signature: Signature) -> dict[str, list[Array]]:
        if not self._is_artifact:
            return {}
        with open_bundle(self._graph.path, verify_digest=False) as bundle:
            source = bundle.session_source(inlined=False)
            functions = {layer["path"]: layer["functions"] for layer in bundle.config["model"]["layers"]}
            graph, calls = expose(source.model, functions)
            names = list(dict.fromkeys(name for call in calls for name in call.outputs))
            arrays = dict(
                zip(names, _run_bytes(graph, source.folder, names, _feed(values, signature)), strict=True)
            )
        return {call.call: [arrays[name] for name in call.outputs] for call in calls}


def open_side(model: Any) -> Side:
    """Take a model in any form that ``verify`` accepts.

    Raises:
        ParityError: it is none of them.
        FileNotFoundError: nothing is at the path.
    """
    if isinstance(model, KerasSide | ForeignSide | GraphSide | ReferenceSide):
        return model
    if isinstance(model, GraphModel):
        return GraphSide(model)
    if (other := runnable(model)) is not None:
        return ForeignSide(other)
    if isinstance(model, str | os.PathLike):
        return _open_path(Path(model))
    if "keras" in sys.modules and isinstance(model, sys.modules["keras"].Model):
        return KerasSide(model)
    raise ParityError(
        f"a {type(model).__name__} cannot be compared; expected a model of Keras, PyTorch, TensorFlow or "
        "JAX, a GraphModel, or the path of an artifact, an .onnx file or a .keras file"
    )


def _open_path(path: Path) -> Side:
    if path.suffix in (".keras", ".h5"):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
        choose_backend()
        from interop.rebuild.legacy.files import load
        from interop.rebuild.legacy.kinds import kind_of

        model = load(path, kind_of(path) or "keras", compile=False).complete(path)
        return KerasSide(model, label=f"Keras file {path}")
    try:
        graph = open_graph(path, verify_digest=True)
    except ArtifactError as error:
        side = reference_side(path) if isinstance(error.__cause__, NoKernel) else None
        if side is None:
            raise
        return side
    side = reference_side(path) if "float64" in graph.float_types else None  # some fail as late as they run
    return side or GraphSide(graph)


def _takes_one_tensor(model: Any) -> bool:
    """Whether a model is made of one input, in no structure: another's signature may have it in one."""
    from interop.capture.keras.compat import functional_structure, is_functional

    return is_functional(model) and not isinstance(functional_structure(model)[0], dict | list | tuple)


def _in_width(array: Array, declared: str) -> Array:
    """Integers as integers of the declared width, where they are the same then."""
    if array.dtype.kind != "i" or declared not in ("int32", "int64") or array.dtype.name == declared:
        return array
    narrow = array.astype(declared)
    return narrow if np.array_equal(narrow, array) else array


def _takes_arguments(model: Any, structure: Structure) -> bool:
    """Whether the keys of the structure are arguments of the model's ``call``."""
    from interop.capture.keras.compat import recorded_shapes

    if not isinstance(structure, dict) or "dict" not in structure:
        return False
    shapes = recorded_shapes(model) or {}
    return len(shapes) > 1 and {f"{key}_shape" for key in structure["dict"]} == set(shapes)


def _has_gaps(structure: Structure) -> bool:
    """Whether a structure has places that hold nothing."""
    if isinstance(structure, dict):
        parts = next(iter(structure.values()))
        return any(_has_gaps(part) for part in (parts.values() if isinstance(parts, dict) else parts))
    return structure is None


def _without_none(value: Any) -> Any:
    """A nested output without the places that hold nothing; signatures of other frameworks have none."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value if item is not None]
    return value


def _to_numpy(value: Any) -> Array:
    from interop.capture.keras.compat import to_numpy

    return to_numpy(value)


def _feed(values: Sequence[Array], signature: Signature) -> dict[str, Array]:
    return {spec.name: value for spec, value in zip(signature.inputs, values, strict=True)}


def _layers(model: Any) -> list[Any]:
    from interop.capture.keras.compat import sublayers

    found, seen = [model], {id(model)}
    for layer in found:
        for inner in sublayers(layer):
            if id(inner) not in seen:
                seen.add(id(inner))
                found.append(inner)
    return found


def _run_bytes(graph: bytes, folder: Path, names: Sequence[str], feed: dict[str, Array]) -> list[Array]:
    import onnxruntime

    if not names:
        return []  # a session would take an empty list for "all"
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(list(names), feed)]


def _taken_apart(value: Any) -> tuple[Structure, list[Any]]:
    """The structure of a nested value and its leaves, numbered as they come."""
    found: list[Any] = []

    def visit(part: Any) -> Structure:
        if isinstance(part, Mapping):
            return {"dict": {key: visit(item) for key, item in part.items()}}
        if isinstance(part, list | tuple):
            return {"list" if isinstance(part, list) else "tuple": [visit(item) for item in part]}
        found.append(_to_numpy(part))
        return len(found) - 1

    return visit(value), found


def _observed(kind: str, arrays: Sequence[Array]) -> tuple[TensorSpec, ...]:
    names = [kind] if len(arrays) == 1 else [f"{kind}_{index}" for index in range(len(arrays))]
    return tuple(
        TensorSpec(name, array.dtype.name, array.shape) for name, array in zip(names, arrays, strict=True)
    )
