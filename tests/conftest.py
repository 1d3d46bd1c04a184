"""Settings that must be in place before a framework is imported.

The Keras backend is the one in ``KERAS_BACKEND``, else jax. Every thread pool has one thread, so that test
runs beside each other (``tools/test_all.py``) do not take each other's cores, and sums have one order.
"""

import gc
import os
import sys
import tempfile
from importlib.metadata import version
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
flags = ["--xla_cpu_multi_thread_eigen=false", "--xla_backend_optimization_level=0"]
if (
    (0, 6) <= tuple(map(int, version("jax").split(".")[:2])) < (0, 11)
):  # XLA stops at one that it does not know
    flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(flags))
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share what one of them compiled
    compiled = tempfile.TemporaryDirectory(prefix="interop-tests-", ignore_cleanup_errors=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled.name)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
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


def pytest_collection_finish() -> None:
    """What importing frameworks and tests made stays: no collection of garbage walks it again.

    Keras asks for one whenever a layer gives up a variable; each would take a fifth of a second.
    """
    gc.collect()
    gc.freeze()
