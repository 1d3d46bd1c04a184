"""What ``interop transfer`` does: models from paths or from functions, the target's file replaced.

Enters: what was typed. Leaves: a plan or a report. Invariant: a target's file is the old one until the new one is
complete.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interop.errors import WeightsError
from interop.transfer.plan import Plan
from interop.transfer.verbs import TransferReport, match, transfer_weights

_FACTORY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Sides:
    """What was typed.

    Attributes:
        source: a path, or ``module:function``.
        target: a path.
        rules: path of a plan.
        source_model: a path or ``module:function`` beside a source without a graph.
        target_model: the same for the target.
    """

    source: str
    target: Path
    rules: Path | None = None
    source_model: str | None = None
    target_model: str | None = None

    @property
    def plan(self) -> Plan | None:
        return None if self.rules is None else Plan.load(self.rules)

    def opened(self) -> dict[str, Any]:
        """Arguments of ``match``."""
        left, inputs = _opened(self.source)
        beside, beside_inputs = (None, None) if self.source_model is None else _opened(self.source_model)
        there, there_inputs = (None, None) if self.target_model is None else _opened(self.target_model)
        return {
            "source": left,
            "target": _existing(self.target),
            "rules": self.plan,
            "source_model": beside,
            "target_model": there,
            "source_inputs": inputs if inputs is not None else beside_inputs,
            "target_inputs": there_inputs,
        }


def planned(sides: Sides) -> Plan:
    """The plan; nothing is written."""
    return match(**sides.opened())


def move(sides: Sides, *, partial: bool) -> TransferReport:
    """Transfer, and write the target's file; a new one by the rules alone."""
    plan = sides.plan
    if plan is None or _is_there(sides.target):
        return transfer_weights(**sides.opened(), partial=partial)
    started = time.perf_counter()
    made = plan.apply(_opened(sides.source)[0], sides.target, partial=partial)
    return TransferReport(plan, made, None, None, time.perf_counter() - started)


def _opened(source: str) -> tuple[Any, Any]:
    """A model and the signature of its inputs, if a function returned one."""
    found = _FACTORY.fullmatch(source)
    if found is None or Path(source).exists():
        return _existing(Path(source)), None
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(found[1]), found[2])()
    except (ImportError, AttributeError) as error:
        raise WeightsError(
            f"{source} was not found: {error}. It names a module that Python can import from here, and a function in "
            "it that takes no arguments and returns a model, or a model and its input_signature"
        ) from error
    return made if isinstance(made, tuple) and len(made) == 2 else (made, None)


def _is_there(path: Path) -> bool:
    from interop.formats import find_prefix

    return path.exists() or find_prefix(path) is not None


def _existing(path: Path) -> Path:
    if not _is_there(path):
        raise FileNotFoundError(f"{path} does not exist")
    return path
