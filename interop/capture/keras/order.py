"""The order of the layers of a model, where the numbers in their names do not tell it.

A name that Keras makes counts the layers that were made before: in ``Dense(3)(Dense(3)(x))`` the one that is applied
last is made first, and is called ``dense``; in a Sequential of the same layers it is called ``dense_1``. Files by
object path therefore say which layers come in another order than their names.

Enters: a model. Leaves: object paths, in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interop.capture.keras import compat


def automatic_names(model: Any, layers: Mapping[int, str]) -> dict[str, tuple[str, int]]:
    """Path to stem and number of the layers that Keras named and whose paths end in these names, in order.

    Args:
        model: a layer.
        layers: identity of each layer in it to its path.
    """
    found: dict[str, tuple[str, int]] = {}
    for owner in compat.all_layers(model):
        for layer in compat.sublayers(owner):
            path = layers.get(id(layer), "")
            if path.rpartition("/")[2] == layer.name and (name := compat.automatic_name(layer)) is not None:
                found.setdefault(path, name)
    return found


def out_of_order(model: Any, layers: Mapping[int, str]) -> list[str]:
    """Paths of all layers of one stem in one container, in order, where that is not the order of their numbers."""
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for path, (stem, number) in automatic_names(model, layers).items():
        groups.setdefault((path.rpartition("/")[0], stem), {})[path] = number
    return [
        path for group in groups.values() if list(group.values()) != sorted(group.values()) for path in group
    ]
