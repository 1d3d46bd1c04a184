"""MultiHeadAttention: projections, a softmax of products, and a projection of what it weighs.

Exporters write the same attention in many ways: heads before or after the batch, projections in one matrix or in three,
the factor on either side, sizes measured or known, masks that mask nothing or what comes later. So a match is proved
and not described: the nodes between the input and the output are computed for numbers, and must give what the layer's
formula gives. Formula: https://arxiv.org/abs/1706.03762, section 3.2. Nodes that differ only in their weights are
proved once.

What reaches in from elsewhere, a mask of the model's inputs or a table of relative positions, is no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import keras
import numpy as np
from keras import ops

from interop.errors import InteropError
from interop.rebuild.interpreter import Interpreter, Scope, attributes_of
from interop.rebuild.lift.dense import dense, gemm
from interop.rebuild.lifting import Lifted, NoMatch, Site, Weight, lift
from interop.rebuild.values import Array

_MOVES = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Identity", "Gather", "Slice", "Split", "Flatten")
_MOST_NODES = 200  # of one attention; PyTorch's measure many sizes
_MOST_MOVES = 4  # between a projection and the tensor whose axes are batch, place, feature
_BATCH, _PLACES, _OTHER_PLACES = 2, 5, 7  # of the numbers that a match is proved with


@dataclass(frozen=True)
class _Heads:
    """How the columns of a matrix of projections are dealt out.

    Attributes:
        count: of heads.
        size: of one.
        parts: how many projections the matrix holds.
        part: which of them this is.
        by_head: whether the projections of a head lie together.
    """

    count: int
    size: int
    parts: int = 1
    part: int = 0
    by_head: bool = False

    def of(self, array: Array) -> Array:
        """The columns of the projection, by head and element."""
        rows = array.shape[:-1]
        if self.by_head:
            return array.reshape(*rows, self.count, self.parts, self.size)[..., self.part, :]
        return array.reshape(*rows, self.parts, self.count, self.size)[..., self.part, :, :]


@dataclass(frozen=True)
class _Attention:
    """The parts of one.

    Attributes:
        projections: of queries, keys and values, as Dense layers.
        output: the last projection.
        size: of a head, where the graph says it.
        masked: whether something is added to the products.
    """

    projections: tuple[Lifted, Lifted, Lifted]
    output: Lifted
    size: int | None
    masked: bool


@dataclass(frozen=True)
class _Reading:
    """What attention it may be.

    Attributes:
        dealt: the columns of queries, keys and values.
        causal: whether a place sees none that come later.
    """

    dealt: tuple[_Heads, _Heads, _Heads]
    causal: bool


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
                inside = _Inside.between((x,) if x is other else (x, other), y)
                if isinstance(inside, NoMatch):
                    reason = NoMatch(inside.reason, near=True)
                    continue
                reading = inside.reading(site, found)
                if reading is not None:
                    return _lifted(found, reading, inside)
    return reason


# The parts


def _parts(site: Site, softmax: Any) -> _Attention | NoMatch:
    rank = site.rank(softmax.inputs[0])
    if site.attributes(softmax).get("axis", -1) not in (-1, (rank or 0) - 1):
        return NoMatch("the softmax is not over the last axis")
    scores, weighed = _product(site, softmax.inputs[0]), _only_user(site, softmax.outputs[0])
    factor = softmax.outputs[0]
    while weighed is not None and weighed.op_type in _MOVES and weighed.inputs[0] is factor:
        factor = weighed.outputs[0]
        weighed = _only_user(site, factor)
    if scores is None or weighed is None or weighed.op_type != "MatMul":
        return NoMatch("it stands between no two products")
    if weighed.inputs[0] is not factor:
        return NoMatch("it is no left factor")
    projections = [
        _projection(site, value) for value in (scores.inputs[0], scores.inputs[1], weighed.inputs[1])
    ]
    output = _output(site, weighed.outputs[0])
    if output is None or any(projection is None for projection in projections):
        return NoMatch("what it computes with is no projection", near=True)
    q, k, v = (projection for projection in projections if projection is not None)
    sizes = [
        int(value.shape[-1])
        for value in (scores.inputs[0], weighed.inputs[1], weighed.outputs[0])
        if value.shape is not None and isinstance(value.shape[-1], int)
    ]
    masked = _is_masked(softmax.inputs[0], scores)
    return _Attention((q, k, v), output, sizes[0] if sizes else None, masked)


def _product(site: Site, value: Any) -> Any:
    """The MatMul whose result a value is, by a factor, in another order, and with a mask added."""
    while True:
        producer = value.producer()
        if producer is None or producer.op_type == "MatMul":
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
    if node.op_type == "Gemm":
        found = gemm(site, node)
    else:
        inner = node
        if node.op_type == "Add":
            makers = [value.producer() for value in node.inputs if value is not None]
            inner = next((maker for maker in makers if maker is not None and maker.op_type == "MatMul"), None)
        if inner is None or inner.op_type != "MatMul":
            return None
        found = dense(site, inner)
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
    if user is None or user.op_type not in ("MatMul", "Gemm"):
        return None
    found = gemm(site, user) if user.op_type == "Gemm" else dense(site, user)
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


def _readings(found: _Attention) -> Iterator[_Reading]:
    """What attention it may be by its parts."""
    order: list[Lifted] = []
    for projection in found.projections:
        if not any(projection.node is other.node for other in order):
            order.append(projection)
    held = [
        [i for i, projection in enumerate(found.projections) if projection.node is one.node] for one in order
    ]
    units = [int(one.weights["kernel"].array().shape[1]) for one in order]
    widths = {total // len(parts) for total, parts in zip(units, held, strict=True)}
    if len(widths) != 1 or any(total % len(parts) for total, parts in zip(units, held, strict=True)):
        return
    width = widths.pop()
    sizes = range(width, 0, -1) if found.size is None else (found.size,)
    for size, by_head, causal in product(sizes, (False, True), (False, True)):
        if width % size or (by_head and len(order) == len(found.projections)):
            continue
        dealt: dict[int, _Heads] = {}
        for parts in held:
            for part, i in enumerate(parts):
                dealt[i] = _Heads(width // size, size, len(parts), part, by_head and len(parts) > 1)
        yield _Reading((dealt[0], dealt[1], dealt[2]), causal)


def _only_user(site: Site, value: Any) -> Any:
    """The node that alone computes with a value; others may measure it."""
    users = {user for user, _ in value.uses() if user.op_type != "Shape"}
    alone = len(users) == 1 and not value.is_graph_output()
    return next((user for user in users if user.graph is site.graph), None) if alone else None


# The proof


@dataclass(frozen=True)
class _Inside:
    """The nodes between inputs and an output.

    Attributes:
        inputs: one or two values of three axes.
        output: a value of three axes.
        nodes: all that compute it, in the graph's order, sizes that are measured included.
        covers: those through which the inputs' numbers go, and which nothing else needs.
        measured: values from elsewhere of which nothing but the shape is used.
    """

    inputs: tuple[Any, ...]
    output: Any
    nodes: tuple[Any, ...]
    covers: tuple[Any, ...]
    measured: tuple[Any, ...]

    @classmethod
    def between(cls, inputs: tuple[Any, ...], output: Any) -> _Inside | NoMatch:
        """The nodes, if nothing else reaches in or out."""
        if any(value.shape is not None and len(value.shape) != 3 for value in (*inputs, output)):
            return NoMatch("its input or output has not three axes")
        found: dict[Any, None] = {}
        measured: dict[Any, None] = {}
        waiting = [output]
        while waiting:
            node = waiting.pop().producer()
            if node is None or node in found:
                continue
            found[node] = None
            if len(found) > _MOST_NODES:
                return NoMatch(f"it has more than {_MOST_NODES} nodes")
            for value in node.inputs:
                if value is None or value in inputs or value.is_initializer():
                    continue
                if node.op_type == "Shape":
                    measured[value] = None
                elif value.producer() is None:
                    return NoMatch(f"it depends on {value.name!r} too, such as a mask")
                else:
                    waiting.append(value)
        nodes = _in_order(found)
        carried = set(inputs)
        covers = []
        for node in nodes:
            if node.op_type != "Shape" and any(value in carried for value in node.inputs):
                carried.update(node.outputs)
                covers.append(node)
        if output not in carried:
            return NoMatch("its output does not depend on its input")
        outside = tuple(value for value in measured if value not in carried)
        needless = _needless(nodes, output)
        return cls(inputs, output, tuple(nodes), tuple(node for node in covers if node in needless), outside)

    def reading(self, site: Site, found: _Attention) -> _Reading | None:
        """What attention the nodes compute."""
        if any(projection.node not in self.covers for projection in (*found.projections, found.output)):
            return None
        if found.masked and not all(value.shape and isinstance(value.shape[1], int) for value in self.inputs):
            return None  # a window may be longer than what it is proved with
        signature = self._signature(site)
        if signature not in site.proved:
            site.proved[signature] = self._proved(site, found)
        proved: _Reading | None = site.proved[signature]
        return proved

    def _signature(self, site: Site) -> tuple[Any, ...]:
        """What tells the nodes from others, but for the numbers of their weights."""
        places = {value: ("input", i, str(value.shape)) for i, value in enumerate(self.inputs)}
        places |= {value: ("measured", str(value.shape)) for value in self.measured}
        lines: list[Any] = []
        for number, node in enumerate(self.nodes):
            given: list[Any] = []
            for value in node.inputs:
                if value is not None and value not in places and value.is_initializer():
                    tensor = value.const_value
                    weight = site.weight(value) is not None and tensor.size > 1
                    given.append((str(tensor.shape), "" if weight else tensor.numpy().tobytes()))
                else:
                    given.append(places.get(value))
            places |= {value: (number, i) for i, value in enumerate(node.outputs)}
            attributes = {
                name: item.tobytes() if isinstance(item, np.ndarray) else item
                for name, item in attributes_of(node).items()
            }
            lines.append((node.op_type, tuple(given), repr(sorted(attributes.items()))))
        return (*lines, places[self.output])

    def _proved(self, site: Site, found: _Attention) -> _Reading | None:
        rng = np.random.default_rng(0)
        sizes: dict[str, int] = {}
        given: dict[Any, Array] = {}
        for value, places, projection in zip(
            self.inputs, (_PLACES, _OTHER_PLACES), found.projections[:2], strict=False
        ):
            shape = []
            for size, assumed in zip(value.shape or (None, None), (_BATCH, places), strict=False):
                shape.append(size if isinstance(size, int) else sizes.setdefault(str(size), assumed))
            width = projection.weights["kernel"].array().shape[0]
            dtype = projection.weights["kernel"].array().dtype
            given[value] = rng.standard_normal((*shape, width)).astype(dtype)
        for value in self.measured:
            shape = [
                size if isinstance(size, int) else sizes.get(str(size), 0) for size in value.shape or (0,)
            ]
            if 0 in shape:
                return None
            given[value] = np.zeros(shape, "float32")
        made = self._computed(site, given)
        if made is None:
            return None
        x, other = given[self.inputs[0]], given[self.inputs[-1]]
        for reading in _readings(found):
            wanted = _formula(x, other, found, reading)
            if made.shape == wanted.shape and np.allclose(made, wanted, 1e-3, 1e-4 * np.abs(wanted).max()):
                return reading
        return None

    def _computed(self, site: Site, given: Mapping[Any, Array]) -> Array | None:
        """What the nodes make of numbers."""
        interpreter = Interpreter(site.graph.opset_imports, fold=True)
        scope = Scope()
        for value, array in given.items():
            scope[value] = interpreter.value(ops.convert_to_tensor(array))
        try:
            for node in self.nodes:
                for value in node.inputs:
                    if value is not None and value.is_initializer():
                        scope[value] = interpreter.initializer(value)
                interpreter.run_node(node, scope)
            return np.asarray(ops.convert_to_numpy(scope[self.output].tensor()))
        except (InteropError, ValueError, TypeError):
            return None  # sizes that are assumed here need not fit


def _in_order(nodes: Mapping[Any, None]) -> list[Any]:
    """Nodes, each after those it needs."""
    done: dict[Any, None] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting[-1]
        makers = [value.producer() for value in node.inputs if value is not None]
        before = [maker for maker in makers if maker in nodes and maker not in done]
        if before:
            waiting.extend(before)
        else:
            done[waiting.pop()] = None
    return list(done)


def _needless(nodes: list[Any], output: Any) -> set[Any]:
    """Nodes whose results are needed by each other alone, once an output is made otherwise."""
    found: set[Any] = set()
    for node in reversed(nodes):
        if all(
            value is output
            or (not value.is_graph_output() and all(user in found for user, _ in value.uses()))
            for value in node.outputs
        ):
            found.add(node)
    return found


def _formula(x: Array, other: Array, found: _Attention, reading: _Reading) -> Array:
    """Attention of a tensor to another, of batch, place and feature."""
    projected = []
    for projection, heads, tensor in zip(found.projections, reading.dealt, (x, other, other), strict=True):
        made = np.einsum("ble,ehd->bhld", tensor, heads.of(projection.weights["kernel"].array()))
        if "bias" in projection.weights:
            made = made + heads.of(projection.weights["bias"].array())[None, :, None]
        projected.append(made)
    q, k, v = projected
    scores = np.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(reading.dealt[0].size)
    if reading.causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    joined = np.einsum("bhqk,bhkd->bqhd", weights, v).reshape(*x.shape[:2], -1)
    kernel, bias = found.output.weights["kernel"].array(), found.output.weights.get("bias")
    if joined.shape[-1] != kernel.shape[0]:
        return np.full((1,), np.inf)
    result: Array = joined @ kernel
    return result if bias is None else result + bias.array()


# The layer


def _lifted(found: _Attention, reading: _Reading, inside: _Inside) -> Lifted | NoMatch:
    biased = {"bias" in projection.weights for projection in (*found.projections, found.output)}
    if len(biased) != 1:
        return NoMatch("some of its projections have a bias and some have not", near=True)
    taken = [
        (id(weight.source), heads.part)
        for projection, heads in zip(found.projections, reading.dealt, strict=True)
        for weight in projection.weights.values()
    ]
    taken += [(id(weight.source), 0) for weight in found.output.weights.values()]
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
    for name, projection, heads in zip(
        ("query", "key", "value"), found.projections, reading.dealt, strict=True
    ):
        for kind, weight in projection.weights.items():
            weights[f"{name}/{kind}"] = weight.changed(f"{name} of {heads}", _dealt(heads))
    for kind, weight in found.output.weights.items():
        shape = (count, size, units) if kind == "kernel" else (units,)
        weights[f"attention_output/{kind}"] = weight.changed(f"heads first {shape}", _shaped(shape))
    options = {"use_causal_mask": True} if reading.causal else {}
    return Lifted(
        inside.output.producer(),
        inside.covers,
        inside.inputs,
        make,
        ("MultiHeadAttention", count, size, use_bias, width, units, reading.causal),
        weights,
        call=lambda layer, x, other=None: layer(x, x if other is None else other, **options),
        dims=lambda given: [(*given[0][:-1], units)],
        build=lambda layer, shapes: layer.build(shapes[0], shapes[-1]),
    )


def _dealt(heads: _Heads) -> Callable[[Array], Array]:
    return heads.of


def _shaped(shape: tuple[int, ...]) -> Callable[[Array], Array]:
    return lambda array: array.reshape(shape)
