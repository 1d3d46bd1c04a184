"""A Keras 3 model becomes a graph: its own code runs once on traced tensors, on any backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interop.capture.keras.model import Captured


def capture(model: Any, **options: Any) -> Captured:
    """Capture a built Keras model; see ``interop.capture.keras.model.capture``."""
    from interop.capture.keras.model import capture as run

    return run(model, **options)
