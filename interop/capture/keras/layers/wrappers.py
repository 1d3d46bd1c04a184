"""TimeDistributed: one layer applied to every step of a sequence."""

from __future__ import annotations

from typing import Any

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.layers.loop import steps
from interop.capture.keras.registry import layer as layer_emitter
from interop.graph.record import Value


@layer_emitter("TimeDistributed", since=13)
def time_distributed(e: Emit, layer: Any, inputs: Value, training: Any = None, mask: Any = None) -> Any:
    """Batch and time become one batch where no example can tell, and a Scan over time otherwise.

    Keras calls a quantised layer's unquantised code here: its integers are multiplied and never scaled.
    """
    inner = layer.layer
    run = compat.call_body if compat.quantization_mode(inner) is None else compat.call_unquantised
    given = {"mask": mask} if mask is not None and compat.takes_mask(inner) else {}
    if not compat.treats_examples_alone(inner):

        def step(x: Any, *masks: Any) -> Any:
            return run(inner, x, **dict(zip(given, masks, strict=True)))

        return steps(e, step, inputs, *given.values())
    batch, time = inputs.dims[:2]
    merged = {key: e.reshape(value, (batch * time, *value.dims[2:])) for key, value in given.items()}
    result = run(inner, e.reshape(inputs, (batch * time, *inputs.dims[2:])), **merged)
    value = result.value
    return e.reshape(value, (batch, time, *value.dims[1:]))
