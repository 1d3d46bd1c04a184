"""Walks an ``onnx_ir`` graph and computes every node with the table of handlers.

The one interpreter has three callers: ``interop.onnx_backend`` (on arrays), the importer (on ``KerasTensor``, which
makes a Functional model) and a revived layer (inside ``call``). They differ in what they bind to initializers
(``parameter``) and in which nodes they compute themselves (``overrides``).

Invariants: a node runs once, after the nodes it needs; a subgraph sees the values around it; what depends on known
numbers alone is known (``fold``), so that shapes become numbers before anything is built; every error names the node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from keras import KerasTensor, ops

from interop.capture.keras.symint import SymInt
from interop.errors import GraphError, InteropError
from interop.rebuild import known
from interop.rebuild.context import Body, Context, is_concrete
from interop.rebuild.layout import Moved, moved
from interop.rebuild.narrow import Narrow
from interop.rebuild.registry import Handler, canonical, find_op
from interop.rebuild.sizes import Sizes
from interop.rebuild.source import name_of
from interop.rebuild.values import Array, Permutation, Value, transposed

Parameter = Callable[[str, Array], "Callable[[], Any] | None"]
"""Of an initializer's name and array: what makes its tensor, or None if it is a constant."""


class Scope:
    """The values of a graph by ``ir.Value``, those of the graphs around it included."""

    def __init__(self, parent: Scope | None = None) -> None:
        self._values: dict[Any, Value] = {}
        self._parent = parent

    def __getitem__(self, value: Any) -> Value:
        scope: Scope | None = self
        while scope is not None:
            if value in scope._values:
                return scope._values[value]
            scope = scope._parent
        raise GraphError(f"value {value.name!r} is used before it is made")

    def __setitem__(self, value: Any, found: Value) -> None:
        self._values[value] = found


class _Apart(Scope):
    """The values around a subgraph that the backend traces: what is made of them inside stays inside."""

    def __init__(self, parent: Scope, sizes: Sizes) -> None:
        super().__init__(parent)
        self._sizes = sizes

    def __getitem__(self, value: Any) -> Value:
        if value not in self._values:
            self[value] = super().__getitem__(value).copied(self._sizes)
        return self._values[value]


Override = Callable[[Scope], None]
"""Computes a node in place of its handler: reads what it needs from the scope, and sets the outputs there."""


class Interpreter:
    """See the module."""

    def __init__(
        self,
        opset_imports: Mapping[str, int],
        *,
        sizes: Sizes | None = None,
        parameter: Parameter | None = None,
        overrides: Mapping[Any, Override] | None = None,
        functions: Mapping[Any, Any] | None = None,
        fold: bool = False,
    ) -> None:
        """An interpreter of one model.

        Args:
            opset_imports: domain to version.
            sizes: the table of symbolic sizes; a new one by default.
            parameter: which initializers are parameters; by default none is, and all are known.
            overrides: nodes that are computed otherwise.
            functions: local functions that were not inlined, by identifier.
            fold: compute what is known at once and keep it as a known array.
        """
        self.opsets = {canonical(domain): version for domain, version in opset_imports.items()}
        self.sizes = Sizes() if sizes is None else sizes
        self.overrides = dict(overrides or {})
        self.functions = dict(functions or {})
        self._parameter = parameter or (lambda name, array: None)
        self._fold = fold

    def value(self, tensor: Any, permutation: Permutation | None = None) -> Value:
        """A value of a tensor, a list of tensors, None, or a known NumPy array."""
        if isinstance(tensor, np.ndarray):
            return Value(self.sizes, array=tensor)
        return Value(self.sizes, tensor=tensor, permutation=permutation)

    def run(self, graph: Any, inputs: Sequence[Value], outer: Scope | None = None) -> list[Value]:
        """Compute a graph (or a function) and return its outputs.

        Args:
            graph: an ``ir.Graph`` or ``ir.Function``.
            inputs: in the order of the graph's own, without those that are initializers too.
            outer: the scope around a subgraph.
        """
        scope = Scope(outer)
        initializers = getattr(graph, "initializers", {})
        for value in initializers.values():
            scope[value] = self.initializer(value)
        required = [value for value in graph.inputs if value.name not in initializers]
        if len(inputs) == len(graph.inputs):
            required = list(graph.inputs)
        for value, given in zip(required, inputs, strict=True):
            scope[value] = given
        for node in graph:
            override = self.overrides.get(node)
            if override is not None:
                override(scope)
            else:
                self.run_node(node, scope)
        return [scope[value] for value in graph.outputs]

    def initializer(self, value: Any) -> Value:
        """An initializer as a value."""
        tensor = value.const_value
        if tensor is None:
            raise GraphError(f"initializer {value.name!r} has no contents")
        array = array_of(tensor, f"initializer {value.name!r}")
        return Value(self.sizes, array=array, parameter=self._parameter(str(value.name), array))

    def run_node(self, node: Any, scope: Scope) -> None:
        """Compute a node with what the scope holds, and put its outputs there."""
        inputs = [None if value is None else scope[value] for value in node.inputs]
        opset = self.opsets.get(canonical(node.domain), 1)
        if node.op_identifier() in self.functions:
            outputs = self._call(self.functions[node.op_identifier()], inputs, scope)
        else:
            outputs = (
                self._known(node, inputs)
                or _transposed(node, inputs)
                or self._computed(node, opset, inputs, scope)
            )
        if len(outputs) < sum(bool(value.name) for value in node.outputs):
            raise GraphError(
                f"node {name_of(node)!r} ({node.op_type}) has {len(node.outputs)} outputs; {len(outputs)} made"
            )
        for value, output in zip(node.outputs, outputs, strict=False):
            scope[value] = output

    def _call(self, function: Any, inputs: Sequence[Value | None], scope: Scope) -> list[Value]:
        """A local function: its body has opsets of its own."""
        given = [self.value(None) if value is None else value for value in inputs]
        given += [self.value(None)] * (len(function.inputs) - len(given))
        return self._inner({**self.opsets, **function.opset_imports}, self.sizes).run(function, given)

    def _inner(self, opsets: Mapping[str, int], sizes: Sizes) -> Interpreter:
        """One that computes the same way, of other opsets or with sizes of its own."""
        return Interpreter(
            opsets,
            sizes=sizes,
            parameter=self._parameter,
            overrides=self.overrides,
            functions=self.functions,
            fold=self._fold,
        )

    def _known(self, node: Any, inputs: Sequence[Value | None]) -> list[Value] | None:
        """The results of shape arithmetic."""
        if canonical(node.domain):
            return None
        if not node.inputs or not all(value is None or value.is_known for value in inputs):
            return None
        try:
            arrays = known.evaluate(
                node.op_type,
                [None if value is None else value.array for value in inputs],
                attributes_of(node),
            )
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise GraphError(f"node {name_of(node)!r} ({node.op_type}): {error}") from error
        return None if arrays is None else [Value(self.sizes, array=array) for array in arrays]

    def _computed(self, node: Any, opset: int, inputs: list[Value | None], scope: Scope) -> list[Value]:
        handler = find_op(node.domain, node.op_type, opset)
        context = Context(node, opset, self.sizes, self.body_in(scope))
        if handler is None:
            context.fail("no handler computes it")
        attributes = attributes_of(node)
        permutation = _shared_permutation(handler, inputs)
        result_permutation = permutation
        change = self._moved(context, handler, inputs, attributes)
        if change is not None:
            permutation, step = change
            attributes, result_permutation = dict(step.attributes), step.permutation
        arguments = [
            self._argument(context, handler, i, value, permutation) for i, value in enumerate(inputs)
        ]
        if change is not None:
            arguments += [None] * (max(change[1].arguments, default=0) + 1 - len(arguments))
            for position, argument in change[1].arguments.items():
                arguments[position] = argument
        if len(arguments) > len(handler.inputs) and not handler.variadic:
            context.fail(f"has {len(arguments)} inputs; expected at most {len(handler.inputs)}")
        if not handler.narrow:
            _refuse_narrow(context, arguments)
        try:
            result = handler.function(context, *arguments, **attributes)
        except InteropError:
            raise
        except Exception as error:
            raise context.error(f"{type(error).__name__}: {error}") from error
        results = list(result) if isinstance(result, tuple) else [result]
        if handler.pointwise:
            dims = self.sizes.broadcast([context.dims(x) for x in arguments if hasattr(x, "shape")])
            for tensor in results:
                if hasattr(tensor, "shape"):
                    context.declare(tensor, dims)
        if self._fold and handler.repeatable and all(value is None or value.is_known for value in inputs):
            results = [_folded(x) for x in results]
        values = [self.value(x, result_permutation if hasattr(x, "shape") else None) for x in results]
        if node.op_type == "Cast" and not node.domain and inputs[0] is not None:
            values[0].counts = inputs[0].array
        return values

    def _moved(
        self,
        context: Context,
        handler: Handler,
        inputs: Sequence[Value | None],
        attributes: dict[str, Any],
    ) -> tuple[Permutation, Moved] | None:
        """The order of axes that a node's tensors are at hand in, and the node for it, if it can be computed so."""
        listed = [
            value
            for i, value in enumerate(inputs)
            if value is not None and handler.input_name(i) not in handler.static | handler.dims
        ]
        tensors = listed if handler.variadic else listed[:1]
        permutation = next((x.permutation for x in tensors if x.permutation is not None), None)
        if permutation is None or any(x.rank != len(permutation) for x in tensors):
            return None
        known = [None if value is None or value in tensors else value.array for value in inputs]
        step = moved(handler, permutation, known, attributes)
        return None if step is None else (permutation, step)

    def _argument(
        self,
        context: Context,
        handler: Handler,
        position: int,
        value: Value | None,
        permutation: Permutation | None,
    ) -> Any:
        if value is None:
            return None
        name = handler.input_name(position)
        if name in handler.static or name in handler.dims:
            array = value.array
            if array is None and name in handler.dims:
                array = value.counts
            if array is None:
                array = context.known(value.tensor())
            if array is None:
                context.fail(
                    f"its input {name!r} must be known when the graph is read, and depends on the values of the "
                    "model's inputs. Export the model with it as a constant"
                )
            if (
                name in handler.static
                and array.dtype == object
                and any(isinstance(i, SymInt) for i in array.flat)
            ):
                context.fail(
                    f"its input {name!r} must be numbers. Received: {', '.join(map(str, array.flat))}"
                )
            return array
        if permutation is None:
            return value.tensor()
        return _in_form(value, permutation)

    def body_in(self, scope: Scope) -> Callable[[Any], Body]:
        """What makes a subgraph ready to run that sees a scope."""
        return lambda graph: self._body(graph, scope)

    def _body(self, graph: Any, scope: Scope) -> Body:
        def run(tensors: Sequence[Any], apart: bool) -> list[Any]:
            inner, around = self, scope
            if apart:
                inner = self._inner(self.opsets, self.sizes.copied())
                around = _Apart(scope, inner.sizes)
            outputs = inner.run(graph, [inner.value(tensor) for tensor in tensors], around)
            return [value.tensor() for value in outputs]

        return Body(graph, run)


def _transposed(node: Any, inputs: Sequence[Value | None]) -> list[Value] | None:
    """A Transpose of what is computed moves nothing until somebody needs the elements in that order."""
    if node.op_type != "Transpose" or canonical(node.domain) or inputs[0] is None or inputs[0].rank is None:
        return None
    axes = tuple(attributes_of(node).get("perm", reversed(range(inputs[0].rank))))
    if sorted(axes) != list(range(inputs[0].rank)):
        return None
    made = transposed(inputs[0], axes)
    return None if made is None else [made]


def _shared_permutation(handler: Handler, inputs: Sequence[Value | None]) -> Permutation | None:
    """The order of axes a pointwise operator is computed in: that of its inputs, where one is not the graph's own."""
    if not handler.pointwise:
        return None
    present = [value for value in inputs if value is not None]
    moved_values = [value for value in present if value.permutation is not None]
    if not moved_values:
        return None
    # What a Transpose only renamed follows the others.
    moved_values.sort(key=lambda value: value.renamed)
    permutation = moved_values[0].permutation
    if permutation is None or (
        moved_values[0].renamed
        and any(value.rank == len(permutation) and value.permutation is None for value in present)
    ):
        return None
    for value in present:
        if value.rank is None or value.rank > len(permutation):
            return None
        if value.rank not in (0, len(permutation)) and value.array is None:
            return None  # a tensor of fewer axes would need a reshape
    return permutation


def _in_form(value: Value, permutation: Permutation) -> Any:
    if value.rank == len(permutation):
        return value.form(permutation)
    tensor = value.tensor()
    if not value.rank:
        return tensor
    padded = (1,) * (len(permutation) - value.rank) + tuple(tensor.shape)
    if isinstance(tensor, np.ndarray):
        return np.transpose(tensor.reshape(padded), permutation)
    return ops.transpose(ops.reshape(tensor, padded), permutation)


def _refuse_narrow(context: Context, arguments: Sequence[Any]) -> None:
    for x in arguments:
        if isinstance(x, Narrow):
            context.fail(f"does not compute in {x.dtype}, which no backend of Keras has; cast it before")


def _folded(x: Any) -> Any:
    if isinstance(x, KerasTensor | np.ndarray) or not hasattr(x, "shape") or not is_concrete(x):
        return x
    return np.asarray(ops.convert_to_numpy(x))


def array_of(tensor: Any, what: str) -> Array:
    """The contents of an ONNX tensor."""
    try:
        return np.asarray(tensor.numpy())
    except (ValueError, TypeError, OSError) as error:
        raise GraphError(f"{what} cannot be read: {error}") from error


def attributes_of(node: Any) -> dict[str, Any]:
    """Attributes as Python values: numbers, strings, lists, NumPy arrays, graphs."""
    return {str(name): _plain(attribute, node) for name, attribute in node.attributes.items()}


def _plain(attribute: Any, node: Any) -> Any:
    kinds = ir.AttributeType
    if attribute.is_ref():
        raise GraphError(
            f"attribute {attribute.name!r} of node {name_of(node)!r} refers to that of a function"
        )
    if attribute.type == kinds.TENSOR:
        return array_of(attribute.value, f"attribute {attribute.name!r} of node {name_of(node)!r}")
    if attribute.type == kinds.TENSORS:
        return [
            array_of(tensor, f"attribute {attribute.name!r} of node {name_of(node)!r}")
            for tensor in attribute.value
        ]
    if attribute.type == kinds.STRING:
        return attribute.as_string()
    if attribute.type in (kinds.INTS, kinds.FLOATS, kinds.STRINGS):
        return list(attribute.value)
    return attribute.value
