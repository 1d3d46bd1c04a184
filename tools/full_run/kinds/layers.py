"""Every row of ``tests/cases/layers``: the classes of ``keras.layers``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from tools.full_run.pytest_rows import rows_of


def _absent() -> Mapping[str, str]:
    absent: Mapping[str, str] = importlib.import_module("cases.layers").ABSENT
    return absent


KIND = rows_of("Layers of keras.layers", "tests/test_layers.py::test_layer", _absent)
