"""Sums of products in one form: each product by itself, then the biases; parts of sums as sums of parts.

Enters: a flat ``ir.Model`` with shapes. Leaves: the same model, changed: every gate of a step is a sum of its own,
whichever way it was written.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from interop.transfer.arithmetic import (
    Rewriting,
    Rule,
    arranged,
    made_by,
    one_of_joined,
    put_for,
    static_shape,
)
from interop.transfer.loops.outside import Outside
from interop.transfer.nodes import computed, constant
from interop.transfer.values import Constant

_MOST_ELEMENTS = 2**20
_MOVES = ("Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Cast")


def gates_apart(model: Any, parameters: Container[str]) -> Any:
    """Put a sum for each part in the place of a sum that is split; the model is changed.

    Args:
        model: a flat ``ir.Model``; sizes are fixed.
        parameters: names of the initializers that are.
    """
    _known_beforehand(model.graph, parameters)
    for node in list(model.graph):
        if node.op_type == "Split":
            _cut(model.graph, node)
    rules = (one_of_joined, _mixture, bias_apart, of_joined, _of_nothing, _part_of_sum, _biases_last)
    return _by(rules, model, parameters)


def each_by_itself(model: Any, parameters: Container[str]) -> Any:
    """Put products of each tensor in the place of one of several that are joined; the model is changed."""
    return _by((bias_apart, of_joined, _biases_last), model, parameters)


def _by(rules: Sequence[Rule], model: Any, parameters: Container[str]) -> Any:
    from onnx_ir.passes.common import ShapeInferencePass

    for rule in rules:
        arranged(model, parameters, (rule,))
        ShapeInferencePass(check_type=False)(model)
    return model


def sliced(outside: Any, value: Any, start: int, stop: int, axis: int = -1) -> Any:
    """A part of a value, along one axis."""
    return outside("Slice", value, *(outside.constant(np.array([n], np.int64)) for n in (start, stop, axis)))


def _known_beforehand(graph: Any, parameters: Container[str]) -> None:
    """What depends on neither inputs nor parameters, such as a first state that is made of sizes, as constants."""
    for node in list(graph):
        (old, *others), inputs = node.outputs, [value for value in node.inputs if value is not None]
        shape = static_shape(old)
        known = [None if value.name in parameters else constant(value) for value in inputs]
        whole = all(array is not None for array in known) or (
            node.op_type == "Shape" and static_shape(inputs[0]) is not None
        )
        if (
            others
            or not inputs
            or len(inputs) < len(node.inputs)
            or not whole
            or math.prod(shape or ()) > _MOST_ELEMENTS
        ):
            continue
        if node.op_type == "Shape":
            known = [np.broadcast_to(np.zeros((), np.int8), static_shape(inputs[0]) or ())]
        (array,) = computed(node, [Constant(one) for one in known if one is not None])
        if not old.is_graph_output():
            old.replace_all_uses_with(Outside(graph, node).constant(array))


def _cut(graph: Any, node: Any) -> None:
    """A split as slices."""
    outside = Outside(graph, node)
    axis = node.attributes.get_int("axis", 0)
    sizes = [static_shape(value) for value in node.outputs]
    if any(shape is None for shape in sizes):
        return
    start = 0
    for old, shape in zip(list(node.outputs), sizes, strict=True):
        assert shape is not None
        new = sliced(outside, node.inputs[0], start, start + shape[axis], axis)
        start += shape[axis]
        put_for(old, new)
    graph.remove(node, safe=True)


def _mixture(new: Rewriting) -> Any:
    """``(h - n) z + n``: ``(1 - z) n + z h``."""
    if new.node.op_type != "Add":
        return None
    for product, content in (new.node.inputs, new.node.inputs[::-1]):
        factors = made_by(product, "Mul")
        for apart, update in (factors.inputs, factors.inputs[::-1]) if factors is not None else ():
            made = made_by(apart, "Sub")
            if made is not None and made.inputs[1] is content and new.flows(update):
                one = new.constant(np.ones((), content.dtype.numpy()))
                rest = new("Mul", new("Sub", one, update), content)
                return new("Add", rest, new("Mul", update, made.inputs[0]))
    return None


def _of_nothing(new: Rewriting) -> Any:
    """Zeros times a matrix are zeros, and to add zeros is to do nothing."""
    node, shape = new.node, static_shape(new.node.outputs[0])
    if shape is None or node.op_type not in ("MatMul", "Add"):
        return None
    known = [None if new.is_weight(value) else constant(value) for value in node.inputs]
    zeros = [array is not None and not array.any() for array in known]
    if node.op_type == "MatMul":
        return new.constant(np.zeros(shape, node.inputs[0].dtype.numpy())) if zeros[0] else None
    for value, nothing in zip(node.inputs, reversed(zeros), strict=True):
        if nothing and static_shape(value) == shape:
            return new("Identity", value)
    return None


def bias_apart(new: Rewriting) -> Any:
    """A product and its bias."""
    node = new.node
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    turned = node.attributes.get_int("transA", 0)
    if node.op_type != "Gemm" or len(node.inputs) < 3 or node.inputs[2] is None or not plain or turned:
        return None
    matrix = node.inputs[1]
    if node.attributes.get_int("transB", 0):
        matrix = new("Transpose", matrix, perm=[1, 0])
    return new("Add", new("MatMul", node.inputs[0], matrix), node.inputs[2])


def of_joined(new: Rewriting) -> Any:
    """Tensors beside each other times a matrix, or through a convolution: each by itself, added up."""
    node = new.node
    joined = made_by(node.inputs[0], "Concat") if node.op_type in ("MatMul", "Conv") else None
    if joined is None:
        return None
    shapes = [static_shape(value) for value in joined.inputs]
    if None in shapes or not new.is_weight(node.inputs[1]) or not new.flows(node.inputs[0]):
        return None
    rank = len(shapes[0] or ())
    axis = joined.attributes.get_int("axis", 0) % rank
    is_conv = node.op_type == "Conv"
    if axis != (1 if is_conv else rank - 1) or (is_conv and node.attributes.get_int("group", 1) != 1):
        return None
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    made, start = None, 0
    for value, shape in zip(joined.inputs, shapes, strict=True):
        stop = start + (shape or ())[axis]
        weight = sliced(new, node.inputs[1], start, stop, 1 if is_conv else -2)
        one = new(node.op_type, value, weight, **attributes)
        made, start = one if made is None else new("Add", made, one), stop
    if is_conv and len(node.inputs) > 2 and node.inputs[2] is not None:
        made = new("Add", made, new("Unsqueeze", node.inputs[2], new.ints(range(1, rank - 1))))
    return made


def _part_of_sum(new: Rewriting) -> Any:
    """Some features of a sum: the sum of those features."""
    node = new.node
    numbers = [constant(value) for value in node.inputs[1:]] if node.op_type == "Slice" else []
    if len(numbers) < 3 or any(array is None or array.size != 1 for array in numbers):
        return None
    if made_by(node.inputs[0], "Add") is None:
        return None
    return _part(new, node.inputs[0], [int(array.reshape(())) for array in numbers])


def _part(new: Rewriting, value: Any, numbers: list[int]) -> Any:
    """A slice (start, stop, axis, step) of a value, taken before what is added."""
    start, stop, axis, *step = numbers
    made, shape = made_by(value, "Add"), static_shape(value)
    if made is None or shape is None or not new.flows(value):
        return new("Slice", value, *(new.ints([number]) for number in (start, stop, axis, *step)))
    back = axis % len(shape) - len(shape)
    parts = []
    for summand in made.inputs:
        sizes = static_shape(summand)
        if sizes is None or len(sizes) < -back or sizes[back] == 1:
            parts.append(summand)
        else:
            parts.append(_part(new, summand, [start, stop, back, *step]))
    return new("Add", *parts)


def _biases_last(new: Rewriting) -> Any:
    """A sum of two products, each with its bias: the products, and then the biases."""
    if new.node.op_type != "Add":
        return None
    sides = [_with_bias(new, value) for value in new.node.inputs]
    if any(side is None for side in sides) or all(side[1] is None for side in sides):  # type: ignore[index]
        return None
    (one, first), (other, second) = sides  # type: ignore[misc]
    biases = [bias for bias in (first, second) if bias is not None]
    return new("Add", new("Add", one, other), biases[0] if len(biases) == 1 else new("Add", *biases))


def _with_bias(new: Rewriting, value: Any) -> tuple[Any, Any] | None:
    """A product, and what is added to it alone; None if a value is something else."""
    if _is_product(new, value):
        return value, None
    made = made_by(value, "Add")
    if made is None or len(value.uses()) > 1:
        return None
    for product, bias in (made.inputs, made.inputs[::-1]):
        if _is_product(new, product) and new.is_weight(bias):
            return product, bias
    return None


def _is_product(new: Rewriting, value: Any) -> bool:
    while (node := value.producer()) is not None and node.op_type in _MOVES:
        value = node.inputs[0]
    return node is not None and node.op_type == "MatMul" and new.flows(value)
