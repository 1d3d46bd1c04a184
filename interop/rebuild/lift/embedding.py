"""Embedding: ``Gather`` of rows of a matrix of weights."""

from __future__ import annotations

from typing import Any

import keras

from interop.rebuild.lifting import Lifted, NoMatch, Site, lift


@lift("Gather")
def embedding(site: Site, node: Any) -> Lifted | NoMatch:
    """Rows by their number."""
    table = site.weight(node.inputs[0])
    if table is None:
        return NoMatch("it does not gather from a float initializer")
    shape = table.array().shape
    if len(shape) != 2 or int(site.attributes(node).get("axis", 0)) not in (0, -2):
        return NoMatch("it gathers no rows of a matrix")
    if site.constant(node.inputs[1]) is not None or site.rank(node.inputs[1]) == 0:
        return NoMatch("which rows it gathers is known")
    rows, width = int(shape[0]), int(shape[1])

    def make(name: str, dtype: str) -> Any:
        return keras.layers.Embedding(rows, width, name=name, dtype=dtype)

    return Lifted(
        node,
        (node,),
        (node.inputs[1],),
        make,
        ("Embedding", rows, width),
        {"embeddings": table},
        dims=lambda given: [(*given[0], width)],
    )
