"""Activations with weights: PReLU."""

from __future__ import annotations

from typing import Any

import keras

from interop.rebuild.lifting import Lifted, NoMatch, Site, channels_last, lift


@lift("PRelu")
def parametric_relu(site: Site, node: Any) -> Lifted | NoMatch:
    """A slope for all, or one a channel."""
    slope, rank = site.weight(node.inputs[1]), site.rank(node.inputs[0])
    if slope is None or rank is None or rank < 2:
        return NoMatch("its slope is no float initializer, or the axes of its input are not known")
    shape = slope.array().shape
    padded = (1,) * (rank - len(shape)) + shape
    if padded[0] != 1 or any(size != 1 for size in padded[2:]):
        return NoMatch(f"slopes of the shape {shape} are not one a channel")
    last = site.layout != "keep"
    axes = tuple(range(1, rank - 1)) if last else tuple(range(2, rank))
    shared = axes if padded[1] != 1 else tuple(range(1, rank))
    place = rank - 2 if last else 0

    def alpha(array: Any) -> Any:
        return array.reshape([-1 if axis == place else 1 for axis in range(rank - 1)])

    def make(name: str, dtype: str) -> Any:
        return keras.layers.PReLU(shared_axes=shared, name=name, dtype=dtype)

    return Lifted(
        node,
        (node,),
        (node.inputs[0],),
        make,
        ("PReLU", shared),
        {"alpha": slope.changed(f"of {rank} axes, {place}", alpha)},
        order=channels_last if last else None,
    )
