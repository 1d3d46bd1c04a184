"""One row a use of a ``keras.layers`` class, in a file a family; ``tests/test_layers.py`` runs them all.

A row makes a layer and says what it is called on; the test wraps both into a Functional model with every named
dimension dynamic, captures it once and runs it at two sizes of each of them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases.ops import SIZES, Input, x

__all__ = ["ABSENT", "SIZES", "Input", "LayerCase", "all_cases", "holed", "mask", "words", "x"]

_RAW = "it runs code of one framework, which only that framework's own exporter can read"


#: Public names in ``keras.layers`` without a row -> why they need none.
ABSENT: dict[str, str] = {
    "InputSpec": "it describes inputs; it is not a layer",
    "HashedCrossing": "it chains hashes in a way that only TensorFlow has; capturing it is an error that says so",
    "FlaxLayer": _RAW,
    "JaxLayer": _RAW,
    "TFSMLayer": _RAW,
    "TorchModuleWrapper": _RAW,
}


def mask(*shape: int | str) -> Input:
    """A boolean mask with every kind of row: holes, all masked, left padded, right padded."""
    return Input(shape, "bool", make=holed)


def holed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The values of ``mask``."""
    made = rng.random(shape) < 0.7
    made[0] = rng.random(shape[1:]) < 0.4
    made[1, : shape[1] // 2], made[1, shape[1] // 2 :] = False, True
    if shape[0] > 3:
        made[2, : shape[1] // 2], made[2, shape[1] // 2 :] = True, False
        made[3] = False
    return made


class Words(Input):
    """An input of strings; NumPy has no dtype of that name."""

    def array(self, rng: np.random.Generator, size: int) -> np.ndarray:
        assert self.make is not None
        return np.asarray(
            self.make(rng, tuple(SIZES[d][size] if isinstance(d, str) else d for d in self.shape))
        )


def words(*shape: int | str, of: tuple[str, ...]) -> Input:
    """An input of strings drawn from a few."""
    return Words(shape, "string", make=lambda rng, dims: rng.choice(np.asarray(of, object), dims))


@dataclass(frozen=True)
class LayerCase:
    """One use of a layer.

    Attributes:
        layer: public name in ``keras.layers``.
        build: makes the layer.
        inputs: what it is called on.
        variant: tells rows of one layer apart.
        call: (the layer, its inputs) to one output or a structure of outputs.
        rtol: relative tolerance of float outputs.
        atol: absolute tolerance of float outputs.
        opset: opset to capture with, where 20 does not do.
        holds: operators the graph must have.
        lacks: operators it must not have.
        varies: whether outputs differ from example to example; a row that says False says why.
        random: whether to draw the weights anew; not where they are tables that mean something.
        model: a subclassed model around a layer without weights, where a Functional one cannot be made.
        direct: compare with the layer called on arrays: backends other than TensorFlow have no strings.
        dtypes: dtypes of the outputs where an eager backend departs from what Keras declares.
        backends: the backends whose own eager layer works on these inputs, and why not the others.
        emitters: compare with what XLA's newer emitters make, which ``conftest`` leaves out: the others round more.
    """

    layer: str
    build: Callable[[], Any]
    inputs: tuple[Input, ...] = (Input(("b", "t", 4)),)
    variant: str = ""
    call: Callable[..., Any] = lambda layer, *tensors: layer(*tensors)
    rtol: float = 1e-4
    atol: float = 1e-5
    opset: int | None = None
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ("Loop", "Scan", "If", "RandomUniformLike", "RandomNormalLike")
    varies: bool = True
    random: bool = True
    model: bool = False
    direct: bool = False
    dtypes: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("jax", "tensorflow", "torch")
    emitters: bool = False

    @property
    def id(self) -> str:
        """``layer`` or ``layer-variant``."""
        return f"{self.layer}-{self.variant}" if self.variant else self.layer


def all_cases() -> list[LayerCase]:
    """The rows of every family, by file name."""
    found: list[LayerCase] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found += importlib.import_module(f"{__name__}.{module.name}").CASES
    return found
