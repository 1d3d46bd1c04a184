"""One row a KerasHub model of a small random configuration, in a file a family; nothing is downloaded.

A row names a class of ``keras_hub.models``, builds it and says what it is called on. ``tests/test_hub.py`` runs the
few that are marked ``quick``, and all of them with ``--full``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cases.layers import holed
from cases.ops import Input

#: Tokens of every row come from a vocabulary of this size.
VOCABULARY = 40


def hub(cls: str, /, **options: Any) -> Any:
    """A model of ``keras_hub.models`` by the name of its class."""
    import keras_hub

    return getattr(keras_hub.models, cls)(**options)


def tokens(length: str = "t", high: int = VOCABULARY - 1) -> Input:
    """Token ids; 0 is the padding of models that derive their mask from it."""
    return Input(("b", length), "int32", low=0, high=high)


def padding(length: str = "t", dtype: str = "int32") -> Input:
    """A padding mask with every kind of row: holes, left padded, right padded, all padding."""
    return Input(("b", length), dtype, make=holed)


#: Models without a row -> why they need none.
ABSENT: dict[str, str] = {
    "BLIP2Backbone": "its language model slices a tensor that it keeps as an attribute, outside of keras.ops",
    "RWKV7Backbone": "on PyTorch it writes into a tensor in place, on TensorFlow a Python loop runs over the steps",
    "StableDiffusion3Backbone": "its scheduler keeps what its first call computed; its parts have rows",
}


@dataclass(frozen=True)
class HubCase:
    """One KerasHub model.

    Attributes:
        model: name of the class in ``keras_hub.models``.
        build: makes the model.
        inputs: what it is called on, by input name; a single tensor for models of one nameless input.
        variant: tells rows of one class apart.
        rtol: relative tolerance of float outputs.
        atol: absolute tolerance of float outputs.
        quick: whether the row runs without ``--full`` as well.
        named: capture for the sizes of the row's inputs, equal names equal, instead of the model's own: where one has
            one right value, or where raw code of a framework is given sizes that have to be equal.
        steady: outputs, by name, that do not vary over the batch, and why not.
        refused: backends on which the model's own code cannot be captured, and what the error says.
    """

    model: str
    build: Callable[[], Any]
    inputs: Mapping[str, Input] | Input
    variant: str = ""
    rtol: float = 1e-4
    atol: float = 1e-5
    quick: bool = False
    named: bool = False
    steady: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``model`` or ``model-variant``."""
        return f"{self.model}-{self.variant}" if self.variant else self.model


def all_cases() -> list[HubCase]:
    """The rows of every family, by file name."""
    found: list[HubCase] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found += importlib.import_module(f"{__name__}.{module.name}").CASES
    return found
