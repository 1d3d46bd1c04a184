"""Image layers whose own code does work at inference that cannot and need not be in a graph."""

from __future__ import annotations

from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import layer as layer_emitter
from interop.graph.record import Value


@layer_emitter("MixUp", since=13)
def mix_up(e: Emit, layer: Any, data: Any, training: Any = None) -> Any:
    """At inference the images pass; Keras still draws the weights of the mixture, from a beta distribution."""
    if training or not isinstance(data, Value):
        return NotImplemented
    return e.cast(data, str(layer.compute_dtype))
