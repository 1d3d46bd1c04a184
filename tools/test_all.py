"""Run the whole test suite on every Keras backend, one after the other, each in processes of its own.

    python tools/test_all.py                          # jax, tensorflow and torch
    python tools/test_all.py --backend torch          # one of them
    python tools/test_all.py --workers 8              # processes at a time; by default one a core
    python tools/test_all.py -- -k parity -x          # arguments for pytest

Exit code 0 only if pytest passed on every backend. The last line adds up the tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("jax", "tensorflow", "torch")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What pytest said on one backend."""

    backend: str
    exit_code: int
    seconds: float
    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        return f"{self.backend:<12}{counts} in {self.seconds:.0f} s (exit code {self.exit_code})"


def run(backend: str, workers: int, pytest_arguments: Sequence[str]) -> Outcome:
    """Run pytest on one backend, passing its output on line by line.

    A worker that is done takes tests from one that is not, so both end together.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={counts}", "-p", "no:cacheprovider"]
        command += ["-q", f"--numprocesses={workers}", "--dist=worksteal"]
        process = subprocess.Popen(
            [*command, *pytest_arguments],
            cwd=ROOT,
            env={**os.environ, "KERAS_BACKEND": backend, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            print(f"[{backend}] {line}", end="", flush=True)
        exit_code = process.wait()
        total, failed, skipped = _counts(counts)
    seconds = time.monotonic() - started
    return Outcome(backend, exit_code, seconds, total - failed - skipped, failed, skipped)


def _counts(report: Path) -> tuple[int, int, int]:
    """Tests in all, failed and skipped; zeros when pytest stopped before it wrote the report."""
    if not report.is_file():
        return 0, 0, 0
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))

    def total(*names: str) -> int:
        return sum(int(suite.get(name, "0")) for suite in suites for name in names)

    return total("tests"), total("failures", "errors"), total("skipped")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="only this one; can be repeated")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("pytest_arguments", nargs="*", metavar="PYTEST_ARGUMENT")
    arguments = parser.parse_args()
    backends = arguments.backend or list(BACKENDS)
    outcomes = [run(backend, arguments.workers, arguments.pytest_arguments) for backend in backends]
    print()
    for outcome in outcomes:
        print(outcome)
    passed, failed, skipped = (
        sum(getattr(outcome, field) for outcome in outcomes) for field in ("passed", "failed", "skipped")
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if all(outcome.exit_code == 0 for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
