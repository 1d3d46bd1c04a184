"""PyTorch architectures of random weights, in a file a source; ``tests/test_architectures.py`` runs them.

Nothing is downloaded. A row makes a module and says what it is called on. Rows that are ``quick`` run without
``--full`` and need PyTorch alone; the others need timm or transformers, which ``tools/full_run`` expects installed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Architecture:
    """One network.

    Attributes:
        name: of the row.
        make: the module; torch's generator is seeded before.
        shape: of its input, without the batch.
        tokens: size of the vocabulary of an input of token ids; 0 for an image or signal of floats.
        quick: whether the row runs without ``--full`` as well.
        dynamo: which of torch's two exporters writes the graph.
    """

    name: str
    make: Callable[[], Any]
    shape: tuple[int, ...]
    tokens: int = 0
    quick: bool = False
    dynamo: bool = True

    def array(self, batch: int) -> np.ndarray:
        """An input of a batch size."""
        rng = np.random.default_rng(batch)
        if self.tokens:
            # Not 0 and 1, one of which pads, and has no gradient in PyTorch, which a graph does not say.
            return rng.integers(2, self.tokens, (batch, *self.shape))
        x = rng.standard_normal((batch, *self.shape))
        channels = (batch, self.shape[0], *(1 for _ in self.shape[1:]))
        # Noise alone is the same to a network that averages over places: each has a contrast and a colour.
        return (x * rng.uniform(0.5, 2, channels) + rng.standard_normal(channels)).astype("float32")


def all_architectures() -> list[Architecture]:
    """Every row of every file."""
    rows = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found = importlib.import_module(f"{__name__}.{module.name}")
        rows += getattr(found, "ROWS", [])
    return rows
