"""Settings that must be in place before a framework is imported.

The Keras backend is the one in ``KERAS_BACKEND``, else jax. Every thread pool has one thread, so that test
runs beside each other (``tools/test_all.py``) do not take each other's cores, and sums have one order.
"""

import os
import sys
from typing import Any

import pytest

#: Its classes must not exist in the process that runs the tests; pytest would import it to look for doctests.
collect_ignore = ["cases/lost.py"]

os.environ.setdefault("KERAS_BACKEND", "jax")
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")
# Most of a test's time on JAX is compilation; what it compares with needs to be right, not fast.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# OpenVINO would fork a process to report that it was imported; it does without where this is not installed.
modules: dict[str, Any] = sys.modules
modules["openvino_telemetry"] = None


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--full``: the rows of the long tables too."""
    parser.addoption("--full", action="store_true", help="also run what is marked `full`: hours, not minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a framework's own models run with that framework's backend, once over the three runs.

    What is marked ``full`` runs when it is asked for.
    """
    backend = os.environ["KERAS_BACKEND"]
    full = config.getoption("--full")

    def runs(item: pytest.Item) -> bool:
        mark = item.get_closest_marker("framework")
        return (mark is None or backend in mark.args) and (full or item.get_closest_marker("full") is None)

    kept = [item for item in items if runs(item)]
    if len(kept) < len(items):
        chosen = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = kept
