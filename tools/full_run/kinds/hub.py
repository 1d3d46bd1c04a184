"""Every row of ``tests/cases/hub``: models of KerasHub."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from tools.full_run.pytest_rows import rows_of


def _absent() -> Mapping[str, str]:
    absent: Mapping[str, str] = importlib.import_module("cases.hub").ABSENT
    return absent


KIND = rows_of("Models of KerasHub", "tests/test_hub.py::test_hub_model", _absent)
