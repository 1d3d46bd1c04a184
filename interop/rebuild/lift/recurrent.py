"""LSTM, GRU and RNN, one or two directions, with initial states.

ONNX: https://onnx.ai/onnx/operators/onnx__LSTM.html. Gates are i, o, f, c there and i, f, c, o in Keras; z, r, h in
both. Biases of the input and of the state are added, except in a GRU that resets after the product. Keras has the
batch in front; a second direction is a layer of its own, run backwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from interop.rebuild.lifting import Lifted, NoMatch, Site, Weight, lift
from interop.rebuild.ops.recurrent import with_parameters
from interop.rebuild.sizes import Dims
from interop.rebuild.values import Array

_DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2), "RNN": (0,)}
_BATCH_FIRST = (1, 0, 2)

# ONNX activation -> Keras activation, and the alpha and beta it is for where the node may have others.
_ACTIVATIONS: dict[str, tuple[str, tuple[float, float] | None]] = {
    "tanh": ("tanh", None),
    "sigmoid": ("sigmoid", None),
    "relu": ("relu", None),
    "softsign": ("softsign", None),
    "softplus": ("softplus", None),
    "affine": ("linear", (1.0, 0.0)),
    "hardsigmoid": ("hard_sigmoid", (1 / 6, 0.5)),
    "leakyrelu": ("leaky_relu", (0.2, 0.0)),
    "elu": ("elu", (1.0, 0.0)),
}


@dataclass(frozen=True)
class _Cell:
    """What a node computes, beside its weights.

    Attributes:
        functions: Keras' arguments for the activations.
        after: whether a GRU resets after the product.
        lengths: the sequences' lengths, or nothing.
        initial: the states to begin with, or nothing.
    """

    kind: str
    direction: str
    functions: Mapping[str, str]
    after: bool
    lengths: tuple[Any, ...]
    initial: tuple[Any, ...]

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def states(self) -> int:
        return 2 if self.kind == "LSTM" else 1

    def layer(self, units: int, use_bias: bool, name: str, dtype: str) -> Any:
        """Of Keras, with all that the node returns."""
        options: dict[str, Any] = {"reset_after": self.after} if self.kind == "GRU" else {}
        one = getattr(keras.layers, "SimpleRNN" if self.kind == "RNN" else self.kind)(
            units,
            use_bias=use_bias,
            return_sequences=True,
            return_state=True,
            go_backwards=self.direction == "reverse",
            zero_output_for_mask=bool(self.lengths),
            name=name,
            dtype=dtype,
            **self.functions,
            **options,
        )
        return one if self.directions == 1 else keras.layers.Bidirectional(one, merge_mode=None, name=name)

    def run(self, layer: Any, x: Any, *more: Any) -> list[Any]:
        """The node's outputs, the batch in front; `more` are lengths and states."""
        # States come with the batch in front too: (batch, directions, units).
        states = more[len(self.lengths) :]
        begin = [tensor[:, place] for place in range(self.directions) for tensor in states]
        options: dict[str, Any] = {"initial_state": begin} if begin else {}
        if self.lengths:
            options["mask"] = _within(x, more[0])
        made = list(layer(x, **options))
        lines, last = made[: self.directions], made[self.directions :]
        if self.direction == "reverse":
            lines = [ops.flip(lines[0], axis=1)]
        # Batch, time and units, with the directions before the units.
        y = ops.stack(lines, axis=2) if self.directions == 2 else ops.expand_dims(lines[0], 2)
        return [y, *(ops.stack(last[place :: self.states], axis=1) for place in range(self.states))]


@lift("LSTM", "GRU", "RNN")
def recurrent(site: Site, node: Any) -> Lifted | NoMatch:
    """The layer of the same name; RNN is SimpleRNN."""
    cell = _cell(site, node)
    if isinstance(cell, NoMatch):
        return cell
    kernel, state = site.weight(node.inputs[1]), site.weight(node.inputs[2])
    offsets = node.inputs[3] if len(node.inputs) > 3 else None
    bias = site.weight(offsets)
    if kernel is None or state is None or (bias is None and offsets is not None):
        return NoMatch("its weights are no float initializers")
    units, directions, states = int(state.array().shape[-1]), cell.directions, cell.states
    if site.attributes(node).get("hidden_size", units) != units:
        return NoMatch("hidden_size is not that of its weights")
    weights: dict[str, Weight] = {}
    for place in range(directions):
        prefix = f"{'backward' if place else 'forward'}/" if directions == 2 else ""
        weights |= _weights(cell.kind, prefix, place, kernel, state, bias, units, cell.after)

    def dims(sizes: list[Dims]) -> list[Sequence[int | None]]:
        batch, time = sizes[0][:2]
        return [(batch, time, directions, units)] + [(batch, directions, units)] * states

    return Lifted(
        node,
        (node,),
        (node.inputs[0], *cell.lengths, *cell.initial),
        lambda name, dtype: cell.layer(units, bias is not None, name, dtype),
        (
            cell.kind,
            units,
            cell.direction,
            cell.after,
            bias is not None,
            tuple(cell.functions.values()),
            bool(cell.initial),
            bool(cell.lengths),
        ),
        weights,
        order=lambda rank: _BATCH_FIRST,
        call=cell.run,
        dims=dims,
        permutations=((2, 0, 1, 3), *(_BATCH_FIRST,) * states),
    )


def _cell(site: Site, node: Any) -> _Cell | NoMatch:
    """What a node computes, where a layer of Keras does the same."""
    attributes = site.attributes(node)
    kind, direction = str(node.op_type), str(attributes.get("direction", "forward"))
    directions = 2 if direction == "bidirectional" else 1
    given = [*node.inputs, *(None,) * (8 - len(node.inputs))]
    activations = tuple(name.lower() for name in attributes.get("activations", ()) or ())
    functions = _functions(kind, directions, activations or _DEFAULTS[kind] * directions, attributes)
    if functions is None:
        return NoMatch(f"activations {activations}")
    if attributes.get("clip") or attributes.get("input_forget") or attributes.get("layout"):
        return NoMatch("clip, input_forget or layout=1")
    if kind == "LSTM" and given[7] is not None:
        return NoMatch("peepholes")
    initial = tuple(value for value in given[5:7] if value is not None and not site.is_all(value, 0))
    lengths = tuple(value for value in given[4:5] if value is not None)
    cell = _Cell(kind, direction, functions, bool(attributes.get("linear_before_reset")), lengths, initial)
    if initial and len(initial) != cell.states:
        return NoMatch("one of its two initial states is zero, the other is not")
    return cell


def _functions(
    kind: str, directions: int, names: tuple[str, ...], attributes: Mapping[str, Any]
) -> dict[str, str] | None:
    """The activations of a Keras layer, by argument; None if it has none that are the node's."""
    if any(name not in _ACTIVATIONS for name in names):
        return None
    alphas, betas = (attributes.get(f"activation_{which}") or () for which in ("alpha", "beta"))
    found = []
    for name, alpha, beta in with_parameters(names, alphas, betas):
        keras_name, needed = _ACTIVATIONS[name]
        if needed is not None and not np.allclose((alpha, beta), needed, rtol=1e-6, atol=0):
            return None
        found.append(keras_name)
    count = len(_DEFAULTS[kind])
    of_one = found[:count]
    if found != of_one * directions or (kind == "LSTM" and of_one[1] != of_one[2]):
        return None
    if kind == "RNN":
        return {"activation": of_one[0]}
    return {"recurrent_activation": of_one[0], "activation": of_one[1]}


def _within(x: Any, lengths: Any) -> Any:
    """Which steps of (batch, time, features) are within the lengths of their sequences."""
    steps = ops.cumsum(ops.ones_like(x[:, :, 0], dtype="int32"), axis=1)
    return ops.less_equal(steps, ops.expand_dims(ops.cast(lengths, "int32"), 1))


def _weights(
    kind: str,
    prefix: str,
    place: int,
    kernel: Weight,
    state: Weight,
    bias: Weight | None,
    units: int,
    after: bool,
) -> dict[str, Weight]:
    """The variables of one direction."""

    def gates(array: Array) -> Array:
        parts = np.split(array, len(_GATES[kind]), axis=0)
        return np.concatenate([parts[gate] for gate in _GATES[kind]], axis=0)

    def matrix(array: Array) -> Array:
        return gates(array[place]).T

    def offsets(array: Array) -> Array:
        both = [gates(part) for part in np.split(array[place], 2)]
        return np.stack(both) if kind == "GRU" and after else both[0] + both[1]

    made = {
        f"{prefix}kernel": kernel.changed(f"gates of {kind} {place}", matrix),
        f"{prefix}recurrent_kernel": state.changed(f"gates of {kind} {place}", matrix),
    }
    if bias is not None:
        made[f"{prefix}bias"] = bias.changed(f"offsets of {kind} {place}, {after}", offsets)
    return made
