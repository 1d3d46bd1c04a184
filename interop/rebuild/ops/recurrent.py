"""RNN, GRU and LSTM, unrolled over time. Source: https://onnx.ai/onnx/operators/onnx__LSTM.html and its kind.

One weight has the gates of one direction one after the other: LSTM i, o, f, c; GRU z, r, h. A state stays what it was
once a sequence has ended (``sequence_lens``), and the outputs after it are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op

Activation = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, list[Tensor]], list[Tensor]]
"""Projected input and states to new states, of which the first is the output."""


def _affine(x: Tensor, alpha: float, beta: float) -> Tensor:
    return ops.add(ops.multiply(x, alpha), beta)


_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], float, float]] = {
    # name: function of x, alpha and beta, and their defaults
    "relu": (lambda x, a, b: ops.relu(x), 0.0, 0.0),
    "tanh": (lambda x, a, b: ops.tanh(x), 0.0, 0.0),
    "sigmoid": (lambda x, a, b: ops.sigmoid(x), 0.0, 0.0),
    "softsign": (lambda x, a, b: ops.softsign(x), 0.0, 0.0),
    "softplus": (lambda x, a, b: ops.softplus(x), 0.0, 0.0),
    "affine": (_affine, 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: ops.leaky_relu(x, negative_slope=a), 0.01, 0.0),
    "thresholdedrelu": (lambda x, a, b: ops.where(ops.greater(x, a), x, ops.zeros_like(x)), 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: ops.multiply(ops.tanh(ops.multiply(x, b)), a), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: ops.clip(_affine(x, a, b), 0.0, 1.0), 0.2, 0.5),
    "elu": (lambda x, a, b: ops.elu(x, alpha=a), 1.0, 0.0),
}


def _activations(
    ctx: Context, names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clip: float | None
) -> list[Activation]:
    """The functions of all directions."""
    for name in names:
        if name.lower() not in _ACTIVATIONS:
            ctx.fail(f"activation {name!r} is unknown; expected one of {', '.join(sorted(_ACTIVATIONS))}")
    return [
        _activation(_ACTIVATIONS[name][0], alpha, beta, clip)
        for name, alpha, beta in with_parameters(names, alphas, betas)
    ]


def with_parameters(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[tuple[str, float, float]]:
    """Known activations by their names in small letters, each with its alpha and beta.

    The attributes hold those of the activations that have them, in order; what they lack is the default.
    """
    found: list[tuple[str, float, float]] = []
    left, right = list(alphas), list(betas)
    for name in map(str.lower, names):
        _, alpha, beta = _ACTIVATIONS[name]
        a = left.pop(0) if alpha and left else alpha
        b = right.pop(0) if (beta or name == "affine") and right else beta
        found.append((name, a, b))
    return found


def _activation(function: Callable[..., Tensor], alpha: float, beta: float, clip: float | None) -> Activation:
    def activation(x: Tensor) -> Tensor:
        return function(x if clip is None else ops.clip(x, -clip, clip), alpha, beta)

    return activation


def _run(
    ctx: Context,
    x: Tensor,
    lengths: Tensor,
    states: list[Tensor],
    weights: tuple[Tensor, Tensor],
    make_step: Callable[[int], Step],
    direction: str,
    layout: int,
) -> tuple[Tensor, ...]:
    """Every direction over time. `states` are (directions, batch, hidden), `weights` the input's and its bias."""
    x = ops.transpose(x, (1, 0, 2)) if layout else x
    time = ctx.dims(x)[0]
    if isinstance(time, SymInt):
        ctx.fail(f"runs over the open dimension {time} of time, which no layer was made for")
    w, bias = weights
    all_outputs, all_states = [], []
    for i in range(2 if direction == "bidirectional" else 1):
        backwards = direction == "reverse" or i == 1
        projected = ctx.add(ops.matmul(x, ops.transpose(w[i])), bias[i])
        step = make_step(i)
        current = [state[i] for state in states]
        outputs = []
        for t in reversed(range(time)) if backwards else range(time):
            made = step(projected[t], current)
            if lengths is not None:
                on = ops.expand_dims(ops.less(t, lengths), -1)
                made = [ops.where(on, new, old) for new, old in zip(made, current, strict=True)]
                outputs.append(ops.where(on, made[0], ops.zeros_like(made[0])))
            else:
                outputs.append(made[0])
            current = made
        all_outputs.append(ops.stack(outputs[::-1] if backwards else outputs))
        all_states.append(current)
    y = ops.stack(all_outputs, axis=1)
    last = [ops.stack(list(state)) for state in zip(*all_states, strict=True)]
    if layout:
        y = ops.transpose(y, (2, 0, 1, 3))
        last = [ops.transpose(state, (1, 0, 2)) for state in last]
    return y, *last


def _hidden(ctx: Context, r: Tensor, declared: int | None) -> int:
    """How many units there are."""
    units = int(r.shape[-1])
    if declared not in (None, units):
        ctx.fail(f"hidden_size is {declared}, and its weights of the state are for {units}")
    return units


def _initial(ctx: Context, given: Tensor, x: Tensor, w: Tensor, hidden: int, layout: int) -> Tensor:
    """A state of (directions, batch, hidden)."""
    if given is not None:
        return ops.transpose(given, (1, 0, 2)) if layout else given
    batch = ctx.dims(x)[0 if layout else 1]
    return ctx.expand(np.zeros((1, 1, 1), ctx.dtype(x)), (int(w.shape[0]), batch, hidden))


def _biases(b: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Of the input and of the state, (directions, gates * hidden) each."""
    if b is None:
        zeros = ops.zeros_like(w[:, :, 0])
        return zeros, zeros
    half = int(b.shape[1]) // 2
    return b[:, :half], b[:, half:]


@op("RNN", since=7)
def rnn(
    ctx: Context,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor = None,
    lengths: Tensor = None,
    initial_h: Tensor = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Tanh", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    functions = _activations(ctx, activations, activation_alpha, activation_beta, clip)
    bias, recurrent = _biases(b, w)

    def make_step(i: int) -> Step:
        def step(projected: Tensor, states: list[Tensor]) -> list[Tensor]:
            moved = ctx.add(ops.matmul(states[0], ops.transpose(r[i])), recurrent[i])
            return [functions[i](ctx.add(projected, moved))]

        return step

    start = _initial(ctx, initial_h, x, w, _hidden(ctx, r, hidden_size), layout)
    return _run(ctx, x, lengths, [start], (w, bias), make_step, direction, layout)


@op("GRU", since=7)
def gru(
    ctx: Context,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor = None,
    lengths: Tensor = None,
    initial_h: Tensor = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Sigmoid", "Tanh", "Sigmoid", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    functions = _activations(ctx, activations, activation_alpha, activation_beta, clip)
    bias, recurrent = _biases(b, w)
    hidden = _hidden(ctx, r, hidden_size)

    def make_step(i: int) -> Step:
        f, g = functions[2 * i : 2 * i + 2]
        gates, candidate = ops.transpose(r[i, : 2 * hidden]), ops.transpose(r[i, 2 * hidden :])
        gates_bias, candidate_bias = recurrent[i, : 2 * hidden], recurrent[i, 2 * hidden :]

        def step(projected: Tensor, states: list[Tensor]) -> list[Tensor]:
            h = states[0]
            both = f(ctx.add(projected[:, : 2 * hidden], ctx.add(ops.matmul(h, gates), gates_bias)))
            update, reset = both[:, :hidden], both[:, hidden:]
            if linear_before_reset:
                moved = ops.multiply(reset, ctx.add(ops.matmul(h, candidate), candidate_bias))
            else:
                moved = ctx.add(ops.matmul(ops.multiply(reset, h), candidate), candidate_bias)
            new = g(ctx.add(projected[:, 2 * hidden :], moved))
            return [ctx.add(new, ops.multiply(update, ops.subtract(h, new)))]

        return step

    start = _initial(ctx, initial_h, x, w, hidden, layout)
    return _run(ctx, x, lengths, [start], (w, bias), make_step, direction, layout)


@op("LSTM", since=7)
def lstm(
    ctx: Context,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor = None,
    lengths: Tensor = None,
    initial_h: Tensor = None,
    initial_c: Tensor = None,
    p: Tensor = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Sigmoid", "Tanh", "Tanh", "Sigmoid", "Tanh", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """`p` are peepholes of i, o, f: what a gate sees of the cell."""
    functions = _activations(ctx, activations, activation_alpha, activation_beta, clip)
    bias, recurrent = _biases(b, w)
    hidden = _hidden(ctx, r, hidden_size)

    def make_step(i: int) -> Step:
        f, g, h = functions[3 * i : 3 * i + 3]

        def peek(gate: Tensor, cell: Tensor, which: int) -> Tensor:
            if p is None:
                return gate
            return ctx.add(gate, ops.multiply(cell, p[i, which * hidden : (which + 1) * hidden]))

        def step(projected: Tensor, states: list[Tensor]) -> list[Tensor]:
            state, cell = states
            moved = ctx.add(ops.matmul(state, ops.transpose(r[i])), recurrent[i])
            gates = ctx.add(projected, moved)
            parts = [gates[:, part * hidden : (part + 1) * hidden] for part in range(4)]
            enter = f(peek(parts[0], cell, 0))
            keep = ops.subtract(1.0, enter) if input_forget else f(peek(parts[2], cell, 2))
            new = ctx.add(ops.multiply(keep, cell), ops.multiply(enter, g(parts[3])))
            return [ops.multiply(f(peek(parts[1], new, 1)), h(new)), new]

        return step

    starts = [_initial(ctx, given, x, w, hidden, layout) for given in (initial_h, initial_c)]
    return _run(ctx, x, lengths, starts, (w, bias), make_step, direction, layout)
