"""SeparableConv1D and SeparableConv2D: a depthwise convolution without a bias, and one of single places behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from interop.rebuild.lift.bias import Added, added_after, own_bias
from interop.rebuild.lift.convolution import conv
from interop.rebuild.lifting import Lifted, NoMatch, Site, channels_last, lift


@lift("Conv", size=2)
def separable(site: Site, node: Any) -> Lifted | NoMatch:
    """Two convolutions, channels turned to the back and to the front between them or not."""
    depthwise = conv(site, node)
    if isinstance(depthwise, NoMatch):
        return depthwise
    if depthwise.covers != (node,) or "bias" in depthwise.weights:
        return NoMatch("the depthwise convolution has a bias")
    kernel = site.weight(node.inputs[1])
    attributes, groups = site.attributes(node), int(site.attributes(node).get("group", 1))
    if kernel is None or groups == 1 or kernel.array().shape[1] != 1:
        return NoMatch("it is not depthwise")
    filters, _, *size = kernel.array().shape
    rank = len(size)
    if rank > 2 or len(set(attributes.get("strides") or (1,))) > 1:
        return NoMatch(
            f"Keras separates no convolution over {rank} axes of places, or with different strides"
        )
    between, following = _next(site, node, rank)
    if following is None or not _is_pointwise(site.attributes(following), rank):
        return NoMatch("no convolution of single places follows")
    points = site.weight(following.inputs[1])
    if points is None or points.array().shape[1:] != (filters, *(1,) * rank):
        return NoMatch("what follows does not take all of its channels")
    outputs = int(points.array().shape[0])
    bias = own_bias(site, following)
    if isinstance(bias, NoMatch):
        return bias
    after = Added((following,), bias, turned=False)
    if bias is None:
        after = added_after(site, following, outputs, rank + 2)
    last = site.layout != "keep"
    layer_class = getattr(keras.layers, f"SeparableConv{rank}D")

    def make(name: str, dtype: str) -> Any:
        of = depthwise.make(name, dtype)
        return layer_class(
            outputs,
            of.kernel_size,
            of.strides,
            of.padding,
            of.data_format,
            of.dilation_rate,
            of.depth_multiplier,
            use_bias=after.bias is not None,
            name=name,
            dtype=dtype,
        )

    def dims(given: list[Any]) -> list[Any]:
        assert depthwise.dims is not None
        (made,) = depthwise.dims(given)
        return [(*made[:-1], outputs) if last else (made[0], outputs, *made[2:])]

    axes = (*range(2, rank + 2), 1, 0)
    weights = {
        "depthwise_kernel": depthwise.weights["kernel"],
        "pointwise_kernel": points.changed("places first", lambda array: np.transpose(array, axes)),
    }
    if after.bias is not None:
        weights["bias"] = after.bias
    return Lifted(
        after.nodes[-1],
        (node, *between, *after.nodes),
        depthwise.inputs,
        make,
        ("Separable", outputs, after.bias is not None, *depthwise.config),
        weights,
        depthwise.order,
        depthwise.call,
        dims,
        permutations=(after.permutation(rank + 2, last=last),),
        built_for=depthwise.built_for,
    )


def _next(site: Site, node: Any, rank: int) -> tuple[tuple[Any, ...], Any]:
    """The convolution that alone uses a result, and Transposes between them that undo each other."""
    user = site.only_user(node.outputs[0])
    between: tuple[Any, ...] = ()
    if user is not None and user.op_type == "Transpose":
        back = site.only_user(user.outputs[0])
        behind, before = channels_last(rank + 2), (0, rank + 1, *range(1, rank + 1))
        if back is None or back.op_type != "Transpose" or _perm(site, user) != behind:
            return (), None
        if _perm(site, back) != before:
            return (), None
        between, user = (user, back), site.only_user(back.outputs[0])
    found = (
        user is not None and user.op_type == "Conv" and user.inputs[0] is (between or (node,))[-1].outputs[0]
    )
    return between, user if found else None


def _perm(site: Site, node: Any) -> tuple[int, ...]:
    return tuple(site.attributes(node).get("perm", ()))


def _is_pointwise(attributes: Mapping[str, Any], rank: int) -> bool:
    """Whether a convolution, whose kernel has one place, takes every place once."""
    ones = all(set(attributes.get(name) or (1,)) == {1} for name in ("strides", "dilations"))
    return ones and not any(attributes.get("pads") or ()) and int(attributes.get("group", 1)) == 1
