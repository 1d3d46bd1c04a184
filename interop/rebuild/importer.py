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

from collections.abc import Collection, Sequence
from typing import Any

import keras

from interop.capture.keras import compat
from interop.errors import GraphError
from interop.graph.typecodes import dtype_name
from interop.rebuild.building import Account, Builder
from interop.rebuild.dtypes import available
from interop.rebuild.lifting import Plan, is_float, plan
from interop.rebuild.loops.bags import without_bag_loops
from interop.rebuild.naming import Names
from interop.rebuild.simplification import simplified
from interop.rebuild.source import check_supported, name_of
from interop.rebuild.values import Value
from interop.status import ImportReport


def imported(model: Any, layout: str = "nhwc", name: str | None = None) -> tuple[Any, ImportReport]:
    """Make a Keras model of an ``ir.Model`` without functions.

    Raises:
        GraphError: a node cannot be computed; the message names it.
        UnsupportedNodes: nodes that nothing computes, all of them, before anything is built.
    """
    declared = [value.shape for value in model.graph.outputs]
    model = simplified(model)
    if without_bag_loops(model):
        model = simplified(model)
    layers = plan(model.graph, layout)
    check_supported(model, {node for lifted in layers.lifted.values() for node in lifted.covers})
    return Importer(model, layers, layout).build(name, declared)


class Importer:
    """Builds one model."""

    def __init__(self, model: Any, plan: Plan, layout: str) -> None:
        """Take an ``ir.Model`` and the plan of its graph."""
        self._graph = model.graph
        self._account = Account(model)
        self._builder = Builder(self._account, model.graph, plan, model.opset_imports, layout)
        self._sizes = self._builder.sizes
        self._taken = plan.skipped | set(plan.lifted)

    def build(self, name: str | None, declared: Sequence[Any]) -> tuple[Any, ImportReport]:
        """The model and what became of the graph, whose outputs have the shapes that were declared."""
        inputs = [value for value in self._graph.inputs if value.name not in self._graph.initializers]
        if not inputs:
            raise GraphError("the graph has no inputs, so there is nothing to make a model of")
        given = {str(value.name): self._input(value) for value in inputs}
        self._builder.zero = self._builder.zero_of(next(iter(given.values())))
        interpreter = self._builder.interpreter
        results = interpreter.run(self._graph, [interpreter.value(x) for x in given.values()])
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
        made = keras.Input(batch_shape=shape, dtype=dtype, name=self._account.names.take(str(value.name)))
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
        return self._builder.symbolic(tensor)

    def _report(self, inputs: dict[str, str], outputs: dict[str, str]) -> ImportReport:
        account, frozen = self._account, {}
        for name, value in self._graph.initializers.items():
            if is_float(value.const_value) and name not in account.weights:
                frozen[name] = _why_frozen(value, self._taken)
            elif name in account.buffers and name in account.held:
                frozen[name] = "a buffer, which does not train in PyTorch either"
        return ImportReport(
            lifted=tuple(account.lifted),
            operations=dict(account.kept),
            not_lifted=dict(account.reasons),
            weights=dict(account.weights),
            held=tuple(account.held),
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
