"""Loops over a fixed number of steps in plain code, and layers that go through a sequence by themselves."""

from __future__ import annotations

from typing import Any

import keras
from cases.transfers import Pair

L = keras.layers
_STEPS = 4


def cells(nn: Any) -> tuple[Any, Any]:
    """One cell on the other."""
    import torch

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.second, self.first = nn.Linear(5, 2), nn.GRUCell(5, 5), nn.LSTMCell(3, 5)

        def forward(self, x: Any) -> Any:
            h = c = g = torch.zeros(x.shape[0], 5)
            made = []
            for step in range(_STEPS):
                h, c = self.first(x[:, step], (h, c))
                g = self.second(h, g)
                made.append(g)
            return self.out(torch.stack(made, 1))

    layers = [L.LSTM(5, return_sequences=True), L.GRU(5, return_sequences=True), L.Dense(2)]
    return keras.Sequential([keras.Input((_STEPS, 3)), *layers]), Net()


def own_cell(nn: Any) -> tuple[Any, Any]:
    """Element and state beside each other, times one matrix, whose gates are in another order."""
    import torch

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.gates = nn.Linear(5, 2), nn.Linear(8, 20)

        def forward(self, x: Any) -> Any:
            h = c = torch.zeros(x.shape[0], 5)
            for step in range(_STEPS):
                f, o, i, g = self.gates(torch.cat([x[:, step], h], 1)).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            return self.out(h)

    return keras.Sequential([keras.Input((_STEPS, 3)), L.LSTM(5), L.Dense(2)]), Net()


def parallel(nn: Any) -> tuple[Any, Any]:
    """Attention beside a perceptron: two products added up, and in PyTorch one of both beside each other."""
    import torch

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.enter = nn.Linear(28, 12), nn.Linear(12, 3 * 12 + 16)

        def forward(self, x: Any) -> Any:
            *qkv, inner = self.enter(x).split([12, 12, 12, 16], -1)
            q, k, v = (one.unflatten(-1, (2, 6)).transpose(1, 2) for one in qkv)
            scores = torch.softmax(q @ k.transpose(-1, -2) / 6**0.5, -1)
            return x + self.out(torch.cat([(scores @ v).transpose(1, 2).flatten(2), torch.relu(inner)], -1))

    x = keras.Input((5, 12))
    inner = L.Dense(12, use_bias=False)(L.Dense(16, "relu")(x))
    return keras.Model(x, x + L.MultiHeadAttention(2, 6)(x, x) + inner), Net()


PAIRS = [
    Pair("loop over an LSTMCell and a GRUCell", cells, quick=True),
    Pair("loop over a cell in plain code", own_cell),
    Pair("attention beside a perceptron", parallel),
]
