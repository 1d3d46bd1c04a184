"""Recurrent layers as their steps, as a loop in plain code has them.

Enters: a flat ``ir.Model`` with shapes. Leaves: the same model, changed: ``LSTM``, ``GRU`` and ``RNN`` of a few steps
are those steps, one after the other, and every gate is apart.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html and onnx__RNN.html.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from interop.transfer.arithmetic import put_for, static_shape
from interop.transfer.loops.outside import Outside
from interop.transfer.sums import gates_apart, sliced

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULT = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_PLAIN = ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")
_MOST_STEPS = 64


def has_layers(model: Any) -> bool:
    """Whether there is a recurrent layer that steps can stand for."""
    return any(_is_known(node) for node in model.graph)


def stepped(model: Any, parameters: Container[str]) -> Any:
    """Put steps in the place of layers, and each gate's sum in one form; the model is changed.

    Args:
        model: a flat ``ir.Model``; sizes are fixed.
        parameters: names of the initializers that are.
    """
    for node in list(model.graph):
        if node.op_type in _GATES and _is_known(node):
            _unfolded(model.graph, node)
    return gates_apart(model, parameters)


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
        put_for(old, new)
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
        biases = [sliced(outside, whole, 0, width), sliced(outside, whole, width, 2 * width)]
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
        return sliced(outside, value, k * units, (k + 1) * units)

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
