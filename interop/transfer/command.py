"""What ``interop transfer`` does: models from paths or from functions, the target's file replaced.

Enters: what was typed. Leaves: a plan or a report. Invariant: a target's file is the old one until the new one is
complete.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from interop.errors import WeightsError
from interop.transfer.plan import Plan
from interop.transfer.verbs import TransferReport, match, transfer_weights

_FACTORY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


def planned(source: str, target: Path, rules: Path | None) -> Plan:
    """The plan; nothing is written."""
    (left, inputs), right = _opened(source), _existing(target)
    return match(left, right, rules=_rules(rules), source_inputs=inputs)


def move(source: str, target: Path, rules: Path | None, *, partial: bool) -> TransferReport:
    """Transfer, and write the target's file."""
    (left, inputs), right = _opened(source), _existing(target)
    return transfer_weights(left, right, rules=_rules(rules), partial=partial, source_inputs=inputs)


def _rules(path: Path | None) -> Plan | None:
    return None if path is None else Plan.load(path)


def _opened(source: str) -> tuple[Any, Any]:
    """A model and the signature of its inputs, if a function returned one."""
    found = _FACTORY.fullmatch(source)
    if found is None or Path(source).exists():
        return _existing(Path(source)), None
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    module = importlib.import_module(found[1])
    if not hasattr(module, found[2]):
        raise WeightsError(f"module {found[1]!r} has no {found[2]!r}")
    made = getattr(module, found[2])()
    return made if isinstance(made, tuple) else (made, None)


def _existing(path: Path) -> Path:
    from interop.formats import find_prefix

    if not path.exists() and find_prefix(path) is None:
        raise FileNotFoundError(f"{path} does not exist")
    return path
