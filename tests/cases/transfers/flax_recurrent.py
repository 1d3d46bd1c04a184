"""Recurrent layers of Flax, which are loops over a cell, and the layers of Keras and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cases.transfers import Pair
from cases.transfers.flax import _bound
from cases.transfers.gates import recurrent

_SHAPE = (6, 5)


def _linen(cell: str, layers: int, both: bool) -> Any:
    def body(linen: Any, x: Any) -> Any:
        made = getattr(linen, cell)
        for _ in range(layers):
            if both:
                x = linen.Bidirectional(linen.RNN(made(4)), linen.RNN(made(4)))(x)
            else:
                x = linen.RNN(made(4))(x)
        return linen.Dense(3)(x)

    return _bound(body, _SHAPE)


def _nnx(cell: str, layers: int, both: bool) -> Any:
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)

    def layer(inputs: int) -> Any:
        parts = [nnx.RNN(getattr(nnx, cell)(inputs, 4, rngs=rngs)) for _ in range(1 + both)]
        return nnx.Bidirectional(*parts) if both else parts[0]

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.out = nnx.Linear(8 if both else 4, 3, rngs=rngs)
            self.last = layer(8 if both else 4) if layers == 2 else None
            self.first = layer(5)

        def __call__(self, x: Any) -> Any:
            x = self.first(x)
            return self.out(x if self.last is None else self.last(x))

    return Net()


def _row(name: str, flax: Callable[[], Any], others: Callable[[Any], Any], other: int) -> Pair:
    return Pair(
        f"{name}, {('Keras', 'PyTorch')[other]}",
        lambda nn: (flax(), others(nn)[other]),
        shapes=(_SHAPE,),
        signatures={"one": [(1, *_SHAPE)]},
    )


# A GRU of nnx has no bias in its state, so it is not what others call one.
_MADE = [
    ("nnx LSTM", "LSTM", _nnx, "LSTMCell", 1, False),
    ("nnx LSTM of one product", "LSTM", _nnx, "OptimizedLSTMCell", 1, False),
    ("nnx RNN", "RNN", _nnx, "SimpleCell", 1, False),
    ("nnx LSTM, stacked, both ways", "LSTM", _nnx, "OptimizedLSTMCell", 2, True),
    ("linen LSTM", "LSTM", _linen, "LSTMCell", 1, False),
    ("linen LSTM of one product", "LSTM", _linen, "OptimizedLSTMCell", 1, False),
    ("linen GRU", "GRU", _linen, "GRUCell", 1, False),
    ("linen RNN", "RNN", _linen, "SimpleCell", 1, False),
    ("linen GRU, stacked", "GRU", _linen, "GRUCell", 2, False),
    ("linen LSTM, both ways", "LSTM", _linen, "LSTMCell", 1, True),
]

PAIRS = [
    _row(
        name,
        lambda make=make, cell=cell, layers=layers, both=both: make(cell, layers, both),  # type: ignore[misc]
        recurrent(kind, layers, both),
        other,
    )
    for name, kind, make, cell, layers, both in _MADE
    for other in (0, 1)
]
