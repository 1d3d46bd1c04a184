"""BatchNormalization, LayerNormalization, GroupNormalization and RMSNormalization, from operators of those names.

Forms made of smaller operators are in ``decomposed.py``.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

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


@lift("InstanceNormalization", size=5)
def grouped_normalization(site: Site, node: Any) -> Lifted | NoMatch:
    """Channels reshaped to groups, and back, then a scale and an offset: as torch.onnx writes a GroupNorm."""
    before, after = node.inputs[0].producer(), site.only_user(node.outputs[0])
    if not (site.is_all(node.inputs[1], 1) and site.is_all(node.inputs[2], 0)):
        return NoMatch("its scale is not 1, or its bias not 0")
    if before is None or before.op_type != "Reshape" or after is None or after.op_type != "Reshape":
        return NoMatch("it stands between no two Reshapes")
    x, target = before.inputs[0], site.constant(before.inputs[1])
    if site.only_user(before.outputs[0]) is not node or x.shape is None or not isinstance(x.shape[1], int):
        return NoMatch("its groups are used otherwise, or the channels are not known")
    channels = int(x.shape[1])
    if target is None or target.size != 3 or target[0] != 0 or target[1] < 1 or channels % target[1]:
        return NoMatch("what comes before makes no groups of channels")
    if not _restores(site, after, x):
        return NoMatch("what comes after does not restore the shape")
    covers: tuple[Any, ...] = (before, node, after)
    gamma = beta = None
    scaled = site.only_user(after.outputs[0])
    if scaled is not None and scaled.op_type == "Mul":
        gamma = _one_a_channel(site, scaled, after.outputs[0], x.shape)
    if gamma is not None:
        covers = (*covers, scaled)
        moved = site.only_user(scaled.outputs[0])
        if moved is not None and moved.op_type == "Add":
            beta = _one_a_channel(site, moved, scaled.outputs[0], x.shape)
            covers = (*covers, moved) if beta is not None else covers
    epsilon = float(site.attributes(node).get("epsilon", 1e-5))
    return in_groups(site, covers[-1], covers, x, gamma, beta, int(target[1]), epsilon)


def _restores(site: Site, reshape: Any, x: Any) -> bool:
    """Whether the result of a Reshape has the shape of a value."""
    producer = reshape.inputs[1].producer()
    if producer is not None and producer.op_type == "Shape" and producer.inputs[0] is x:
        attributes = site.attributes(producer)
        return not attributes.get("start") and attributes.get("end") is None
    target = site.constant(reshape.inputs[1])
    if target is None or target.size != len(x.shape) or int((target == -1).sum()) > 1:
        return False
    sizes = zip(target.tolist(), x.shape, strict=True)
    return all(
        wanted == size or wanted == -1 or (wanted == 0 and axis == 0)
        for axis, (wanted, size) in enumerate(sizes)
    )


def _one_a_channel(site: Site, node: Any, value: Any, shape: Any) -> Weight | None:
    """The weight that a node joins to a value of a shape: one number a channel, on axis 1."""
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    weight = site.weight(other)
    if weight is None:
        return None
    sizes = weight.array().shape
    padded = (1,) * (len(shape) - len(sizes)) + sizes
    if len(padded) != len(shape) or weight.array().size != shape[1] or padded[1] != shape[1]:
        return None
    return weight if len(sizes) == 1 else weight.changed("flat", np.ravel)


def in_groups(
    site: Site,
    node: Any,
    covers: tuple[Any, ...],
    x: Any,
    gamma: Weight | None,
    beta: Weight | None,
    groups: int,
    epsilon: float,
) -> Lifted:
    """GroupNormalization of channels."""
    last, center, scale = site.layout != "keep", beta is not None, gamma is not None

    def make(name: str, dtype: str) -> Any:
        return keras.layers.GroupNormalization(
            groups,
            axis=-1 if last else 1,
            epsilon=epsilon,
            center=center,
            scale=scale,
            name=name,
            dtype=dtype,
        )

    config = ("GroupNormalization", groups, epsilon, last, center, scale)
    weights = {name: weight for name, weight in (("gamma", gamma), ("beta", beta)) if weight is not None}
    return Lifted(node, covers, (x,), make, config, weights, order=channels_last if last else None)
