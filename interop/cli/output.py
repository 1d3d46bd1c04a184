"""What commands print: results on standard output, progress and errors on standard error.

Invariants: with ``--json`` standard output is one JSON value and nothing else; progress shows only on a
terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value, for machines.")]

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def show(text: str) -> None:
    """Print a result as it is."""
    print(text, flush=True)


def show_json(value: Any) -> None:
    """Print a result for machines."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False, default=str)
    print(flush=True)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner with the time spent, while the block runs; call what it gives to say what is done now."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda now: progress.update(task, description=now)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar, while the block runs; call what it gives with (done, in all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
