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

from interop.backend import choose_backend
from interop.errors import WeightsError
from interop.transfer.plan import Plan
from interop.transfer.verbs import TransferReport, match, transfer_weights

_FACTORY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


def planned(source: str, target: Path, rules: Path | None) -> Plan:
    """The plan; nothing is written."""
    (left, inputs), right = _opened(source), _target(target)
    return match(left, right, rules=_rules(rules), source_inputs=inputs)


def move(source: str, target: Path, rules: Path | None, *, partial: bool) -> TransferReport:
    """Transfer, and write the target's file."""
    (left, inputs), right = _opened(source), _target(target)
    done = transfer_weights(left, right, rules=_rules(rules), partial=partial, source_inputs=inputs)
    if target.suffix == ".keras":
        made = target.with_name(f".{target.stem}.new.keras")
        done.target.save(made)
        os.replace(made, target)
    return done


def _rules(path: Path | None) -> Plan | None:
    return None if path is None else Plan.load(path)


def _opened(source: str) -> tuple[Any, Any]:
    """A model and the signature of its inputs, if a function returned one."""
    found = _FACTORY.fullmatch(source)
    if found is None or Path(source).exists():
        return _target(Path(source)), None
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    module = importlib.import_module(found[1])
    if not hasattr(module, found[2]):
        raise WeightsError(f"module {found[1]!r} has no {found[2]!r}")
    made = getattr(module, found[2])()
    return made if isinstance(made, tuple) else (made, None)


def _target(path: Path) -> Any:
    """A model from its file; graphs stay paths."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix not in (".keras", ".h5"):
        return path
    choose_backend()
    from interop.rebuild.legacy.files import load
    from interop.rebuild.legacy.kinds import kind_of

    return load(path, kind_of(path) or "keras", compile=False).complete(path)
