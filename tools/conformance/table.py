"""What passes where: ``tools/tables/conformance.json``, and a page that counts it.

Enters: the reasons why cases fail on a backend. Leaves: both files. Invariants: a backend's column is of one run,
with the hash of ``interop/``, the date and the versions; a case without a reason passed.
"""

from __future__ import annotations

import collections
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tools.conformance.cases import Case, lacks_types
from tools.full_run.tables import FOLDER, Run, tree_hash, versions

JSON = FOLDER / "conformance.json"
PAGE = FOLDER / "conformance.md"
COLUMNS = ("onnxruntime", "torch", "tensorflow", "jax")
_LONGEST = 160


def read() -> dict[str, Any]:
    """The table as it is on disk; an empty one if there is none."""
    if not JSON.is_file():
        return {"runs": {}, "cases": {}, "lacking": [], "failures": {}}
    content: dict[str, Any] = json.loads(JSON.read_text(encoding="utf-8"))
    return content


def write(cases: Sequence[Case], backend: str, reasons: Mapping[str, str]) -> None:
    """Replace a backend's column, which must be of all cases."""
    table = read()
    table["cases"] = {case.name: case.kind for case in cases}
    table["lacking"] = sorted(case.name for case in cases if lacks_types(case))
    run = Run(tree_hash(), datetime.datetime.now(tz=datetime.UTC).date().isoformat(), versions())
    table["runs"][backend] = asdict(run)
    table["failures"][backend] = {name: _short(reasons[name]) for name in sorted(reasons)}
    JSON.write_text(json.dumps(table, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(table), encoding="utf-8")


def _short(reason: str) -> str:
    return " ".join(reason.split())[:_LONGEST]


def page(table: Mapping[str, Any]) -> str:
    """The counts, and why cases fail on each backend of Keras."""
    columns = [name for name in COLUMNS if name in table["failures"]]
    cases, lacking = table["cases"], set(table["lacking"])
    groups: dict[str, set[str]] = {"all": set(cases)}
    groups["types that Keras has"] = set(cases) - lacking
    groups["strings, float8, 4 and 2 bits"] = lacking
    for kind in sorted(set(cases.values())):
        groups[f"kind {kind}"] = {name for name, found in cases.items() if found == kind}
    lines = [
        "# ONNX' own backend tests",
        "",
        "Made by `KERAS_BACKEND=... python -m tools.conformance --write`, and with `--runtime` for ONNX Runtime.",
        "Every case is compared in dtype, shape and values. JAX has x64 on. While a case runs on Keras, onnxruntime",
        "and onnx.reference cannot be imported.",
        "",
        "| | cases | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for title, names in groups.items():
        passed = [len(names - set(table["failures"][column])) for column in columns]
        lines.append(f"| {title} | {len(names)} | " + " | ".join(map(str, passed)) + " |")
    lines += ["", "| column | `interop/` | date | versions |", "|---|---|---|---|"]
    for column in columns:
        run = table["runs"][column]
        shown = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        lines.append(f"| {column} | {run['tree']} | {run['date']} | {shown} |")
    for column in columns:
        if column != "onnxruntime":
            lines += ["", f"## What fails on {column}", "", "| cases | why | one of them |", "|---|---|---|"]
            lines += _reasons(table["failures"][column])
    return "\n".join(lines) + "\n"


def _reasons(failures: Mapping[str, str]) -> list[str]:
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name, reason in failures.items():
        groups[_kind(reason)].append(name)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"| {len(names)} | {reason.replace('|', '/')} | {names[0]} |" for reason, names in ranked]


def _kind(reason: str) -> str:
    """A reason without what is of one case: numbers and names of nodes."""
    unsupported = re.search(r"become Keras operations\. ([^:]*(?:::[^:]*)?) of opset", reason)
    if unsupported:
        return f"no handler for {unsupported.group(1)}"
    return re.sub(r"\d+", "n", re.sub(r"node '[^']*' ", "", reason))
