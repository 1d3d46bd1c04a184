"""What a trace leaves behind: nodes in order, each in the scope of the layer call that made it.

Invariants:
- Nodes are appended in execution order, so every input of a node was recorded before it.
- A constant belongs to no scope: it is written where it is used.
- Graph inputs and variables belong to the root scope.
- The body of a loop or branch is a scope of its own, kept on its node. It may use any value from outside
  as it is; nothing outside may use a value made inside but through the node's outputs.
- Nothing here is ONNX protobuf; ``assemble`` turns a recording into a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from interop.errors import CaptureError

Kind = Literal["input", "variable", "constant", "result"]
Dims = tuple[Any, ...]  # int or a symbolic int


class Value:
    """A tensor in the recording.

    Attributes:
        kind: where it comes from.
        dtype: element type by its NumPy or ml_dtypes name.
        shape: one int (or symbolic int) per axis; None where nobody needs to know.
        scope: the scope that produced it (None for constants).
        name: graph input's name, variable's key, or a hint.
        array: the contents of a constant.
        origin: the graph input this value is a mere view of (casts, reshapes), if any.
        producer: the node that computes it (None unless it is a result).
    """

    __slots__ = ("array", "dtype", "kind", "name", "origin", "producer", "scope", "shape")

    def __init__(
        self,
        kind: Kind,
        dtype: str,
        shape: Dims | None,
        *,
        scope: Scope | None = None,
        name: str = "",
        array: np.ndarray[Any, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.dtype = dtype
        self.shape = shape
        self.scope = scope
        self.name = name
        self.array = array
        self.origin: Value | None = self if kind == "input" else None
        self.producer: Node | None = None

    @property
    def dims(self) -> Dims:
        """The shape, which must be known here."""
        if self.shape is None:
            raise ValueError(f"the shape of {self!r} was not recorded")
        return self.shape

    @property
    def rank(self) -> int:
        return len(self.dims)

    def __repr__(self) -> str:
        return f"Value({self.kind}, {self.dtype}, {self.shape}, {self.name!r})"


@dataclass(slots=True)
class Node:
    """One ONNX operator applied to values."""

    op_type: str
    domain: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    attributes: dict[str, Any]
    scope: Scope
    bodies: dict[str, Body] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Body:
    """A graph attribute of a node: the body of a loop, or one branch.

    Attributes:
        scope: the nodes.
        inputs: what the node gives the body each time it runs.
        outputs: what the body gives the node; they may be inputs, or values from outside.
    """

    scope: Scope
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()


@dataclass(slots=True, eq=False)
class Invocation:
    """How a layer was called, for who has to call its function without having the layer's class.

    Leaves of the structures are values, plain Python values, None, or OPAQUE for anything else.

    Attributes:
        arguments: structures by the name of the parameter, those that Keras filled in included.
        results: the structure of the output.
        masks: by leaf of the results: the mask that goes with it, or None.
        whole: whether all results must stay, though the model may use some only.
        masked: whether an argument had a mask of Keras.
        adds_loss: whether the layer's own code called ``add_loss``, of which a graph knows nothing.
    """

    arguments: dict[str, Any]
    results: Any = None
    masks: list[Value | None] = field(default_factory=list)
    whole: bool = False
    masked: bool = False
    adds_loss: bool = False


OPAQUE: Any = object()
"""Stands in an ``Invocation`` for an argument that is neither a tensor nor a plain value."""


@dataclass(slots=True, eq=False)
class Scope:
    """One call of one layer, or the body of a loop or branch; the root scope is the graph itself.

    Attributes:
        path: the layer's object path ("" for the root); a body has that of the scope around it.
        label: the layer's class name, from which the function gets its name.
        call: how many calls of this layer came before.
        is_body: whether this is the body of a loop or branch.
        witnesses: values known to be at hand here (the call's own inputs), where sizes are read from.
        invocation: how the layer was called, where that was noted.
    """

    path: str
    label: str
    parent: Scope | None
    call: int = 0
    depth: int = 0
    is_body: bool = False
    items: list[Node | Scope] = field(default_factory=list)
    witnesses: list[Value] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)
    invocation: Invocation | None = None

    @property
    def call_name(self) -> str:
        """The name of this call's node: ``<object path>#<n>``."""
        return f"{self.path}#{self.call}"

    @property
    def region(self) -> Scope:
        """The innermost body around this scope, or the root: what its values can be used in."""
        scope = self
        while not scope.is_body and scope.parent is not None:
            scope = scope.parent
        return scope

    def walk(self) -> Iterator[Scope]:
        """This scope and every scope below it, bodies included, in execution order."""
        stack = [self]
        while stack:
            scope = stack.pop()
            yield scope
            below: list[Scope] = []
            for item in scope.items:
                if isinstance(item, Scope):
                    below.append(item)
                else:
                    below += [body.scope for body in item.bodies.values()]
            stack.extend(reversed(below))

    def nodes(self) -> Iterator[Node]:
        """Every node in execution order, those in bodies left out."""
        stack: list[Node | Scope] = [self]
        while stack:
            item = stack.pop()
            if isinstance(item, Scope):
                stack.extend(reversed(item.items))
            else:
                yield item

    def all_nodes(self) -> Iterator[Node]:
        """Every node in execution order, those in bodies before the node that holds the body."""
        for node in self.nodes():
            for body in node.bodies.values():
                yield from body.scope.all_nodes()
            yield node


@dataclass(slots=True)
class Recording:
    """A whole recorded graph.

    Attributes:
        opset: the ONNX opset the nodes are written in.
        inputs: graph inputs in order.
        outputs: (name, value) in order; a value may appear twice or be an input.
        variables: every variable used, by key, in order of first use.
    """

    opset: int
    root: Scope
    inputs: list[Value]
    outputs: list[tuple[str, Value]]
    variables: dict[str, Value]


class Recorder:
    """Appends nodes to the current scope."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.root = Scope("", "", None)
        self.scope = self.root
        self.inputs: list[Value] = []
        self.variables: dict[str, Value] = {}
        self._calls: dict[str, int] = {}

    @contextmanager
    def body(self, inputs: Sequence[tuple[str, Dims]]) -> Iterator[Body]:
        """Record the body of a loop or branch; ``inputs`` are the (dtype, shape) pairs it is given.

        Set the ``outputs`` of what this yields, and pass it on to ``node``.
        """
        outer = self.scope
        scope = Scope(outer.path, outer.label, outer, depth=outer.depth + 1, is_body=True)
        made = tuple(Value("result", dtype, shape, scope=scope) for dtype, shape in inputs)
        scope.witnesses.extend(made)
        self.scope = scope
        try:
            yield Body(scope, made)
        finally:
            self.scope = outer

    def open(self, path: str, label: str) -> Scope:
        """Enter a layer call."""
        call = self._calls.get(path, 0)
        self._calls[path] = call + 1
        scope = Scope(path, label, self.scope, call, self.scope.depth + 1)
        self.scope.items.append(scope)
        self.scope = scope
        return scope

    def close(self, scope: Scope) -> None:
        """Leave a layer call."""
        if scope.parent is None:
            raise ValueError("the root scope cannot be closed")
        self.scope = scope.parent

    def discard(self, scope: Scope) -> None:
        """Forget what was recorded in an open layer call, and the calls in it."""
        for inner in list(scope.walk()):
            if inner is not scope and not inner.is_body:
                self._calls[inner.path] -= 1
        scope.items.clear()
        self.scope = scope

    def input(self, name: str, dtype: str, shape: Dims) -> Value:
        value = Value("input", dtype, shape, scope=self.root, name=name)
        self.inputs.append(value)
        self.root.witnesses.append(value)
        return value

    def variable(self, key: str, dtype: str, shape: Dims) -> Value:
        value = self.variables.get(key)
        if value is None:
            value = Value("variable", dtype, shape, scope=self.root, name=key)
            self.variables[key] = value
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[tuple[str, Dims | None]],
        attributes: dict[str, Any],
        domain: str = "",
        bodies: Mapping[str, Body] | None = None,
    ) -> tuple[Value, ...]:
        """Append a node; ``outputs`` are (dtype, shape) pairs.

        Raises:
            CaptureError: an input was made in the body of a loop or branch that is over.
        """
        for value in inputs:
            if value is not None:
                self.check_in_reach(value)
        for body in (bodies or {}).values():
            for value in body.outputs:
                self.check_in_reach(value, body.scope)
        results = tuple(Value("result", dtype, shape, scope=self.scope) for dtype, shape in outputs)
        node = Node(op_type, domain, tuple(inputs), results, attributes, self.scope, dict(bodies or {}))
        for result in results:
            result.producer = node
        self.scope.items.append(node)
        return results

    def check_in_reach(self, value: Value, scope: Scope | None = None) -> None:
        """Refuse a value of a body that does not enclose ``scope`` (by default the current one)."""
        region = value.scope.region if value.scope is not None else self.root
        here: Scope | None = (scope or self.scope).region
        while here is not None and here is not region:
            here = here.parent.region if here.parent is not None else None
        if here is None:
            raise CaptureError(
                f"a tensor made inside the body of a loop or branch is used outside of it (in "
                f"{(scope or self.scope).path or 'the model'!r}). Return it from the body instead."
            )

    def finish(self, outputs: list[tuple[str, Value]]) -> Recording:
        """The recording, with its outputs.

        Raises:
            CaptureError: an output was made in the body of a loop or branch.
        """
        for _, value in outputs:
            self.check_in_reach(value, self.root)
        return Recording(self.opset, self.root, self.inputs, outputs, self.variables)
