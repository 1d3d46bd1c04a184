"""What one step of a loop computes, read backwards from what it makes: products, sums and activations of sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.transfer.loops.forms import Loop, NoMatch, State, plain
from interop.transfer.loops.outside import Outside
from interop.transfer.nodes import constant

ACTIVATIONS = ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")


@dataclass(frozen=True)
class Part:
    """A summand of a gate: ``of`` times a matrix, or a bias where ``of`` is None; a value outside the loop."""

    of: Any
    value: Any


@dataclass(frozen=True)
class Gate:
    """An activation of a sum."""

    activation: str
    parts: tuple[Part, ...]


class Step:
    """The body of a loop, read backwards from what it makes."""

    def __init__(self, loop: Loop, outside: Outside) -> None:
        self.loop, self.outside = loop, outside
        self._body = loop.node.attributes["body"].value
        self._fixed = dict(loop.outside)
        self.inner = {state.inside: state for state in loop.states}
        self.sequence = next(iter(loop.elements.values()))

    def fixed(self, value: Any) -> Any:
        """The value outside of one that no step changes; None if a step does."""
        if value in self._fixed:
            return self._fixed[value]
        if value in self.inner or value in self.loop.elements or value in set(self._body.inputs):
            return None
        node = value.producer()
        if node is None or node.graph is not self._body:
            if node is None and value.const_value is not None and value.graph is self._body:
                self._fixed[value] = self.outside.constant(value.const_value.numpy())
                return self._fixed[value]
            return value
        inputs = [None if given is None else self.fixed(given) for given in node.inputs]
        if any(made is None and given is not None for made, given in zip(inputs, node.inputs, strict=True)):
            return None
        self._fixed.update(zip(node.outputs, self.outside.copy(node, inputs), strict=True))
        return self._fixed[value]

    def of(self, value: Any, *op_types: str) -> Any:
        """The node of one of these kinds that makes a value, or None."""
        node = plain(value).producer()
        found = node is not None and node.graph is self._body and node.op_type in op_types
        return node if found else None

    def gate(self, value: Any) -> Gate | None:
        """The activation of a sum of products that a value is."""
        node = self.of(value, *ACTIVATIONS)
        parts = None if node is None else self.sum(node.inputs[0])
        return None if parts is None else Gate(node.op_type, tuple(parts))

    def sum(self, value: Any) -> list[Part] | None:
        """The products and biases that a value is the sum of."""
        value = plain(value)
        fixed = self.fixed(value)
        if fixed is not None:
            return [Part(None, fixed)]
        if (node := self.of(value, "Add")) is not None:
            return both(*(self.sum(given) for given in node.inputs))
        if (node := self.of(value, "MatMul", "Gemm")) is not None:
            return self._product(node)
        if (node := self.of(value, "Split", "Slice")) is not None and (
            cut := self._cut(node, value)
        ) is not None:
            parts = self.sum(node.inputs[0])
            return parts and [Part(part.of, cut(part.value)) for part in parts]
        return None

    def _product(self, node: Any) -> list[Part] | None:
        matrix = self.fixed(node.inputs[1])
        if matrix is None or node.attributes.get_int("transA", 0):
            return None
        if node.attributes.get_float("alpha", 1.0) != 1.0:
            return None
        if node.attributes.get_int("transB", 0):
            matrix = self.outside("Transpose", matrix, perm=[1, 0])
        parts = self._factors(node.inputs[0], matrix)
        beta = node.attributes.get_float("beta", 1.0)
        if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None and beta:
            return both(parts, self.sum(node.inputs[2]) if beta == 1.0 else None)
        return parts

    def _factors(self, value: Any, matrix: Any) -> list[Part] | None:
        """The element, the state, or one beside the other, times a matrix."""
        value = plain(value)
        if value in self.inner or value in self.loop.elements:
            return [Part(value, matrix)]
        node = self.of(value, "Concat")
        if node is None or matrix.shape is None:
            return None
        parts: list[Part] = []
        sizes = [self._width(given) for given in node.inputs]
        start = 0
        for given, size in zip(node.inputs, sizes, strict=True):
            if size is None:
                return None
            rows = self._sliced(matrix, 0, start, start + size)
            parts += self._factors(given, rows) or [Part(None, None)]
            start += size
        return None if any(part.value is None for part in parts) else parts

    def _width(self, value: Any) -> int | None:
        value = plain(value)
        whole = self.inner[value].first if value in self.inner else self.loop.elements.get(value)
        size = None if whole is None or whole.shape is None else whole.shape[-1]
        return size if isinstance(size, int) else None

    def _cut(self, node: Any, value: Any) -> Callable[[Any], Any] | None:
        """What takes those columns of a matrix or bias that a node takes of a flow."""
        from interop.transfer.movement import movement

        arguments = [None if given is None else constant(self.fixed(given)) for given in node.inputs[1:]]
        if any(array is None for array in arguments):
            return None
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        move = movement(node.op_type, attributes, arguments)
        if move is None:
            return None
        index = next(k for k, output in enumerate(node.outputs) if output is value)

        def cut(whole: Any) -> Any:
            if whole.shape is None:
                raise NoMatch("a size is not known")
            rows = np.tile(np.arange(int(whole.shape[-1])), (2, 1))
            found = move(rows)[index]
            if len(found) != 2 or not found.size or np.any(np.diff(found[0]) != 1):
                raise NoMatch("a part is no range of columns")
            return self._sliced(whole, -1, int(found[0, 0]), int(found[0, -1]) + 1)

        return cut

    def _sliced(self, value: Any, axis: int, start: int, stop: int) -> Any:
        import onnx_ir as ir

        numbers = [self.outside.ints(number) for number in (start, stop, axis)]
        made = self.outside("Slice", value, *numbers)
        sizes = list(value.shape)
        sizes[axis] = stop - start
        made.shape = ir.Shape(sizes)
        return made

    def products(self, value: Any) -> Iterator[tuple[Any, Any]]:
        """The two factors of a product, in both orders."""
        node = self.of(value, "Mul")
        if node is not None:
            yield tuple(node.inputs)
            yield tuple(reversed(node.inputs))

    def summands(self, value: Any) -> Iterator[tuple[Any, Any]]:
        """The two summands of a sum, in both orders."""
        node = self.of(value, "Add")
        if node is not None:
            yield tuple(node.inputs)
            yield tuple(reversed(node.inputs))

    def is_state(self, value: Any, state: State) -> bool:
        return plain(value) is state.inside

    def without(self, value: Any, whole: Any) -> bool:
        """Whether a value is one minus another."""
        node = self.of(value, "Sub")
        if node is None or plain(node.inputs[1]) is not plain(whole):
            return False
        one = constant(self.fixed(node.inputs[0]))
        return one is not None and bool(np.all(one == 1))


def both(one: list[Part] | None, other: list[Part] | None) -> list[Part] | None:
    return None if one is None or other is None else one + other
