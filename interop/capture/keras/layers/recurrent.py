"""LSTM, GRU and SimpleRNN as native ONNX nodes, exact for any mask.

Keras skips masked steps wherever they stand: a masked step keeps the state and repeats the last
output. ONNX's ``sequence_lens`` only knows padding at the end. So the valid steps of each row are
packed to the front (a stable TopK), the native node runs on the packed rows, and every position takes
the output of the last valid step at or before it (CumSum). The last output is taken from that place too and
not from the node's Y_h: OpenVINO 2026.4 ignores ``sequence_lens`` where a dimension is open. Its Y_c, which only
an LSTM with ``return_state`` and a mask gives, is therefore wrong there.

A stateful layer starts every call from the state it had when it was captured, as a graph keeps none.

Weights keep Keras' layout and gate order; Split and Concat put the gates in ONNX's order:
LSTM i, f, c, o -> i, o, f, c; GRU z, r, h is the same in both.
Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.layers.masking import Packing, choose, pack, rows
from interop.capture.keras.ops.creation import filled
from interop.capture.keras.registry import layer as layer_emitter
from interop.graph.record import Value

# Keras activation -> ONNX activation with its alpha and beta.
_ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
    "elu": ("Elu", 1.0, None),
}


@dataclass(frozen=True)
class _Run:
    """One native node's results: (batch, time, units) outputs and (batch, units) final states."""

    outputs: Value
    states: list[Value]


def _gates(e: Emit, x: Value, order: list[int], units: int, axis: int) -> Value:
    """Blocks of ``units`` along an axis, reordered."""
    if order == sorted(order):
        return x
    blocks = [e.slice(x, axis, i * units, (i + 1) * units) for i in order]
    for block in blocks:
        block.shape = tuple(units if i == axis else dim for i, dim in enumerate(x.dims))
    return e.concat(blocks, axis)


def _weights(e: Emit, cell: Any, order: list[int]) -> tuple[Value, Value, Value | None]:
    """ONNX W, R and B of one direction from a Keras cell."""
    units, dtype = int(cell.units), str(cell.compute_dtype)
    kernel, recurrent = (
        e.transpose(_gates(e, _variable(e, v, dtype), order, units, 1), [1, 0])
        for v in (cell.kernel, cell.recurrent_kernel)
    )
    w, r = e.unsqueeze(kernel, [0]), e.unsqueeze(recurrent, [0])
    if not cell.use_bias:
        return w, r, None
    bias = _variable(e, cell.bias, dtype)
    if bias.rank == 2:  # GRU with reset_after: input and recurrent bias are apart
        both = e.reshape(bias, (2 * len(order) * units,))
    else:
        zeros = e.constant(np.zeros(len(order) * units), dtype)
        both = e.concat([_gates(e, bias, order, units, 0), zeros], 0)
    return w, r, e.unsqueeze(both, [0])


def _variable(e: Emit, variable: Any, dtype: str) -> Value:
    value = variable.value  # answered by the trace's scope, with autocast
    return e.cast(value.value, dtype)


def _activations(cell: Any, names: list[str]) -> dict[str, Any]:
    chosen = []
    for name in names:
        known = compat.activation_name(getattr(cell, name))
        assert known is not None  # _has_native_node
        chosen.append(_ACTIVATIONS[known])
    attributes: dict[str, Any] = {"activations": [name for name, _, _ in chosen]}
    alphas = [alpha for _, alpha, _ in chosen if alpha is not None]
    betas = [beta for _, _, beta in chosen if beta is not None]
    if alphas:
        attributes["activation_alpha"] = alphas
    if betas:
        attributes["activation_beta"] = betas
    return attributes


@dataclass(frozen=True)
class _Cell:
    """How a Keras cell becomes a native node."""

    op_type: str
    gate_order: list[int]
    activation_names: list[str]
    state_count: int


_CELLS = {
    "LSTMCell": _Cell("LSTM", [0, 3, 1, 2], ["recurrent_activation", "activation", "activation"], 2),
    "GRUCell": _Cell("GRU", [0, 1, 2], ["recurrent_activation", "activation"], 1),
    "SimpleRNNCell": _Cell("RNN", [0], ["activation"], 1),
}


def _native(e: Emit, cell: Any, x: Value, initial: list[Value], lengths: Value | None, reverse: bool) -> _Run:
    """One native node over (batch, time, features)."""
    kind = _CELLS[type(cell).__name__]
    units, dtype = int(cell.units), str(cell.compute_dtype)
    x = e.cast(x, dtype)
    batch, time = x.dims[0], x.dims[1]
    w, r, b = _weights(e, cell, kind.gate_order)
    states = [e.unsqueeze(e.cast(state, dtype), [0]) for state in initial]
    attributes: dict[str, Any] = _activations(cell, kind.activation_names)
    if kind.op_type == "GRU":
        attributes["linear_before_reset"] = int(cell.reset_after)
    outputs = [(dtype, (time, 1, batch, units))] + [(dtype, (1, batch, units))] * kind.state_count
    made = e.nodes(
        kind.op_type,
        e.transpose(x, [1, 0, 2]),
        w,
        r,
        b,
        lengths,
        *states,
        outputs=outputs,
        hidden_size=units,
        direction="reverse" if reverse else "forward",
        **attributes,
    )
    sequence = e.transpose(e.squeeze(made[0], [1]), [1, 0, 2])
    return _Run(sequence, [e.squeeze(state, [0]) for state in made[1:]])


def _cells(layer: Any) -> list[Any]:
    """A layer's cells in order."""
    cell = layer.cell
    return list(cell.cells) if type(cell).__name__ == "StackedRNNCells" else [cell]


def _has_native_node(cell: Any) -> bool:
    kind = _CELLS.get(type(cell).__name__) if compat.is_keras_class(type(cell)) else None
    return kind is not None and all(
        compat.activation_name(getattr(cell, name)) in _ACTIVATIONS for name in kind.activation_names
    )


def _nested_states(cells: list[Any], initial: Any) -> list[list[Value]]:
    """Initial states by cell."""
    flat = compat.flatten(initial)
    counts = [_CELLS[type(cell).__name__].state_count for cell in cells]
    return [flat[sum(counts[:i]) : sum(counts[: i + 1])] for i in range(len(cells))]


@layer_emitter("LSTM", "GRU", "SimpleRNN", "RNN", since=14)
def recurrent(
    e: Emit, layer: Any, sequences: Value, initial_state: Any = None, mask: Any = None, training: Any = None
) -> Any:
    """A recurrent layer at inference: outputs, last output and states as Keras returns them.

    Cells without a native node, and standard cells with activations that the node lacks, go through Keras' own
    loop (``loop.py``).
    """
    if initial_state is None and layer.stateful:
        initial_state = compat.map_structure(lambda v: e.constant(compat.current_value(v)), layer.states)
    cells = _cells(layer)
    if not all(_has_native_node(cell) for cell in cells):
        return compat.call_code(layer, sequences, initial_state=initial_state, mask=mask, training=training)
    initial = [[] for _ in cells] if initial_state is None else _nested_states(cells, initial_state)
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    packing = None
    x = sequences
    reverse = layer.go_backwards and mask is None
    if mask is not None:
        mask = e.cast(mask, "bool")
        if layer.go_backwards:
            x, mask = e.flip(x, 1), e.flip(mask, 1)
        packing = pack(e, mask)
        x = rows(e, x, packing.order)
    states: list[list[Value]] = []
    for cell, start in zip(cells, initial, strict=True):
        run = _native(e, cell, x, start, packing.lengths if packing else None, reverse)
        x = run.outputs
        if packing is not None:
            run.states[0] = e.squeeze(rows(e, run.outputs, packing.end), [1])
        states.append(run.states)
    return _collect(e, layer, x, states, initial, packing, reverse)


def _collect(
    e: Emit,
    layer: Any,
    outputs: Value,
    states: list[list[Value]],
    initial: list[list[Value]],
    packing: Packing | None,
    reverse: bool,
) -> Any:
    """What the layer returns, with masked steps as Keras defines them."""
    dtype = str(layer.compute_dtype)
    last = states[-1][0]
    if packing is not None:
        states = [_held(e, cell, start, packing) for cell, start in zip(states, initial, strict=True)]
    results: list[Value] = []
    if layer.return_sequences:
        if packing is not None:
            spread = rows(e, outputs, packing.place)
            visible = packing.mask if layer.zero_output_for_mask else packing.started
            outputs = choose(e, visible, spread, _before(e, layer, initial, spread))
        elif reverse:
            outputs = e.flip(outputs, 1)
        results.append(outputs)
    elif packing is not None:
        visible = packing.any_valid
        if layer.zero_output_for_mask:
            visible = e.slice(packing.mask, 1, -1, None)
            visible.shape = packing.any_valid.shape
        results.append(choose(e, visible, last, _before(e, layer, initial, last)))
    else:
        results.append(last)
    if not layer.return_state:
        return e.cast(results[0], dtype)
    nested: list[Any] = [[e.cast(s, dtype) for s in cell] for cell in states]
    flat = [s[0] if len(s) == 1 else s for s in nested] if len(nested) > 1 else nested[0]
    return (e.cast(results[0], dtype), *flat)


def _before(e: Emit, layer: Any, initial: list[list[Value]], like: Value) -> Value:
    """What Keras gives before the first valid step: zeros, or on JAX the state it started from."""
    jax_loop = keras.backend.backend() == "jax" and not layer.unroll and not layer.zero_output_for_mask
    if not jax_loop or not initial[-1]:
        return e.like(0, like)
    start = e.cast(initial[-1][0], like.dtype)
    return e.unsqueeze(start, [1]) if like.rank > start.rank else start


def _held(e: Emit, states: list[Value], initial: list[Value], packing: Packing) -> list[Value]:
    """Final states; a row without any valid step keeps its initial state."""
    starts = initial or [filled(e, state.dims, 0, state.dtype) for state in states]
    return [
        choose(e, packing.any_valid, state, e.cast(start, state.dtype))
        for state, start in zip(states, starts, strict=True)
    ]
