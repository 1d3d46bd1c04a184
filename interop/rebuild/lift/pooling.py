"""Pools, with channels last unless the layout is kept. What Keras has no layer for stays an operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from interop.capture.keras.symint import floor_divide
from interop.rebuild.lifting import Lifted, NoMatch, Site, channels_last, lift
from interop.rebuild.sizes import Dims


@lift("MaxPool", "AveragePool")
def pool(site: Site, node: Any) -> Lifted | NoMatch:
    """A window over one to three axes."""
    attributes = site.attributes(node)
    kernel = tuple(attributes["kernel_shape"])
    rank = len(kernel)
    if not 1 <= rank <= 3 or len(node.outputs) > 1:
        return NoMatch(f"{rank} axes of places, or the positions of the maxima are wanted")
    strides = tuple(attributes.get("strides") or (1,) * rank)
    if max(attributes.get("dilations") or (1,)) > 1 or attributes.get("ceil_mode"):
        return NoMatch("dilations or ceil_mode")
    largest = node.op_type == "MaxPool"
    if node.inputs[0].dtype is None or not node.inputs[0].dtype.is_floating_point():
        return NoMatch("the type of its input is not known, or is no float")
    auto = attributes.get("auto_pad", "NOTSET")
    pads = tuple(attributes.get("pads") or (0,) * (2 * rank)) if auto == "NOTSET" else (0,) * (2 * rank)
    if auto not in ("NOTSET", "VALID", "SAME_UPPER"):
        return NoMatch(f"auto_pad={auto}")
    if auto == "SAME_UPPER" and not largest:
        return NoMatch("whether padding counts in an average differs between backends")
    if not largest and any(pads) and not attributes.get("count_include_pad"):
        return NoMatch("padding does not count in the average")
    sides = tuple(zip(pads[:rank], pads[rank:], strict=True))
    last = site.layout != "keep"
    data_format = "channels_last" if last else "channels_first"
    padding = "same" if auto == "SAME_UPPER" else "valid"
    layer_class = getattr(keras.layers, f"{'Max' if largest else 'Average'}Pooling{rank}D")

    def make(name: str, dtype: str) -> Any:
        return layer_class(kernel, strides, padding, data_format, name=name, dtype=dtype)

    def call(layer: Any, x: Any) -> Any:
        if any(map(any, sides)):
            around = ((0, 0), *sides, (0, 0)) if last else ((0, 0), (0, 0), *sides)
            x = ops.pad(x, around, constant_values=float("-inf") if largest else 0.0)
        return layer(x)

    def dims(given: list[Dims]) -> list[Sequence[int | None]]:
        x = given[0]
        places: list[int] = []
        for axis, length in enumerate(x[1:-1] if last else x[2:]):
            if padding == "same":
                places.append(floor_divide(length + strides[axis] - 1, strides[axis]))
            else:
                places.append(floor_divide(length + sum(sides[axis]) - kernel[axis], strides[axis]) + 1)
        return [(x[0], *places, x[-1]) if last else (*x[:2], *places)]

    config = (layer_class.__name__, kernel, strides, padding, sides, data_format)
    order = channels_last if last else None
    return Lifted(node, (node,), (node.inputs[0],), make, config, {}, order, call, dims)


@lift("GlobalAveragePool", "GlobalMaxPool", size=2)
def global_pool(site: Site, node: Any) -> Lifted | NoMatch:
    """Over all places, with a Flatten or Squeeze of what is left."""
    rank = site.rank(node.inputs[0])
    if rank not in (3, 4, 5):
        return NoMatch("not one to three axes of places, as far as is known")
    after = site.only_user(node.outputs[0])
    flat = after is not None and _is_flat(site, after)
    last = site.layout != "keep"
    data_format = "channels_last" if last else "channels_first"
    kind = "Average" if node.op_type == "GlobalAveragePool" else "Max"
    layer_class = getattr(keras.layers, f"Global{kind}Pooling{rank - 2}D")

    def make(name: str, dtype: str) -> Any:
        return layer_class(data_format, keepdims=not flat, name=name, dtype=dtype)

    def dims(given: list[Dims]) -> list[Sequence[int | None]]:
        x = given[0]
        channels = x[-1] if last else x[1]
        if flat:
            return [(x[0], channels)]
        ones = (1,) * (rank - 2)
        return [(x[0], *ones, channels) if last else (x[0], channels, *ones)]

    nodes = (node, after) if flat else (node,)
    config = (layer_class.__name__, data_format, flat)
    order = channels_last if last else None
    permutations = (None,) if flat else None
    return Lifted(nodes[-1], nodes, (node.inputs[0],), make, config, {}, order, None, dims, permutations)


@lift("ReduceMean", "ReduceMax")
def reduced_places(site: Site, node: Any) -> Lifted | NoMatch:
    """Mean or maximum over all places, the channels being behind or before them; at once or axis by axis."""
    reductions = [node]
    while (before := reductions[0].inputs[0].producer()) is not None and (
        before.op_type == node.op_type and site.only_user(before.outputs[0]) is reductions[0]
    ):
        reductions.insert(0, before)
    source = reductions[0].inputs[0]
    rank = site.rank(source)
    if rank not in (3, 4, 5):
        return NoMatch("not one to three axes of places, as far as is known")
    if source.dtype is None or not source.dtype.is_floating_point():
        return NoMatch("the type of its input is not known, or is no float")
    left = list(range(rank))
    axes: list[int] = []
    for reduction in reductions:
        attributes = site.attributes(reduction)
        given = attributes.get("axes")
        if len(reduction.inputs) > 1 and reduction.inputs[1] is not None:
            given = site.constant(reduction.inputs[1])
        if given is None:
            return NoMatch("its axes are not known")
        keepdims = bool(attributes.get("keepdims", 1))
        if keepdims and len(reductions) > 1:
            return NoMatch("it keeps axes of several reductions")
        gone = [left[int(axis)] for axis in given]
        axes = sorted([*axes, *gone])
        left = left if keepdims else [axis for axis in left if axis not in gone]
    behind = axes == list(range(1, rank - 1))
    if not behind and (axes != list(range(2, rank)) or (rank == 3 and keepdims)):
        return NoMatch(f"it goes over the axes {axes}")
    turned = not behind and site.layout != "keep"
    data_format = "channels_last" if behind or turned else "channels_first"
    kind = "Average" if node.op_type == "ReduceMean" else "Max"
    layer_class = getattr(keras.layers, f"Global{kind}Pooling{rank - 2}D")

    def make(name: str, dtype: str) -> Any:
        return layer_class(data_format, keepdims=keepdims, name=name, dtype=dtype)

    def dims(sizes: list[Dims]) -> list[Sequence[int | None]]:
        x, ones = sizes[0], (1,) * (rank - 2 if keepdims else 0)
        return [(x[0], *ones, x[-1]) if data_format == "channels_last" else (x[0], x[1], *ones)]

    config = (layer_class.__name__, data_format, keepdims)
    order = channels_last if turned else None
    permutations = None if keepdims else (None,)
    return Lifted(node, tuple(reductions), (source,), make, config, {}, order, None, dims, permutations)


def _is_flat(site: Site, node: Any) -> bool:
    """Whether a node leaves the batch and the channels of a pooled tensor."""
    if node.op_type == "Flatten":
        return int(site.attributes(node).get("axis", 1)) == 1
    if node.op_type != "Reshape":
        return False
    target = site.constant(node.inputs[1])
    return target is not None and target.size == 2 and int(target.reshape(-1)[1]) == -1
