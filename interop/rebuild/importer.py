"""An ONNX graph becomes a Functional Keras model of stock layers and ``keras.ops`` operations.

Enters: a checked, inlined ``ir.Model`` whose operators all have handlers. Leaves: a model with the graph's weights,
and an ``ImportReport``. It saves as ``.keras`` and loads where this toolkit is not installed.

An initializer of floats becomes, in this order,

1. a variable of a layer, where a pattern of ``lift/`` covers its uses;
2. the variable of a layer that does nothing but hold it: ``Embedding(1, size)``, looked up at the one index there is
   and reshaped. An Embedding is the one stock layer whose output is its weights, bit for bit on every device (a
   Dense of ones would round on GPUs); the index is a zero made from the model's first input, as a Functional model
   has only what depends on its inputs. What the file says to be a buffer does not train;
3. a constant of an operation: numbers an operator needs when the graph is read, and scalars, unless the file says that
   one is a parameter. The report says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from interop.capture.keras import compat
from interop.errors import GraphError
from interop.graph.typecodes import dtype_name
from interop.rebuild.broadcast import add
from interop.rebuild.dtypes import available
from interop.rebuild.interpreter import Interpreter, Override, Scope
from interop.rebuild.lifting import Lifted, Plan, is_float, plan
from interop.rebuild.naming import Names, scope_of
from interop.rebuild.simplification import simplified
from interop.rebuild.sizes import Sizes
from interop.rebuild.source import check_supported, name_of
from interop.rebuild.values import Array, Value
from interop.status import ImportReport, LiftedLayer

#: What torch.onnx (2.6 and newer) says of a graph.
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_TARGET = re.compile(r"(PARAMETER|BUFFER) target='([^']+)'")
_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def imported(model: Any, layout: str = "nhwc", name: str | None = None) -> tuple[Any, ImportReport]:
    """Make a Keras model of an ``ir.Model`` without functions.

    Raises:
        GraphError: a node cannot be computed; the message names it.
        UnsupportedNodes: nodes that nothing computes, all of them, before anything is built.
    """
    declared = [value.shape for value in model.graph.outputs]
    model = simplified(model)
    layers = plan(model.graph, layout)
    check_supported(model, {node for lifted in layers.lifted.values() for node in lifted.covers})
    return Importer(model, layers).build(name, declared)


class Importer:
    """Builds one model."""

    def __init__(self, model: Any, plan: Plan) -> None:
        """Take an ``ir.Model`` and the plan of its graph."""
        self._graph = model.graph
        self._sizes = Sizes()
        self._names = Names()
        self._is_torch = model.producer_name == "pytorch"
        self._signature = self._graph.metadata_props.get(_SIGNATURE)
        said = {name: kind for kind, name in _TARGET.findall(self._signature or "")}
        self._parameters = {name for name, kind in said.items() if kind == "PARAMETER"}
        self._buffers = said.keys() - self._parameters
        self._plan = plan
        self._layers: dict[Any, Any] = {}
        self._zero: Any = None
        self._weights: dict[str, tuple[str, ...]] = {}
        self._held: list[str] = []
        self._lifted: list[LiftedLayer] = []
        overrides: dict[Any, Override] = dict.fromkeys(self._plan.skipped, _skip)
        overrides |= {node: self._override(lifted) for node, lifted in self._plan.lifted.items()}
        self._interpreter = Interpreter(
            model.graph.opset_imports,
            sizes=self._sizes,
            parameter=self._parameter,
            overrides=overrides,
            fold=True,
        )

    def build(self, name: str | None, declared: Sequence[Any]) -> tuple[Any, ImportReport]:
        """The model and what became of the graph, whose outputs have the shapes that were declared."""
        inputs = [value for value in self._graph.inputs if value.name not in self._graph.initializers]
        if not inputs:
            raise GraphError("the graph has no inputs, so there is nothing to make a model of")
        given = {str(value.name): self._input(value) for value in inputs}
        self._zero = _zero_of(next(iter(given.values())))
        results = self._interpreter.run(self._graph, [self._interpreter.value(x) for x in given.values()])
        outputs = {
            str(value.name): self._output(value, result, shape)
            for value, result, shape in zip(self._graph.outputs, results, declared, strict=True)
        }
        names = Names()
        output_names = {onnx_name: names.take(onnx_name) for onnx_name in outputs}
        tensors = list(given.values())
        made: Any = {output_names[key]: tensor for key, tensor in outputs.items()}
        model = compat.functional(
            tensors[0] if len(tensors) == 1 else tensors,
            next(iter(made.values())) if len(made) == 1 else made,
            name or None,
        )
        return model, self._report({key: x.name for key, x in given.items()}, output_names)

    def _input(self, value: Any) -> Any:
        if value.shape is None or value.dtype is None:
            raise GraphError(f"input {value.name!r} has no shape, or no element type; Keras needs both")
        dims: list[int] = []
        for axis, size in enumerate(value.shape):
            known = size if isinstance(size, int) else None
            symbol = size.value if known is None else None
            dims.append(known if known is not None else self._sizes.symbol(symbol or f"{value.name}_{axis}"))
        if 0 in dims:
            raise GraphError(f"input {value.name!r} has the size 0 at axis {dims.index(0)}: it holds nothing")
        if not dims:
            raise GraphError(f"input {value.name!r} has no axes; a Keras input has a batch")
        shape = tuple(size if isinstance(size, int) else None for size in value.shape)
        try:
            dtype = available(dtype_name(value.dtype.value))
        except ValueError as error:
            raise GraphError(f"input {value.name!r}: {error}") from error
        if dtype == "string":
            raise GraphError(f"input {value.name!r} holds strings, which Keras layers do not compute with")
        made = keras.Input(batch_shape=shape, dtype=dtype, name=self._names.take(str(value.name)))
        self._sizes.declare(made, dims)
        return made

    def _output(self, output: Any, value: Value, declared: Any) -> Any:
        tensor = value.tensor()
        if not hasattr(tensor, "shape"):
            raise GraphError(
                f"output {output.name!r} is a sequence or optional, which a Keras model does not return"
            )
        if declared is not None and not _agree(tuple(tensor.shape), declared):
            producer = output.producer()
            by = "" if producer is None else f", made by node {name_of(producer)!r} ({producer.op_type}),"
            raise GraphError(
                f"output {output.name!r}{by} has the shape {tuple(tensor.shape)}; the graph says {declared}"
            )
        return self._symbolic(tensor)

    def _symbolic(self, tensor: Any) -> Any:
        """A tensor of the model; what no input changes is added to a zero that is made of one."""
        if isinstance(tensor, keras.KerasTensor):
            return tensor
        array = np.asarray(ops.convert_to_numpy(tensor))
        zero = ops.cast(ops.reshape(self._zero, ()), array.dtype.name)
        return ops.logical_or(array, zero) if array.dtype == bool else add(zero, array)

    # Weights

    def _parameter(self, name: str, array: Array) -> Any:
        value = self._graph.initializers.get(name)
        if value is None or not is_float(value.const_value) or not array.size:
            return None
        if not array.ndim and not self._is_parameter(name):
            return None
        return lambda: self._hold(name, array)

    def _is_parameter(self, name: str) -> bool:
        """Whether a scalar trains, such as a learned scale, and is no number that an expression was written with.

        torch.onnx lists parameters; its exporter by TorchScript gives them, and no numbers, the path of a module's
        attribute.
        """
        if self._signature is not None:
            return name in self._parameters
        return self._is_torch and _PATH.fullmatch(name) is not None

    def _hold(self, name: str, array: Array) -> Any:
        dtype = array.dtype.name
        layer = keras.layers.Embedding(
            1, int(array.size), trainable=name not in self._buffers, name=self._names.take(name), dtype=dtype
        )
        self._fill(layer, partial(layer.build, (None,)), (None,), {"embeddings": array.reshape(1, -1)}, name)
        self._held.append(name)
        self._weights[name] = (f"{layer.name}/embeddings",)
        return ops.reshape(layer(self._zero), array.shape)

    def _fill(
        self, layer: Any, build: Callable[[], object], shape: Any, arrays: dict[str, Array], node: str
    ) -> None:
        """Build a layer and give its variables their values, without running initializers; `node` and `shape` are for
        messages."""
        with compat.deferred_variables():
            build()
            for variable, (name, array) in zip(layer.weights, arrays.items(), strict=True):
                if tuple(variable.shape) != array.shape:
                    raise GraphError(
                        f"node {node!r}: its input {shape} asks for {name} of the shape {variable.shape} in the layer "
                        f"{layer.name!r}; the graph has {array.shape}"
                    )
                compat.initialize(variable, np.ascontiguousarray(array))
        compat.finish_layers(layer)

    # Layers

    def _override(self, lifted: Lifted) -> Override:
        def compute(scope: Scope) -> None:
            values = [scope[value] for value in lifted.inputs]
            order = None if lifted.order is None else lifted.order(values[0].rank or 0)
            tensors = [
                self._symbolic(x.tensor() if order is None or x.rank != len(order) else x.form(order))
                for x in values
            ]
            try:
                layer = self._layer(lifted, [tuple(x.shape) for x in tensors])
                made = lifted.call(layer, *tensors) if lifted.call is not None else layer(*tensors)
            except GraphError:
                raise
            except ValueError as error:
                raise GraphError(
                    f"node {name_of(lifted.node)!r} ({lifted.node.op_type}) as {lifted.config[0]}: {error}"
                ) from error
            outputs = list(made) if isinstance(made, tuple | list) else [made]
            given = [self._sizes.of(x) for x in tensors]
            dims = lifted.dims(given) if lifted.dims is not None else given[:1]
            permutations = lifted.permutations or (order,) * len(outputs)
            for value, tensor, sizes, permutation in zip(
                lifted.node.outputs, outputs, dims, permutations, strict=False
            ):
                self._sizes.declare(tensor, sizes)
                scope[value] = self._interpreter.value(tensor, permutation)

        return compute

    def _layer(self, lifted: Lifted, shapes: list[Any]) -> Any:
        layer = self._layers.get(lifted.key)
        if layer is None:
            arrays = {name: weight.array() for name, weight in lifted.weights.items()}
            sources = [str(w.source.name) for w in lifted.weights.values() if w.source is not None]
            dtype = next(iter(arrays.values())).dtype.name if arrays else keras.config.floatx()
            layer = lifted.make(self._names.take(scope_of(sources) or name_of(lifted.node)), dtype)
            built_for = shapes[0] if lifted.built_for is None else lifted.built_for(shapes[0])
            if lifted.build is None:
                build = partial(layer.build, built_for)
            else:
                build = partial(lifted.build, layer, shapes)
            self._fill(layer, build, built_for, arrays, name_of(lifted.node))
            self._layers[lifted.key] = layer
            for name, weight in lifted.weights.items():
                if weight.source is not None:
                    key = str(weight.source.name)
                    self._weights[key] = (*self._weights.get(key, ()), f"{layer.name}/{name}")
        nodes = tuple(name_of(node) for node in lifted.covers)
        self._lifted.append(LiftedLayer(layer.name, type(layer).__name__, nodes))
        return layer

    def _report(self, inputs: dict[str, str], outputs: dict[str, str]) -> ImportReport:
        taken = self._plan.skipped | set(self._plan.lifted)
        kept = Counter(node.op_type for node in self._graph if node not in taken)
        frozen = {}
        for name, value in self._graph.initializers.items():
            if is_float(value.const_value) and name not in self._weights:
                frozen[name] = _why_frozen(value, taken)
            elif name in self._buffers and name in self._held:
                frozen[name] = "a buffer, which does not train in PyTorch either"
        return ImportReport(
            lifted=tuple(self._lifted),
            operations=dict(kept),
            not_lifted=dict(self._plan.reasons),
            weights=dict(self._weights),
            held=tuple(self._held),
            frozen=frozen,
            inputs=inputs,
            outputs=outputs,
        )


def _why_frozen(value: Any, taken: Collection[Any]) -> str:
    if not value.shape:
        return "a scalar"
    users = sorted({node.op_type for node, _ in value.uses() if node not in taken})
    return f"{', '.join(users)} needs it when the graph is read" if users else "used by nothing that stays"


def _agree(shape: Sequence[int | None], declared: Any) -> bool:
    """Whether sizes that are known on both sides are the same."""
    return len(shape) == len(declared) and all(
        made is None or not isinstance(said, int) or made == said
        for made, said in zip(shape, declared, strict=True)
    )


def _skip(scope: Scope) -> None:
    """A node that a layer covers, or that nobody needs."""


def _zero_of(x: Any) -> Any:
    """A vector of one zero, int32, that depends on a model's input."""
    first = x[(slice(0, 1),) * len(x.shape)]
    return ops.reshape(ops.zeros_like(first, dtype="int32"), (1,))
