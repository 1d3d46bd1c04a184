"""Recurrent layers as their steps, and the sums of a step with each gate apart: as a loop in plain code has them.

Enters: a flat ``ir.Model`` with shapes. Leaves: the same model, changed: ``LSTM``, ``GRU`` and ``RNN`` of a few steps
are those steps, one after the other, and every gate is a sum of products and then of biases, whichever way it was
written.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html and onnx__RNN.html.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import numpy as np

from interop.transfer.arithmetic import Rewriting, arranged, made_by, one_of_joined, static_shape
from interop.transfer.loops.outside import Outside
from interop.transfer.nodes import computed, constant
from interop.transfer.values import Constant

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULT = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_PLAIN = ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")
_MOST_STEPS = 64
_MOST_ELEMENTS = 2**20
_MOVES = ("Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Cast")


def has_layers(model: Any) -> bool:
    """Whether there is a recurrent layer that steps can stand for."""
    return any(_is_known(node) for node in model.graph)


def stepped(model: Any, parameters: Container[str]) -> Any:
    """Put steps in the place of layers, and each gate's sum in one form; the model is changed.

    Args:
        model: a flat ``ir.Model``; sizes are fixed.
        parameters: names of the initializers that are.
    """
    from onnx_ir.passes.common import ShapeInferencePass

    for node in list(model.graph):
        if node.op_type in _GATES and _is_known(node):
            _unfolded(model.graph, node)
    _folded(model.graph, parameters)
    for node in list(model.graph):
        if node.op_type == "Split":
            _cut(model.graph, node)
    rules = (one_of_joined, _mixture, bias_apart, of_joined, _of_nothing, _part_of_sum, _biases_last)
    for rule in rules:
        arranged(model, parameters, (rule,))
        ShapeInferencePass(check_type=False)(model)
    return model


def each_by_itself(model: Any, parameters: Container[str]) -> Any:
    """Put products of each tensor in the place of one of several that are joined; the model is changed."""
    from onnx_ir.passes.common import ShapeInferencePass

    for rule in (bias_apart, of_joined, _biases_last):
        arranged(model, parameters, (rule,))
        ShapeInferencePass(check_type=False)(model)
    return model


def _is_known(node: Any) -> bool:
    """Whether a node is a layer of a fixed number of steps with nothing special about it."""
    if node.op_type not in _GATES:
        return False
    shape = static_shape(node.inputs[0])
    given = [*node.inputs, *[None] * (8 - len(node.inputs))]
    special = any(name in node.attributes for name in ("activation_alpha", "activation_beta", "clip"))
    special = special or any(node.attributes.get_int(name, 0) for name in ("layout", "input_forget"))
    activations = node.attributes.get_strings("activations", _DEFAULT[node.op_type])
    plain = given[4] is None and given[7] is None and not special
    return plain and shape is not None and shape[0] <= _MOST_STEPS and set(activations) <= set(_PLAIN)


def _unfolded(graph: Any, node: Any) -> None:
    """Put the steps of a layer in its place."""
    outside = Outside(graph, node)
    direction = node.attributes.get_string("direction", "forward")
    made = [
        _one_direction(outside, node, k, backward=direction == "reverse" or k == 1)
        for k in range(2 if direction == "bidirectional" else 1)
    ]
    results = [
        _joined(outside, [outside("Unsqueeze", one, outside.ints(axis)) for one in some], axis)
        for axis, some in zip((1, 0, 0), zip(*made, strict=True), strict=False)
    ]
    for old, new in zip(node.outputs, results, strict=False):
        if old.is_graph_output():
            new.name, old.name = old.name, f"{old.name}/layer"
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _one_direction(outside: Outside, node: Any, k: int, *, backward: bool) -> list[Any]:
    """The sequence (time, batch, unit) and the last states (batch, unit) of one direction."""
    sequence, *given = node.inputs
    count, batch, _ = (int(size) for size in sequence.shape)
    units = node.attributes.get_int("hidden_size", 0) or int(given[1].shape[-1])

    def own(value: Any) -> Any:
        return outside("Gather", value, outside.constant(np.array(k, np.int64)), axis=0)

    kernel, inner = (outside("Transpose", own(value), perm=[1, 0]) for value in given[:2])
    width = _GATES[node.op_type] * units
    biases = None
    if len(given) > 2 and given[2] is not None:
        whole = own(given[2])
        biases = [_sliced(outside, whole, 0, width), _sliced(outside, whole, width, 2 * width)]
    states = []
    for place in (4, 5)[: 1 + (node.op_type == "LSTM")]:
        first = given[place] if len(given) > place else None
        zeros = np.zeros((batch, units), sequence.dtype.numpy())
        states.append(outside.constant(zeros) if first is None else own(first))
    acts = list(node.attributes.get_strings("activations", _DEFAULT[node.op_type]))
    acts = acts[k * len(_DEFAULT[node.op_type]) :][: len(_DEFAULT[node.op_type])]
    shown: list[Any] = []
    for step in reversed(range(count)) if backward else range(count):
        element = outside("Gather", sequence, outside.constant(np.array(step, np.int64)), axis=0)
        sums = [outside("MatMul", element, kernel), outside("MatMul", states[0], inner)]
        if biases is not None:
            sums = [outside("Add", one, bias) for one, bias in zip(sums, biases, strict=True)]
        after = bool(node.attributes.get_int("linear_before_reset", 0))
        states = _next(outside, node.op_type, acts, sums, states, units, None if after else (inner, biases))
        shown.append(outside("Unsqueeze", states[0], outside.ints(0)))
    ordered = shown[::-1] if backward else shown
    return [_joined(outside, ordered, 0), *states]


def _joined(outside: Outside, values: list[Any], axis: int) -> Any:
    return outside("Concat", *values, axis=axis) if len(values) > 1 else values[0]


def _next(
    outside: Outside,
    kind: str,
    acts: list[str],
    sums: list[Any],
    states: list[Any],
    units: int,
    before: tuple[Any, Any] | None,
) -> list[Any]:
    """The states after a step.

    Args:
        outside: makes nodes.
        kind: of the layer.
        acts: its activations.
        sums: of all gates: of the element, and of the state.
        states: before the step.
        units: how many.
        before: the matrix of the state and the biases, if a reset gate comes before the product.
    """

    def part(value: Any, k: int) -> Any:
        return _sliced(outside, value, k * units, (k + 1) * units)

    gates = [
        outside("Add", part(sums[0], k), part(sums[1], k)) for k in range(_GATES[kind] - (kind == "GRU"))
    ]
    if kind == "RNN":
        return [outside(acts[0], gates[0])]
    if kind == "LSTM":
        enter, leave, keep = (outside(acts[0], gate) for gate in gates[:3])
        new = outside("Mul", enter, outside(acts[1], gates[3]))
        cell = outside("Add", outside("Mul", keep, states[1]), new)
        return [outside("Mul", leave, outside(acts[2], cell)), cell]
    update, reset = (outside(acts[0], gate) for gate in gates)
    if before is None:
        inner = outside("Mul", reset, part(sums[1], 2))
    else:
        inner = outside("MatMul", outside("Mul", reset, states[0]), part(before[0], 2))
        inner = inner if before[1] is None else outside("Add", inner, part(before[1][1], 2))
    content = outside(acts[1], outside("Add", part(sums[0], 2), inner))
    one = outside.constant(np.ones((), states[0].dtype.numpy()))
    new = outside("Mul", outside("Sub", one, update), content)
    return [outside("Add", new, outside("Mul", update, states[0]))]


def _sliced(outside: Any, value: Any, start: int, stop: int, axis: int = -1) -> Any:
    return outside("Slice", value, *(outside.constant(np.array([n], np.int64)) for n in (start, stop, axis)))


def _folded(graph: Any, parameters: Container[str]) -> None:
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
        new = _sliced(outside, node.inputs[0], start, start + shape[axis], axis)
        start += shape[axis]
        if old.is_graph_output():
            new.name, old.name = old.name, f"{old.name}/split"
        old.replace_all_uses_with(new, replace_graph_outputs=True)
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
        weight = _sliced(new, node.inputs[1], start, stop, 1 if is_conv else -2)
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
