"""Normalisations written out in arithmetic: ``(x - mean) / sqrt(variance + epsilon) * scale + offset``, or as
``x * s + (offset - mean * s)`` with ``s = scale / sqrt(variance + epsilon)``.

With a mean and a variance that are weights it is a BatchNormalization; with those of ``x`` itself a
LayerNormalization, or, over a tensor whose channels were reshaped to groups, a GroupNormalization. Without a mean,
``x / sqrt(mean(x * x) + epsilon) * scale``, it is an RMSNormalization.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from interop.rebuild.lift.normalization import over_last_axes, root_mean_square
from interop.rebuild.lifting import Lifted, NoMatch, Site, Weight, lift


@dataclass
class Form:
    """A normalisation that was recognised.

    Attributes:
        node: makes the result.
        x: what is normalised.
        variance: value to whose root ``x`` is divided; with `epsilon` added.
        epsilon: see `variance`.
        mean: value that is subtracted; None in a root mean square.
        scale: weight that multiplies.
        offset: weight that is added.
    """

    node: Any
    x: Any
    variance: Any
    epsilon: float
    mean: Any = None
    scale: Weight | None = None
    offset: Weight | None = None


@lift("Add", "Mul", "Div", size=20)
def normalization(site: Site, node: Any) -> Lifted | NoMatch:
    """The last node of one of the forms."""
    last = site.only_user(node.outputs[0])
    for form in (_line(site, node), _quotient(site, node)):
        if form is None or _goes_on(site, last, form):
            continue
        for pattern in (_batch, _layer, _group, _root_mean_square):
            found = pattern(site, form)
            if found is not None:
                return found
    return NoMatch("it is no normalisation written out")


def _goes_on(site: Site, user: Any, form: Form) -> bool:
    """Whether the next node only adds what the form still lacks, and so begins a larger one."""
    if user is None or user.op_type not in ("Mul", "Add"):
        return False
    weight = next((w for value in user.inputs if (w := site.weight(value)) is not None), None)
    lacking = form.offset is None and (user.op_type == "Add" or form.scale is None)
    return weight is not None and lacking and form.mean is not None


# The two forms


def _line(site: Site, node: Any) -> Form | None:
    """``x * s + (offset - mean * s)``."""
    if node.op_type != "Add":
        return None
    for product, rest in _either(node):
        for x, s in _factors(product):
            found = _slope(site, s)
            if found is None:
                continue
            scale, variance, epsilon = found
            for negated, offset in _summands(site, rest):
                mean = _subtracted(negated, s)
                if mean is not None:
                    return Form(node, x, variance, epsilon, mean, scale, offset)
    return None


def _summands(site: Site, value: Any) -> Iterator[tuple[Any, Weight | None]]:
    """``(-mean * s)`` and the offset added to it, if there is one."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Sub":
        offset = site.weight(producer.inputs[0])
        if offset is not None:
            yield producer.inputs[1], offset
    if producer is not None and producer.op_type == "Add":
        for offset_value, other in _either(producer):
            offset = site.weight(offset_value)
            if offset is not None:
                yield other, offset
    yield value, None


def _subtracted(value: Any, s: Any) -> Any:
    """The mean of ``-mean * s``; as what stands behind a minus already, of ``mean * s``."""
    negative = value.producer() is not None and value.producer().op_type == "Neg"
    value = value.producer().inputs[0] if negative else value
    for mean, factor in _factors(value):
        if factor is not s:
            continue
        inner = mean.producer()
        if inner is not None and inner.op_type == "Neg":
            return inner.inputs[0]
        users = [user for user, _ in value.uses()]
        if negative or (len(users) == 1 and users[0].op_type == "Sub" and users[0].inputs[1] is value):
            return mean
    return None


def _slope(site: Site, value: Any) -> tuple[Weight | None, Any, float] | None:
    """Scale, variance and epsilon of ``scale / sqrt(variance + epsilon)``."""
    root = _inverse_root(site, value)
    if root is not None:
        return None, *root
    for inverse, factor in _factors(value):
        root, scale = _inverse_root(site, inverse), site.weight(factor)
        if root is not None and scale is not None:
            return scale, *root
    producer = value.producer()
    if producer is not None and producer.op_type == "Div":
        root, scale = _root(site, producer.inputs[1]), site.weight(producer.inputs[0])
        if root is not None and scale is not None:
            return scale, *root
    return None


def _quotient(site: Site, node: Any) -> Form | None:
    """``(x - mean) / sqrt(variance + epsilon) * scale + offset``, the last two or one of them left out."""
    inner, offset, scale = node.outputs[0], None, None
    if node.op_type == "Add":
        found = _with_weight(site, node)
        if found is None:
            return None
        inner, offset = found
    producer = inner.producer()
    if producer is not None and producer.op_type == "Mul":
        found = _with_weight(site, producer)
        if found is not None:
            inner, scale = found
    producer = inner.producer()
    if producer is None:
        return None
    pairs: list[tuple[Any, tuple[Any, float] | None]] = []
    if producer.op_type == "Div":
        pairs = [(producer.inputs[0], _root(site, producer.inputs[1]))]
    if producer.op_type == "Mul":
        for a, b in _either(producer):
            pairs.append((a, _inverse_root(site, b)))
            if scale is None and (slope := _slope(site, b)) is not None and slope[0] is not None:
                scale = slope[0]
                pairs.append((a, slope[1:]))
    for above, root in pairs:
        if root is None:
            continue
        centred = above.producer()
        if centred is not None and centred.op_type == "Sub":
            return Form(node, centred.inputs[0], *root, centred.inputs[1], scale, offset)
        return Form(node, above, *root, None, scale, offset)
    return None


def _with_weight(site: Site, node: Any) -> tuple[Any, Weight] | None:
    """The other input of a node, and the one that is a weight."""
    for value, other in _either(node):
        weight = site.weight(other)
        if weight is not None and site.weight(value) is None:
            return value, weight
    return None


def _inverse_root(site: Site, value: Any) -> tuple[Any, float] | None:
    """Variance and epsilon of ``1 / sqrt(variance + epsilon)``."""
    producer = value.producer()
    if producer is None:
        return None
    if producer.op_type == "Reciprocal":
        return _root(site, producer.inputs[0])
    if producer.op_type == "Div" and _is_number(site, producer.inputs[0], 1.0):
        return _root(site, producer.inputs[1])
    return None


def _root(site: Site, value: Any) -> tuple[Any, float] | None:
    """Variance and epsilon of ``sqrt(variance + epsilon)``."""
    producer = value.producer()
    if producer is None or producer.op_type != "Sqrt":
        return None
    inner = producer.inputs[0].producer()
    if inner is None or inner.op_type != "Add":
        return None
    for variance, added in _either(inner):
        number = site.constant(added)
        if number is not None and number.size == 1:
            return variance, float(number.reshape(()))
    return None


def _is_number(site: Site, value: Any, number: float) -> bool:
    constant = site.constant(value)
    return constant is not None and constant.size == 1 and float(constant.reshape(())) == number


def _either(node: Any) -> Iterator[tuple[Any, Any]]:
    """The two inputs of a node in both orders."""
    a, b = node.inputs
    yield a, b
    yield b, a


def _factors(value: Any) -> Iterator[tuple[Any, Any]]:
    """What a value is the product of."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Mul":
        yield from _either(producer)


# Statistics


def _mean(site: Site, value: Any) -> tuple[Any, tuple[int, ...]] | None:
    """What a value is the mean of, and over which axes, which are kept with one element."""
    producer = value.producer()
    if producer is None or producer.op_type not in ("ReduceMean", "GlobalAveragePool"):
        return None
    attributes, rank = site.attributes(producer), site.rank(producer.inputs[0])
    if producer.op_type == "GlobalAveragePool":
        return None if rank is None else (producer.inputs[0], tuple(range(2, rank)))
    given = attributes.get("axes")
    if len(producer.inputs) > 1 and producer.inputs[1] is not None:
        given = site.constant(producer.inputs[1])
    if given is None or rank is None or not attributes.get("keepdims", 1):
        return None
    return producer.inputs[0], tuple(sorted(int(axis) % rank for axis in given))


def _squared(site: Site, value: Any) -> Any:
    """What a value is the square of."""
    producer = value.producer()
    if producer is None:
        return None
    if producer.op_type == "Mul" and producer.inputs[0] is producer.inputs[1]:
        return producer.inputs[0]
    if producer.op_type == "Pow" and _is_number(site, producer.inputs[1], 2.0):
        return producer.inputs[0]
    return None


def _axes_of(site: Site, form: Form) -> tuple[int, ...] | None:
    """Over which axes mean and variance of a form are those of what it normalises."""
    mean, variance = _mean(site, form.mean), _mean(site, form.variance)
    if mean is None or mean[0] is not form.x:
        return None
    if variance is None:
        return mean[1] if _of_squares(site, form.variance, form.x, mean[1]) else None
    if mean[1] != variance[1]:
        return None
    centred = _squared(site, variance[0])
    producer = None if centred is None else centred.producer()
    if producer is None or producer.op_type != "Sub" or producer.inputs[0] is not form.x:
        return None
    inner = _mean(site, producer.inputs[1])
    return mean[1] if inner is not None and inner[0] is form.x and inner[1] == mean[1] else None


def _of_squares(site: Site, value: Any, x: Any, axes: tuple[int, ...]) -> bool:
    """Whether a value is a variance, as the mean of squares less the square of the mean; where positive, or so."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Max" and len(producer.inputs) == 2:
        for inner, least in _either(producer):
            if _is_number(site, least, 0.0):
                producer = inner.producer()
                break
    if producer is None or producer.op_type != "Sub":
        return False
    squares, mean = _mean(site, producer.inputs[0]), _squared(site, producer.inputs[1])
    if squares is None or mean is None or squares[1] != axes or _squared(site, squares[0]) is not x:
        return False
    inner = _mean(site, mean)
    return inner is not None and inner[0] is x and inner[1] == axes


# Layers


def _covers(form: Form, begin: Any) -> tuple[Any, ...] | None:
    """The nodes from a value to the result; None if something else uses one of them."""
    inner: list[Any] = []
    waiting = [form.node]
    while waiting:
        node = waiting.pop()
        if node in inner:
            continue
        inner.append(node)
        for value in node.inputs:
            producer = None if value is None or value is begin else value.producer()
            if producer is not None and _depends(producer, begin):
                waiting.append(producer)
    for node in inner:
        if node is not form.node and any(
            value.is_graph_output() or any(user not in inner for user, _ in value.uses())
            for value in node.outputs
        ):
            return None
    return tuple(inner)


def _depends(node: Any, begin: Any, depth: int = 24) -> bool:
    """Whether a node uses a value, by way of a few others."""
    return depth > 0 and any(
        value is begin or (value.producer() is not None and _depends(value.producer(), begin, depth - 1))
        for value in node.inputs
        if value is not None
    )


def _flat(weight: Weight) -> Weight:
    return weight if weight.array().ndim == 1 else weight.changed("flat", np.ravel)


def _one_an_element(weight: Weight | None, sizes: tuple[int, ...]) -> bool:
    """Whether a weight has one number an element of the last axes; or is left out."""
    if weight is None:
        return True
    shape = weight.array().shape
    return weight.array().size == int(np.prod(sizes)) and shape[-len(sizes) :] == sizes


def _batch(site: Site, form: Form) -> Lifted | None:
    """BatchNormalization over the last axis."""
    mean, variance = site.weight(form.mean), site.weight(form.variance)
    shape = form.x.shape
    if mean is None or variance is None or shape is None or len(shape) < 2 or not isinstance(shape[-1], int):
        return None
    given = {
        "gamma": form.scale,
        "beta": form.offset,
        "moving_mean": mean,
        "moving_variance": variance,
    }
    if not all(_one_an_element(weight, (int(shape[-1]),)) for weight in given.values()):
        return None
    covers = _covers(form, form.x)
    if covers is None:
        return None
    center, scale, epsilon = form.offset is not None, form.scale is not None, form.epsilon

    def make(name: str, dtype: str) -> Any:
        return keras.layers.BatchNormalization(
            epsilon=epsilon, center=center, scale=scale, name=name, dtype=dtype
        )

    weights = {name: _flat(weight) for name, weight in given.items() if weight is not None}
    config = ("BatchNormalization", epsilon, center, scale)
    return Lifted(form.node, covers, (form.x,), make, config, weights)


def _layer(site: Site, form: Form) -> Lifted | None:
    """LayerNormalization over the last axes."""
    axes, shape = None if form.mean is None else _axes_of(site, form), form.x.shape
    if axes is None or axes != tuple(range(len(shape) - len(axes), len(shape))):
        return None
    sizes = tuple(shape[axis] for axis in axes)
    if not all(isinstance(size, int) for size in sizes):
        return None
    if not all(_one_an_element(weight, sizes) for weight in (form.scale, form.offset)):
        return None
    covers = _covers(form, form.x)
    if covers is None:
        return None
    gamma, beta = (
        weight if weight is None or weight.array().shape == sizes else weight.changed(
            f"shaped {sizes}", lambda array: array.reshape(sizes)
        )
        for weight in (form.scale, form.offset)
    )  # fmt: skip
    return over_last_axes(form.node, covers, form.x, gamma, beta, len(axes), form.epsilon)


def _root_mean_square(site: Site, form: Form) -> Lifted | None:
    """RMSNormalization over the last axis."""
    found = None if form.mean is not None else _mean(site, form.variance)
    shape = form.x.shape
    if found is None or form.scale is None or form.offset is not None or shape is None:
        return None
    if _squared(site, found[0]) is not form.x or found[1] != (len(shape) - 1,):
        return None
    if not isinstance(shape[-1], int) or not _one_an_element(form.scale, (int(shape[-1]),)):
        return None
    covers = _covers(form, form.x)
    if covers is None:
        return None
    return root_mean_square(form.node, covers, form.x, _flat(form.scale), form.epsilon)


def _group(site: Site, form: Form) -> Lifted | None:
    """GroupNormalization: channels, last, are reshaped to groups before, and back after."""
    axes = None if form.mean is None else _axes_of(site, form)
    split = form.x.producer()
    joined = site.only_user(form.node.outputs[0])
    if axes is None or split is None or split.op_type != "Reshape" or joined is None:
        return None
    x, grouped = split.inputs[0], form.x.shape
    if joined.op_type != "Reshape" or x.shape is None or grouped is None or len(grouped) != len(x.shape) + 1:
        return None
    groups, width = grouped[-2:]
    if not isinstance(groups, int) or not isinstance(width, int) or x.shape[-1] != groups * width:
        return None
    places = len(x.shape) - 1
    if axes != (*range(1, places), places + 1):
        return None
    if not (_keeps(site, split, x.shape, places) and _keeps(site, joined, x.shape, places)):
        return None
    if not all(_one_an_element(weight, (groups, width)) for weight in (form.scale, form.offset)):
        return None
    whole = Form(joined, x, form.variance, form.epsilon)
    covers = _covers(whole, x)
    if covers is None:
        return None
    center, scale, epsilon = form.offset is not None, form.scale is not None, form.epsilon

    def make(name: str, dtype: str) -> Any:
        return keras.layers.GroupNormalization(
            groups, epsilon=epsilon, center=center, scale=scale, name=name, dtype=dtype
        )

    named = (("gamma", form.scale), ("beta", form.offset))
    weights = {name: _flat(weight) for name, weight in named if weight is not None}
    return Lifted(joined, covers, (x,), make, ("GroupNormalization", groups, epsilon, center, scale), weights)


def _keeps(site: Site, reshape: Any, shape: Any, places: int) -> bool:
    """Whether a Reshape leaves the batch and the places as they are."""
    target = site.constant(reshape.inputs[1])
    if target is None or site.attributes(reshape).get("allowzero"):
        return False
    open_axes = 0
    for size, wanted in zip(shape[:places], target.reshape(-1).tolist(), strict=False):
        if wanted == -1:
            open_axes += 1
        elif wanted not in (0, size):
            return False
    return open_axes <= 1
