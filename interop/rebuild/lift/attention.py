"""MultiHeadAttention: projections, a softmax of products, and a projection of what it weighs.

Exporters write the same attention in many ways: heads before or after the batch, projections in one matrix or in three,
the factor on either side, sizes measured or known, masks that mask nothing or what comes later. So the parts are found
here, and that they are attention is proved in ``attention_proof.py``.

What reaches in from elsewhere, a mask of the model's inputs or a table of relative positions, is no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from interop.rebuild.lift.attention_proof import Attention, Heads, Inside, Reading
from interop.rebuild.lift.dense import dense, gemm
from interop.rebuild.lift.einsum import Equation, projection
from interop.rebuild.lifting import Lifted, NoMatch, Site, Weight, lift
from interop.rebuild.values import Array

_MOVES = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Identity", "Gather", "Slice", "Split", "Flatten")
_PRODUCTS = ("MatMul", "Einsum")
_DENSE = {"MatMul": dense, "Gemm": gemm, "Einsum": projection}
_MOST_MOVES = 4  # between a projection and the tensor whose axes are batch, place, feature


@lift("Softmax", size=100)
def attention(site: Site, node: Any) -> Lifted | NoMatch:
    """Attention of a tensor to itself or to another."""
    found = _parts(site, node)
    if isinstance(found, NoMatch):
        return found
    queries, keys, values = found.projections
    others = [value for value in _back(keys.inputs[0]) if value in set(_back(values.inputs[0]))]
    if not others:
        return NoMatch("keys and values are of two tensors", near=True)
    reason = NoMatch("its nodes compute something else, or are used otherwise", near=True)
    for y in _onward(site, found.output.node.outputs[0]):
        for x in _back(queries.inputs[0]):
            for other in (x,) if x in others else others:
                inside = Inside.between((x,) if x is other else (x, other), y)
                if isinstance(inside, NoMatch):
                    reason = NoMatch(inside.reason, near=True)
                    continue
                reading = inside.reading(site, found)
                if reading is not None:
                    return _lifted(found, reading, inside)
    return reason


# The parts


def _parts(site: Site, softmax: Any) -> Attention | NoMatch:
    rank = site.rank(softmax.inputs[0])
    if site.attributes(softmax).get("axis", -1) not in (-1, (rank or 0) - 1):
        return NoMatch("the softmax is not over the last axis")
    scores, weighed = _product(site, softmax.inputs[0]), _only_user(site, softmax.outputs[0])
    factor = softmax.outputs[0]
    while weighed is not None and weighed.op_type in _MOVES and weighed.inputs[0] is factor:
        factor = weighed.outputs[0]
        weighed = _only_user(site, factor)
    if scores is None or weighed is None or weighed.op_type not in _PRODUCTS:
        return NoMatch("it stands between no two products")
    factors, others = _factors(site, scores), [value for value in weighed.inputs if value is not factor]
    if (
        factors is None
        or len(others) != 1
        or (weighed.op_type == "MatMul" and weighed.inputs[0] is not factor)
    ):
        return NoMatch("it is no left factor")
    projections = [_projection(site, value) for value in (*factors, others[0])]
    output = _output(site, weighed.outputs[0])
    if output is None or any(projection is None for projection in projections):
        return NoMatch("what it computes with is no projection", near=True)
    q, k, v = (projection for projection in projections if projection is not None)
    masked = _is_masked(softmax.inputs[0], scores)
    return Attention((q, k, v), output, _size_of(site, scores, weighed), masked)


def _factors(site: Site, scores: Any) -> tuple[Any, Any] | None:
    """Queries and keys of the products that a softmax is over the last axis of."""
    if scores.op_type == "MatMul":
        return scores.inputs[0], scores.inputs[1]
    equation = Equation.of(site, scores)
    if isinstance(equation, NoMatch):
        return None
    first, second = equation.factors
    return (first, second) if equation.product[-1] in equation.labels[1] else (second, first)


def _size_of(site: Site, scores: Any, weighed: Any) -> int | None:
    """The elements of a head, where the graph says how many."""
    found = []
    if scores.op_type == "MatMul":
        found.append((scores.inputs[0], -1))
    elif not isinstance(equation := Equation.of(site, scores), NoMatch):
        found += [
            (value, labels.index(label))
            for value, labels in zip(equation.factors, equation.labels, strict=True)
            for label in labels
            if label not in equation.product
        ]
    if weighed.op_type == "MatMul":
        found += [(weighed.inputs[1], -1), (weighed.outputs[0], -1)]
    sizes = [value.shape[axis] for value, axis in found if value.shape is not None]
    return next((size for size in sizes if isinstance(size, int)), None)


def _product(site: Site, value: Any) -> Any:
    """The product that a value is, by a factor, in another order, and with a mask added."""
    while True:
        producer = value.producer()
        if producer is None or producer.op_type in _PRODUCTS:
            return producer
        if producer.op_type == "Add":
            found = [_product(site, summand) for summand in producer.inputs if site.rank(summand) != 0]
            return next((product for product in found if product is not None), None)
        inner = producer.inputs[0] if producer.op_type in _MOVES else _unscaled(site, value)
        if inner is value or inner is None:
            return None
        value = inner


def _is_masked(value: Any, scores: Any) -> bool:
    """Whether something is added between products and their softmax."""
    waiting, found = [value], False
    while waiting:
        producer = waiting.pop().producer()
        if producer is None or producer is scores or producer.op_type not in (*_MOVES, "Mul", "Div", "Add"):
            continue
        found = found or producer.op_type == "Add"
        waiting.extend(producer.inputs[:1] if producer.op_type in _MOVES else producer.inputs)
    return found


def _unscaled(site: Site, value: Any) -> Any:
    """What a value is a multiple of by a number."""
    producer = value.producer()
    if producer is None or producer.op_type not in ("Mul", "Div"):
        return value
    for factor, other in (producer.inputs, producer.inputs[::-1]):
        weight = site.weight(other)
        one = weight is None or weight.array().size == 1
        if (site.rank(factor) or 0) > 1 and (site.rank(other) or 0) < 2 and one:
            return factor
        if producer.op_type == "Div":
            break
    return value


def _projection(site: Site, value: Any) -> Lifted | None:
    """The Dense layer whose output a value is, in another order and by a factor."""
    while True:
        producer = value.producer()
        if producer is None:
            return None
        found = _dense_of(site, producer) or _biased_later(site, producer)
        if found is not None:
            return found
        inner = producer.inputs[0] if producer.op_type in _MOVES else _unscaled(site, value)
        if inner is value or inner is None:
            return None
        value = inner


def _dense_of(site: Site, node: Any) -> Lifted | None:
    """The Dense layer that ends at a node."""
    inner = node
    if node.op_type == "Add":
        makers = [value.producer() for value in node.inputs if value is not None]
        inner = next((maker for maker in makers if maker is not None and maker.op_type in _PRODUCTS), None)
    if inner is None or inner.op_type not in _DENSE:
        return None
    found = _DENSE[inner.op_type](site, inner)
    return found if isinstance(found, Lifted) and found.node is node else None


def _biased_later(site: Site, node: Any) -> Lifted | None:
    """The Dense layer whose bias a node adds once the heads are apart."""
    if node.op_type != "Add":
        return None
    for value, other in (node.inputs, node.inputs[::-1]):
        bias = site.weight(other)
        found = None if bias is None else _projection(site, value)
        if bias is None or found is None or "bias" in found.weights:
            continue
        if bias.array().size == found.weights["kernel"].array().shape[1]:
            weights = {**found.weights, "bias": bias.changed("flat", np.ravel)}
            return replace(found, node=node, covers=(*found.covers, node), weights=weights)
    return None


def _output(site: Site, value: Any) -> Lifted | None:
    """The Dense layer that a value goes into, in another order."""
    user = _only_user(site, value)
    while user is not None and user.op_type in _MOVES and user.inputs[0] is value:
        value = user.outputs[0]
        user = _only_user(site, value)
    if user is None or user.op_type not in _DENSE:
        return None
    found = _DENSE[user.op_type](site, user)
    return found if isinstance(found, Lifted) and found.inputs[0] is value else None


def _back(value: Any) -> Iterator[Any]:
    """A value, and what it is but for the order of its elements."""
    for _ in range(_MOST_MOVES):
        yield value
        producer = value.producer()
        if producer is None or producer.op_type not in _MOVES or producer.inputs[0] is None:
            return
        value = producer.inputs[0]


def _onward(site: Site, value: Any) -> Iterator[Any]:
    """A value, and what becomes of it but for the order of its elements."""
    for _ in range(_MOST_MOVES):
        yield value
        user = _only_user(site, value)
        if user is None or user.op_type not in _MOVES or user.inputs[0] is not value:
            return
        value = user.outputs[0]


def _only_user(site: Site, value: Any) -> Any:
    """The node that alone computes with a value; others may measure it."""
    users = {user for user, _ in value.uses() if user.op_type != "Shape"}
    alone = len(users) == 1 and not value.is_graph_output()
    return next((user for user in users if user.graph is site.graph), None) if alone else None


# The layer


def _lifted(found: Attention, reading: Reading, inside: Inside) -> Lifted | NoMatch:
    biased = {"bias" in projection.weights for projection in (*found.projections, found.output)}
    if len(biased) != 1:
        return NoMatch("some of its projections have a bias and some have not", near=True)
    taken = [
        (id(weight.source), weight.layout, heads.part)
        for projection, heads in zip(found.projections, reading.dealt, strict=True)
        for weight in projection.weights.values()
    ]
    taken += [(id(weight.source), weight.layout, 0) for weight in found.output.weights.values()]
    if len(set(taken)) < len(taken):
        return NoMatch(
            "two of its projections have the same weights, which the layer would have twice", near=True
        )
    use_bias, count, size = biased.pop(), reading.dealt[0].count, reading.dealt[0].size
    width = int(found.projections[0].weights["kernel"].array().shape[0])
    units = int(found.output.weights["kernel"].array().shape[1])

    def make(name: str, dtype: str) -> Any:
        return keras.layers.MultiHeadAttention(
            count,
            size,
            use_bias=use_bias,
            output_shape=None if units == width else units,
            name=name,
            dtype=dtype,
        )

    weights: dict[str, Weight] = {}
    for name, one, heads in zip(("query", "key", "value"), found.projections, reading.dealt, strict=True):
        for kind, weight in one.weights.items():
            weights[f"{name}/{kind}"] = weight.changed(f"{name} of {heads}", _dealt(heads))
    for kind, weight in found.output.weights.items():
        shape = (count, size, units) if kind == "kernel" else (units,)
        weights[f"attention_output/{kind}"] = weight.changed(f"heads first {shape}", _shaped(shape))
    options = {"use_causal_mask": True} if reading.causal else {}

    def call(layer: Any, *given: Any) -> Any:
        if not reading.places_first:
            return layer(given[0], given[-1], **options)
        turned = [keras.ops.transpose(x, (1, 0, 2)) for x in given]
        return keras.ops.transpose(layer(turned[0], turned[-1], **options), (1, 0, 2))

    return Lifted(
        inside.output.producer(),
        inside.covers,
        inside.inputs,
        make,
        ("MultiHeadAttention", count, size, use_bias, width, units, reading.causal),
        weights,
        call=call,
        dims=lambda given: [(*given[0][:-1], units)],
        build=lambda layer, shapes: layer.build(shapes[0], shapes[-1]),
    )


def _dealt(heads: Heads) -> Callable[[Array], Array]:
    return heads.of


def _shaped(shape: tuple[int, ...]) -> Callable[[Array], Array]:
    return lambda array: array.reshape(shape)
