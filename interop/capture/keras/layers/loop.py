"""``backend.rnn``: a step function over time as a Scan, for the cells that have no native node.

Keras' fused LSTM and GRU are refused, as Keras expects of a backend without them: its layers then come here, or
to ``recurrent.py`` before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from interop.capture.keras.emit import Emit
from interop.capture.keras.layers.masking import choose, pack, rows
from interop.capture.keras.registry import function
from interop.capture.keras.subgraphs import scan, traced
from interop.capture.keras.symint import is_symbolic
from interop.graph.record import Value


@function("lstm", "gru", "bidirectional_lstm", "bidirectional_gru")
def fused(e: Emit, *args: Any, **kwargs: Any) -> Any:
    """Say, as a backend does, that there is no fused kernel: Keras' layer then calls ``rnn`` with its cell."""
    raise NotImplementedError


@function("rnn", since=13)
def rnn(
    e: Emit,
    step_function: Callable[..., Any],
    inputs: Any,
    initial_states: Any,
    go_backwards: bool = False,
    mask: Value | None = None,
    constants: Any = None,
    unroll: bool = False,
    input_length: Any = None,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
) -> Any:
    """Last output, outputs and final states, in the order in which steps are taken."""
    sequences = [e.tensor(x) for x in keras.tree.flatten(inputs)]
    if time_major:
        sequences = [e.transpose(x, [1, 0, *range(2, x.rank)]) for x in sequences]
    if mask is not None:
        mask = e.reshape(e.cast(mask, "bool"), mask.dims[:2])
    if go_backwards:
        sequences = [e.flip(x, 1) for x in sequences]
        mask = mask if mask is None else e.flip(mask, 1)
    unroll = unroll and not is_symbolic(sequences[0].dims[1])
    # Keras on JAX takes the first state (of the last cell) for the previous output.
    by_state = keras.backend.backend() == "jax" and mask is not None and not (unroll or zero_output_for_mask)
    form: dict[str, Any] = {}

    def step(states: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
        given = keras.tree.pack_sequence_as(inputs, slices[: len(sequences)])
        before = tuple(keras.tree.pack_sequence_as(initial_states, states))
        output, after = traced(e, step_function)(given, (*before, *(constants or ())))
        form["output"] = output
        fresh = [e.tensor(state) for state in keras.tree.flatten(after)]
        if mask is not None:
            valid = slices[-1]
            fresh = [
                choose(e, valid, new, e.cast(old, new.dtype)) for new, old in zip(fresh, states, strict=True)
            ]
        results = [e.tensor(part) for part in keras.tree.flatten(output)]
        if by_state:
            kept = before[-1][0] if isinstance(before[0], list | tuple) else before[0]
            results = [choose(e, slices[-1], part, e.cast(kept, part.dtype)) for part in results]
        return fresh, results

    start = [e.tensor(state) for state in keras.tree.flatten(initial_states)]
    over = sequences if mask is None else [*sequences, mask]
    run = _unrolled if unroll else _scanned
    states, outputs = run(e, step, start, over)
    if mask is not None and not by_state:
        outputs = [_held(e, x, mask, zero_output_for_mask) for x in outputs]
    last = [
        e.node("Gather", x, e.scalar(-1, "int64"), shape=(x.dims[0], *x.dims[2:]), axis=1) for x in outputs
    ]
    if time_major:
        outputs = [e.transpose(x, [1, 0, *range(2, x.rank)]) for x in outputs]

    def packed(values: Sequence[Value]) -> Any:
        return keras.tree.pack_sequence_as(form["output"], list(values))

    return packed(last), packed(outputs), list(keras.tree.pack_sequence_as(initial_states, states))


Step = Callable[[list[Value], list[Value]], tuple[list[Value], list[Value]]]


def _scanned(
    e: Emit, step: Step, start: list[Value], sequences: list[Value]
) -> tuple[list[Value], list[Value]]:
    return scan(e, step, start, sequences, axis=1)


def _unrolled(
    e: Emit, step: Step, start: list[Value], sequences: list[Value]
) -> tuple[list[Value], list[Value]]:
    """The steps one after the other, for a fixed number of them."""
    states, collected = start, []
    for time in range(int(sequences[0].dims[1])):
        slices = [
            e.node("Gather", x, e.scalar(time, "int64"), shape=(x.dims[0], *x.dims[2:]), axis=1)
            for x in sequences
        ]
        states, outputs = step(states, slices)
        collected.append([e.unsqueeze(x, [1]) for x in outputs])
    return states, [e.concat(list(parts), 1) for parts in zip(*collected, strict=True)]


def _held(e: Emit, outputs: Value, mask: Value, zeros: bool) -> Value:
    """Masked steps repeat the output of the last valid step, or give zeros."""
    if zeros:
        return choose(e, mask, outputs, e.like(0, outputs))
    packing = pack(e, mask)
    spread = rows(e, outputs, rows(e, packing.order, packing.place))
    return choose(e, packing.started, spread, e.like(0, outputs))


def steps(e: Emit, step: Callable[..., Any], *sequences: Value) -> Value:
    """``step`` on the slices of every step of (batch, time, ...) values, the results side by side in time."""

    def body(states: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
        return [], [e.tensor(traced(e, step)(*slices))]

    return scan(e, body, [], list(sequences), axis=1)[1][0]
