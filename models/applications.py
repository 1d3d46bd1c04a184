"""Every model of ``keras.applications``, with small inputs and weights that keep its outputs alive.

Nothing is downloaded and no initializer runs: weights are drawn by ``randomize``. Models are built without
their classifier, with height and width open where the architecture allows it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from models.randomize import randomize

#: Families of smooth activations and many residual branches: they forget their input sooner than the others, whose
#: ReLUs enlarge what rounding leaves.
SMOOTH = ("convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3")


@dataclass(frozen=True)
class Application:
    """One public function of ``keras.applications``.

    Attributes:
        name: of the function.
        family: the module it is defined in.
        sizes: two pairs of height and width; equal where the architecture needs fixed ones.
    """

    name: str
    family: str
    sizes: tuple[tuple[int, int], tuple[int, int]]

    @property
    def shape(self) -> tuple[int | None, int | None, int]:
        """Of one image, open where the sizes differ."""
        height, width = (a if a == b else None for a, b in zip(*self.sizes, strict=True))
        return height, width, 3

    def build(self) -> tuple[keras.Model, list[np.ndarray]]:
        """The model with its weights drawn, and two batches for it of different sizes."""
        with compat.deferred_variables() as variables:
            options = {"weights": None, "include_top": False, "pooling": "avg", "input_shape": self.shape}
            if (self.name, keras.backend.backend()) == ("NASNetMobile", "torch"):
                model = _nasnet_mobile(**options)
            else:
                model = getattr(keras.applications, self.name)(**options)
            for variable in variables:
                compat.initialize(variable, np.zeros(variable.shape, variable.dtype))
        compat.finish_layers(model)
        rng = np.random.default_rng(0)
        first, second = self.sizes
        batch = rng.uniform(0, 255, (6, *first, 3)).astype("float32")
        randomize(model, batch=batch, damping=1.12 if self.family in SMOOTH else 1.4)
        return model, [batch[:2], rng.uniform(0, 255, (3, *second, 3)).astype("float32")]


def applications() -> list[Application]:
    """All of them, by name."""
    found = inspect.getmembers(keras.applications, inspect.isfunction)
    return [Application(name, _family(function), _sizes(name)) for name, function in found]


def _nasnet_mobile(**options: Any) -> keras.Model:
    """What NASNetMobile makes: it refuses to on PyTorch (Keras 3.15, "an outstanding bug"), where a model that
    another backend saved opens nevertheless."""
    nasnet = inspect.getmodule(keras.applications.NASNetMobile)
    assert nasnet is not None
    return nasnet.NASNet(
        penultimate_filters=1056,
        num_blocks=4,
        stem_block_filters=32,
        skip_reduction=False,
        filter_multiplier=2,
        default_size=224,
        name="nasnet_mobile",
        **options,
    )


def _family(function: object) -> str:
    module = inspect.getmodule(function)
    assert module is not None
    return module.__name__.rpartition(".")[2]


def _sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    if name.startswith("NASNet"):  # asks at construction whether two heights are equal, so they must be known
        return (64, 64), (64, 64)
    if name.startswith(("Inception", "Xception")):  # the smallest these allow
        return (96, 96), (80, 101)
    return (64, 64), (70, 96)
