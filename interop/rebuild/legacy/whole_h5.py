"""Whole models in HDF5, as Keras 1 and 2 wrote them, and 3 still does.

Enters: a path. Leaves: the model. Each layer has a group of its own in the file, found by the layer's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from interop.capture.keras import compat
from interop.errors import FormatError
from interop.rebuild.from_config import Rebuilt
from interop.rebuild.legacy.assembly import Description, assemble
from interop.rebuild.legacy.compilation import Tensors, slots_by_name, slots_without_names
from interop.rebuild.legacy.graph import Builder
from interop.rebuild.legacy.h5_file import H5File, open_h5
from interop.rebuild.legacy.keras1 import modern_config, modern_tensors
from interop.rebuild.legacy.kinds import is_old
from interop.rebuild.legacy.plan import Container, Part
from interop.rebuild.legacy.variables import Pairs, Stored, pair_list


def load_h5(path: Path, custom_objects: Mapping[str, Any] | None, compile: bool) -> Rebuilt:
    """The model in an HDF5 file.

    Raises:
        FormatError: it is no HDF5 file, or holds no model.
        RebuildError, WeightsError: as `assemble` says.
    """
    with open_h5(path) as file:
        config = file.json("model_config")
        if config is None:
            raise FormatError(
                f"{path} holds weights and no model: make the model and give them to it with "
                "interop.load_weights, or read them with interop.load_tensors"
            )
        config = modern_config(config) if file.is_keras_1 else config
        described = Description(
            config, file.json("training_config"), H5Source(file), not is_old(file.keras_version)
        )
        return assemble(described, custom_objects=custom_objects, compile=compile)


_UNNAMED = re.compile(r"Variable(_\d+)?")


class H5Source:
    """The tensors of an HDF5 file, by layer."""

    def __init__(self, file: H5File) -> None:
        self._file = file
        self._summaries: frozenset[str] = frozenset()

    def prepare(self, model: Any) -> None:
        """What a Discretization learned; Keras refuses to write HDF5 where layers had learned words."""
        groups = self._file.layers()
        for layer in compat.all_layers(model):
            stored = groups.get(layer.name, [])
            if isinstance(layer, keras.layers.Discretization) and [item.leaf for item in stored] == [
                "summary"
            ]:
                compat.set_summary(layer, stored[0].read())
                self._summaries |= {layer.name}

    def pair(self, model: Any, plan: Part, builder: Builder) -> tuple[Pairs, list[Stored]]:
        """By the names of the layers, which the config kept."""
        groups = {name: stored for name, stored in self._file.layers().items() if name not in self._summaries}
        pairs: Pairs = []
        left: list[Stored] = []
        for part, _ in plan.parts if isinstance(plan, Container) else ():
            stored = groups.pop(part.name, [])
            layer = builder.made.get(id(part))
            if not isinstance(layer, keras.Layer):  # an operation
                left += stored
                continue
            found, unused = pair_list(layer, modern_tensors(stored) if self._file.is_keras_1 else stored)
            pairs += found
            left += unused
        return pairs, left + [item for stored in groups.values() for item in stored]

    def slots(self, model: Any, plan: Part, builder: Builder, pairs: Pairs) -> tuple[Tensors, list[Stored]]:
        """By the names of the variables, which are part of those of the optimizer's."""
        names = {stored.name.split(":")[0]: variable for variable, stored in pairs}
        stored = self._file.optimizer()
        if any(_UNNAMED.fullmatch(item.leaf) for item in stored):
            if self._file.is_keras_1:  # in the order of their names
                pairs = sorted(pairs, key=lambda pair: pair[1].origin)
            return slots_without_names(
                model, stored, [variable for variable, _ in pairs if variable.trainable]
            )
        return slots_by_name(model, stored, names)
