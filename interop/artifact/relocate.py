"""Where ONNX Runtime finds the weights of a graph.

What enters: the parsed ``model.onnx``, whose initializers point into ``weights.safetensors``, and the entries of the
weights as they count from the start of the file that they lie in. What leaves: the same model. Initializers point
into that file (a zip, or one that a cache keeps under another name), so that ONNX Runtime maps the weights in place,
given its folder; those of a few pages are in the graph itself, as to open, map and close the file for each takes most
of the time that a model of many small weights needs to open.

Invariant: what ONNX computes with stays the same to the bit. The guard has passed the graph first: every initializer
is external, each with exactly a location, an offset and a length, and nothing else is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from interop.artifact.schema import ExternalTensors
from interop.errors import ArtifactError
from interop.formats.safetensors import Entry

MAX_EMBEDDED_BYTES = 16 << 10
"""A weight longer than this is never copied: it is mapped."""


def relocate(model: Any, entries: Mapping[str, Entry], location: str) -> None:
    """Point every initializer of `model` to where its entry lies in the file `location`."""
    placed = ExternalTensors(location)
    for initializer in model.graph.initializer:
        name = initializer.name
        initializer.CopyFrom(placed.make(name, entries[name]))


def embed_small(model: Any, entries: Mapping[str, Entry], descriptor: int) -> None:
    """Put the values of small initializers of `model` into it.

    Raises:
        ArtifactError: the file, which is open as `descriptor`, ends before them.
    """
    for initializer in model.graph.initializer:
        entry = entries[initializer.name]
        if 0 < entry.size_bytes <= MAX_EMBEDDED_BYTES:
            values = os.pread(descriptor, entry.size_bytes, entry.begin)
            if len(values) != entry.size_bytes:
                raise ArtifactError(f"the weights end within {initializer.name!r}: the file was cut short")
            initializer.ClearField("external_data")
            initializer.ClearField("data_location")
            initializer.raw_data = values
