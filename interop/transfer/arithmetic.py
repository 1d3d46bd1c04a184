"""One arrangement of arithmetic that exporters write in several.

Enters: a flat ``ir.Model``, and which of its initializers are parameters. Leaves: the same model, changed, so that each
use of a parameter is a node of its own, as a layer has it: a mean is subtracted, a factor multiplies, an offset is
added, a matrix is multiplied with.

Invariant: a rule puts nodes that compute the same in the place of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from interop.transfer.nodes import origin

_MOST_ELEMENTS = 2**20  # of what is joined


def arranged(model: Any, parameters: Container[str], rules: Sequence[Rule] = ()) -> Any:
    """Arrange the arithmetic of a model; it is changed.

    Args:
        model: a flat ``ir.Model``.
        parameters: names of the initializers that are.
        rules: each makes the value that a node is replaced by, or None; by default those of this file.
    """
    origins = _Origins(model.graph, parameters)
    for rule in rules or _RULES:
        for node in list(model.graph):
            value = rule(Rewriting(model.graph, node, origins))
            if value is not None:
                _replace(model.graph, node, value)
    for node in reversed(model.graph):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            model.graph.remove(node, safe=True)
    return model


def _replace(graph: Any, node: Any, value: Any) -> None:
    old = node.outputs[0]
    value.shape, value.type = old.shape, old.type
    put_for(old, value)
    graph.remove(node, safe=True)


def put_for(old: Any, new: Any) -> None:
    """Let a value be taken in the place of another; what the graph returns keeps its name."""
    if old.is_graph_output():
        new.name, old.name = old.name, new.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


class _Origins:
    """What values depend on: inputs of the graph, parameters alone, or neither."""

    def __init__(self, graph: Any, parameters: Container[str]) -> None:
        self.inputs: set[Any] = set(graph.inputs)
        self.parameters = {value for name, value in graph.initializers.items() if name in parameters}
        self.both: set[Any] = set()
        for node in graph:
            self.add(node)

    def add(self, node: Any) -> None:
        """Note what the results of a node depend on; of one with a body that is not looked at."""
        if any(value in self.inputs for value in node.inputs) or has_body(node):
            self.inputs.update(node.outputs)
            if any(value in self.both or value in self.parameters for value in node.inputs) or has_body(node):
                self.both.update(node.outputs)
        elif any(value in self.parameters for value in node.inputs):
            self.parameters.update(node.outputs)


class Rewriting:
    """A node that may be replaced, and the nodes that come before it then.

    Attributes:
        node: the node.
    """

    def __init__(self, graph: Any, node: Any, origins: _Origins) -> None:
        self.node = node
        self._graph, self._origins = graph, origins
        self._count = 0

    def __call__(self, op_type: str, *inputs: Any, **attributes: Any) -> Any:
        """The result of a new node."""
        import onnx_ir as ir

        made = ir.node(op_type, inputs, attributes)
        (value,) = made.outputs
        value.name = f"{self.node.outputs[0].name}/{op_type}{self._count or ''}"
        self._count += 1
        self._graph.insert_before(self.node, made)
        self._origins.add(made)
        return value

    def ints(self, numbers: Iterable[int]) -> Any:
        """A constant of integers."""
        return self.constant(np.array(list(numbers), np.int64))

    def constant(self, array: Any) -> Any:
        """A constant."""
        import onnx_ir as ir

        return self("Constant", value=ir.tensor(array))

    def flows(self, value: Any) -> bool:
        """Whether a value depends on the inputs."""
        return value in self._origins.inputs

    def is_given(self, value: Any) -> bool:
        """Whether a value depends on the inputs and on no parameter, as a mask does."""
        return value in self._origins.inputs and value not in self._origins.both

    def is_weight(self, value: Any) -> bool:
        """Whether a value depends on parameters and on no input."""
        return value in self._origins.parameters


def _slope(new: Rewriting) -> Any:
    """A leak with a slope for each feature: what is positive, and the slope times what is not."""
    if new.node.op_type != "PRelu":
        return None
    x, slope = new.node.inputs
    return new("Add", new("Relu", x), new("Neg", new("Mul", slope, new("Relu", new("Neg", x)))))


def _negative_factor(new: Rewriting) -> Any:
    """``-p x`` with parameters p: the sign of the product."""
    if new.node.op_type != "Mul":
        return None
    for negative, x in _both(new.node):
        made = made_by(negative, "Neg")
        if made is not None and new.is_weight(negative) and new.flows(x):
            return new("Neg", new("Mul", made.inputs[0], x))
    return None


def _mean_in_offset(new: Rewriting) -> Any:
    """``x m + (b - a m)``, or ``x m + (-a m + b)``: ``(x - a) m + b``."""
    if new.node.op_type != "Add":
        return None
    for product, rest in _both(new.node):
        if made_by(product, "Mul") is None:
            continue
        for negative, shifted, offset in _shifts(rest):
            for x, factor in _both(product.producer()):
                for mean, same in _both(shifted):
                    sign = mean.producer() if negative else None
                    if factor is not same or (negative and (sign is None or sign.op_type != "Neg")):
                        continue
                    centred = new("Sub", x, mean if sign is None else sign.inputs[0])
                    return new("Add", new("Mul", centred, factor), offset)
    return None


def _shifts(value: Any) -> Iterator[tuple[bool, Any, Any]]:
    """Ways to read a value as an offset less a product: whether a factor has the sign, the product, the offset."""
    if (node := made_by(value, "Sub")) is not None:
        offset, product = node.inputs
        if (made := made_by(product, "Mul")) is not None:
            yield False, made, offset
    elif (node := made_by(value, "Add")) is not None:
        for product, offset in _both(node):
            if (made := made_by(product, "Mul")) is not None:
                yield True, made, offset


def _inner_factor(new: Rewriting) -> Any:
    """``x (y p)`` with parameters p: ``(x y) p``."""
    for x, y, factor in _nested(new.node, "Mul"):
        if new.flows(x) and new.flows(y) and new.is_weight(factor):
            return new("Mul", new("Mul", x, y), factor)
    return None


def _offset_in_mask(new: Rewriting) -> Any:
    """``x + (m + p)`` with parameters p and a mask m: ``(x + p) + m``."""
    for x, mask, offset in _nested(new.node, "Add"):
        if new.flows(x) and not new.is_given(x) and new.is_given(mask) and new.is_weight(offset):
            return new("Add", new("Add", x, offset), mask)
    return None


def _nested(node: Any, op_type: str) -> Iterator[tuple[Any, Any, Any]]:
    """An operand and those of the other, where both nodes are of one operator, in every order."""
    if node.op_type != op_type:
        return
    for x, inner in _both(node):
        if (made := made_by(inner, op_type)) is not None:
            for one, other in _both(made):
                yield x, one, other


def _matrix_of_parts(new: Rewriting) -> Any:
    """A product with a matrix that is made of parameters: a product with each, one after the other.

    With a sum it is a sum, with a product of matrices two products, and what multiplies whole columns comes after.
    """
    node = new.node
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    x, matrix = node.inputs[:2]
    turned = bool(node.attributes.get_int("transB", 0))
    plain = node.attributes.get_int("transA", 0) == 0 and all(
        node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta")
    )
    if not plain or not new.flows(x) or not _has_parts(new, matrix, turned=turned):
        return None
    made = _times(new, x, matrix, turned=turned)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return made if bias is None else new("Add", made, bias)


def _has_parts(new: Rewriting, matrix: Any, *, turned: bool) -> bool:
    node = matrix.producer()
    if node is None or not new.is_weight(matrix) or _rank(matrix) != 2:
        return False
    if node.op_type in ("Add", "Sub"):
        return len({str(value.shape) for value in node.inputs}) == 1
    if node.op_type == "MatMul":
        return all(_rank(value) == 2 for value in node.inputs)
    if node.op_type == "Transpose":
        return _has_parts(new, node.inputs[0], turned=not turned)
    return _column_factor(node, turned=turned) is not None


def _column_factor(node: Any, *, turned: bool) -> tuple[Any, Any] | None:
    """The matrix and what multiplies, or divides, each of its columns; its rows, if it is turned."""
    if node.op_type not in ("Mul", "Div"):
        return None
    for matrix, factor in list(_both(node))[: 1 + (node.op_type == "Mul")]:
        shape = static_shape(factor)
        if shape is not None and _rank(matrix) == 2 and (1, 1, *shape)[-1 if turned else -2] == 1:
            return matrix, factor
    return None


def _times(new: Rewriting, x: Any, matrix: Any, *, turned: bool) -> Any:
    """``x`` times a matrix, or its transpose."""
    if not _has_parts(new, matrix, turned=turned):
        return new("MatMul", x, new("Transpose", matrix, perm=[1, 0]) if turned else matrix)
    node = matrix.producer()
    if node.op_type == "Transpose":
        return _times(new, x, node.inputs[0], turned=not turned)
    if node.op_type == "MatMul":
        for operand in reversed(node.inputs) if turned else node.inputs:
            x = _times(new, x, operand, turned=turned)
        return x
    if node.op_type in ("Add", "Sub"):
        return new(node.op_type, *(_times(new, x, operand, turned=turned) for operand in node.inputs))
    found = _column_factor(node, turned=turned)
    assert found is not None
    made, factor = _times(new, x, found[0], turned=turned), found[1]
    return new(
        node.op_type, made, new("Transpose", factor, perm=[1, 0]) if _rank(factor) == 2 and turned else factor
    )


def _kernel_factor(new: Rewriting) -> Any:
    """A convolution with a kernel times a factor for each filter: the factor comes after."""
    node = new.node
    if node.op_type != "Conv" or not new.is_weight(node.inputs[1]):
        return None
    made, perm = node.inputs[1].producer(), None
    if made is not None and made.op_type == "Transpose":
        made, perm = made.inputs[0].producer(), made.attributes.get_ints("perm")
    if made is None or made.op_type not in ("Mul", "Div"):
        return None
    for kernel, factor in list(_both(made))[: 1 + (made.op_type == "Mul")]:
        shape, rank = static_shape(factor), _rank(node.inputs[1])
        if shape is None or rank is None or _rank(kernel) != rank:
            continue
        shape = (1,) * (rank - len(shape)) + shape
        filters = 0 if perm is None else perm[0]
        if any(size != 1 for axis, size in enumerate(shape) if axis != filters):
            continue
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        kernel = kernel if perm is None else new("Transpose", kernel, perm=perm)
        value = new("Conv", node.inputs[0], kernel, **attributes)
        value = new(made.op_type, value, new("Reshape", factor, new.ints([1, -1] + [1] * (rank - 2))))
        if len(node.inputs) == 2:
            return value
        return new("Add", value, new("Unsqueeze", node.inputs[2], new.ints(range(1, rank - 1))))
    return None


def _chain(new: Rewriting) -> Any:
    """A sum over products of three tensors or more: of two, and then of that and the next."""
    if new.node.op_type != "Einsum" or len(new.node.inputs) < 3:
        return None
    left, _, result = new.node.attributes.get_string("equation").replace(" ", "").partition("->")
    letters = left.split(",")
    if "." in left or not result or any(len(set(word)) < len(word) for word in letters):
        return None
    value, have = new.node.inputs[0], letters[0]
    for index, (other, word) in enumerate(zip(new.node.inputs[1:], letters[1:], strict=True), start=2):
        wanted = set(result).union(*letters[index:])
        kept = [letter for letter in dict.fromkeys(have + word) if letter in wanted]
        after = result if index == len(letters) else "".join(kept)
        value, have = new("Einsum", value, other, equation=f"{have},{word}->{after}"), after
    return value


def one_of_joined(new: Rewriting) -> Any:
    """What takes one of several tensors that were joined, such as the state of one of several layers: that tensor."""
    made = new.node.outputs[0]
    shape = static_shape(made)
    if new.node.op_type not in ("Gather", "Slice") or shape is None or not new.flows(made):
        return None
    joined, moves = origin(made)
    node, whole = made_by(joined, "Concat"), static_shape(joined)
    parts = [] if node is None else [static_shape(value) for value in node.inputs]
    if node is None or whole is None or None in parts or math.prod(whole) > _MOST_ELEMENTS:
        return None
    numbers = np.arange(math.prod(whole)).reshape(whole)
    taken = numbers
    for move in moves:
        (taken,) = move(taken)
    axis, start = node.attributes.get_int("axis", 0) % len(whole), 0
    for value, sizes in zip(node.inputs, parts, strict=True):
        assert sizes is not None
        part = np.take(numbers, range(start, start + sizes[axis]), axis)
        if np.array_equal(part.reshape(-1), taken.reshape(-1)):
            return new("Reshape", value, new.ints(shape))
        start += sizes[axis]
    return None


Rule = Callable[[Rewriting], Any]
_RULES: tuple[Rule, ...] = (
    one_of_joined,
    _slope,
    _mean_in_offset,
    _negative_factor,
    _inner_factor,
    _offset_in_mask,
    _matrix_of_parts,
    _kernel_factor,
    _chain,
)


def has_body(node: Any) -> bool:
    """Whether a node has a graph inside."""
    import onnx_ir as ir

    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def static_shape(value: Any) -> tuple[int, ...] | None:
    """The sizes, if all are known."""
    return tuple(value.shape.numpy()) if value.shape is not None and value.shape.is_static() else None


def _rank(value: Any) -> int | None:
    return None if value.shape is None else len(value.shape)


def _both(node: Any) -> Iterator[tuple[Any, Any]]:
    one, other = node.inputs
    yield one, other
    yield other, one


def made_by(value: Any, op_type: str) -> Any:
    """The node that makes a value, if it is of this operator."""
    node = value.producer()
    return node if node is not None and node.op_type == op_type else None
