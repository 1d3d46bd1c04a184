"""What a trace leaves behind: nodes in order, each in the scope of the layer call that made it.

Invariants:
- Nodes are appended in execution order, so every input of a node was recorded before it.
- A constant belongs to no scope: it is written where it is used.
- Graph inputs and variables belong to the root scope.
- Nothing here is ONNX protobuf; ``assemble`` turns a recording into a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

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
    """

    __slots__ = ("array", "dtype", "kind", "name", "origin", "scope", "shape")

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


@dataclass(slots=True, eq=False)
class Scope:
    """One call of one layer; the root scope is the graph itself.

    Attributes:
        path: the layer's object path ("" for the root).
        label: the layer's class name, from which the function gets its name.
        call: how many calls of this layer came before.
        witnesses: values known to be at hand here (the call's own inputs), where sizes are read from.
    """

    path: str
    label: str
    parent: Scope | None
    call: int = 0
    depth: int = 0
    items: list[Node | Scope] = field(default_factory=list)
    witnesses: list[Value] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)

    @property
    def call_name(self) -> str:
        """The name of this call's node: ``<object path>#<n>``."""
        return f"{self.path}#{self.call}"

    def walk(self) -> Iterator[Scope]:
        """This scope and every scope below it, in execution order."""
        stack = [self]
        while stack:
            scope = stack.pop()
            yield scope
            stack.extend(item for item in reversed(scope.items) if isinstance(item, Scope))

    def nodes(self) -> Iterator[Node]:
        """Every node in execution order."""
        stack: list[Node | Scope] = [self]
        while stack:
            item = stack.pop()
            if isinstance(item, Scope):
                stack.extend(reversed(item.items))
            else:
                yield item


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
    ) -> tuple[Value, ...]:
        """Append a node; ``outputs`` are (dtype, shape) pairs."""
        results = tuple(Value("result", dtype, shape, scope=self.scope) for dtype, shape in outputs)
        self.scope.items.append(Node(op_type, domain, tuple(inputs), results, attributes, self.scope))
        return results

    def finish(self, outputs: list[tuple[str, Value]]) -> Recording:
        return Recording(self.opset, self.root, self.inputs, outputs, self.variables)
