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


def encoder_and_decoder(nn: Any) -> tuple[Any, Any]:
    """The states of two layers are one tensor in PyTorch, of which each layer after takes its part."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = (nn.LSTM(size, 5, 2, batch_first=True) for size in (4, 3))
            self.head = nn.Linear(5, 2)

        def forward(self, x: Any, y: Any) -> Any:
            _, states = self.encoder(x)
            return self.head(self.decoder(y, states)[0])

    inputs = keras.Input((6, 4)), keras.Input((3, 3))
    x, y, states = *inputs, []
    for _ in range(2):
        x, *state = L.LSTM(5, return_sequences=True, return_state=True)(x)
        states.append(state)
    for state in states:
        y = L.LSTM(5, return_sequences=True)(y, initial_state=state)
    return keras.Model(inputs, L.Dense(2)(y)), Net()


PAIRS = [
    Pair("encoder and decoder of two layers", encoder_and_decoder, quick=True),
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
