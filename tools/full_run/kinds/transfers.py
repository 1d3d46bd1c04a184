"""Every row of ``tests/cases/transfers``: weights moved between two models, in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from tools.full_run.pytest_rows import rows_of


def _absent() -> Mapping[str, str]:
    return {}


KIND = rows_of("Weights moved between frameworks", "tests/test_transfer.py::test_both_ways", _absent)
