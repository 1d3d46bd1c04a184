"""A built Keras model becomes a recorded graph that can be written with functions or flat.

Enters: a model and, optionally, its input signature and opset. Leaves: a ``Captured``.

The model is traced twice with different hints for its dynamic dimensions. If the two recordings
differ, Python code looked at a size: that is an error naming the layer, never a graph that is right
for one size only. Dimensions the model itself forces to be equal are merged and traced again. One trace is enough,
where the caller says so, for a model without code of others: Keras' own layers and operations are compared at two
sizes one by one, in the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from interop.artifact.signature import Signature, TensorSpec, pack
from interop.capture.keras import compat, paths
from interop.capture.keras.fallback import Fallback
from interop.capture.keras.inputs import CallPlan, output_names, plan_call
from interop.capture.keras.shapes import Unify
from interop.capture.keras.symint import SymInt, key, render
from interop.capture.keras.trace import Trace, TraceResult
from interop.capture.records import LayerRecord, VariableRecord
from interop.errors import CaptureError, InteropError, SpecializationError, UnsupportedOp
from interop.formats.source import ArraySource, TensorSource
from interop.graph.assemble import LayerCalls, assemble, assemble_flat, attribute_key
from interop.graph.external import external_tensor, memory_tensor
from interop.graph.opsets import IR_VERSIONS, check_opset
from interop.graph.prune import prune
from interop.graph.record import Node, Recording, Scope, Value
from interop.graph.runnable import cast, runnable

# Two primes per dimension. Sizes near 30 suit models with small position tables; convolutional
# networks with free height and width need more room; the third pair is for very short limits; the fourth is for
# networks that halve and double sizes, and whose branches meet only where a size divides; the last is for sound.
_HINTS = (
    ((23, 29, 31, 37, 41, 43, 47, 53), (59, 61, 67, 71, 73, 79, 83, 89)),
    ((211, 223, 227, 229, 233, 239, 241, 251), (307, 311, 313, 317, 331, 337, 347, 349)),
    ((3, 5, 7, 11), (13, 17, 19, 23)),
    ((192, 320, 448, 704, 832, 1088), (1216, 1472, 1856, 1984, 2368, 2624)),
    ((2003, 2011, 2017, 2027, 2029, 2039), (4001, 4003, 4007, 4013, 4019, 4021)),
)


# Runs one trace: given hints for the named dimensions and dtypes found out so far.
Tracer = Callable[[Callable[[str], Any], Mapping[str, str]], tuple[Trace, TraceResult]]


@dataclass(frozen=True)
class _VariableSource:
    """A Keras variable, read when it is written."""

    variable: Any
    dtype: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray[Any, Any]:
        array = compat.current_value(self.variable)
        # JAX keeps float64 in float32, if it is not told otherwise.
        return array.astype(self.dtype) if self.dtype == "float64" else array


def _source(variable: Any) -> _VariableSource:
    return _VariableSource(variable, compat.stored_dtype(variable), tuple(int(dim) for dim in variable.shape))


class Captured:
    """A captured model.

    Attributes:
        signature: inputs and outputs.
        opset: opset of the default domain.
        ir_version: ONNX IR version.
        source: framework and version.
        fallback_layers: paths of layers that the backend's own exporter converted.
        variables: every tensor of the model, sorted by key; those the graph does not use included.
        layers: the layer tree, in the order of object paths.
    """

    def __init__(
        self,
        model: Any,
        objects: paths.ObjectPaths,
        recording: Recording,
        signature: Signature,
        constants: Mapping[str, Any],
        fallback_layers: tuple[str, ...] = (),
    ) -> None:
        self.fallback_layers = fallback_layers
        self.signature = signature
        self.opset = recording.opset
        self.ir_version = IR_VERSIONS[recording.opset]
        self._recording = recording
        self._objects = objects
        self.variables = tuple(self._variable_records(constants))
        self._sources = {record.key: record.source for record in self.variables}
        self._layers: dict[str, LayerCalls] | None = None
        self._model = model
        self.source = {"framework": "keras", "version": compat.keras_version()}

    def _variable_records(self, constants: Mapping[str, Any]) -> Iterator[VariableRecord]:
        records = []
        for name, variable in self._objects.by_key.items():
            source = _source(variable)
            role = self._objects.roles[name]
            records.append(
                VariableRecord(name, source.dtype, source.shape, bool(variable.trainable), role, source)
            )
        for name, array in constants.items():
            records.append(
                VariableRecord(name, array.dtype.name, array.shape, False, "constant", ArraySource(array))
            )
        return iter(sorted(records, key=lambda record: record.key))

    @property
    def layers(self) -> tuple[LayerRecord, ...]:
        """The layer tree with the functions and calls of each layer."""
        if self._layers is None:
            _, self._layers = assemble(self._recording, _no_contents)
        owned: dict[str, list[str]] = {}
        layer_paths = set(self._objects.layers.values())
        for record in self.variables:
            owner = record.key.rpartition("/")[0]
            while owner and owner not in layer_paths:
                owner = owner.rpartition("/")[0]
            owned.setdefault(owner, []).append(record.key)
        return tuple(
            self._layer_record(layer, path, owned.get(path, []))
            for layer, path in compat.layers_of(self._model, self._objects.layers)
        )

    def _layer_record(self, layer: Any, path: str, variables: list[str]) -> LayerRecord:
        assert self._layers is not None
        calls = self._layers.get(path, LayerCalls())
        module, name, registered = compat.class_identity(layer)
        return LayerRecord(
            path,
            name,
            module,
            registered,
            bool(layer.trainable),
            tuple(calls.functions),
            tuple(calls.calls),
            tuple(variables),
            compat.call_facts(layer),
            tuple(calls.invocations),
        )

    def serialize(self, placements: Mapping[str, Any]) -> bytes:
        """``model.onnx`` of an artifact: functions kept, every initializer external.

        Args:
            placements: where each key lies (``.location``, ``.offset``, ``.length``).
        """
        model, self._layers = assemble(self._recording, lambda v: external_tensor(v, placements[v.name]))
        return bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))

    @property
    def parameters(self) -> int:
        """Number of weights, without seeds, metrics and constants."""
        return sum(math.prod(record.shape) for record in self.variables if record.role == "weight")

    @property
    def layer_paths(self) -> Mapping[int, str]:
        """Path by identity of a layer."""
        return self._objects.layers

    @property
    def used(self) -> frozenset[str]:
        """Keys of the variables, and constants, that are initializers of the graph."""
        return frozenset(self._recording.variables)

    def _in_memory(self, value: Value) -> Any:
        return memory_tensor(value, self._sources[value.name].read())

    def flat(self, arrays: Mapping[str, np.ndarray[Any, Any]] | None = None) -> Any:
        """An ``ir.Model`` without functions, the weights in memory under their keys.

        Args:
            arrays: values by key, in place of the variables' own.
        """

        def contents(value: Value) -> Any:
            given = None if arrays is None else arrays.get(value.name)
            return self._in_memory(value) if given is None else memory_tensor(value, given)

        return assemble_flat(self._recording, contents)

    def with_functions(self) -> Any:
        """An ``ir.Model`` with one function per layer body, the weights in memory under their keys."""
        model, self._layers = assemble(self._recording, self._in_memory)
        return model

    def structure(self) -> Any:
        """What ``with_functions`` gives, without the values of its weights."""
        return assemble(self._recording, _no_contents)[0]


def _no_contents(value: Value) -> None:
    """Assemble for structure only."""


def capture(
    model: Any,
    *,
    input_signature: Any = None,
    opset: int | None = None,
    fallback: str = "layer",
    trust_keras: bool = False,
    announce: Callable[[Mapping[str, TensorSource], bool], object] | None = None,
) -> Captured:
    """Capture a built Keras model as a graph.

    Args:
        model: a Sequential, Functional or subclassed ``keras.Model`` (or layer), built.
        input_signature: shapes, ``{"shape", "dtype", "name"}`` dicts, ``keras.InputSpec`` or example arrays in
            the structure of the model's first argument; by default the model's own. A string as a
            dimension names it; equal names are equal sizes.
        opset: ONNX opset, 17 to 23; default 20.
        fallback: ``"layer"``: a layer written in the backend's own code goes through the backend's exporter;
            ``"error"``: it is an error.
        trust_keras: trace a model without code of others once, not twice.
        announce: called before the model is traced with the sources of its variables, by key, and whether these
            keep their values meanwhile: code of others may run.

    Raises:
        UnsupportedOp: an operation has no emitter; names layer and operation.
        SpecializationError: the model's code depends on the value of a dynamic dimension.
        CaptureError: the model is not built, or failed on the inputs.
    """
    opset = check_opset(opset)
    if not hasattr(model, "built") or not hasattr(model, "weights"):
        raise CaptureError(f"expected a Keras model or layer. Received: {type(model).__name__}")
    if not model.built:
        raise CaptureError(
            f"{model.name!r} is not built: call it once on real data, or model.build(input_shape)"
        )
    plan = plan_call(model, input_signature)
    objects = paths.walk(model)
    own = trust_keras and compat.runs_only_keras_code(model)
    if announce is not None:
        announce({name: _source(variable) for name, variable in sorted(objects.by_key.items())}, own)
    exporters = Fallback(opset, objects.variables) if fallback == "layer" else None

    def trace(hints: Callable[[str], Any], dtypes: Mapping[str, str]) -> tuple[Trace, TraceResult]:
        specs = [
            (
                spec.name,
                dtypes.get(spec.name, spec.dtype),
                tuple(hints(dim) if isinstance(dim, str) else dim for dim in spec.shape),
            )
            for spec in plan.inputs
        ]
        run = Trace(opset, objects.layers, objects.variables, model, exporters)
        return run, run.run(lambda symbols: _call(model, plan, symbols), specs)

    result = _traced(plan, trace, once=own)
    names, leaves, structure = output_names(model, result.output)
    leaves = _as_declared(model, result.recording.root, leaves)
    recording = runnable(prune(_with_outputs(result.recording, names, leaves)))
    signature = _signature(plan, recording, structure, result)
    exported = tuple(exporters.layers) if exporters is not None else ()
    return Captured(model, objects, recording, signature, result.constants, exported)


def _call(model: Any, plan: CallPlan, symbols: list[Any]) -> Any:
    """The model at inference: layers that augment data would otherwise think they train."""
    nested = pack(plan.structure, symbols)
    if plan.by_argument:
        return model(**{"training": False, **nested})
    return model(nested, training=False)


def _traced(plan: CallPlan, trace: Tracer, once: bool) -> TraceResult:
    """Two agreeing traces, or one; the first family of hints that the model accepts is used."""
    failure: InteropError | None = None
    for first, second in _HINTS:
        try:
            return _agreeing(plan, trace, first, second, once)
        except (UnsupportedOp, SpecializationError):
            raise
        except CaptureError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _agreeing(
    plan: CallPlan, trace: Tracer, first: tuple[int, ...], second: tuple[int, ...], once: bool
) -> TraceResult:
    dtypes: dict[str, str] = {}
    while True:
        merged, result = _settled(plan, trace, first, dtypes, {})
        integers = {spec.name for spec in plan.inputs if not spec.dtype_given} & result.integer_inputs
        if integers - set(dtypes):
            dtypes.update(dict.fromkeys(integers, "int32"))
            continue
        if once and all(isinstance(other, str) for other in merged.values()):
            return result
        # A name that must be a number has to be that number with other hints as well.
        names = {name: other for name, other in merged.items() if isinstance(other, str)}
        again, confirmed = _settled(plan, trace, second, dtypes, names)
        for name, size in merged.items():
            if again.get(name) != size:
                raise SpecializationError(
                    f"Python code reads the size {name!r} as a plain number while it runs, so a graph of it would "
                    f"be right for one size only (it asks for {size} where that was traced, and for "
                    f"{again.get(name, 'any other')} the second time). Keep sizes in keras.ops: index variables, "
                    "not tensors that are kept as attributes, and use ops.shape and ops.arange. Or give the "
                    "dimension a number in input_signature."
                )
        _compare(result, confirmed)
        return result


def _settled(
    plan: CallPlan,
    trace: Tracer,
    primes: tuple[int, ...],
    dtypes: Mapping[str, str],
    given: Mapping[str, Any],
) -> tuple[dict[str, Any], TraceResult]:
    """A trace without open questions: the dimensions that the model forces to be equal, and the trace."""
    merged = dict(given)
    while True:
        try:
            return merged, trace(_hints(plan, primes, merged), dtypes)[1]
        except Unify as needed:
            _merge(merged, needed)


def _hints(plan: CallPlan, primes: tuple[int, ...], merged: Mapping[str, Any]) -> Callable[[str], Any]:
    names = list(dict.fromkeys(dim for spec in plan.inputs for dim in spec.shape if isinstance(dim, str)))
    pool = list(primes) + [primes[-1] + 2 * i + 2 for i in range(max(0, len(names) - len(primes)))]
    sizes = dict(zip(names, pool, strict=False))

    def resolve(name: str) -> Any:
        while isinstance(merged.get(name), str):
            name = merged[name]
        return merged[name] if name in merged else SymInt.symbol(name, sizes[name])

    return resolve


def _merge(merged: dict[str, Any], needed: Unify) -> None:
    """Make two dimensions equal from now on: two names, or a name and a number."""
    left, right = (dim.name if isinstance(dim, SymInt) else int(dim) for dim in (needed.left, needed.right))
    if isinstance(right, str) and right not in merged:
        merged[right] = left if left is not None else None
    elif isinstance(left, str) and left not in merged:
        merged[left] = right
    else:
        raise CaptureError(f"the model needs dimension {needed.left} to equal {needed.right}") from None
    if None in merged.values():
        raise CaptureError(f"the model needs dimension {needed.left} to equal {needed.right}") from None


def _fingerprint(recording: Recording) -> Iterator[tuple[str, str, Any]]:
    """Everything about a recording that must not depend on the hints: (layer path, what it is, its key)."""
    index: dict[Value, int] = {}

    def name(value: Value | None) -> Any:
        if value is None:
            return None
        if value.kind == "constant":
            return attribute_key(value.array)
        if value.kind == "variable":
            return value.name
        return index.setdefault(value, len(index))

    for node in recording.root.all_nodes():
        yield node.scope.path, f"its {node.op_type}", _node_key(node, name)
    for _, value in recording.outputs:
        yield "", "an output", (name(value), value.dtype, tuple(key(dim) for dim in value.shape or ()))


def _node_key(node: Node, name: Callable[[Value | None], Any]) -> Any:
    attributes = tuple(sorted((k, attribute_key(v)) for k, v in node.attributes.items()))
    bodies = tuple(
        (k, _named(body.inputs, name), tuple(name(v) for v in body.outputs))
        for k, body in node.bodies.items()
    )
    return (
        node.op_type,
        tuple(name(v) for v in node.inputs),
        _named(node.outputs, name),
        attributes,
        bodies,
    )


def _named(values: tuple[Value, ...], name: Callable[[Value | None], Any]) -> tuple[Any, ...]:
    shapes = [None if v.shape is None else tuple(key(dim) for dim in v.shape) for v in values]
    return tuple((name(v), shape) for v, shape in zip(values, shapes, strict=True))


def _compare(a: TraceResult, b: TraceResult) -> None:
    left, right = _fingerprint(a.recording), _fingerprint(b.recording)
    missing = ("", "", None)
    while True:
        (where, step, one), (there, longer, other) = next(left, missing), next(right, missing)
        if one is None and other is None:
            return
        if one != other:
            if there and not where:  # this trace ended first; the other one names the layer
                where, step = there, longer
            layer = f"layer {where!r}" if where else "the model's call()"
            raise SpecializationError(
                f"{layer} depends on the value of a dynamic dimension (first at {step}): its graph is different for "
                "another size. Typical causes: a Python loop or `if` over a dimension, int() or NumPy "
                "arithmetic on a shape. Compute with keras.ops.shape(x) and keras.ops instead, or fix the "
                "dimension through input_signature."
            )


def _as_declared(model: Any, root: Scope, leaves: list[Value]) -> list[Value]:
    """Float outputs in the dtypes a functional model declares; under a half policy some layers give float32."""
    if not compat.is_functional(model):
        return leaves
    declared = [str(tensor.dtype) for tensor in compat.flatten(compat.functional_structure(model)[1])]
    if len(declared) != len(leaves):
        return leaves
    return [
        cast(value, dtype, root) if "float" in dtype and "float" in value.dtype else value
        for value, dtype in zip(leaves, declared, strict=True)
    ]


def _with_outputs(recording: Recording, names: list[str], leaves: list[Value]) -> Recording:
    taken = {value.name for value in recording.inputs} | set(recording.variables)
    legal = [f"{name}_output" if name in taken else name for name in names]
    recording.outputs = list(zip(legal, leaves, strict=True))
    return recording


def _dims(value: Value) -> tuple[int | str, ...]:
    return tuple(render(dim) if isinstance(dim, SymInt) else int(dim) for dim in value.dims)


def _signature(plan: CallPlan, recording: Recording, structure: Any, result: TraceResult) -> Signature:
    inputs = tuple(
        TensorSpec(v.name, v.dtype, _dims(v), result.bounds.get(v.name) if "int" in v.dtype else None)
        for v in recording.inputs
    )
    outputs = tuple(TensorSpec(name, v.dtype, _dims(v)) for name, v in recording.outputs)
    return Signature(inputs, outputs, plan.structure, structure)
