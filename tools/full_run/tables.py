"""A table of rows as a JSON file, one row a line.

Enters: rows. Leaves: ``tools/tables/<name>.json``, replaced atomically after every row, under a lock that
other processes which write the same table respect. Invariants: a row is known by its name and backend; every
row refers to the run that made it, and a run says which ``interop/`` it ran on, when, and with what versions.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FOLDER = REPOSITORY / "tools" / "tables"
LOCKS = REPOSITORY / "build" / "full_run"

#: ``absent``: it has no row to run, for the reason given.
Verdict = Literal["pass", "fail", "error", "absent"]

_DISTRIBUTIONS = (
    *("keras", "jax", "tensorflow", "tensorflow-cpu", "torch", "onnx", "onnx-ir", "onnxscript"),
    *("onnxruntime", "openvino", "numpy", "tf2onnx", "jax2onnx", "keras-hub"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What came out of one case on one backend.

    Attributes:
        name: of the case.
        backend: that Keras ran on.
        verdict: ``pass``; ``fail``: it ran and differs; ``error``: it did not run; ``absent``.
        seconds: time taken.
        reason: why the verdict is not ``pass``.
        facts: what was measured, by name.
    """

    name: str
    backend: str
    verdict: Verdict
    seconds: float = 0.0
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What rows were made with."""

    tree: str
    date: str
    versions: Mapping[str, str]


def tree_hash() -> str:
    """Of every file of ``interop/``: paths and contents, in the order of paths."""
    digest = hashlib.sha256()
    root = REPOSITORY / "interop"
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Of what is installed here and may change a row."""
    found = {}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


class Table:
    """Rows by name and backend, each with its run."""

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        self.name = name
        self._path = folder / f"{name}.json"
        self._rows: dict[tuple[str, str], tuple[Row, Run]] = {}
        self._read()

    def _read(self) -> None:
        if not self._path.is_file():
            return
        content = json.loads(self._path.read_text(encoding="utf-8"))
        runs = {key: Run(**run) for key, run in content["runs"].items()}
        self._rows = {}
        for line in content["rows"]:
            known = {key: line.pop(key) for key in ("name", "backend", "verdict")}
            run, seconds, reason = line.pop("run"), line.pop("seconds", 0.0), line.pop("reason", "")
            self._rows[known["name"], known["backend"]] = (
                Row(**known, seconds=seconds, reason=reason, facts=line),
                runs[run],
            )

    def __iter__(self) -> Iterator[tuple[Row, Run]]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str, backend: str) -> Row | None:
        """The row of a case, whatever it ran on."""
        found = self._rows.get((name, backend))
        return None if found is None else found[0]

    def put(self, row: Row, run: Run) -> None:
        """Add or replace a row, on disk at once."""
        with self._locked():
            self._rows[row.name, row.backend] = (row, run)

    def keep(self, backend: str, names: Collection[str]) -> None:
        """Drop the rows of a backend that have no case any more."""
        with self._locked():
            gone = [key for key in self._rows if key[1] == backend and key[0] not in names]
            for key in gone:
                del self._rows[key]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Read what others wrote meanwhile; write what changed inside."""
        LOCKS.mkdir(parents=True, exist_ok=True)
        with open(LOCKS / f"{self.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read()
            yield
            self._write()

    def _write(self) -> None:
        runs: dict[str, Run] = {}
        keys: dict[str, str] = {}
        lines = []
        for _, (row, run) in sorted(self._rows.items()):
            identity = json.dumps(asdict(run), sort_keys=True)
            if identity not in keys:
                keys[identity] = str(len(keys) + 1)
                runs[keys[identity]] = run
            lines.append(json.dumps(_line(row, keys[identity]), ensure_ascii=False))
        head = ",\n".join(f"{json.dumps(key)}: {json.dumps(asdict(run))}" for key, run in runs.items())
        text = f'{{"runs": {{\n{head}\n}},\n"rows": [\n' + ",\n".join(lines) + "\n]}\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(made, 0o644)
        os.replace(made, self._path)


def _line(row: Row, run: str) -> dict[str, Any]:
    line: dict[str, Any] = {"name": row.name, "backend": row.backend, "verdict": row.verdict, "run": run}
    if row.reason:
        line["reason"] = row.reason
    if row.seconds:
        line["seconds"] = round(row.seconds, 2)
    return line | {key: _short(value) for key, value in row.facts.items()}


def _short(value: Any) -> Any:
    """The same with numbers of three digits, which is more than they are worth."""
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value
