"""Normalization: what it subtracts and divides by is known, and is computed here."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import layer as layer_emitter
from interop.graph.record import Value


@layer_emitter("Normalization", since=13)
def normalization(e: Emit, layer: Any, inputs: Any) -> Any:
    """``(inputs - mean) / max(sqrt(variance), epsilon)``, or back; JAX would compile a program for each step of it."""
    if not isinstance(inputs, Value) or layer.mean is None or compat.mentions([layer.mean, layer.variance]):
        return NotImplemented
    mean, variance = (compat.to_numpy(statistic) for statistic in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), np.asarray(compat.epsilon(None), variance.dtype))
    # Without 64 bits JAX keeps the statistics in 32, also for a layer of float64.
    dtype = compat.result_type(str(layer.compute_dtype), mean.dtype.name)
    x = e.cast(inputs, dtype)
    center, spread = e.constant(mean, dtype), e.constant(deviation, dtype)
    if layer.invert:
        return e.binary("Add", center, e.binary("Mul", x, spread))
    return e.binary("Div", e.binary("Sub", x, center), spread)
