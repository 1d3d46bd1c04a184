"""One run of a Keras model on traced tensors.

Enters: a built model, its inputs as specs, the opset and a hint for every dynamic dimension.
Leaves: a ``Recording``: every operation as ONNX nodes in the scope of the layer call that made it.

Invariants:
- The model's own code runs, through ``Layer.__call__``, so masks, the training flag, dtype policies
  and input checks are Keras' own.
- Nothing of the model is changed: no nodes, no variables, no build state is left behind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat, invocations, registry
from interop.capture.keras.absent import reason
from interop.capture.keras.contents import elements_of
from interop.capture.keras.emit import Emit
from interop.capture.keras.fallback import Fallback
from interop.capture.keras.shapes import Unify
from interop.capture.keras.symint import forget_comparisons, is_symbolic, last_unequal
from interop.errors import CaptureError, InteropError, UnsupportedOp
from interop.graph.record import Recorder, Recording, Scope, Value


@dataclass
class TraceResult:
    """A finished trace.

    Attributes:
        recording: the graph.
        output: the model's output structure, with values as leaves.
        constants: large constants that are stored with the weights, by key.
        bounds: inclusive index range of integer inputs that feed a lookup, by input name.
        integer_inputs: float inputs whose first use is a cast to integers.
    """

    recording: Recording
    output: Any
    constants: dict[str, Any]
    bounds: dict[str, tuple[int, int]]
    integer_inputs: set[str] = field(default_factory=set)


#: Operations whose arguments may be sizes; any other takes them as tensors.
#: Attributes of operations, and first arguments of functions, that are sizes and may come as a tensor of them.
_SIZES = {
    "BroadcastTo": "shape",
    "Full": "shape",
    "OneHot": "num_classes",
    "Reshape": "newshape",
    "Resize": "size",
    "Slice": "shape",
    "Tile": "repeats",
}
_SIZED = frozenset({"empty", "eye", "full", "identity", "ones", "tri", "zeros"})
_TAKES_SIZES = frozenset({"Arange", "GetItem", "ScaleAndTranslate", "Slice", "SliceUpdate", "Stack"})


@cache
def _call_signature(cls: Any) -> inspect.Signature:
    return inspect.signature(cls.call)


class Trace:
    """The hooks of one run; see ``compat.Hooks``."""

    def __init__(
        self,
        opset: int,
        layer_paths: Mapping[int, str],
        variable_keys: Mapping[int, str],
        model: Any,
        fallback: Fallback | None = None,
    ) -> None:
        self._fallback = fallback
        self.recorder = Recorder(opset)
        self.emit = Emit(self.recorder)
        self.emit.bound = self._bound
        self._layer_paths = layer_paths
        self._variable_keys = variable_keys
        self._model = model
        self._owners: list[Any] = [model]
        self._variables: dict[int, Any] = {}
        self._touched: dict[int, tuple[Any, Any]] = {}
        self._bounds: dict[str, tuple[int, int]] = {}
        self.failed_at: str | None = None

    def run(
        self, call: Callable[[list[Any]], Any], inputs: list[tuple[str, str, tuple[Any, ...]]]
    ) -> TraceResult:
        """Trace ``call(inputs)``; ``inputs`` are (name, dtype, shape) triples."""
        float64 = compat.computes_in_float64(self._model) or any(dtype == "float64" for _, dtype, _ in inputs)
        symbols = [compat.Sym(self.recorder.input(*spec)) for spec in inputs]
        forget_comparisons()
        try:
            with compat.tracing(self, float64=float64):
                output = call(symbols)
        except (InteropError, Unify):
            raise
        except Exception as error:
            framework = compat.raw_framework(error)
            unequal = last_unequal()
            if framework is None and isinstance(error, ValueError) and unequal is not None:
                raise Unify(*unequal) from error  # Keras compared two sizes and refused
            if framework is not None:
                raise UnsupportedOp(
                    f"{self._where()} calls {framework} directly, which cannot be captured ({error}). Write this "
                    "layer with keras.ops: each framework function has a counterpart there."
                ) from error
            raise CaptureError(f"{self._where()}: {type(error).__name__}: {error}") from error
        finally:
            for layer, state in self._touched.values():
                compat.restore_build_state(layer, state)
        output = compat.map_structure(self._to_value, output)
        leaves = [leaf for leaf in compat.flatten(output) if leaf is not None]
        recording = self.recorder.finish([(str(i), leaf) for i, leaf in enumerate(leaves)])
        return TraceResult(recording, output, self.emit.constants, self._bounds, self._integer_inputs())

    def _where(self) -> str:
        return f"layer {self.failed_at!r}" if self.failed_at else "the model's call()"

    # Hooks

    def layer_call(self, layer: Any, run: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        if layer is self._model:
            noted = self.recorder.root.invocation = invocations.begun(layer, args, kwargs)
            outputs = self._guarded(run)
            invocations.ended(noted, outputs)
            return outputs
        if not layer.built:
            self._touched.setdefault(id(layer), (layer, compat.build_state(layer)))
        path = self._path(layer)
        scope = self.recorder.open(path, compat.class_identity(layer)[1])
        scope.witnesses.extend(_values([args, kwargs]))
        scope.invocation = invocations.begun(layer, args, kwargs)
        self._owners.append(layer)
        try:
            return self._noted(scope, self._guarded(run))
        except Exception as error:
            if self._fallback is None or isinstance(error, InteropError | Unify) or not _is_raw(error):
                raise
            self.emit.forget_sizes(scope)
            self.recorder.discard(scope)
            self.failed_at = None
            self.emit.arguments = _values([args, kwargs])
            made = self._fallback.emit(self.emit, layer, path, args, kwargs)
            return self._noted(scope, compat.map_structure(_to_sym, made))
        finally:
            self._owners.pop()
            self.recorder.close(scope)

    def _noted(self, scope: Scope, outputs: Any) -> Any:
        """The outputs of a layer's call, noted with it.

        Where a class may be lost, its calls and those it makes are nodes, even if they pass a tensor on as it is:
        a Dropout at inference.
        """
        custom = [not compat.is_keras_class(type(layer)) for layer in self._owners[-2:]]
        if any(custom):
            outputs = compat.map_structure(lambda leaf: self._made_inside(scope, leaf), outputs)
        if scope.invocation is not None:
            scope.invocation.whole = custom[-1]
        invocations.ended(scope.invocation, outputs)
        return outputs

    def _made_inside(self, scope: Scope, leaf: Any) -> Any:
        if not isinstance(leaf, compat.Sym) or invocations.is_inside(leaf.value, scope):
            return leaf
        passed = self.emit.node("Identity", leaf.value, shape=leaf.value.shape)
        passed.origin = leaf.value.origin
        return compat.masked_like(leaf, compat.Sym(passed))

    def _guarded(self, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except Exception:
            if self.failed_at is None:
                self.failed_at = self.recorder.scope.path
            raise

    def layer_body(self, layer: Any, args: Any, kwargs: Any) -> Any:
        if layer is self._owners[-1]:
            invocations.populate(self.recorder.scope.invocation, kwargs)
        emitter = registry.find_layer(type(layer).__name__, self.recorder.opset)
        if emitter is None or not compat.is_keras_class(type(layer)):
            return compat.in_symbolic_layer(layer)(*args, **kwargs)
        given, named = self._to_values(args), self._to_values(kwargs)
        self.emit.spec = None
        self.emit.arguments = _values([given, named])
        result = emitter.function(self.emit, layer, *given, **named)
        if result is NotImplemented:  # not of a form the emitter has a graph for: its own code is traced
            return compat.in_symbolic_layer(layer)(*args, **kwargs)
        return compat.map_structure(_to_sym, result)

    def operation(self, operation: Any, args: Any, kwargs: Any) -> Any:
        cls: Any = type(operation)
        args, kwargs = _read(args), _read(kwargs)
        emitter = registry.find_op(cls.__name__, self.recorder.opset)
        if emitter is None or not compat.is_keras_class(cls):
            if compat.is_keras_class(cls):
                raise self._unsupported("keras operation", cls.__name__)
            return operation.call(*args, **kwargs)
        args = tuple(compat.value_of(item) for item in args)
        self._read_sizes(operation, _SIZES.get(cls.__name__))
        if cls.__name__ not in _TAKES_SIZES:
            self.emit.arguments = _values(args)
            args = tuple(self._counted(item) for item in args)
        spec_of = emitter.spec or _keras_spec
        try:
            spec = spec_of(operation, *args, **kwargs)
        except (AttributeError, TypeError, ValueError):
            # Keras' rule may ask a number or a list for its dtype; when a model runs they are tensors by then.
            converted = tuple(map(_as_array, args))
            if all(new is old for new, old in zip(converted, args, strict=True)):
                raise
            args = converted
            spec = spec_of(operation, *args, **kwargs)
        if kwargs:
            bound = _call_signature(cls).bind(operation, *args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args[1:], bound.kwargs
        values = self._to_values(args)
        self.emit.spec = spec
        self.emit.arguments = _values(values)
        attributes = {name: self._to_values(getattr(operation, name)) for name in emitter.attributes}
        result = emitter.function(self.emit, *values, **attributes, **kwargs)
        return self._results(result, spec)

    def function(self, name: str, args: Any, kwargs: Any, symbolic: Callable[..., Any] | None) -> Any:
        emitter = registry.find_function(name, self.recorder.opset)
        if emitter is not None:
            if name in _SIZED and args:
                args = (self._sizes(args[0], name), *args[1:])
            args, kwargs = self._to_values(args), self._to_values(kwargs)
            self.emit.spec = None
            self.emit.arguments = _values([args, kwargs])
            return compat.map_structure(_to_sym, emitter.function(self.emit, *args, **kwargs))
        if symbolic is None:
            raise self._unsupported("keras backend function", name)
        return compat.run_symbolic(symbolic, args, kwargs)

    def added_loss(self) -> None:
        if self.recorder.scope.invocation is not None:
            self.recorder.scope.invocation.adds_loss = True

    def variable(self, variable: Any) -> Any:
        found = self._variables.get(id(variable))
        if found is None:
            key = self._variable_keys.get(id(variable))
            if key is None:
                raise CaptureError(
                    f"layer {self.recorder.scope.path!r} uses the variable {variable.path!r}, which does not belong "
                    "to the model. Build the model (call it once on real data) and keep every variable and "
                    "layer it uses as an attribute of the layer that uses it."
                )
            found = compat.Sym(self.recorder.variable(key, str(variable._dtype), tuple(variable.shape)))
            self._variables[id(variable)] = found
        return found

    # Conversions

    def _to_value(self, x: Any) -> Any:
        if isinstance(x, compat.Sym):
            return x.value
        if isinstance(x, keras.Variable):
            return self._to_value(x.value)
        if x is None or isinstance(x, Value):
            return x
        return self.emit.tensor(x)

    def _counted(self, item: Any) -> Any:
        """A symbolic size, or a shape with one, that an operation is given for a tensor."""
        whole = isinstance(item, list | tuple) and all(isinstance(dim, int) for dim in item)
        if is_symbolic(item) or (whole and any(is_symbolic(dim) for dim in item)):
            return compat.Sym(self.emit.tensor(item))
        return item

    def _read_sizes(self, operation: Any, attribute: str | None) -> None:
        if attribute is not None:
            given = getattr(operation, attribute)
            sizes = self._sizes(given, type(operation).__name__)
            if sizes is not given:
                vars(operation)[attribute] = sizes

    def _sizes(self, given: Any, name: str) -> Any:
        """Sizes as ints where they come as a traced tensor of them, or as a sequence with some."""
        if isinstance(given, list | tuple) and any(isinstance(item, compat.Sym) for item in given):
            return tuple(self._sizes(item, name) for item in given)
        if not isinstance(given, compat.Sym):
            return given
        elements = elements_of(given.value)
        if elements is None:
            where = self.recorder.scope.path
            raise UnsupportedOp(
                f"{f'layer {where!r}' if where else 'the model'} gives {name} a size that is computed from more than "
                "sizes and constants, so that the shape of its result depends on values. Compute it from "
                "keras.ops.shape(x) with keras.ops, or give a number."
            )
        return elements.item() if elements.ndim == 0 else tuple(elements)

    def _to_values(self, structure: Any) -> Any:
        """Traced tensors and variables as values, everything else as it is."""
        if isinstance(structure, compat.Sym | keras.Variable):
            return self._to_value(structure)
        if isinstance(structure, dict):
            return {key: self._to_values(item) for key, item in structure.items()}
        if type(structure) in (list, tuple):
            return type(structure)(self._to_values(item) for item in structure)
        return structure

    def _results(self, result: Any, spec: Any) -> Any:
        """Values as traced tensors with the dtype and shape Keras infers, where it does."""
        if spec is None:
            return compat.map_structure(_to_sym, result)
        if isinstance(result, list | tuple):
            return type(spec)(self._results(item, part) for item, part in zip(result, spec, strict=True))
        if not isinstance(result, Value):
            return result
        wanted = str(spec.dtype)
        if result.dtype != wanted:
            result.shape = tuple(spec.shape)
            result = self.emit.cast(result, wanted)
        if result.shape is None or not any(is_symbolic(dim) for dim in result.shape):
            result.shape = tuple(spec.shape) if None not in spec.shape else result.shape
        return compat.Sym(result)

    def _path(self, layer: Any) -> str:
        known = self._layer_paths.get(id(layer))
        if known is not None:
            return known
        outer = self.recorder.scope.path
        return f"{outer}/{layer.name}" if outer else str(layer.name)

    def _unsupported(self, kind: str, name: str) -> UnsupportedOp:
        where = self.recorder.scope.path
        why = reason(name)
        return UnsupportedOp(
            f"{f'layer {where!r}' if where else 'the model'} uses the {kind} {name}, which has no ONNX "
            + (f"form: {why}. " if why else "emitter. ")
            + "Write that step with other keras.ops functions"
            + (
                "."
                if why
                else ", or add an emitter: one function in interop/capture/keras/ops (see the README)."
            )
        )

    def _bound(self, indices: Value, count: int) -> None:
        """Note that ``indices`` look up one of ``count`` rows, if they come straight from an input."""
        if indices.origin is not None and not is_symbolic(count):
            name = indices.origin.name
            low, high = self._bounds.get(name, (0, count - 1))
            self._bounds[name] = (low, min(high, count - 1))

    def _integer_inputs(self) -> set[str]:
        floats = {
            value: value.name for value in self.recorder.inputs if value.dtype.startswith(("float", "bf"))
        }
        uses: dict[str, list[bool]] = {}
        for node in self.recorder.root.all_nodes():
            for value in node.inputs:
                if value in floats:
                    integer = node.op_type == "Cast" and node.outputs[0].dtype.startswith("int")
                    uses.setdefault(floats[value], []).append(integer)
        return {name for name, casts in uses.items() if any(casts) and name in self._bounds}


def _read(structure: Any) -> Any:
    """Variables as the traced tensors they hold: Keras' shape rules ask more of a tensor than a variable has."""
    if isinstance(structure, keras.Variable):
        return structure.value
    if isinstance(structure, dict):
        return {key: _read(item) for key, item in structure.items()}
    if type(structure) in (list, tuple):
        return type(structure)(_read(item) for item in structure)
    return structure


def _is_raw(error: BaseException) -> bool:
    return compat.raw_framework(error) is not None


# Their specs in Keras 3.15 say float32 whatever the operand is.
_SPECS_WITHOUT_DTYPE = ("Logsumexp", "Normalize", "Reciprocal")


def _keras_spec(operation: Any, *args: Any, **kwargs: Any) -> Any:
    spec = operation.compute_output_spec(*args, **kwargs)
    if type(operation).__name__ in _SPECS_WITHOUT_DTYPE:
        return compat.tensor_spec(spec.shape, compat.result_type(args[0].dtype, float))
    return spec


def _as_array(x: Any) -> Any:
    """Numbers and lists of them as the array that a backend makes of them; anything else as it is."""
    if not isinstance(x, bool | int | float | list | tuple) or is_symbolic(x) or _values(x):
        return x
    try:
        array = np.asarray(x)
    except (TypeError, ValueError):
        return x
    kinds = {"b": "bool", "i": "int32", "f": keras.config.floatx()}
    return array.astype(kinds[array.dtype.kind]) if array.dtype.kind in kinds else x


def _to_sym(x: Any) -> Any:
    return compat.Sym(x) if isinstance(x, Value) else x


def _values(structure: Any) -> list[Value]:
    """Every value in nested arguments, traced tensors unwrapped."""
    found: list[Value] = []
    stack = [structure]
    while stack:
        item = stack.pop()
        if isinstance(item, Value):
            found.append(item)
        elif isinstance(item, compat.Sym):
            found.append(item.value)
        elif isinstance(item, dict):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, list | tuple):
            stack.extend(reversed(item))
    return found
