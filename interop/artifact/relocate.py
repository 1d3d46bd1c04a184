"""A graph whose weights lie elsewhere than it says: in a zip, or in a cache under another name.

What enters: the parsed ``model.onnx``, whose initializers point into ``weights.safetensors``, and the entries of the
weights as they count from the start of the file that they lie in. What leaves: the same model, whose initializers
point into that file, so that ONNX Runtime maps the weights in place, given its folder.

Invariant: what ONNX computes with changes only in locations and offsets. The guard has passed the graph first: every
initializer is external, each with exactly a location, an offset and a length, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interop.artifact.schema import ExternalTensors
from interop.formats.safetensors import Entry


def relocate(model: Any, entries: Mapping[str, Entry], location: str) -> None:
    """Point every initializer of `model` to where its entry lies in the file `location`."""
    placed = ExternalTensors(location)
    for initializer in model.graph.initializer:
        name = initializer.name
        initializer.CopyFrom(placed.make(name, entries[name]))
