"""A layer written in a framework's own code becomes part of the graph through that framework's exporter.

Enters: a layer whose ``call`` gave a traced tensor to TensorFlow, JAX or PyTorch, and the traced arguments of
that call. Leaves: the nodes of the exporter's graph, recorded in the layer's scope, with the layer's variables
under their own keys.

Invariants: only that layer goes this way; it is exported once for each combination of input shapes; a size of
its output is an expression over the sizes of its inputs that holds for two sets of sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.capture.foreign import ForeignCapture, NamedInput
from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.symint import SymInt, floor_divide, is_symbolic, key
from interop.errors import CaptureError, UnsupportedOp
from interop.graph.record import Body, Value
from interop.graph.typecodes import dtype_name


@dataclass
class _Call:
    """A layer's call as a function of tensors.

    Attributes:
        run: tensors in the order of `inputs` to the layer's output.
        inputs: the traced arguments.
        specs: the same with every expression of a size under a name of its own.
        sizes: the sizes those names stand for.
    """

    run: Callable[..., Any]
    inputs: list[Value]
    specs: list[NamedInput]
    sizes: dict[str, SymInt]


class Fallback:
    """The layers of one model that are exported by their backend.

    Attributes:
        layers: their paths, in order of first use.
    """

    def __init__(self, opset: int, keys: Mapping[int, str]) -> None:
        self.layers: dict[str, None] = {}
        self._opset = opset
        self._keys = keys
        self._made: dict[Any, tuple[ForeignCapture, Any]] = {}

    def emit(self, e: Emit, layer: Any, path: str, args: Any, kwargs: Any) -> Any:
        """Record the call of a layer; returns its output, values in the structure the layer returns.

        Raises:
            UnsupportedOp: the backend's exporter cannot do it either; gives its reason.
        """
        call = _call(layer, args, kwargs)
        wanted = (id(layer), tuple(call.specs), repr(compat.map_structure(_constant_key, [args, kwargs])))
        with compat.suspended():
            if wanted not in self._made:
                try:
                    self._made[wanted] = _export(layer, call, self._opset, self._keys)
                except CaptureError as error:
                    raise UnsupportedOp(
                        f"layer {path!r} is not written with keras.ops, and the exporter of its framework does not "
                        f"take it either: {error}"
                    ) from error
            captured, structure = self._made[wanted]
            shapes = _output_shapes(call, captured)
        self.layers[path] = None
        outputs = _splice(e, captured, call.inputs)
        for value, shape in zip(outputs, shapes, strict=True):
            value.shape = shape
        return compat.map_structure(lambda index: outputs[index], structure)


def _constant_key(item: Any) -> Any:
    return "tensor" if isinstance(item, compat.Sym) else item


def _call(layer: Any, args: Any, kwargs: Any) -> _Call:
    given = compat.flatten([args, kwargs])
    places = [i for i, leaf in enumerate(given) if isinstance(leaf, compat.Sym)]
    inputs = [given[i].value for i in places]
    names: dict[Any, str] = {}
    sizes: dict[str, SymInt] = {}

    def name(dim: Any) -> int | str:
        if not is_symbolic(dim):
            return int(dim)
        found = names.setdefault(key(dim), f"d{len(names)}")
        sizes[found] = dim
        return found

    specs = [
        NamedInput(f"given_{i}", value.dtype, tuple(name(dim) for dim in value.dims))
        for i, value in enumerate(inputs)
    ]

    def run(*tensors: Any) -> Any:
        leaves = list(given)
        for place, tensor in zip(places, tensors, strict=True):
            leaves[place] = tensor
        positional, named = compat.pack_like([args, kwargs], leaves)
        return layer(*positional, **named)

    return _Call(run, inputs, specs, sizes)


def _export(layer: Any, call: _Call, opset: int, keys: Mapping[int, str]) -> tuple[ForeignCapture, Any]:
    """The layer's graph, and the structure of its output with the leaves numbered."""
    variables = [(keys[id(v)], v) for v in layer.variables if id(v) in keys]
    structure: list[Any] = []

    def run(*tensors: Any) -> tuple[Any, ...]:
        output = call.run(*tensors)
        leaves = [leaf for leaf in compat.flatten(output) if leaf is not None]
        numbers = iter(range(len(leaves)))
        structure[:] = [compat.map_structure(lambda leaf: None if leaf is None else next(numbers), output)]
        return tuple(leaves)

    match compat.backend():
        case "torch":
            from interop.capture.torch import capture_function as capture_torch

            made = capture_torch(run, layer, call.specs, variables, opset)
        case "tensorflow":
            from interop.capture.tensorflow import capture_function as capture_tensorflow

            made = capture_tensorflow(run, call.specs, variables, opset)
        case _:
            from interop.capture.jax import capture_function as capture_jax

            made = capture_jax(
                compat.with_values(run, [v for _, v in variables]), call.specs, variables, opset
            )
    return made, structure[0]


def _output_shapes(call: _Call, captured: ForeignCapture) -> list[tuple[Any, ...]]:
    """Shapes of the outputs over the sizes of the inputs, where need be by running the layer at two sizes of each."""
    known: list[list[Any]] = [
        [call.sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape]
        for spec in captured.signature.outputs
    ]
    if not any(isinstance(dim, str) for dims in known for dim in dims):
        return [tuple(dims) for dims in known]
    tried = [{name: int(dim) for name, dim in call.sizes.items()}]
    found = [_run_at(call, tried[0])]
    other = {name: size + 3 + 2 * place for place, (name, size) in enumerate(tried[0].items())}
    with suppress(Exception):  # of the layer's code, which may want sizes to go together
        found.append(_run_at(call, other))
        tried.append(other)
    sizes = [(dim, [each[name] for each in tried]) for name, dim in call.sizes.items()]
    for dims, *shapes in zip(known, *found, strict=True):
        for axis, (dim, *seen) in enumerate(zip(dims, *shapes, strict=True)):
            if isinstance(dim, str):
                dims[axis] = _expression(seen, sizes)
    return [tuple(dims) for dims in known]


def _run_at(call: _Call, sizes: Mapping[str, int]) -> list[tuple[int, ...]]:
    """Shapes of the outputs for inputs of these sizes."""
    shapes = [[sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape] for spec in call.specs]
    arrays = [np.zeros(shape, spec.dtype) for shape, spec in zip(shapes, call.specs, strict=True)]
    return [np.shape(leaf) for leaf in compat.flatten(call.run(*map(compat.to_tensor, arrays)))]


def _expression(seen: Sequence[int], sizes: Sequence[tuple[SymInt, Sequence[int]]]) -> Any:
    """A size as a simple expression over others; a plain number where it was always the same.

    Args:
        seen: the size, each time the layer ran.
        sizes: the others, each with what it was then.

    The two traces of a model have different sizes: an expression found by chance, or a number that should
    have been one, differs between them and is reported.
    """
    if len(seen) > 1 and len(set(seen)) == 1:
        return seen[0]
    for dim, tried in sizes:
        for scale in range(1, 9):
            for of in (
                lambda n, k=scale: n * k,
                lambda n, k=scale: floor_divide(n, k),
                lambda n, k=scale: floor_divide(n + k - 1, k),
            ):
                shifts = {size - int(of(hint)) for size, hint in zip(seen, tried, strict=True)}
                if len(shifts) == 1 and (len(seen) > 1 or abs(min(shifts)) < 9):
                    return of(dim) + shifts.pop()
    return seen[0]


def _splice(e: Emit, captured: ForeignCapture, inputs: Sequence[Value]) -> list[Value]:
    """Record the nodes of a graph."""
    from onnx_ir.passes.common import ShapeInferencePass

    graph = ShapeInferencePass(check_type=False)(captured.flat()).model.graph
    values: dict[Any, Value] = dict(zip(graph.inputs, inputs, strict=True))
    constants = {record.key for record in captured.variables if record.role == "constant"}
    for name, made in graph.initializers.items():
        tensor = made.const_value
        if name in constants:
            values[made] = e.constant(tensor.numpy())
        else:
            values[made] = e.recorder.variable(name, dtype_name(int(tensor.dtype)), tuple(tensor.shape))
    _record(e, graph, values)
    return [values[output] for output in graph.outputs]


def _record(e: Emit, graph: Any, values: dict[Any, Value]) -> None:
    for node in graph:
        if node.op_type == "Constant" and "value" in node.attributes:
            values[node.outputs[0]] = e.constant(node.attributes["value"].value.numpy())
            continue
        plain: dict[str, Any] = {}
        bodies: dict[str, Body] = {}
        for name, attribute in node.attributes.items():
            if attribute.type.name == "GRAPH":
                bodies[name] = _body(e, attribute.value, values)
            else:
                plain[name] = _attribute(attribute)
        outputs = [(_dtype(node, value), _shape(value)) for value in node.outputs]
        given = [None if value is None else values[value] for value in node.inputs]
        made = e.recorder.node(node.op_type, given, outputs, plain, node.domain, bodies)
        values.update(zip(node.outputs, made, strict=True))


def _body(e: Emit, graph: Any, values: dict[Any, Value]) -> Body:
    inner = dict(values)
    with e.recorder.body([(_dtype(graph, value), _shape(value) or ()) for value in graph.inputs]) as body:
        inner.update(zip(graph.inputs, body.inputs, strict=True))
        for made in graph.initializers.values():
            inner[made] = e.constant(made.const_value.numpy())
        _record(e, graph, inner)
        body.outputs = tuple(inner[output] for output in graph.outputs)
    return body


def _dtype(owner: Any, value: Any) -> str:
    if value.dtype is None:
        raise CaptureError(
            f"the exporter's graph does not tell the dtype of {value.name!r} of {owner.name!r}"
        )
    return dtype_name(int(value.dtype))


def _shape(value: Any) -> tuple[Any, ...] | None:
    """The shape of an inner value where it is fixed; nobody asks for another."""
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        return None
    return tuple(value.shape)


def _attribute(attribute: Any) -> Any:
    if attribute.type.name == "TENSOR":
        return attribute.value.numpy()
    value = attribute.value
    return list(value) if isinstance(value, tuple) else value
