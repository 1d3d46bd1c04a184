"""Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: ``ConvTranspose`` with weights and one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from interop.rebuild.lift.bias import Added, added_after, own_bias
from interop.rebuild.lifting import Lifted, NoMatch, Site, channels_last, lift
from interop.rebuild.sizes import Dims


@lift("ConvTranspose")
def conv_transpose(site: Site, node: Any) -> Lifted | NoMatch:
    """The whole result, cut at its sides as the pads say."""
    kernel = site.weight(node.inputs[1])
    bias = own_bias(site, node)
    if isinstance(bias, NoMatch):
        return bias
    if kernel is None:
        return NoMatch("the kernel is no float initializer")
    attributes = site.attributes(node)
    _, filters, *size = kernel.array().shape
    rank = len(size)
    strides = tuple(attributes.get("strides") or (1,) * rank)
    cuts = _cuts(attributes, size, strides)
    if isinstance(cuts, NoMatch):
        return cuts
    after = added_after(site, node, filters, rank + 2) if bias is None else Added((node,), bias, turned=False)
    last = site.layout != "keep"
    layer_class = getattr(keras.layers, f"Conv{rank}DTranspose")
    options = {
        "filters": filters,
        "kernel_size": tuple(size),
        "strides": strides,
        "data_format": "channels_last" if last else "channels_first",
        "use_bias": after.bias is not None,
    }

    def call(layer: Any, x: Any) -> Any:
        y = layer(x)
        if not any(map(any, cuts)):
            return y
        inner = tuple(slice(before, -behind or None) for before, behind in cuts)
        everything = slice(None)
        return y[(everything, *inner, everything) if last else (everything, everything, *inner)]

    def dims(given: list[Dims]) -> list[Sequence[int | None]]:
        x = given[0]
        places = [
            length * strides[axis] + max(size[axis] - strides[axis], 0) - sum(cuts[axis])
            for axis, length in enumerate(x[1:-1] if last else x[2:])
        ]
        return [(x[0], *places, filters) if last else (x[0], filters, *places)]

    axes = (*range(2, rank + 2), 1, 0)
    weights = {"kernel": kernel.changed("places first", lambda array: np.transpose(array, axes))}
    if after.bias is not None:
        weights["bias"] = after.bias
    return Lifted(
        after.nodes[-1],
        after.nodes,
        (node.inputs[0],),
        lambda name, dtype: layer_class(**options, name=name, dtype=dtype),
        ("ConvTranspose", cuts, *options.values()),
        weights,
        channels_last if last else None,
        call,
        dims,
        permutations=(after.permutation(rank + 2, last=last),),
    )


def _cuts(
    attributes: Mapping[str, Any], size: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...] | NoMatch:
    """How many places of Keras' whole result the node's does not have, before and behind, by axis."""
    rank = len(size)
    if not 1 <= rank <= 3 or attributes.get("group", 1) != 1:
        return NoMatch(f"{rank} axes of places, or groups")
    if max(attributes.get("dilations") or (1,)) > 1 or attributes.get("output_shape"):
        return NoMatch("dilations or output_shape")
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return NoMatch(f"auto_pad={attributes['auto_pad']}")
    pads = tuple(attributes.get("pads") or (0,) * (2 * rank))
    more = tuple(attributes.get("output_padding") or (0,) * rank)
    # Without padding Keras makes `length * stride + max(kernel - stride, 0)` places.
    beyond = tuple(max(step - length, 0) for step, length in zip(strides, size, strict=True))
    cuts = tuple((pads[i], pads[rank + i] - more[i] + beyond[i]) for i in range(rank))
    if min(min(pair) for pair in cuts) < 0:
        return NoMatch("output_padding beyond the pads")
    return cuts
