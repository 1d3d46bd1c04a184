"""One row a use of a ``keras.ops`` function, in a file a family; ``tests/test_ops.py`` runs them all.

A row gives the function's public name, a call on its inputs, and the inputs with their dynamic dimensions
named. Every row is captured once and run at two sizes of every named dimension.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: The two sizes of each name that may stand for a dimension.
SIZES = {
    "b": (2, 5),
    "t": (6, 9),
    "h": (12, 17),
    "w": (10, 15),
    "n": (3, 4),
    "e": (6, 8),
    "height": (65, 97),
    "width": (70, 43),
    "tall": (64, 128),
    "wide": (96, 64),
    "sound": (2000, 2600),
}


@dataclass(frozen=True)
class Input:
    """An input: uniform in [low, high], or what ``make(rng, shape)`` returns.

    Integers include `high`; booleans are fair coins.
    """

    shape: tuple[int | str, ...]
    dtype: str = "float32"
    low: float = -2.0
    high: float = 2.0
    make: Callable[[np.random.Generator, tuple[int, ...]], Any] | None = None

    def array(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """The input at size 0 or 1 of every named dimension."""
        shape = tuple(SIZES[dim][size] if isinstance(dim, str) else dim for dim in self.shape)
        if self.make is not None:
            return np.asarray(self.make(rng, shape), self.dtype)
        if self.dtype == "bool":
            return rng.random(shape) < 0.5
        if "int" in self.dtype:
            return rng.integers(int(self.low), int(self.high) + 1, shape).astype(self.dtype)
        return rng.uniform(self.low, self.high, shape).astype(self.dtype)


def x(*shape: int | str, **options: Any) -> Input:
    """An input by its dimensions."""
    return Input(shape, **options)


@dataclass(frozen=True)
class OpCase:
    """One use of an operation.

    Attributes:
        op: public name in ``keras.ops``.
        call: the inputs as tensors to one output or a structure of outputs, by ``keras.ops``.
        inputs: what it is called on.
        variant: tells rows of one operation apart.
        rtol: relative tolerance of float outputs.
        atol: absolute tolerance of float outputs.
        opset: opset to capture with, where 20 does not do.
        holds: operators the graph must have.
        lacks: operators it must not have.
        constant: the outputs do not depend on the inputs' values.
        dtypes: dtypes of the outputs where an eager backend departs from what Keras declares.
        backends: the backends whose own eager operation works on these inputs, and why not the others.
    """

    op: str
    call: Callable[..., Any]
    inputs: tuple[Input, ...] = (Input(("b", "t", 4)),)
    variant: str = ""
    rtol: float = 1e-4
    atol: float = 1e-5
    opset: int | None = None
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    constant: bool = False
    dtypes: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("jax", "tensorflow", "torch")

    @property
    def id(self) -> str:
        """``op`` or ``op-variant``."""
        return f"{self.op}-{self.variant}" if self.variant else self.op


def all_cases() -> list[OpCase]:
    """The rows of every family, by file name."""
    found: list[OpCase] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found += importlib.import_module(f"{__name__}.{module.name}").CASES
    return found
