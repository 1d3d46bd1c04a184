"""Which backend Keras runs on, settled before Keras is imported.

Enters: what is imported, set and installed. Leaves: ``KERAS_BACKEND`` in the environment, from where Keras
takes it.

Invariants: an imported Keras and an explicit ``KERAS_BACKEND`` are never overruled; ``keras.json``, which
Keras itself writes with its default, counts only if that backend is installed. No framework is imported here.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from interop.errors import BackendError

BACKENDS = ("jax", "tensorflow", "torch")
"""In the order in which an installed one is taken when nothing says which."""


def choose_backend() -> str:
    """Settle the backend: an imported Keras', ``KERAS_BACKEND``, that of ``keras.json``, the first installed.

    Returns:
        The backend's name; ``KERAS_BACKEND`` is set to it unless Keras is imported already.

    Raises:
        BackendError: none is installed, or ``KERAS_BACKEND`` names one that is not; the message names the
            extra to install.
    """
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    installed = [name for name in BACKENDS if find_spec(name) is not None]
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted:
        _check_wanted(wanted, installed)
        return wanted
    if not installed:
        raise BackendError(
            "Keras layers need a backend and none is installed. Install one with an extra: "
            'pip install "interop[jax]" (or tensorflow, or torch). Graphs and tensors need none: '
            "interop.load_graph and interop.load_tensors work as they are"
        )
    configured = _configured()
    chosen = configured if configured in installed else installed[0]
    os.environ["KERAS_BACKEND"] = chosen
    return chosen


def _check_wanted(wanted: str, installed: list[str]) -> None:
    if wanted not in BACKENDS:
        raise BackendError(f"KERAS_BACKEND is {wanted!r}; expected one of {', '.join(BACKENDS)}")
    if wanted not in installed:
        there = f"installed: {', '.join(installed)}" if installed else "no other backend is installed either"
        raise BackendError(
            f"KERAS_BACKEND is {wanted!r}, which is not installed ({there}). "
            f'Install it with pip install "interop[{wanted}]", or set KERAS_BACKEND to another'
        )


def _configured() -> str | None:
    """The backend in ``keras.json``, if that file can be read and names one."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        config = json.loads((Path(home) / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # Keras, too, goes on without it
    return config.get("backend") if isinstance(config, dict) else None
