"""What a plain ``.onnx`` file says about the Keras model it was made of, so that ``original.py`` can make it again.

Enters: a model of Keras' own classes and its capture. Leaves: a dict of plain values, or None for a model that an
import could not make: its layers must need nothing but Keras.

The weights are in the graph, and only what cannot be read off it is kept beside the config: the parameters of
normalisations that became part of convolutions, seeds, states, and what a layer computes its constants from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from interop.artifact.recorded import array_to_json
from interop.capture.keras import compat
from interop.capture.keras.describe import architecture
from interop.errors import CaptureError

if TYPE_CHECKING:
    from interop.capture.keras.model import Captured
    from interop.graph.passes.convolution import Fold

_LARGEST_UNUSED = 1 << 20
"""Bytes of a variable that is not in the graph and is kept all the same."""


def recorded(model: Any, captured: Captured, folds: Iterable[Fold] | None) -> dict[str, Any] | None:
    """The account of a model.

    Args:
        model: any Keras model or layer.
        captured: its graph.
        folds: what became part of convolutions in the flat graph; None for one with functions.
    """
    if captured.fallback_layers or not compat.is_functional(model) or not compat.runs_only_keras_code(model):
        return None
    try:
        described = architecture(model, captured.layer_paths)
    except CaptureError:
        return None
    values = {
        name: array for fold in folds or () for name, array in zip(fold.names, fold.parameters, strict=True)
    }
    unused = [v for v in captured.variables if v.role in ("weight", "seed") and v.key not in captured.used]
    for record in unused:
        array = record.source.read()
        if array.nbytes <= _LARGEST_UNUSED:
            values[record.key] = array
    layers = compat.layers_with_paths(model, captured.layer_paths)
    values.update({key: compat.to_numpy(variable) for key, variable in compat.states(layers).items()})
    return {
        "keras": compat.keras_version(),
        "flat": folds is not None,
        "model": described,
        "structure": captured.signature.input_structure,
        "frozen": [path for layer, path in layers if not layer.trainable],
        "fixed": [record.key for record in captured.variables if not record.trainable],
        "values": {name: array_to_json(array) for name, array in sorted(values.items())},
    }
