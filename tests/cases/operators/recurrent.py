"""Recurrent layers."""

from __future__ import annotations

from cases.operators import OnnxCase, normal
from cases.ops import x

_X = x("t", "b", 3)
_LAYERS = {"LSTM": ("LSTM", 4, 3), "GRU": ("GRU", 3, 2), "RNN": ("SimpleRNN", 1, 2)}


#: Of the sequences; one has none.
_LENGTHS = x("b", dtype="int32", low=0, high=2)


def _row(
    op: str, variant: str, direction: str, biased: bool = True, lengths=None, states=(), **attributes
) -> OnnxCase:
    layer, gates, outputs = _LAYERS[op]
    both = 2 if direction == "bidirectional" else 1
    weights = (normal(both, gates * 5, 3, scale=0.5), normal(both, gates * 5, 5, scale=0.5))
    bias = normal(both, gates * 10) if biased else None
    inputs = (_X, *weights, bias, *((lengths, *states) if states or lengths else ()))
    return OnnxCase(
        op,
        inputs,
        {"hidden_size": 5, "direction": direction, **attributes},
        variant=f"{direction} {variant}".strip(),
        outputs=outputs,
        lifted="Bidirectional" if both == 2 else layer,
    )


CASES = [
    *[
        _row(op, "", direction, biased=direction != "reverse")
        for op in _LAYERS
        for direction in ("forward", "reverse", "bidirectional")
    ],
    _row("GRU", "reset after", "bidirectional", linear_before_reset=1),
    _row("LSTM", "states", "forward", states=(x(1, "b", 5), x(1, "b", 5))),
    _row("GRU", "states", "bidirectional", states=(x(2, "b", 5),)),
    _row("RNN", "relu", "forward", activations=["Relu"]),
    _row(
        "LSTM",
        "activations",
        "bidirectional",
        activations=["HardSigmoid", "Relu", "Relu"] * 2,
        activation_alpha=[1 / 6] * 2,
        activation_beta=[0.5] * 2,
    ),
    _row("GRU", "activations", "forward", activations=["Sigmoid", "LeakyRelu"], activation_alpha=[0.2]),
    _row("RNN", "linear", "reverse", activations=["Affine"], activation_alpha=[1.0], activation_beta=[0.0]),
    _row("LSTM", "lengths", "bidirectional", lengths=_LENGTHS),
    _row("GRU", "lengths and states", "reverse", lengths=_LENGTHS, states=(x(1, "b", 5),)),
    _row("RNN", "lengths", "forward", lengths=_LENGTHS),
]
