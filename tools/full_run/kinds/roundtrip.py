"""Every row of ``tests/cases/layers`` and every application, exported and imported again."""

from __future__ import annotations

from tools.full_run.pytest_rows import rows_of

KIND = rows_of("Exported and imported again", "tests/test_roundtrip.py::test_round_trip", dict)
