"""Settings that must be in place before a framework is imported.

The Keras backend is the one in ``KERAS_BACKEND``, else jax. Every thread pool has one thread, so that test
runs beside each other (``tools/test_all.py``) do not take each other's cores, and sums have one order.
"""

import os

import pytest

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a framework's own models run with that framework's backend, once over the three runs."""
    backend = os.environ["KERAS_BACKEND"]
    elsewhere = [
        item
        for item in items
        if (mark := item.get_closest_marker("framework")) is not None and backend not in mark.args
    ]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
