"""Every row of ``tests/cases/layers`` and every application, exported and imported again; on two backends."""

from __future__ import annotations

from dataclasses import replace

from tools.full_run.pytest_rows import rows_of

KIND = replace(
    rows_of("Exported and imported again", "tests/test_roundtrip.py::test_round_trip", dict),
    backends=("torch", "tensorflow"),
)
