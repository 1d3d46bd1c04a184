"""What lookup layers learned from data: their vocabulary, and the weights of its terms.

Keras keeps neither in variables. It writes the vocabulary into a text file, where a term with a line break is two,
and loses the weights; here both are plain values that come back as they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras.src.layers.preprocessing.index_lookup import IndexLookup


def keeps_vocabulary(layer: Any) -> bool:
    """Whether a layer, or the lookup inside it, has a vocabulary."""
    return isinstance(layer, IndexLookup) or isinstance(getattr(layer, "_lookup_layer", None), IndexLookup)


def lacks_vocabulary(layer: Any) -> bool:
    """Whether a lookup layer has no vocabulary, and has to be given one."""
    inner = layer if isinstance(layer, IndexLookup) else getattr(layer, "_lookup_layer", None)
    return isinstance(inner, IndexLookup) and int(inner.lookup_table.size()) == 0


def learned_vocabulary(layer: Any) -> dict[str, Any] | None:
    """The vocabulary of a lookup layer that its config does not have; None for any other layer."""
    if not isinstance(layer, IndexLookup) or layer.input_vocabulary is not None:
        return None
    terms = [term.item() if isinstance(term, np.generic) else term for term in layer.get_vocabulary()]
    learned: dict[str, Any] = {"vocabulary": terms}
    weights = getattr(layer, "idf_weights", None)
    if layer.output_mode == "tf_idf" and weights is not None:
        learned["idf_weights"] = [float(weight) for weight in weights.numpy()[: len(terms)]]
    return learned


def set_summary(layer: Any, summary: Any) -> None:
    """Give a Discretization what it keeps of the data it has seen, from which its boundaries follow."""
    summary = np.asarray(summary, "float32")
    if layer.num_bins is not None and summary.ndim == 2 and summary.shape[0] == 2:
        layer.summary = summary


def set_learned_vocabulary(layer: Any, learned: dict[str, Any]) -> None:
    """Give a lookup layer what ``learned_vocabulary`` read off it."""
    layer.set_vocabulary(learned["vocabulary"], learned.get("idf_weights"))
