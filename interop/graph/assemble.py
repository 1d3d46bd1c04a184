"""A recording becomes an onnx-ir model: as local functions (the artifact) or flat (plain ONNX).

Enters: a ``Recording``. Leaves: an ``ir.Model`` and, for the functions form, which functions and
call nodes belong to each layer path.

Invariants of the functions form:
- One function per distinct body; one node per layer call, named ``<object path>#<n>``.
- A function's inputs are its data in order of first use, then its variables in order of first use;
  values that layers deeper or further along need are passed by lowest common ancestor.
- No constant is external and no variable is inline: a variable is an initializer of the main graph.
- The body of a loop or branch is a graph inside its node, in both forms, and uses outer values by name; for
  the function around it they are inputs like any other. Names are unique across a graph and its bodies.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from interop.graph.interfaces import interfaces
from interop.graph.invocations import described
from interop.graph.opsets import IR_VERSIONS
from interop.graph.prune import undone, used_nodes
from interop.graph.record import Body, Node, Recording, Scope, Value
from interop.graph.typecodes import onnx_type_code

FUNCTION_DOMAIN = "interop.layers"

# Other domains in use: the standard one of classical models, in the version that every supported opset of ONNX
# knows, and ONNX Runtime's own.
DOMAIN_VERSIONS = {"ai.onnx.ml": 3, "com.microsoft": 1}

Contents = Callable[[Value], Any]  # variable -> ir tensor (external or in memory)


@dataclass(slots=True)
class LayerCalls:
    """The functions and call nodes of one layer path, in order of first call; how each call is made."""

    functions: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    invocations: list[dict[str, Any]] = field(default_factory=list)


class _Names:
    """Unique names within one graph or function."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        name = wanted
        while name in self._taken:
            self._next[wanted] = self._next.get(wanted, 0) + 1
            name = f"{wanted}_{self._next[wanted]}"
        self._taken.add(name)
        return name


def _type(dtype: str) -> Any:
    return ir.TensorType(data_type(dtype))


def data_type(dtype: str) -> Any:
    """The onnx-ir data type of a NumPy or ml_dtypes name."""
    return ir.DataType(onnx_type_code(dtype))


def _tensor(array: np.ndarray[Any, Any]) -> Any:
    """The contents of a constant; strings are encoded as ONNX wants them."""
    if array.dtype.kind != "U":
        return ir.Tensor(array)
    encoded = np.asarray([text.encode() for text in array.ravel().tolist()], object)
    return ir.StringTensor(encoded.reshape(array.shape), shape=ir.Shape(array.shape))


def _opset_imports(opset: int, domains: set[str], *, functions: bool) -> dict[str, int]:
    """Versions of the domains in use."""
    imports = {"": opset} | {domain: v for domain, v in DOMAIN_VERSIONS.items() if domain in domains}
    return imports | ({FUNCTION_DOMAIN: 1} if functions else {})


def _attributes(attributes: dict[str, Any]) -> list[Any]:
    made = []
    for name, value in attributes.items():
        if isinstance(value, np.ndarray):
            made.append(ir.AttrTensor(name, _tensor(value)))
        elif isinstance(value, bool):
            made.append(ir.AttrInt64(name, int(value)))
        elif isinstance(value, int):
            made.append(ir.AttrInt64(name, value))
        elif isinstance(value, float):
            made.append(ir.AttrFloat32(name, value))
        elif isinstance(value, str):
            made.append(ir.AttrString(name, value))
        elif value and all(isinstance(item, str) for item in value):
            made.append(ir.AttrStrings(name, list(value)))
        elif value and any(isinstance(item, float) for item in value):
            made.append(ir.AttrFloat32s(name, [float(item) for item in value]))
        else:
            made.append(ir.AttrInt64s(name, [int(item) for item in value]))
    return made


def _constant_key(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return ("constant", array.dtype.name, array.shape, array.tobytes())


def attribute_key(value: Any) -> Any:
    """A hashable form of an attribute."""
    if isinstance(value, np.ndarray):
        return _constant_key(value)
    return tuple(value) if isinstance(value, list | tuple) else value


class _Writer:
    """Writes the nodes of one graph or function body, or of the body of a loop or branch inside ``outer``.

    Attributes:
        values: what each recorded value became, outer values included.
        nodes: the nodes written.
        domains: operator domains used so far, in bodies too.

    ``shape_of`` says what the results of nodes tell about their shapes; ``same`` which values to use for others.
    """

    def __init__(
        self,
        names: _Names,
        label: Callable[[Node], str],
        write: Callable[[Scope, _Writer], None],
        outer: _Writer | None = None,
        shape_of: Callable[[Value], Any] = lambda value: None,
        same: Mapping[Value, Value] | None = None,
    ) -> None:
        self.values: Any = ChainMap({}, outer.values) if outer else {}
        self.nodes: list[Any] = []
        self.domains: set[str] = outer.domains if outer else set()
        self._constants: Any = ChainMap({}, outer._constants) if outer else {}
        self._names = names
        self._label = label
        self._write = write
        self._shape_of = shape_of
        self._same = same or {}

    def bind(self, value: Value, name: str, *, shape: Any = None) -> Any:
        made = ir.Value(name=self._names.unique(name), type=_type(value.dtype), shape=shape)
        self.values[value] = made
        return made

    def use(self, value: Value | None) -> Any:
        if value is None:
            return None
        if value.kind == "constant":
            return self._constant(value)
        return self.values[self._same.get(value, value)]

    def _constant(self, value: Value) -> Any:
        assert value.array is not None
        key = _constant_key(value.array)
        made = self._constants.get(key)
        if made is None:
            node = ir.Node("", "Constant", [], [ir.AttrTensor("value", _tensor(value.array))])
            made = node.outputs[0]
            made.name = self._names.unique(value.name or "constant")
            made.type = _type(value.dtype)
            node.name = made.name
            self.nodes.append(node)
            self._constants[key] = made
        return made

    def node(self, node: Node) -> None:
        label = self._names.unique(self._label(node))
        self.domains.add(node.domain)
        bodies = [
            ir.AttrGraph(name, self._body(body, f"{label}.{name}")) for name, body in node.bodies.items()
        ]
        made = ir.Node(
            node.domain,
            node.op_type,
            [self.use(value) for value in node.inputs],
            [*_attributes(node.attributes), *bodies],
            num_outputs=len(node.outputs),
            name=label,
        )
        for index, (value, output) in enumerate(zip(node.outputs, made.outputs, strict=True)):
            output.name = label if index == 0 else self._names.unique(f"{label}.{index}")
            output.type = _type(value.dtype)
            output.shape = self._shape_of(value)
            self.values[value] = output
        self.nodes.append(made)

    def _body(self, body: Body, label: str) -> Any:
        inner = _Writer(self._names, self._label, self._write, self, self._shape_of, self._same)
        inputs = [inner.bind(value, f"{label}.input", shape=_rank(value)) for value in body.inputs]
        self._write(body.scope, inner)
        inside = {output for node in inner.nodes for output in node.outputs}
        outputs = []
        for value in body.outputs:
            made = inner.use(value)
            if value.kind == "constant" or made not in inside:  # outer values, inputs, and one value twice
                node = ir.Node("", "Identity", [made])
                node.name = self._names.unique(f"{label}.identity")
                made = node.outputs[0]
                made.name, made.type = node.name, _type(value.dtype)
                inner.nodes.append(node)
            inside.discard(made)
            made.shape = _rank(value)
            outputs.append(made)
        return ir.Graph(inputs, outputs, nodes=inner.nodes, name=self._names.unique(label))

    def call(self, name: str, function: str, inputs: list[Value], outputs: list[Value]) -> None:
        made = ir.Node(
            FUNCTION_DOMAIN,
            function,
            [self.use(value) for value in inputs],
            num_outputs=len(outputs),
            name=name,
        )
        for index, (value, output) in enumerate(zip(outputs, made.outputs, strict=True)):
            output.name = self._names.unique(name if len(outputs) == 1 else f"{name}.{index}")
            output.type = _type(value.dtype)
            self.values[value] = output
        self.nodes.append(made)


class _Functions:
    """Distinct function bodies and the layers that call them."""

    def __init__(self, recording: Recording) -> None:
        self._interfaces = interfaces(recording)
        self._names = _Names()
        self._by_body: dict[Any, str] = {}
        self._opset = recording.opset
        self.functions: list[Any] = []
        self.domains: set[str] = set()
        self.layers: dict[str, LayerCalls] = {}
        self.signature: dict[Scope, tuple[str, list[Value], list[Value]]] = {}

    def define(self, root: Scope) -> None:
        """Define the function of every scope below ``root``, callees first."""
        for scope in reversed(list(root.walk())):
            if scope is not root and not scope.is_body and self._interfaces[scope].outputs:
                self._define(scope)
        for scope in self.signature_order(root):
            calls = self.layers.setdefault(scope.path, LayerCalls())
            name = self.signature[scope][0]
            if name not in calls.functions:
                calls.functions.append(name)
            calls.calls.append(scope.call_name)

    def describe_calls(self, recording: Recording) -> None:
        """Say of every layer, and of the model itself, how it is called."""
        numbers: dict[Scope, int] = {}
        counts: dict[str, int] = {}
        for scope in self.signature_order(recording.root):
            numbers[scope] = counts[scope.path] = counts.get(scope.path, -1) + 1

        def inner(scope: Scope) -> list[tuple[str, int]]:
            items = [item for item in scope.items if isinstance(item, Scope) and item in self.signature]
            return [(item.path, numbers[item]) for item in items]

        for scope in numbers:
            name, inputs, outputs = self.signature[scope]
            entry = described(scope.invocation, name, inputs, outputs, inner(scope))
            self.layers[scope.path].invocations.append(entry)
        root = recording.root
        inputs = [*recording.inputs, *recording.variables.values()]
        outputs = [value for _, value in recording.outputs]
        whole = self.layers.setdefault("", LayerCalls())
        whole.invocations.insert(0, described(root.invocation, None, inputs, outputs, inner(root)))

    def signature_order(self, root: Scope) -> list[Scope]:
        """The calls in execution order."""
        return [scope for scope in root.walk() if scope in self.signature]

    def _define(self, scope: Scope) -> None:
        outputs = list(self._interfaces[scope].outputs)
        inputs = self._ordered_inputs(scope)
        body = self._body_key(scope, inputs, outputs)
        name = self._by_body.get(body)
        if name is None:
            name = self._names.unique(scope.label)
            self._by_body[body] = name
            self.functions.append(self._build(scope, name, inputs, outputs))
        self.signature[scope] = (name, inputs, outputs)

    def _ordered_inputs(self, scope: Scope) -> list[Value]:
        used: dict[Value, None] = {}
        for item in scope.items:
            if isinstance(item, Scope):
                if item in self.signature:
                    used.update(dict.fromkeys(self.signature[item][1]))
            else:
                used.update(dict.fromkeys(value for value in item.inputs if value is not None))
                for body in item.bodies.values():
                    used.update(self._interfaces[body.scope].inputs)
        outside = self._interfaces[scope].inputs
        # A value can pass through only to leave again (a layer that returns its captured input).
        ordered = [value for value in used if value in outside]
        ordered += [value for value in self._interfaces[scope].outputs if value in outside]
        ordered = list(dict.fromkeys(ordered))
        return sorted(ordered, key=lambda value: value.kind == "variable")

    def _body_key(self, scope: Scope, inputs: list[Value], outputs: list[Value]) -> Any:
        index: dict[Value, int] = {value: i for i, value in enumerate(inputs)}

        def name(value: Value | None) -> Any:
            if value is None:
                return None
            if value.kind == "constant":
                assert value.array is not None
                return _constant_key(value.array)
            return index[value]

        def steps(scope: Scope) -> tuple[Any, ...]:
            made: list[Any] = []
            for item in scope.items:
                if isinstance(item, Scope):
                    if item not in self.signature:
                        continue
                    function, taken, given = self.signature[item]
                    made.append((function, tuple(name(value) for value in taken)))
                else:
                    given = list(item.outputs)
                    attributes = tuple(sorted((k, attribute_key(v)) for k, v in item.attributes.items()))
                    taken_names = tuple(name(value) for value in item.inputs)
                    bodies = tuple((key, inside(body)) for key, body in item.bodies.items())
                    made.append((item.domain, item.op_type, taken_names, len(given), attributes, bodies))
                for value in given:
                    index[value] = len(index)
            return tuple(made)

        def inside(body: Body) -> tuple[Any, ...]:
            for value in body.inputs:
                index[value] = len(index)
            given = tuple((value.dtype, len(value.shape or ())) for value in (*body.inputs, *body.outputs))
            return given, steps(body.scope), tuple(name(value) for value in body.outputs)

        return scope.label, len(inputs), steps(scope), tuple(index[value] for value in outputs)

    def _build(self, scope: Scope, name: str, inputs: list[Value], outputs: list[Value]) -> Any:
        writer = _Writer(_Names(), lambda node: node.op_type.lower(), self.write)
        for value in inputs:
            writer.bind(value, value.name.rsplit("/", 1)[-1] if value.kind == "variable" else "input")
        self.write(scope, writer)
        self.domains |= writer.domains
        graph = ir.Graph(
            [writer.values[value] for value in inputs],
            [writer.values[value] for value in outputs],
            nodes=writer.nodes,
            opset_imports=_opset_imports(self._opset, writer.domains, functions=True),
        )
        return ir.Function(FUNCTION_DOMAIN, name, graph=graph, attributes=[])

    def write(self, scope: Scope, writer: _Writer) -> None:
        """Write a scope's own nodes and its calls."""
        for item in scope.items:
            if isinstance(item, Node):
                writer.node(item)
            elif item in self.signature:
                function, inputs, outputs = self.signature[item]
                writer.call(item.call_name, function, inputs, outputs)


def _rank(value: Value) -> Any:
    """What a body says about a shape: runtimes want the rank; sizes differ between calls of one function."""
    return None if value.shape is None else ir.Shape([None] * value.rank)


def _known_sizes(value: Value) -> Any:
    """What passes want to know about a result: its rank, and the sizes that are numbers."""
    if value.shape is None:
        return None
    return ir.Shape([dim if type(dim) is int else None for dim in value.shape])


def _shape(value: Value) -> Any:
    return ir.Shape([dim if type(dim) is int else str(dim) for dim in value.dims])


def _finish(recording: Recording, writer: _Writer, functions: list[Any], contents: Contents) -> Any:
    """Outputs, initializers and metadata around the written nodes; ``writer`` knows every domain in use."""
    outputs = []
    renamed: set[Value] = set()
    for name, value in recording.outputs:
        made = None if value.kind == "constant" else writer.values[value]
        if made is None or value.kind != "result" or value in renamed:
            node = ir.Node("", "Identity", [writer.use(value)], name=f"{name}#identity")
            made = node.outputs[0]
            writer.nodes.append(node)
        renamed.add(value)
        made.name = name
        made.type = _type(value.dtype)
        made.shape = _shape(value)
        outputs.append(made)
    initializers = []
    for value in recording.variables.values():
        made = writer.values[value]
        made.const_value = contents(value)
        initializers.append(made)
    opset_imports = _opset_imports(recording.opset, writer.domains, functions=bool(functions))
    graph = ir.Graph(
        [writer.values[value] for value in recording.inputs],
        outputs,
        nodes=writer.nodes,
        initializers=initializers,
        opset_imports=opset_imports,
        name="model",
    )
    return ir.Model(
        graph, ir_version=IR_VERSIONS[recording.opset], producer_name="interop", functions=functions
    )


def _bind_root(recording: Recording, writer: _Writer) -> None:
    for value in recording.inputs:
        writer.bind(value, value.name, shape=_shape(value))
    for value in recording.variables.values():
        writer.bind(value, value.name, shape=_shape(value))


def assemble(recording: Recording, contents: Contents) -> tuple[Any, dict[str, LayerCalls]]:
    """The model with one local function per distinct layer body.

    Args:
        recording: the recorded graph.
        contents: gives each variable's tensor; it must have the variable's key as its name.

    Returns:
        The ``ir.Model`` and, by layer path, the functions and call nodes.
    """
    functions = _Functions(recording)
    functions.define(recording.root)
    writer = _Writer(_Names(_reserved(recording)), lambda node: node.op_type.lower(), functions.write)
    writer.domains |= functions.domains
    _bind_root(recording, writer)
    functions.write(recording.root, writer)
    functions.describe_calls(recording)
    return _finish(recording, writer, functions.functions, contents), functions.layers


def assemble_flat(recording: Recording, contents: Contents) -> Any:
    """The model without functions; node and value names start with the layer's object path.

    Transposes between layers that undo each other are not written; `with_few_transposes` finds those farther apart.
    """
    same = undone(recording)
    used = used_nodes(recording, same)

    def write(scope: Scope, writer: _Writer) -> None:
        for node in scope.nodes():
            if id(node) in used:
                writer.node(node)

    writer = _Writer(
        _Names(_reserved(recording)),
        lambda node: f"{node.scope.path}/{node.op_type.lower()}" if node.scope.path else node.op_type.lower(),
        write,
        shape_of=_known_sizes,
        same=same,
    )
    _bind_root(recording, writer)
    write(recording.root, writer)
    return _finish(recording, writer, [], contents)


def _reserved(recording: Recording) -> set[str]:
    """Output names, kept free for the outputs themselves."""
    taken = {value.name for value in recording.inputs} | set(recording.variables)
    return {name for name, _ in recording.outputs} - taken
