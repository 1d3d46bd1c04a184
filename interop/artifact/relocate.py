"""A graph whose weights lie inside a zip: the same graph, pointing into the zip itself.

What enters: the parsed ``model.onnx`` of a zip, whose initializers point into ``weights.safetensors``, and
where that entry's data starts. What leaves: bytes whose initializers point at the zip's own file name, so
that ONNX Runtime maps the weights in place, given the zip's folder.

Invariant: only locations and offsets change. The guard has passed the graph first: every initializer is
external, each with exactly a location, an offset and a length, and nothing else is.
"""

from __future__ import annotations

from typing import Any

from interop.artifact.schema import serialize_model


def relocate(model: Any, location: str, data_start: int) -> bytes:
    """Serialise `model` with every initializer moved to file `location`, `data_start` bytes further on."""
    for initializer in model.graph.initializer:
        for entry in initializer.external_data:
            if entry.key == "location":
                entry.value = location
            elif entry.key == "offset":
                entry.value = str(int(entry.value) + data_start)
    return serialize_model(model)
