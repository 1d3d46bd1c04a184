"""Recurrent layers: each kind alone, in both directions, and stacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from cases.transfers import Pair

L = keras.layers


def recurrent(kind: str, layers: int, both: bool, last: bool = False) -> Callable[[Any], tuple[Any, Any]]:
    """PyTorch's layer, which stacks and turns around by itself, and Keras's, one a layer."""

    def make(nn: Any) -> tuple[Any, Any]:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.out = nn.Linear(8 if both else 4, 3)
                self.inner = getattr(nn, kind)(5, 4, layers, batch_first=True, bidirectional=both)

            def forward(self, x: Any) -> Any:
                made, _ = self.inner(x)
                return self.out(made[:, -1] if last else made)

        inputs = keras.Input((6, 5))
        h = inputs
        for index in range(layers):
            sequences = not (last and index == layers - 1)
            layer = {"RNN": L.SimpleRNN, "LSTM": L.LSTM, "GRU": L.GRU}[kind](4, return_sequences=sequences)
            h = (L.Bidirectional(layer) if both else layer)(h)
        return keras.Model(inputs, L.Dense(3)(h)), Net()

    return make


PAIRS = [
    Pair("lstm", recurrent("LSTM", 1, both=False, last=True)),
    Pair("gru", recurrent("GRU", 1, both=False, last=True)),
    Pair("rnn", recurrent("RNN", 1, both=False), quick=True),
    Pair("lstm, both ways", recurrent("LSTM", 1, both=True)),
    Pair("gru, both ways", recurrent("GRU", 1, both=True)),
    Pair("rnn, both ways", recurrent("RNN", 1, both=True)),
    Pair("lstm, stacked", recurrent("LSTM", 3, both=False)),
    Pair("gru, stacked", recurrent("GRU", 3, both=False, last=True)),
    Pair("rnn, stacked", recurrent("RNN", 2, both=False)),
    Pair("lstm, stacked, both ways", recurrent("LSTM", 2, both=True)),
    Pair("gru, stacked, both ways", recurrent("GRU", 2, both=True)),
]
