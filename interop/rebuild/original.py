"""The Keras model that a plain ``.onnx`` file was made of, from what the file says about it.

Enters: an ``ir.Model`` as it was read, functions included, and the decoded entry of its metadata. Leaves: that model
with the file's weights, and an ``ImportReport``; or ``NotOriginal`` with the reason.

What a file says is not believed. The model is made from its config as ``load_model`` would, of Keras' own classes only;
it is captured and written in memory as the file was, and the two graphs must be the same, node by node
(``graph/comparison.py``). Then it is found out where the elements of its variables went (``elements.py``), they are
fetched from the file, and the model is written once more: its initializers must be the file's, bit for bit, up to the
rounding of a normalisation that was taken out of a convolution. So whoever changed the file, or its metadata, gets the
graph that is in it, lifted by patterns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.artifact.recorded import array_from_json
from interop.artifact.signature import Structure, check_structure, flatten, pack
from interop.capture.keras import capture, compat, paths
from interop.capture.keras.assets import restore_assets
from interop.capture.keras.model import Captured
from interop.errors import InteropError
from interop.formats.dtypes import numpy_dtype
from interop.graph.comparison import Different, corresponding
from interop.graph.passes import optimized
from interop.graph.passes.convolution import Fold
from interop.graph.typecodes import dtype_name
from interop.rebuild.classes import Resolver
from interop.rebuild.elements import Elements
from interop.rebuild.from_config import (
    build,
    fill,
    finalize,
    initialize_rest,
    make,
    quantize,
    set_trainable,
    staged,
)
from interop.rebuild.naming import Names
from interop.status import ImportReport, LiftedLayer

Array = NDArray[Any]
Mask = NDArray[np.bool_]

_SPARE = 1 << 20
"""Elements that a model may have more than its file, without being taken for a trap."""


class NotOriginal(InteropError):
    """The model is not, or cannot be shown to be, the one the file was made of."""


def original(model: Any, content: Mapping[str, Any], name: str | None) -> tuple[Any, ImportReport]:
    """Make the model that a file was made of.

    Args:
        model: the ``ir.Model`` of the file.
        content: what the file says about it.
        name: of the model; None: its own.

    Raises:
        NotOriginal: the file is not that model's, as far as can be shown.
    """
    try:
        return _Original(model, content).made(name)
    except Different as error:
        raise NotOriginal(f"the graph is not the one that the file's Keras model gives: {error}") from error
    except NotOriginal:
        raise
    except Exception as error:  # a config of anyone's making: Keras, and this, may stumble over it in any way
        first = next(iter(str(error).splitlines()), "")
        raise NotOriginal(f"{type(error).__name__}: {first}") from error


class _Original:
    """One model on its way."""

    def __init__(self, file: Any, content: Mapping[str, Any]) -> None:
        self._file = file
        self._content = content
        self._values = {key: array_from_json(value) for key, value in content["values"].items()}
        self._weights: dict[str, tuple[str, ...]] = {}
        self._notes: list[str] = []

    def made(self, name: str | None) -> tuple[Any, ImportReport]:
        model, pending = self._model(name)
        captured = self._captured(model)
        if self._content["flat"]:
            self._fill_flat(model, captured, pending)
        else:
            self._fill(model, captured, pending)
        compat.finish_layers(model)
        frozen, fixed = set(self._content["frozen"]), set(self._content["fixed"])
        objects = paths.walk(model)
        layers = compat.layers_with_paths(model, objects.layers)
        flags = [{"path": path, "trainable": path not in frozen} for _, path in layers]
        variables = [{"key": key, "trainable": key not in fixed} for key in objects.by_key]
        set_trainable(model, {"model": {"layers": flags}, "variables": variables}, objects)
        outer, inputs, outputs = _as_graph(model, captured, self._content["structure"])
        return outer, self._report(layers, inputs, outputs)

    # The model

    def _model(self, name: str | None) -> tuple[Any, list[Any]]:
        """The model without weights, and its variables that still need a value."""
        described = self._content["model"]
        resolver = Resolver(stock=True)
        prepared = resolver.prepare(described["object"])
        quantized = resolver.prepare(described.get("quantization", {}))
        if missing := resolver.found.missing():
            raise NotOriginal(f"its config names {', '.join(sorted(missing))}, which is not of Keras")
        if name is not None:
            prepared["config"]["name"] = name
        with compat.safe_scope(), compat.tensorflow_unasked():
            with compat.deferred_variables() as pending:
                model = staged("made from its config", lambda: make(prepared))
                if not compat.is_functional(model):
                    staged("built", lambda: build(model, {"model": described}, set()))
            if not compat.is_functional(model):
                raise NotOriginal("its config is not of a Functional or Sequential model")
            self._check_size(model)
            for layer in compat.all_layers(model):
                if reason := compat.departure(layer):
                    raise NotOriginal(f"{reason}, which its layer {layer.name!r} needs")
            staged("quantised", lambda: quantize(model, quantized))
            layers = compat.layers_with_paths(model, paths.layer_paths(model))
            variables = paths.named_variables(model) | compat.states(layers)
            fill(variables, self._values, set(self._values), "")
            restore_assets(model, described.get("assets", {}))
            staged("finished", lambda: finalize(model))
        return model, pending

    def _check_size(self, model: Any) -> None:
        """Nothing is computed yet; a config of a few bytes may ask for any memory."""
        wanted = sum(math.prod(variable.shape) for variable in model.variables)
        there = sum(value.const_value.size for value in _initializers(self._file))
        there = 2 * there + sum(array.size for array in self._values.values()) + _SPARE
        if wanted > there:
            raise NotOriginal(
                f"its config is of a model with {wanted:,} weights, more than the file can hold"
            )

    def _captured(self, model: Any) -> Captured:
        inputs = [value for value in self._file.graph.inputs if not value.is_initializer()]
        specs = [
            {
                "name": value.name,
                "dtype": dtype_name(value.dtype.value),
                "shape": tuple(getattr(dim, "value", dim) for dim in value.shape),
            }
            for value in inputs
        ]
        structure = self._content["structure"]
        check_structure(structure, len(specs), "the structure of the inputs")
        opset = self._file.opset_imports.get("", 0)
        signature = pack(structure, specs)
        made: Captured = staged(
            "captured",
            lambda: capture(
                model, input_signature=signature, opset=opset, fallback="error", trust_keras=True
            ),
        )
        return made

    # Weights

    def _fill(self, model: Any, captured: Captured, pending: list[Any]) -> None:
        """Of a graph with functions, whose initializers are the variables."""
        names = corresponding(captured.structure(), self._file)
        variables = paths.named_variables(model)
        for record in captured.variables:
            theirs = names.get(record.key)
            if theirs is None:
                continue
            if record.role == "constant":
                _check_same(theirs, record.source.read())
                continue
            _assign(variables[record.key], np.array(_array(theirs)))
            self._weights[str(theirs.name)] = (record.key,)
        initialize_rest(pending)

    def _fill_flat(self, model: Any, captured: Captured, pending: list[Any]) -> None:
        """Of a flat graph, whose initializers are made of the variables."""
        records = [r for r in captured.variables if r.role != "constant" and r.key in captured.used]
        others = [dtype_name(value.const_value.dtype.value) for value in _initializers(self._file)]
        elements = Elements({record.key: (record.shape, record.dtype) for record in records}, others)
        for number in range(elements.passes):
            graph, folds = _written(captured, elements.numbers(number))
            if not number:
                names = corresponding(graph, self._file)
            elements.look_at(_tensors(graph, folds))
        made_of: dict[str, tuple[str, ...]] = {}
        itemsizes = {record.key: numpy_dtype(record.dtype).itemsize for record in records}
        rounded: set[str] = set()
        for name, values, known in self._parts(names, folds):
            owners = elements.take(name, values, known)
            if name in names:
                self._weights[str(names[name].name)] = owners
            rounded.update(key for key in owners if values.dtype.itemsize < itemsizes[key])
            made_of[name] = owners
        for fold in folds:
            both = [owner for name in (fold.weight, *fold.names) for owner in made_of.get(name, ())]
            for name in (fold.weight, fold.bias):
                self._weights[str(names[name].name)] = tuple(dict.fromkeys([*made_of.get(name, ()), *both]))
        if rounded:
            self._notes.append(
                f"the file has {len(rounded)} variables in a narrower type: {_some(sorted(rounded))}"
            )
        variables = paths.named_variables(model)
        for record in records:
            self._set(record.key, variables[record.key], elements.variable(record.key))
        initialize_rest(pending)
        self._check(captured)

    def _parts(self, names: Mapping[str, Any], folds: list[Fold]) -> Iterator[tuple[str, Array, Mask | None]]:
        """The file's initializers under our names, normalisations taken out of convolutions again."""
        values = {ours: _array(theirs) for ours, theirs in names.items()}
        known: dict[str, Mask] = {}
        for fold in reversed(folds):
            given = zip(fold.names, fold.parameters, strict=True)
            parameters = [self._values.get(name, array) for name, array in given]
            values.update(zip(fold.names, parameters, strict=True))
            scale = fold.scale(parameters)
            weight, bias = values[fold.weight], values.pop(fold.bias)
            spread = np.broadcast_to(fold.spread(scale), weight.shape)
            with np.errstate(all="ignore"):
                values[fold.weight] = weight / spread
                if fold.before[1] is not None:
                    values[fold.bias] = (bias - parameters[1]) / scale + parameters[2]
            # Of a channel that the scale put out, nothing is left.
            known[fold.weight] = (
                known.get(fold.weight, np.True_) & np.isfinite(values[fold.weight]) & (spread != 0)
            )
            if fold.before[1] is not None:
                known[fold.bias] = (
                    known.get(fold.bias, np.True_) & np.isfinite(values[fold.bias]) & (scale != 0)
                )
        for name, array in values.items():
            yield name, array, known.get(name)

    def _set(self, key: str, variable: Any, found: tuple[Array, Mask] | None) -> None:
        """Give a variable what the file has of it; the rest is as a new layer's."""
        if found is not None and found[1].all():
            _assign(variable, found[0])
            return
        if not math.prod(variable.shape):
            return
        self._notes.append(
            f"the file does not have all of {key}: what it lacks is as in a new layer, and changes nothing that the "
            "model computes"
        )
        if found is not None:
            if compat.is_uninitialized(variable):
                compat.initialize(variable)
            variable.assign(np.where(found[1], found[0], compat.to_numpy(variable)))

    def _check(self, captured: Captured) -> None:
        """Write the model again; what comes out must be what the file holds."""
        graph, folds = _written(captured)
        names = corresponding(graph, self._file)
        rounding = _rounding(folds)
        for made in _initializers(graph):
            if made.name in names:
                _check_same(names[made.name], _array(made), rounding.get(made.name))

    def _report(
        self, layers: list[tuple[Any, str]], inputs: dict[str, str], outputs: dict[str, str]
    ) -> ImportReport:
        nodes: dict[str, list[str]] = {path: [] for layer, path in layers if path and layer.weights}
        for node in self._file.graph:
            path = str(node.name).partition("#")[0]
            while path and path not in nodes:
                path = path.rpartition("/")[0]
            if path:
                nodes[path].append(str(node.name))
        owners = {path: layer for layer, path in layers}
        inner = {path.rpartition("/")[0] for path in nodes}
        frozen = {
            str(value.name): "a constant of the Keras model"
            for value in _initializers(self._file)
            if not self._weights.get(str(value.name)) and "FLOAT" in value.const_value.dtype.name
        }
        return ImportReport(
            lifted=tuple(
                LiftedLayer(path, type(owners[path]).__name__, tuple(names))
                for path, names in nodes.items()
                if path not in inner
            ),
            weights={name: owners for name, owners in self._weights.items() if owners},
            frozen=frozen,
            inputs=inputs,
            outputs=outputs,
            original=True,
            notes=tuple(self._notes),
        )


def _written(captured: Captured, arrays: Mapping[str, Array] | None = None) -> tuple[Any, list[Fold]]:
    """The flat graph, as it is written to a file."""
    folds: list[Fold] = []
    return staged("written", lambda: optimized(captured.flat(arrays), folds)), folds


def _initializers(model: Any) -> Iterator[Any]:
    """Those of the graph and of the bodies in it."""
    for graph in model.graphs():
        yield from graph.initializers.values()


def _array(initializer: Any) -> Array:
    array: Array = initializer.const_value.numpy()
    return array


def _some(keys: list[str], shown: int = 3) -> str:
    return ", ".join(keys[:shown]) + (f" and {len(keys) - shown} more" if len(keys) > shown else "")


def _tensors(graph: Any, folds: list[Fold]) -> dict[str, Array]:
    """The initializers of a flat graph, those of its convolutions as they were before they took normalisations in."""
    made = {str(value.name): _array(value) for value in _initializers(graph)}
    for fold in reversed(folds):
        made.update(zip(fold.names, fold.parameters, strict=True))
        made[fold.weight] = fold.before[0]
        made.pop(fold.bias, None)
        if fold.before[1] is not None:
            made[fold.bias] = fold.before[1]
    return made


def _rounding(folds: list[Fold]) -> dict[str, Array]:
    """How far weights of convolutions may be off that took a normalisation in, gave it back and took it in again."""
    allowed: dict[str, Array] = {}
    for fold in folds:
        weight, bias = fold.after()
        scale = fold.scale(fold.parameters)
        unit = 8 * np.finfo(weight.dtype).eps
        tiny = np.finfo(weight.dtype).tiny
        shift = np.abs(fold.parameters[2] * scale) + np.abs(fold.parameters[1])
        allowed[fold.weight] = unit * np.abs(weight) + tiny
        allowed[fold.bias] = unit * (np.abs(bias) + shift) + tiny
    return allowed


def _check_same(initializer: Any, made: Array, rounding: Array | None = None) -> None:
    there = _array(initializer)
    if made.dtype == there.dtype and made.shape == there.shape:
        if np.array_equal(_bytes(made), _bytes(there)):
            return
        if rounding is not None and (np.abs(made - there) <= rounding).all():
            return
    raise NotOriginal(f"the values of {initializer.name!r} cannot come from the variables of its Keras model")


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view("u1")


def _assign(variable: Any, array: Array) -> None:
    if compat.is_uninitialized(variable):
        compat.initialize(variable, array)
    else:
        variable.assign(array)


def _as_graph(
    model: Any, captured: Captured, structure: Structure
) -> tuple[Any, dict[str, str], dict[str, str]]:
    """The model with the graph's inputs and outputs, one or a list, one or a dict; and their names in Keras."""
    signature = captured.signature
    taken, given = compat.functional_structure(model)
    found, made = flatten(structure, taken), flatten(signature.output_structure, given, "the output")
    tensors = [found[index] for index in range(len(found))]
    compat.name_inputs(
        model, {spec.name: tensor for spec, tensor in zip(signature.inputs, tensors, strict=True)}
    )
    names = Names()
    inputs = {spec.name: tensor.name for spec, tensor in zip(signature.inputs, tensors, strict=True)}
    outputs = {spec.name: names.take(spec.name) for spec in signature.outputs}
    if len(tensors) == 1:
        is_flat = taken is tensors[0]
    else:
        is_flat = isinstance(structure, dict) and structure.get("list") == list(range(len(tensors)))
    if is_flat and given is made[0]:
        return model, inputs, outputs
    results = {outputs[spec.name]: made[index] for index, spec in enumerate(signature.outputs)}
    flat = compat.functional(
        tensors[0] if len(tensors) == 1 else tensors,
        results if len(results) > 1 else made[0],
        model.name,
    )
    return flat, inputs, outputs
