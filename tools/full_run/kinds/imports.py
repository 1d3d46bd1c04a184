"""Every row of ``tests/cases/architectures``: PyTorch networks as Keras models, compared and trained."""

from __future__ import annotations

from collections.abc import Mapping

from tools.full_run.pytest_rows import rows_of


def _absent() -> Mapping[str, str]:
    return {}


KIND = rows_of(
    "PyTorch networks imported from ONNX", "tests/test_architectures.py::test_architecture", _absent
)
