"""The layer in place of the loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.transfer.arithmetic import put_for
from interop.transfer.loops.forms import NoMatch, State
from interop.transfer.loops.outside import Outside
from interop.transfer.loops.step import Gate, Step
from interop.transfer.nodes import constant


def emit(
    step: Step, kind: str, gates: dict[str, Gate], attributes: dict[str, Any], states: list[State]
) -> None:
    import onnx_ir as ir

    outside, hidden = step.outside, states[0]
    matrices: list[list[Any]] = [[], []]
    biases: list[list[Any]] = [[], []]
    for name, gate in gates.items():
        inputs, states_used, added = (
            [part.value for part in gate.parts if belongs(part.of)]
            for belongs in (
                step.loop.elements.__contains__,
                lambda of: of is hidden.inside,
                lambda of: of is None,
            )
        )
        if (len(inputs), len(states_used)) != (1, 1) or len(added) > 2 or len(added) + 2 != len(gate.parts):
            raise NoMatch(f"gate {name} is not the sum of two products and two biases")
        for side, matrix in enumerate((*inputs, *states_used)):
            matrices[side].append(outside("Transpose", matrix, perm=[1, 0]))
            biases[side].append(added[side] if side < len(added) else None)
    units = hidden.first.shape[-1] if hidden.first.shape is not None else None
    if not isinstance(units, int):
        raise NoMatch("the size of the state is not known")
    zeros = np.zeros(units, hidden.first.dtype.numpy())

    def bias(value: Any) -> Any:
        if value is None:
            return outside.constant(zeros)
        if value.shape is None or int(np.prod([int(dim) for dim in value.shape])) != units:
            raise NoMatch("a bias is not one number a unit")
        return outside("Reshape", value, outside.ints(units))

    w, r = (outside("Unsqueeze", outside("Concat", *side, axis=0), outside.ints(0)) for side in matrices)
    b = None
    if any(value is not None for side in biases for value in side):
        b = outside("Concat", *(bias(value) for side in biases for value in side), axis=0)
        b = outside("Unsqueeze", b, outside.ints(0))
    firsts = [_unless_zero(outside, state.first) for state in states]
    attributes = {
        **attributes,
        "hidden_size": units,
        "direction": "reverse" if step.loop.backward else "forward",
    }
    given = [step.sequence, w, r, b, None, *firsts]
    while given[-1] is None:
        given.pop()
    made = outside.node(kind, given, ir.convenience.convert_attributes(attributes), 1 + len(states))
    for value, axis, old in [
        *((made.outputs[0], 1, outer) for _, outer in step.loop.results),
        *((made.outputs[1 + k], 0, state.last) for k, state in enumerate(states)),
    ]:
        new = outside("Squeeze", value, outside.ints(axis))
        new.dtype, new.shape = new.dtype or old.dtype, new.shape or old.shape
        put_for(old, new)
    step.loop.node.graph.remove(step.loop.node, safe=True)


def _unless_zero(outside: Outside, value: Any) -> Any:
    array = constant(value)
    if array is not None and not array.any():
        return None
    return outside("Unsqueeze", value, outside.ints(0))
