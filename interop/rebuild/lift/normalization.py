"""BatchNormalization, LayerNormalization, GroupNormalization and RMSNormalization, from operators of those names.

Forms made of smaller operators are in ``decomposed.py``.
"""

from __future__ import annotations

from typing import Any

import keras

from interop.rebuild.lifting import Lifted, NoMatch, Site, Weight, channels_last, lift


@lift("BatchNormalization")
def batch_normalization(site: Site, node: Any) -> Lifted | NoMatch:
    """Statistics of a batch while it trains, of the past otherwise, as in the framework that the graph is from."""
    attributes = site.attributes(node)
    if attributes.get("training_mode") or not attributes.get("spatial", 1):
        return NoMatch("training_mode or spatial=0")
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights: dict[str, Weight] = {}
    scale, center = not _is_all(site, node.inputs[1], 1), not _is_all(site, node.inputs[2], 0)
    left_out = {*(() if scale else ("gamma",)), *(() if center else ("beta",))}
    for name, value in zip(names, node.inputs[1:], strict=True):
        if name in left_out:
            continue
        weight = site.weight(value)
        if weight is None:
            return NoMatch(f"its {name} is no float initializer")
        weights[name] = weight
    epsilon, momentum = float(attributes.get("epsilon", 1e-5)), float(attributes.get("momentum", 0.9))
    last = site.layout != "keep"

    def make(name: str, dtype: str) -> Any:
        return keras.layers.BatchNormalization(
            axis=-1 if last else 1,
            momentum=momentum,
            epsilon=epsilon,
            center=center,
            scale=scale,
            name=name,
            dtype=dtype,
        )

    config = ("BatchNormalization", epsilon, momentum, last, scale, center)
    return Lifted(
        node, (node,), (node.inputs[0],), make, config, weights, order=channels_last if last else None
    )


def _is_all(site: Site, value: Any, number: int) -> bool:
    """Whether a value is no parameter, and the same number throughout."""
    constant = None if value is None or site.weight(value) is not None else site.constant(value)
    return constant is not None and bool((constant == number).all())


def over_last_axes(
    node: Any,
    covers: tuple[Any, ...],
    x: Any,
    gamma: Weight | None,
    beta: Weight | None,
    count: int,
    epsilon: float,
) -> Lifted:
    """LayerNormalization over the last `count` axes."""
    axes = list(range(-count, 0))
    center, scale = beta is not None, gamma is not None

    def make(name: str, dtype: str) -> Any:
        return keras.layers.LayerNormalization(
            axis=axes if count > 1 else -1,
            epsilon=epsilon,
            center=center,
            scale=scale,
            name=name,
            dtype=dtype,
        )

    weights = {name: weight for name, weight in (("gamma", gamma), ("beta", beta)) if weight is not None}
    config = ("LayerNormalization", count, epsilon, center, scale)
    return Lifted(node, covers, (x,), make, config, weights)


@lift("LayerNormalization")
def layer_normalization(site: Site, node: Any) -> Lifted | NoMatch:
    """Over the axes that its scale has."""
    attributes = site.attributes(node)
    if any(value.name and value.uses() for value in node.outputs[1:]):
        return NoMatch("its mean or deviation is used")
    gamma = site.weight(node.inputs[1])
    if gamma is None and not _is_all(site, node.inputs[1], 1):
        return NoMatch("its scale is no float initializer")
    beta = site.weight(node.inputs[2]) if len(node.inputs) > 2 else None
    if beta is None and len(node.inputs) > 2 and node.inputs[2] is not None:
        return NoMatch("its bias is no float initializer")
    axis, rank = int(attributes.get("axis", -1)), site.rank(node.inputs[0])
    if axis >= 0 and rank is None:
        return NoMatch("the number of axes of its input is not known")
    count = -axis if axis < 0 else int(rank or 0) - axis
    if any(weight is not None and weight.array().ndim != count for weight in (gamma, beta)):
        return NoMatch("its scale or bias is broadcast")
    epsilon = float(attributes.get("epsilon", 1e-5))
    return over_last_axes(node, (node,), node.inputs[0], gamma, beta, count, epsilon)


@lift("RMSNormalization")
def rms_normalization(site: Site, node: Any) -> Lifted | NoMatch:
    """Over the last axis."""
    attributes = site.attributes(node)
    scale, rank = site.weight(node.inputs[1]), site.rank(node.inputs[0])
    if scale is None or scale.array().ndim != 1:
        return NoMatch("its scale is no float initializer with one axis")
    axis = int(attributes.get("axis", -1))
    if axis != -1 and axis != (rank or 0) - 1:
        return NoMatch(f"it normalises from axis {axis} on")
    return root_mean_square(node, (node,), node.inputs[0], scale, float(attributes.get("epsilon", 1e-5)))


def root_mean_square(node: Any, covers: tuple[Any, ...], x: Any, scale: Weight, epsilon: float) -> Lifted:
    """RMSNormalization over the last axis."""

    def make(name: str, dtype: str) -> Any:
        return keras.layers.RMSNormalization(axis=-1, epsilon=epsilon, name=name, dtype=dtype)

    return Lifted(node, covers, (x,), make, ("RMSNormalization", epsilon), {"scale": scale})


@lift("GroupNormalization")
def group_normalization(site: Site, node: Any) -> Lifted | NoMatch:
    """Groups of channels, with a scale and an offset a channel."""
    attributes = site.attributes(node)
    gamma, beta = site.weight(node.inputs[1]), site.weight(node.inputs[2])
    if gamma is None or beta is None:
        return NoMatch("its scale or bias is no float initializer")
    groups, epsilon = int(attributes["num_groups"]), float(attributes.get("epsilon", 1e-5))
    if node.inputs[0].shape is None or gamma.array().shape != (node.inputs[0].shape[1],):
        return NoMatch("its scale is not one number a channel")
    return in_groups(site, node, (node,), node.inputs[0], gamma, beta, groups, epsilon)


@lift("InstanceNormalization")
def instance_normalization(site: Site, node: Any) -> Lifted | NoMatch:
    """Every channel is a group."""
    gamma, beta = site.weight(node.inputs[1]), site.weight(node.inputs[2])
    if gamma is None or beta is None:
        return NoMatch("its scale or bias is no float initializer")
    epsilon = float(site.attributes(node).get("epsilon", 1e-5))
    return in_groups(site, node, (node,), node.inputs[0], gamma, beta, gamma.array().size, epsilon)


def in_groups(
    site: Site,
    node: Any,
    covers: tuple[Any, ...],
    x: Any,
    gamma: Weight,
    beta: Weight,
    groups: int,
    epsilon: float,
) -> Lifted:
    """GroupNormalization of channels."""
    last = site.layout != "keep"

    def make(name: str, dtype: str) -> Any:
        return keras.layers.GroupNormalization(
            groups, axis=-1 if last else 1, epsilon=epsilon, name=name, dtype=dtype
        )

    config = ("GroupNormalization", groups, epsilon, last)
    weights = {"gamma": gamma, "beta": beta}
    return Lifted(node, covers, (x,), make, config, weights, order=channels_last if last else None)
