"""The tables there are: one file each, found by itself.

A file holds ``KIND``: the title of the table, the backends it runs on, the names of its cases and what runs
them. Frameworks are imported inside its functions, as the process that starts the shards imports this too.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tools.full_run.tables import Row

BACKENDS = ("torch", "tensorflow", "jax")  # the fastest first


class Progress(Protocol):
    """Told what happens, as it happens."""

    def started(self, name: str) -> None:
        """The case that runs next, so that a process that dies in it is laid to its charge."""

    def finished(self, row: Row) -> None:
        """Its row."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A table of rows.

    Attributes:
        title: what the rows are, for people.
        names: all cases on the backend of this process.
        run: runs some of them, in order; what it raises is the row of the case that was started last.
        backends: that it runs on.
        environment: variables that its processes need.
    """

    title: str
    names: Callable[[], list[str]]
    run: Callable[[Sequence[str], Progress], None]
    backends: tuple[str, ...] = BACKENDS
    environment: tuple[tuple[str, str], ...] = ()


def kinds() -> dict[str, Kind]:
    """Every table by its name."""
    return {
        module.name: importlib.import_module(f"{__name__}.{module.name}").KIND
        for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
    }
