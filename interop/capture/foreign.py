"""A model whose graph a framework's own exporter made, captured as the other verbs take it.

Enters: the exporter's ``ir.Model``, the model's named tensors, the structures of its call. Leaves: a
``ForeignCapture``. Invariants: initializers are named as the framework names its parameters; every parameter
is recorded, those that the graph does not use included; no dimension claims to be equal to another unless
the caller named both alike.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.artifact.signature import Signature, Structure, TensorSpec, parts
from interop.capture.records import LayerRecord, VariableRecord
from interop.capture.specs import legal_name
from interop.errors import CaptureError
from interop.formats.source import ArraySource
from interop.graph.opsets import IR_VERSIONS
from interop.graph.typecodes import dtype_name


@dataclass(frozen=True)
class NamedInput:
    """An input as the graph is to have it: its name, dtype and dimensions, every open one named."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Parameter:
    """A named tensor of the model, read when it is asked for."""

    name: str
    read: Callable[[], np.ndarray[Any, Any]]
    trainable: bool


class ForeignCapture:
    """A captured model of a framework other than Keras.

    Attributes:
        signature: inputs and outputs.
        opset: opset of the default domain.
        ir_version: ONNX IR version.
        source: framework and version.
        variables: every tensor of the model, sorted by key.
        layers: empty: an exporter's graph has no layers.
    """

    layers: tuple[LayerRecord, ...] = ()
    fallback_layers: tuple[str, ...] = ()

    def __init__(
        self,
        model: Any,
        *,
        source: dict[str, str],
        opset: int,
        inputs: Sequence[NamedInput],
        input_structure: Structure,
        output_names: Sequence[str],
        output_structure: Structure,
        parameters: Sequence[Parameter],
    ) -> None:
        """Take over an exporter's model.

        Args:
            model: an ``ir.Model``, its weights in memory; it is changed.
            source: framework and version.
            opset: of the result.
            inputs: the inputs in the model's order.
            input_structure: how they nest in the call.
            output_names: in the model's order; an empty one becomes ``output_<i>``.
            output_structure: how they nest in what the call returns.
            parameters: the model's named tensors.

        Raises:
            CaptureError: the exporter's graph does not have these inputs and outputs.
        """
        from interop.graph.passes.foreign import normalized

        self.source, self.opset, self.ir_version = source, opset, IR_VERSIONS[opset]
        model = normalized(model, {parameter.name for parameter in parameters}, opset)
        self.signature = _renamed(model, inputs, input_structure, output_names, output_structure)
        self._model = model
        self.variables = tuple(sorted(_variables(model, parameters), key=lambda record: record.key))

    @property
    def parameters(self) -> int:
        """Number of weights, without constants."""
        return sum(math.prod(record.shape) for record in self.variables if record.role == "weight")

    def flat(self) -> Any:
        """The ``ir.Model``, the weights in memory."""
        return self._model.clone()

    with_functions = flat

    def serialize(self, placements: Mapping[str, Any]) -> bytes:
        """``model.onnx`` of an artifact: every initializer external."""
        import onnx_ir as ir

        model = self.flat()
        for name, value in model.graph.initializers.items():
            tensor, place = value.const_value, placements[name]
            value.const_value = ir.ExternalTensor(
                place.location, place.offset, place.length, tensor.dtype, shape=tensor.shape, name=name
            )
        return bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence an exporter's warnings and log: its failures are errors, and its result is compared."""
    level = logging.root.manager.disable
    try:
        logging.disable(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def structure_of(nested: Any) -> tuple[Structure, list[Any], list[str]]:
    """The structure of a nested value, its leaves and a name for each that a dict key gives; Nones are dropped.

    Raises:
        CaptureError: there is no tensor in it.
    """
    leaves: list[Any] = []
    names: list[str] = []

    def visit(item: Any, key: str) -> Structure | None:
        if isinstance(item, Mapping):
            parts = {str(name): visit(child, str(name)) for name, child in item.items()}
            return {"dict": {name: part for name, part in parts.items() if part is not None}}
        if isinstance(item, list | tuple):
            kind = "list" if isinstance(item, list) else "tuple"
            return {kind: [part for part in (visit(child, "") for child in item) if part is not None]}
        if item is None:
            return None
        leaves.append(item)
        names.append(key)
        return len(leaves) - 1

    structure = visit(nested, "")
    if structure is None or not leaves:
        raise CaptureError("the model returned no tensor")
    return structure, leaves, names


def outward(structure: Structure) -> Structure:
    """A structure of ``{"args": [...], "kwargs": {...}}`` as who calls the model sees it.

    Positional arguments, unless all are by name; it stays as it is if there are both. One argument stands alone, but
    for a dict, which would look like arguments by name.
    """
    assert isinstance(structure, dict)
    args, kwargs = (parts(structure["dict"].get(kind)) for kind in ("args", "kwargs"))
    if not kwargs:
        alone = len(args) == 1 and not (isinstance(args[0], dict) and "dict" in args[0])
        return args[0] if alone else {"tuple": args}
    return structure if args else structure["dict"]["kwargs"]


def lift_inputs(model: Any, contents: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Turn graph inputs that stand for parameters into initializers of the same name."""
    import onnx_ir as ir

    for value in [value for value in model.graph.inputs if value.name in contents]:
        model.graph.inputs.remove(value)
        array = np.asarray(contents[value.name], order="C")
        value.const_value = ir.tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        model.graph.initializers[value.name] = value


def _renamed(
    model: Any,
    inputs: Sequence[NamedInput],
    input_structure: Structure,
    output_names: Sequence[str],
    output_structure: Structure,
) -> Signature:
    """Give inputs, outputs and their dimensions the names of the contract."""
    import onnx_ir as ir

    graph = model.graph
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != len(output_names):
        raise CaptureError(
            f"the framework's exporter made a graph with {len(graph.inputs)} inputs and {len(graph.outputs)} "
            f"outputs; the model has {len(inputs)} and {len(output_names)}"
        )
    _free(model, {spec.name for spec in inputs})
    for value, given in zip(graph.inputs, inputs, strict=True):
        value.name = given.name
        value.shape = ir.Shape(given.shape)
    known = {dim for spec in inputs for dim in spec.shape if isinstance(dim, str)}
    names = _unique([name or f"output_{i}" for i, name in enumerate(output_names)])
    taken = {spec.name for spec in inputs} | set(graph.initializers)
    names = [f"{name}_output" if name in taken else name for name in names]
    _separate_outputs(graph)
    _free(model, set(names))
    inferred = _inferred_dims(model)
    outputs = []
    for name, value, found in zip(names, list(graph.outputs), inferred, strict=True):
        value.name = name
        dims = []
        for axis, dim in enumerate(value.shape if value.shape is not None else ()):
            label = getattr(dim, "value", dim)
            if not isinstance(label, int) and label not in known and len(found) == len(value.shape):
                label = found[axis]
            fixed = isinstance(label, int) or label in known
            dims.append(label if fixed else f"{name}_{axis}")
        if value.shape is None:
            raise CaptureError(f"the framework's exporter does not tell the rank of output {name!r}")
        value.shape = ir.Shape(dims)
        outputs.append(TensorSpec(name, dtype_name(int(value.dtype)), tuple(dims)))
    specs = tuple(TensorSpec(spec.name, spec.dtype, spec.shape) for spec in inputs)
    return Signature(specs, tuple(outputs), input_structure, output_structure)


def _inferred_dims(model: Any) -> list[list[Any]]:
    """Dimensions of each output as ONNX infers them from those of the inputs."""
    from onnx_ir.passes.common import ShapeInferencePass

    known = model.clone()
    for node in known.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    ShapeInferencePass(check_type=False)(known)
    return [
        [getattr(dim, "value", dim) for dim in value.shape] if value.shape is not None else []
        for value in known.graph.outputs
    ]


def _separate_outputs(graph: Any) -> None:
    """An output that is an input, a parameter or another output gets an Identity of its own."""
    import onnx_ir as ir

    seen: set[Any] = set()
    for index, value in enumerate(list(graph.outputs)):
        if value.producer() is None or value in seen:
            node = ir.Node("", "Identity", [value], name=f"output_{index}#identity")
            made = node.outputs[0]
            made.type, made.shape = value.type, value.shape
            graph.append(node)
            graph.outputs[index] = made
        seen.add(value)


def _free(model: Any, names: set[str]) -> None:
    """Rename inner values that have one of the names."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.name in names:
                value.name = f"{value.name}#inner"
    for value in [*model.graph.inputs, *model.graph.outputs]:
        if value.name in names:
            value.name = f"{value.name}#inner"


def _unique(names: Sequence[str]) -> list[str]:
    made: list[str] = []
    for index, name in enumerate(map(legal_name, names)):
        made.append(f"{name}_{index}" if name in made else name)
    return made


def _variables(model: Any, parameters: Sequence[Parameter]) -> list[VariableRecord]:
    records = []
    for parameter in parameters:
        array = parameter.read()
        records.append(
            VariableRecord(
                parameter.name,
                array.dtype.name,
                array.shape,
                parameter.trainable,
                "weight",
                ArraySource(array),
            )
        )
    known = {parameter.name for parameter in parameters}
    for name, value in model.graph.initializers.items():
        if name not in known:
            array = value.const_value.numpy()
            records.append(
                VariableRecord(name, array.dtype.name, array.shape, False, "constant", ArraySource(array))
            )
    return records
