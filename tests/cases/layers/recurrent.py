"""Recurrent layers: native nodes for the standard cells, Scan for others."""

from __future__ import annotations

from typing import Any

import keras
from cases.layers import LayerCase, mask, x
from keras import layers, ops

SERIES = (x("b", "t", 4),)
MASKED = (*SERIES, mask("b", "t"))
NATIVE = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
CELLS = {"LSTM": layers.LSTMCell, "GRU": layers.GRUCell, "SimpleRNN": layers.SimpleRNNCell}


@keras.saving.register_keras_serializable("rows")
class Leaky(layers.Layer):
    """A cell of one's own: one state that leaks, and an output of another size."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.state_size, self.output_size = units, units, 2 * units

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.leak = self.add_weight(shape=(self.units,), name="leak")

    def call(self, inputs: Any, states: Any) -> Any:
        state = states[0] * ops.sigmoid(self.leak) + ops.tanh(inputs @ self.kernel)
        return ops.concatenate([state, state * state], axis=-1), [state]


class TwoStates(layers.Layer):
    """A cell with two states and an initial state of its own."""

    state_size = (3, 2)
    output_size = 3

    def build(self, shape: Any) -> None:
        self.into = self.add_weight(shape=(shape[-1], 3), name="into")
        self.across = self.add_weight(shape=(2, 3), name="across")
        self.back = self.add_weight(shape=(3, 2), name="back")

    def call(self, inputs: Any, states: Any) -> Any:
        first, second = states
        first = ops.tanh(inputs @ self.into + second @ self.across) + 0.5 * first
        return first, [first, ops.tanh(first @ self.back)]

    def get_initial_state(self, batch_size: Any) -> Any:
        return [ops.ones((batch_size, 3)), ops.zeros((batch_size, 2))]


def tanh(tensor: Any) -> Any:
    """A function of one's own that has the name of one of Keras'."""
    return ops.sin(tensor)


def _masked(layer: Any, a: Any, m: Any) -> Any:
    return layer(a, mask=m)


def _started(layer: Any, a: Any, *states: Any) -> Any:
    return layer(a, initial_state=list(states))


def _rows(name: str) -> list[LayerCase]:
    """What every standard layer is checked for: one native node, no loop."""
    cls, holds = getattr(layers, name), (NATIVE[name],)
    states = [x("b", 3)] * (2 if name == "LSTM" else 1)

    def row(variant: str, inputs: Any = SERIES, call: Any = None, **options: Any) -> LayerCase:
        given = {} if call is None else {"call": call}
        return LayerCase(name, lambda: cls(3, **options), inputs, variant, holds=holds, **given)

    return [
        row(""),
        row("sequences", return_sequences=True),
        row("state", return_sequences=True, return_state=True),
        row("backwards", return_sequences=True, return_state=True, go_backwards=True),
        row("backwards_last", go_backwards=True),
        row("mask", MASKED, _masked, return_sequences=True, return_state=True),
        row("mask_last", MASKED, _masked),
        row("mask_backwards", MASKED, _masked, return_sequences=True, return_state=True, go_backwards=True),
        row("mask_zeros", MASKED, _masked, return_sequences=True, zero_output_for_mask=True),
        row("initial_state", (*SERIES, *states), _started, return_sequences=True, return_state=True),
        row(
            "initial_state_mask",
            (*MASKED, *states),
            lambda layer, a, m, *s: layer(a, mask=m, initial_state=list(s)),
            return_sequences=True,
            return_state=True,
        ),
        row("no_bias", use_bias=False),
        row("unroll", (x("b", 5, 4),), unroll=True),
        row("activation", activation="relu"),
        row("dropout", dropout=0.3, recurrent_dropout=0.2),
        row("stateful", (x(3, "t", 4),), stateful=True),
        LayerCase(
            name,
            lambda: layers.Masking(1.0),
            (x("b", "t", 1, dtype="float32", make=lambda rng, shape: rng.integers(1, 3, shape)),),
            "implicit_mask",
            call=lambda masking, a: cls(3, return_sequences=True)(masking(a)),
            holds=holds,
        ),
        LayerCase(
            f"{name}Cell", lambda: CELLS[name](3), (x("b", 4), *states), call=lambda c, a, *s: c(a, list(s))
        ),
    ]


def _rnn(cells: Any, **options: Any) -> Any:
    return lambda: layers.RNN(cells(), **options)


def _bidirectional(name: str, merge: str | None, **options: Any) -> Any:
    given = {"return_sequences": True, **options}
    return lambda: layers.Bidirectional(getattr(layers, name)(3, **given), merge_mode=merge)


LAST_ZEROS = {
    "zero_output_for_mask": True,
    "return_sequences": True,
    "return_state": True,
    "go_backwards": True,
}

#: Layer, variant, inputs, call, options.
COMBINED: list[tuple[str, str, Any, Any, dict[str, Any]]] = [
    *[(name, "mask_zeros_backwards", MASKED, _masked, LAST_ZEROS) for name in NATIVE],
    *[(name, "mask_backwards_last", MASKED, _masked, {"go_backwards": True}) for name in ("LSTM", "GRU")],
    (
        "LSTM",
        "initial_state_backwards",
        (*SERIES, x("b", 3), x("b", 3)),
        _started,
        {"go_backwards": True, "return_sequences": True},
    ),
    (
        "GRU",
        "stateful_mask",
        (x(3, "t", 4), mask(3, "t")),
        _masked,
        {"stateful": True, "return_sequences": True},
    ),
    ("GRU", "reset_before_mask", MASKED, _masked, {"reset_after": False, "return_sequences": True}),
    ("GRU", "reset_before_no_bias", SERIES, LayerCase.call, {"reset_after": False, "use_bias": False}),
    ("GRU", "hard_sigmoid", SERIES, LayerCase.call, {"recurrent_activation": "hard_sigmoid"}),
    ("LSTM", "swapped", SERIES, LayerCase.call, {"activation": "sigmoid", "recurrent_activation": "tanh"}),
    ("LSTM", "softsign", SERIES, LayerCase.call, {"activation": "softsign", "return_sequences": True}),
    ("SimpleRNN", "linear", SERIES, LayerCase.call, {"activation": None, "use_bias": False}),
]
SCAN = {"holds": ("Scan",), "lacks": ("Loop",)}

CASES = [
    *[row for name in NATIVE for row in _rows(name)],
    LayerCase("LSTM", lambda: layers.LSTM(3, unit_forget_bias=False), variant="forget_bias", holds=("LSTM",)),
    LayerCase(
        "LSTM",
        lambda: layers.LSTM(3, recurrent_activation="hard_sigmoid"),
        variant="hard_sigmoid",
        holds=("LSTM",),
    ),
    LayerCase("LSTM", lambda: layers.LSTM(3, activation="gelu"), variant="gelu", **SCAN),
    LayerCase("LSTM", lambda: layers.LSTM(3, activation=tanh), variant="own_tanh", **SCAN),
    LayerCase("GRU", lambda: layers.GRU(3, reset_after=False), variant="reset_before", holds=("GRU",)),
    LayerCase("GRU", lambda: layers.GRU(3, activation="silu"), variant="silu", **SCAN),
    # RNN and StackedRNNCells
    LayerCase(
        "RNN", _rnn(lambda: layers.LSTMCell(3), return_sequences=True), variant="standard", holds=("LSTM",)
    ),
    LayerCase("RNN", _rnn(lambda: Leaky(3)), **SCAN),
    LayerCase(
        "RNN", _rnn(lambda: Leaky(3), return_sequences=True, return_state=True), variant="state", **SCAN
    ),
    LayerCase(
        "RNN", _rnn(lambda: Leaky(3), return_sequences=True, go_backwards=True), variant="backwards", **SCAN
    ),
    LayerCase("RNN", _rnn(TwoStates, return_sequences=True, return_state=True), variant="two_states", **SCAN),
    LayerCase(
        "RNN", _rnn(TwoStates, return_sequences=True, return_state=True), MASKED, "mask", call=_masked, **SCAN
    ),
    LayerCase("RNN", _rnn(TwoStates, go_backwards=True), MASKED, "mask_backwards", call=_masked, **SCAN),
    LayerCase(
        "RNN",
        _rnn(lambda: Leaky(3), return_sequences=True, zero_output_for_mask=True),
        MASKED,
        "mask_zeros",
        call=_masked,
        **SCAN,
    ),
    LayerCase(
        "RNN", _rnn(TwoStates), (*SERIES, x("b", 3), x("b", 2)), "initial_state", call=_started, **SCAN
    ),
    LayerCase("RNN", _rnn(lambda: Leaky(3), unroll=True), (x("b", 4, 4),), "unroll"),
    LayerCase(
        "StackedRNNCells",
        _rnn(lambda: [layers.LSTMCell(4), layers.GRUCell(3), layers.SimpleRNNCell(2)], return_sequences=True),
        holds=("LSTM", "GRU", "RNN"),
    ),
    LayerCase(
        "StackedRNNCells",
        _rnn(lambda: [layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True, return_state=True),
        MASKED,
        "mask",
        call=_masked,
        holds=("LSTM", "GRU"),
    ),
    LayerCase(
        "StackedRNNCells",
        lambda: layers.StackedRNNCells([layers.SimpleRNNCell(4), layers.SimpleRNNCell(3)]),
        (x("b", 4), x("b", 4), x("b", 3)),
        "cell",
        call=lambda cell, a, *s: cell(a, list(s)),
    ),
    LayerCase("StackedRNNCells", _rnn(lambda: [Leaky(3), layers.GRUCell(2)]), variant="custom", **SCAN),
    # Bidirectional
    *[
        LayerCase("Bidirectional", _bidirectional("LSTM", merge), variant=str(merge), holds=("LSTM",))
        for merge in ("concat", "sum", "mul", "ave", None)
    ],
    LayerCase("Bidirectional", _bidirectional("GRU", "concat"), variant="gru", holds=("GRU",)),
    LayerCase("Bidirectional", _bidirectional("SimpleRNN", "concat"), variant="simple", holds=("RNN",)),
    LayerCase("Bidirectional", _bidirectional("GRU", "concat"), MASKED, "mask", call=_masked, holds=("GRU",)),
    LayerCase(
        "Bidirectional",
        _bidirectional("LSTM", "sum", return_sequences=False, return_state=True),
        MASKED,
        "mask_state",
        call=_masked,
        holds=("LSTM",),
    ),
    LayerCase(
        "Bidirectional",
        _bidirectional("LSTM", None, return_state=True),
        variant="None_state",
        holds=("LSTM",),
    ),
    LayerCase(
        "Bidirectional",
        _bidirectional("GRU", "concat", return_sequences=False),
        (*SERIES, x("b", 3), x("b", 3)),
        "initial_state",
        call=_started,
        holds=("GRU",),
    ),
    LayerCase(
        "Bidirectional",
        lambda: layers.Bidirectional(
            layers.LSTM(3, return_sequences=True),
            backward_layer=layers.GRU(3, return_sequences=True, go_backwards=True),
        ),
        variant="two_layers",
        holds=("LSTM", "GRU"),
    ),
    LayerCase(
        "Bidirectional",
        lambda: layers.Bidirectional(layers.RNN(Leaky(3), return_sequences=True)),
        variant="custom",
        **SCAN,
    ),
    # Options together
    *[
        LayerCase(
            name,
            lambda name=name, given=given: getattr(layers, name)(3, **given),
            inputs,
            variant,
            call=call,
            holds=(NATIVE[name],),
        )
        for name, variant, inputs, call, given in COMBINED
    ],
    LayerCase(
        "LSTM", lambda: layers.LSTM(3, unroll=True), (x("b", 5, 4), mask("b", 5)), "unroll_mask", call=_masked
    ),
    LayerCase("GRU", lambda: layers.GRU(3, recurrent_activation="gelu"), variant="gelu_gates", **SCAN),
    LayerCase(
        "RNN",
        _rnn(
            lambda: layers.GRUCell(3, reset_after=False),
            return_sequences=True,
            return_state=True,
            go_backwards=True,
        ),
        MASKED,
        "standard_mask",
        call=_masked,
        holds=("GRU",),
    ),
    LayerCase("RNN", _rnn(lambda: Leaky(3), stateful=True), (x(3, "t", 4),), "stateful", **SCAN),
    LayerCase(
        "StackedRNNCells",
        _rnn(lambda: [layers.GRUCell(4), layers.SimpleRNNCell(3)], go_backwards=True),
        variant="backwards",
        holds=("GRU", "RNN"),
    ),
    LayerCase(
        "StackedRNNCells",
        _rnn(lambda: [layers.GRUCell(3), layers.GRUCell(2)], return_state=True),
        (*SERIES, x("b", 3), x("b", 2)),
        "initial_state",
        call=_started,
        holds=("GRU",),
    ),
    *[
        LayerCase(
            "Bidirectional",
            _bidirectional("GRU", merge, return_sequences=False, return_state=state),
            variant=f"{merge}_last{'_state' if state else ''}",
            holds=("GRU",),
        )
        for merge, state in (("concat", True), ("sum", False), ("mul", True), ("ave", False), (None, True))
    ],
    LayerCase(
        "Bidirectional",
        _bidirectional("LSTM", "ave", zero_output_for_mask=True),
        MASKED,
        "mask_zeros",
        call=_masked,
        holds=("LSTM",),
    ),
    LayerCase(
        "Bidirectional",
        _bidirectional("LSTM", "concat", stateful=True),
        (x(3, "t", 4),),
        "stateful",
        holds=("LSTM",),
    ),
    LayerCase(
        "Bidirectional",
        lambda: layers.Bidirectional(
            layers.RNN([layers.GRUCell(3), layers.GRUCell(2)], return_sequences=True)
        ),
        variant="stacked",
        holds=("GRU",),
    ),
]
