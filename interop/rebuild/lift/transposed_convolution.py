"""Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: ``ConvTranspose`` with weights and one group."""

from __future__ import annotations

from collections.abc import Sequence
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
    after = Added((node,), bias, turned=False)
    if bias is None and site.attributes(node).get("group", 1) == 1:
        after = added_after(site, node, int(kernel.array().shape[1]), kernel.array().ndim)
        bias = after.bias
    attributes = site.attributes(node)
    _, filters, *size = kernel.array().shape
    rank = len(size)
    strides = tuple(attributes.get("strides") or (1,) * rank)
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
    last = site.layout != "keep"
    data_format = "channels_last" if last else "channels_first"
    layer_class = getattr(keras.layers, f"Conv{rank}DTranspose")

    def make(name: str, dtype: str) -> Any:
        return layer_class(
            filters,
            tuple(size),
            strides,
            data_format=data_format,
            use_bias=bias is not None,
            name=name,
            dtype=dtype,
        )

    def call(layer: Any, x: Any) -> Any:
        y = layer(x)
        if not any(map(any, cuts)):
            return y
        inner = tuple(slice(before, -after or None) for before, after in cuts)
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
    if bias is not None:
        weights["bias"] = bias
    config = ("ConvTranspose", filters, tuple(size), strides, cuts, bias is not None, data_format)
    order = channels_last if last else None
    return Lifted(
        after.nodes[-1],
        after.nodes,
        (node.inputs[0],),
        make,
        config,
        weights,
        order,
        call,
        dims,
        permutations=(after.permutation(rank + 2, last=last),),
    )
