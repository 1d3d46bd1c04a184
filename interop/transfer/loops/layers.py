"""The arithmetic of the layers that are known; each function says which gates a step has, or that it is another.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html and onnx__RNN.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from interop.transfer.loops.forms import State, is_same, plain
from interop.transfer.loops.step import ACTIVATIONS, Gate, Part, Step

# The layers. Each gives its kind, gates, attributes, states (hidden, then cell) and what it collects.

Found = tuple[str, dict[str, Gate], dict[str, Any], list[State], Any]


def lstm(step: Step) -> Found | None:
    """``c' = f c + i g`` and ``h' = o act(c')``."""
    states = step.loop.states
    if len(states) != 2:
        return None
    for hidden, cell in (states, reversed(states)):
        for out, shown in step.products(hidden.becomes):
            o, act = step.gate(out), step.of(shown, *ACTIVATIONS)
            if o is None or act is None or plain(act.inputs[0]) is not plain(cell.becomes):
                continue
            for kept, new in step.summands(cell.becomes):
                for forget, before in step.products(kept):
                    for enter, content in step.products(new):
                        f, i, c = step.gate(forget), step.gate(enter), step.gate(content)
                        if f is None or i is None or c is None or not step.is_state(before, cell):
                            continue
                        if f.activation == i.activation == o.activation:
                            names = [f.activation, c.activation, act.op_type]
                            gates = {"i": i, "o": o, "f": f, "c": c}
                            return (
                                "LSTM",
                                gates,
                                {"activations": names},
                                [hidden, cell],
                                _collected(step, hidden),
                            )
    return None


def gru(step: Step) -> Found | None:
    """``h' = (1 - z) n + z h``, also written ``n + z (h - n)``."""
    if len(step.loop.states) != 1:
        return None
    (state,) = step.loop.states
    for update, content in _mixed(step, state):
        z, node = step.gate(update), step.of(content, *ACTIVATIONS)
        if z is None or node is None:
            continue
        for reset, inner, outer, after in _reset(step, node.inputs[0], state):
            r = step.gate(reset)
            if r is None or r.activation != z.activation:
                continue
            gates = {"z": z, "r": r, "h": Gate(node.op_type, (*outer, *inner))}
            attributes = {"activations": [z.activation, node.op_type], "linear_before_reset": int(after)}
            return "GRU", gates, attributes, [state], _collected(step, state)
    return None


def _mixed(step: Step, state: State) -> Iterator[tuple[Any, Any]]:
    """Pairs of an update gate and a content whose mixture the next state is."""
    for one, other in step.summands(state.becomes):
        for update, before in step.products(other):
            if step.is_state(before, state):
                for rest, content in step.products(one):
                    if step.without(rest, update):
                        yield update, content
            node = step.of(before, "Sub")
            if (
                node is not None
                and step.is_state(node.inputs[0], state)
                and is_same(node.inputs[1], plain(one))
            ):
                yield update, one


def _reset(step: Step, value: Any, state: State) -> Iterator[tuple[Any, list[Part], list[Part], bool]]:
    """Where a reset gate stands in a sum: after the product with the state, or before it."""
    for outer, inner in step.summands(value):
        known = step.sum(outer)
        if known is None:
            continue
        for reset, product in step.products(inner):
            parts = step.sum(product)
            if parts is not None and any(part.of is state.inside for part in parts):
                biases = [part for part in known if part.of is None]
                yield reset, _told(parts, biases), known, True
        node = step.of(inner, "MatMul", "Gemm")
        matrix = None if node is None else step.fixed(node.inputs[1])
        if node is not None and matrix is not None:
            for reset, before in step.products(node.inputs[0]):
                if step.is_state(before, state):
                    turn = node.attributes.get_int("transB", 0)
                    matrix = step.outside("Transpose", matrix, perm=[1, 0]) if turn else matrix
                    yield reset, [Part(state.inside, matrix)], known, False


def _told(inner: list[Part], outer: list[Part]) -> list[Part]:
    """The parts that are reset; their bias stands second, also if it is the only one."""
    return inner if outer or all(part.of is not None for part in inner) else [Part(None, None), *inner]


def rnn(step: Step) -> Found | None:
    """``h' = act(x W + h R + b)``."""
    if len(step.loop.states) != 1:
        return None
    (state,) = step.loop.states
    gate = step.gate(state.becomes)
    if gate is None:
        return None
    return "RNN", {"h": gate}, {"activations": [gate.activation]}, [state], _collected(step, state)


def _collected(step: Step, state: State) -> Any:
    """The value that the loop collects, if it is the state."""
    same = [inside for inside, _ in step.loop.results if plain(inside) is plain(state.becomes)]
    return same[0] if same else state.becomes
