"""A layer that stands for one whose class is not there, as capturing and saving see it.

Invariants: an artifact never mentions the stand-in, but what it stands for; its parts have the paths that they had
below the original.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

Role = Literal["weight", "seed", "metric"]


class StandIn(ABC):
    """See the module."""

    @property
    @abstractmethod
    def original(self) -> dict[str, Any]:
        """What a config says of the original: module, class_name, registered_name, config and build_config."""

    @property
    @abstractmethod
    def how(self) -> dict[str, Any]:
        """What Keras must know to call it (see ``compat.call_facts``)."""

    @abstractmethod
    def parts(self) -> Iterable[tuple[str, Any]]:
        """(path below the layer, layer, variable, seed generator) for everything the original had."""

    @abstractmethod
    def role_of(self, variable: Any) -> Role:
        """What a variable of its own is for: "weight" or "metric"."""

    @property
    @abstractmethod
    def input_specs(self) -> Any:
        """What a model takes: specs in the structure of its first argument, or by argument, and whether it is so.

        None if nothing is known.
        """
