"""ONNX' own backend tests: a sample of them passes as the table says; ``python -m tools.conformance`` runs them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from tools.conformance import table

ROOT = Path(__file__).parent.parent


def test_a_sample_passes_as_before() -> None:
    """In a process of its own, as JAX needs 64 bits there. It compiles every operation, so it gets half as many."""
    if keras.backend.backend() not in table.read()["failures"]:
        pytest.skip("the table has no column of this backend yet")
    count = "100" if keras.backend.backend() == "jax" else "200"
    result = subprocess.run(
        [sys.executable, "-m", "tools.conformance", "--check", count],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_the_page_says_what_the_table_holds() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page(table.read())
