"""Outcomes of a run that is not over, so that one that was cut off goes on where it was.

Enters: the outcome of each case as it is known. Leaves: those of the same column, of the same ``interop/`` and the same
versions of what it stands on. Several processes may append to one file, a line at a time.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tools.full_run.tables import tree_hash, versions

FOLDER = Path(__file__).parents[2] / "build" / "conformance"


class Journal:
    """One column's outcomes: name of a case to why it fails, "" if it passes."""

    def __init__(self, column: str) -> None:
        """Read what is there."""
        stands_on = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode()).hexdigest()[:8]
        self._path = FOLDER / f"{column}-{tree_hash()}-{stands_on}.jsonl"
        self.outcomes: dict[str, str] = {}
        if self._path.is_file():
            whole = [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            self.outcomes.update(json.loads(line) for line in whole)

    def add(self, name: str, reason: str) -> None:
        """Keep an outcome."""
        self.outcomes[name] = reason
        FOLDER.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps([name, reason]) + "\n")

    def close(self) -> None:
        """The run is over; the next one begins anew."""
        self._path.unlink(missing_ok=True)
