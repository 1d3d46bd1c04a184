"""``backend.rnn``: a step function over time, for the cells that have no native node.

Keras' fused LSTM and GRU are refused, as Keras expects of a backend without them: its layers then come here, or
to ``recurrent.py`` before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import function
from interop.graph.record import Value


@function("lstm", "gru", "bidirectional_lstm", "bidirectional_gru")
def fused(e: Emit, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError


def steps(e: Emit, step: Callable[[Any, Any], Any], inputs: Value, mask: Value | None) -> Value:
    """``step`` on every step of (batch, time, ...) inputs, the results side by side in time."""
    raise NotImplementedError
