"""A Keras 3 model becomes a graph: its own code runs once on traced tensors, on any backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interop.capture.keras.model import Captured


def capture(
    model: Any,
    *,
    input_signature: Any = None,
    opset: int | None = None,
    fallback: str = "layer",
    trust_keras: bool = False,
) -> Captured:
    """Capture a built Keras model; see ``interop.capture.keras.model.capture``."""
    from interop.capture.keras.model import capture as run

    return run(
        model, input_signature=input_signature, opset=opset, fallback=fallback, trust_keras=trust_keras
    )
