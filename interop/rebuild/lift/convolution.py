"""Conv1D, Conv2D, Conv3D and their depthwise forms, channels last unless the layout is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from interop.capture.keras.symint import floor_divide
from interop.rebuild.lift.bias import Added, added_after, own_bias
from interop.rebuild.lifting import Lifted, NoMatch, Site, channels_last, lift
from interop.rebuild.sizes import Dims


@lift("Conv")
def conv(site: Site, node: Any) -> Lifted | NoMatch:
    """A convolution of weights; padding that Keras has no word for is a layer of its own."""
    kernel = site.weight(node.inputs[1])
    if kernel is None:
        return NoMatch("the kernel is no float initializer")
    bias = own_bias(site, node)
    if isinstance(bias, NoMatch):
        return bias
    after = Added((node,), bias, turned=False)
    if bias is None:
        after = added_after(site, node, int(kernel.array().shape[0]), kernel.array().ndim)
        bias = after.bias
    attributes = site.attributes(node)
    filters, _, *size = kernel.array().shape
    rank = len(size)
    if not 1 <= rank <= 3:
        return NoMatch(f"a kernel with {rank} axes of places")
    strides = tuple(attributes.get("strides") or (1,) * rank)
    dilations = tuple(attributes.get("dilations") or (1,) * rank)
    pads = tuple(attributes.get("pads") or (0,) * (2 * rank))
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID", "SAME_UPPER"):
        return NoMatch(f"auto_pad={automatic}")
    if max(strides) > 1 and max(dilations) > 1:
        return NoMatch("strides and dilations together")
    groups = int(attributes.get("group", 1))
    last = site.layout != "keep"
    data_format = "channels_last" if last else "channels_first"
    sides = tuple(zip(pads[:rank], pads[rank:], strict=True))
    if automatic != "NOTSET":
        sides = ((0, 0),) * rank
    reach = [(length - 1) * step for length, step in zip(size, dilations, strict=True)]
    # "same" pads as much, where every place is a window's middle.
    middle = max(strides) == 1 and sides == tuple((total // 2, total - total // 2) for total in reach)
    same = middle or automatic == "SAME_UPPER"
    config = (
        "Conv",
        rank,
        filters,
        tuple(size),
        strides,
        dilations,
        groups,
        sides,
        same,
        bias is not None,
        data_format,
    )
    # TensorFlow has depthwise kernels for equal strides only.
    depthwise = groups > 1 and kernel.array().shape[1] == 1 and rank < 3 and len(set(strides)) == 1
    layer_class = getattr(keras.layers, f"{'Depthwise' if depthwise else ''}Conv{rank}D")

    def make(name: str, dtype: str) -> Any:
        if depthwise:
            return layer_class(
                tuple(size),
                strides,
                "same" if same else "valid",
                filters // groups,
                data_format,
                dilations,
                use_bias=bias is not None,
                name=name,
                dtype=dtype,
            )
        return layer_class(
            filters,
            tuple(size),
            strides,
            "same" if same else "valid",
            data_format,
            dilations,
            groups,
            use_bias=bias is not None,
            name=name,
            dtype=dtype,
        )

    def call(layer: Any, x: Any) -> Any:
        if any(map(any, sides)) and not same:
            x = _padding(sides, data_format, layer.compute_dtype)(x)
        return layer(x)

    axes = (*range(2, rank + 2), 1, 0)

    def places_first(array: Any) -> Any:
        moved = np.transpose(array, axes)
        return moved.reshape(*size, groups, filters // groups) if depthwise else moved

    weights = {"kernel": kernel.changed("places first", places_first)}
    if bias is not None:
        weights["bias"] = bias
    order = channels_last if last else None

    def dims(given: list[Dims]) -> list[Sequence[int | None]]:
        x = given[0]
        places = [
            floor_divide(length - 1 if same else length + sum(sides[axis]) - reach[axis] - 1, strides[axis])
            + 1
            for axis, length in enumerate(x[1:-1] if last else x[2:])
        ]
        return [(x[0], *places, filters) if last else (x[0], filters, *places)]

    def built_for(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        places = (None,) * rank  # those of the input are fewer, where padding is a layer of its own
        return (shape[0], *places, shape[-1]) if last else (*shape[:2], *places)

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
        built_for=built_for,
    )


def _padding(sides: tuple[tuple[int, int], ...], data_format: str, dtype: str) -> Any:
    """Zeros around."""
    if len(sides) == 1:
        return keras.layers.ZeroPadding1D(sides[0], data_format=data_format, dtype=dtype)
    return getattr(keras.layers, f"ZeroPadding{len(sides)}D")(sides, data_format=data_format, dtype=dtype)
