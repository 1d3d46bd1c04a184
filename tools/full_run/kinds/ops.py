"""Every row of ``tests/cases/ops``: the functions of ``keras.ops``."""

from __future__ import annotations

from collections.abc import Mapping

from tools.full_run.pytest_rows import rows_of


def _absent() -> Mapping[str, str]:
    from interop.capture.keras.absent import ABSENT

    return ABSENT


KIND = rows_of("Functions of keras.ops", "tests/test_ops.py::test_op", _absent)
