"""Graphs computed with layers: the one of a model, and the bodies of its loops.

Enters: an ``ir.Graph`` with its plan, and symbolic tensors for its inputs. Leaves: symbolic tensors, and an ``Account``
of what became of nodes and initializers, which the graph of a model shares with those inside it. Invariant: a layer
belongs to one graph.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from interop.capture.keras import compat
from interop.errors import GraphError
from interop.rebuild.broadcast import add
from interop.rebuild.interpreter import Interpreter, Override, Scope
from interop.rebuild.lifting import Lifted, Plan, is_float
from interop.rebuild.loops import run_over_time
from interop.rebuild.loops.form import loops_of
from interop.rebuild.loops.recurrence import Recurrence
from interop.rebuild.naming import Names, scope_of
from interop.rebuild.sizes import Sizes
from interop.rebuild.source import name_of
from interop.rebuild.values import Array
from interop.status import LiftedLayer

#: What torch.onnx (2.6 and newer) says of a graph.
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_TARGET = re.compile(r"(PARAMETER|BUFFER) target='([^']+)'")
_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


class Account:
    """What became of a model's nodes and initializers.

    Attributes:
        names: of layers.
        buffers: initializers that the file says do not train.
        weights: initializer to the variables that hold it.
        held: initializers with a layer that does nothing else.
        lifted: layers with their nodes.
        kept: how many nodes of an operator stayed an operation.
        reasons: by node, why it is no layer.
    """

    def __init__(self, model: Any) -> None:
        """Read what an ``ir.Model`` says about its initializers."""
        self._is_torch = model.producer_name == "pytorch"
        self._signature = model.graph.metadata_props.get(_SIGNATURE)
        said = {name: kind for kind, name in _TARGET.findall(self._signature or "")}
        self._parameters = {name for name, kind in said.items() if kind == "PARAMETER"}
        self.buffers = said.keys() - self._parameters
        self.names = Names()
        self.weights: dict[str, tuple[str, ...]] = {}
        self.held: list[str] = []
        self.lifted: list[LiftedLayer] = []
        self.kept: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}

    def is_parameter(self, name: str) -> bool:
        """Whether a scalar trains, such as a learned scale, and is no number that an expression was written with.

        torch.onnx lists parameters; its exporter by TorchScript gives them, and no numbers, the path of a module's
        attribute.
        """
        if self._signature is not None:
            return name in self._parameters
        return self._is_torch and _PATH.fullmatch(name) is not None


class Builder:
    """Builds what one graph computes.

    Attributes:
        account: shared with the graphs inside.
        graph: the ``ir.Graph``.
        interpreter: of the graph's nodes.
        sizes: of its tensors.
        layout: as ``import_onnx`` has it.
        loops: nodes of the graph, those in bodies included, that may be loops over an open dimension.
        recurrences: layers of loops by the form of their body, with what else tells them apart.
        zero: a vector of one zero that depends on an input; to be set before anything is computed.
    """

    def __init__(self, account: Account, graph: Any, plan: Plan, opsets: Any, layout: str) -> None:
        self.account, self.layout = account, layout
        self.sizes = Sizes()
        self.zero: Any = None
        self.graph = graph
        self._layers: dict[Any, Any] = {}
        self.loops = tuple(loops_of(graph))
        self.recurrences: dict[str, tuple[Any, Recurrence]] = {}
        overrides: dict[Any, Override] = dict.fromkeys(plan.skipped, _skip)
        overrides |= {node: self._override(lifted) for node, lifted in plan.lifted.items()}
        overrides |= {
            node: partial(run_over_time, self, node) for node in self.loops if node not in overrides
        }
        self.interpreter = Interpreter(
            opsets,
            sizes=self.sizes,
            parameter=self._initializer,
            overrides=overrides,
            fold=True,
        )
        account.kept.update(node.op_type for node in graph if node not in overrides)
        account.reasons.update(plan.reasons)

    def inside(self, graph: Any, plan: Plan) -> Builder:
        """One for the body of a node of this graph."""
        return Builder(self.account, graph, plan, self.interpreter.opsets, self.layout)

    def symbolic(self, tensor: Any) -> Any:
        """A tensor of the graph; what no input changes is added to a zero that is made of one."""
        if isinstance(tensor, keras.KerasTensor):
            return tensor
        array = np.asarray(ops.convert_to_numpy(tensor))
        zero = ops.cast(ops.reshape(self.zero, ()), array.dtype.name)
        return ops.logical_or(array, zero) if array.dtype == bool else add(zero, array)

    @staticmethod
    def zero_of(x: Any) -> Any:
        """A vector of one zero, int32, that depends on an input."""
        first = x[(slice(0, 1),) * len(x.shape)]
        return ops.reshape(ops.zeros_like(first, dtype="int32"), (1,))

    # Weights

    def _initializer(self, name: str, array: Array) -> Any:
        return self.parameter(self.graph.initializers.get(name), array)

    def parameter(self, value: Any, array: Array) -> Callable[[], Any] | None:
        """What makes the tensor of an initializer; None if it is a constant."""
        if value is None or not is_float(value.const_value) or not array.size:
            return None
        name = str(value.name)
        if not array.ndim and not self.account.is_parameter(name):
            return None
        return lambda: self._hold(name, array)

    def _hold(self, name: str, array: Array) -> Any:
        dtype = array.dtype.name
        layer = keras.layers.Embedding(
            1,
            int(array.size),
            trainable=name not in self.account.buffers,
            name=self.account.names.take(name),
            dtype=dtype,
        )
        self._fill(layer, partial(layer.build, (None,)), (None,), {"embeddings": array.reshape(1, -1)}, name)
        self.account.held.append(name)
        self.account.weights[name] = (f"{layer.name}/embeddings",)
        return ops.reshape(layer(self.zero), array.shape)

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
                self.symbolic(x.tensor() if order is None or x.rank != len(order) else x.form(order))
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
            given = [self.sizes.of(x) for x in tensors]
            dims = lifted.dims(given) if lifted.dims is not None else given[:1]
            permutations = lifted.permutations or (order,) * len(outputs)
            for value, tensor, sizes, permutation in zip(
                lifted.node.outputs, outputs, dims, permutations, strict=False
            ):
                self.sizes.declare(tensor, sizes)
                scope[value] = self.interpreter.value(tensor, permutation)

        return compute

    def _layer(self, lifted: Lifted, shapes: list[Any]) -> Any:
        layer = self._layers.get(lifted.key)
        if layer is None:
            arrays = {name: weight.array() for name, weight in lifted.weights.items()}
            sources = [str(w.source.name) for w in lifted.weights.values() if w.source is not None]
            dtype = next(iter(arrays.values())).dtype.name if arrays else keras.config.floatx()
            layer = lifted.make(self.account.names.take(scope_of(sources) or name_of(lifted.node)), dtype)
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
                    self.account.weights[key] = (*self.account.weights.get(key, ()), f"{layer.name}/{name}")
        nodes = tuple(name_of(node) for node in lifted.covers)
        self.account.lifted.append(LiftedLayer(layer.name, type(layer).__name__, nodes))
        return layer


def _skip(scope: Scope) -> None:
    """A node that a layer covers, or that nobody needs."""
