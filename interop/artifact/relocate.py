"""Where ONNX Runtime finds the weights of a graph.

What enters: the parsed ``model.onnx``, whose initializers point into ``weights.safetensors``, and the entries of the
weights as they count from the start of the file that they lie in. What leaves: the same model. Initializers point
into that file (a zip, or one that a cache keeps under another name), so that ONNX Runtime maps the weights in place,
given its folder; but for the few pages of a BatchNormalization, which are in the graph itself: ONNX Runtime multiplies
kernels by them while it opens the graph, and opens, maps and closes the file anew for each.

Invariant: what ONNX computes with stays the same to the bit. The guard has passed the graph first: every initializer
is external, each with exactly a location, an offset and a length, and nothing else is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from interop.artifact.files import WEIGHTS
from interop.artifact.schema import ExternalTensors
from interop.errors import ArtifactError
from interop.formats.safetensors import Entry

MAX_EMBEDDED_BYTES = 16 << 10
"""A weight longer than this is never copied: it is mapped."""

FOLDED = "BatchNormalization"


def relocate(model: Any, entries: Mapping[str, Entry], location: str) -> None:
    """Point every initializer of `model` to where its entry lies in the file `location`."""
    placed = ExternalTensors(location)
    for initializer in model.graph.initializer:
        name = initializer.name
        initializer.CopyFrom(placed.make(name, entries[name]))


def embed_folded(model: Any, entries: Mapping[str, Entry], descriptor: int) -> None:
    """Put the values that are folded into kernels into `model`.

    Raises:
        ArtifactError: the file, which is open as `descriptor`, ends before them.
    """
    nodes = [node for node in model.graph.node if node.op_type == FOLDED and not node.domain]
    folded = {name for node in nodes for name in node.input}
    for initializer in model.graph.initializer if folded else ():
        entry = entries[initializer.name]
        if initializer.name in folded and 0 < entry.size_bytes <= MAX_EMBEDDED_BYTES:
            values = os.pread(descriptor, entry.size_bytes, entry.begin)
            if len(values) != entry.size_bytes:
                raise ArtifactError(f"{WEIGHTS} ends within {initializer.name!r}: it was cut short")
            initializer.ClearField("external_data")
            initializer.ClearField("data_location")
            initializer.raw_data = values
