"""Whether nodes of a graph compute attention, and which.

Enters: the projections that a pattern found, and the values that attention may be between. Leaves: how the columns of
the projections are dealt out to heads, whether a place sees those that come later, and which axis is of places; or
None. The nodes between the values are computed for numbers, and must give what the formula gives
(https://arxiv.org/abs/1706.03762, section 3.2). Nodes that differ only in their weights are proved once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from keras import ops

from interop.errors import InteropError
from interop.rebuild.interpreter import Interpreter, Scope, attributes_of
from interop.rebuild.lifting import Lifted, NoMatch, Site
from interop.rebuild.values import Array

_MOST_NODES = 200  # of one attention; PyTorch's measure many sizes
_BATCH, _PLACES, _OTHER_PLACES = 2, 5, 7  # of the numbers that a match is proved with
_ELSEWHERE = (11, 1)  # sizes of other tensors; they must not matter


@dataclass(frozen=True)
class Heads:
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
class Attention:
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
class Reading:
    """What attention it may be.

    Attributes:
        dealt: the columns of queries, keys and values.
        causal: whether a place sees none that come later.
        places_first: whether the first axis is of places, and the second of the batch.
    """

    dealt: tuple[Heads, Heads, Heads]
    causal: bool
    places_first: bool = False


@dataclass(frozen=True)
class Inside:
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
    def between(cls, inputs: tuple[Any, ...], output: Any) -> Inside | NoMatch:
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
                    if value.shape is None:
                        return NoMatch(f"it depends on the sizes of {value.name!r}, whose rank is unknown")
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

    def reading(self, site: Site, found: Attention) -> Reading | None:
        """What attention the nodes compute."""
        if any(projection.node not in self.covers for projection in (*found.projections, found.output)):
            return None
        signature = self._signature(site)
        if signature not in site.proved:
            site.proved[signature] = self._proved(site, found)
        proved: Reading | None = site.proved[signature]
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

    def _proved(self, site: Site, found: Attention) -> Reading | None:
        for places_first in (False, True):
            axis = 0 if places_first else 1
            if found.masked and not all(
                value.shape and isinstance(value.shape[axis], int) for value in self.inputs
            ):
                continue  # a window may be longer than what it is proved with
            given = self._numbers(found, places_first, _ELSEWHERE[0])
            made = self._computed(site, given)
            if made is None or not self._is_apart(site, found, places_first, made):
                continue
            x, other, made = (
                array.swapaxes(0, 1) if places_first and array.ndim == 3 else array
                for array in (given[self.inputs[0]], given[self.inputs[-1]], made)
            )
            if x.shape[0] != other.shape[0]:
                continue
            for reading in _readings(found, places_first):
                wanted = _formula(x, other, found, reading)
                if made.shape == wanted.shape and np.allclose(
                    made, wanted, 1e-3, 1e-4 * np.abs(wanted).max()
                ):
                    return reading
        return None

    def _is_apart(self, site: Site, found: Attention, places_first: bool, made: Array) -> bool:
        """Whether sizes that only values from elsewhere have change nothing."""
        if not self.measured:
            return True
        again = self._computed(site, self._numbers(found, places_first, _ELSEWHERE[1]))
        return again is not None and np.array_equal(made, again)

    def _numbers(self, found: Attention, places_first: bool, elsewhere: int) -> dict[Any, Array]:
        """Inputs to compute with, of sizes that are assumed where they are open.

        Args:
            found: the attention that it may be.
            places_first: whether the first axis is of places.
            elsewhere: open sizes of values from elsewhere that no input has.
        """
        rng = np.random.default_rng(0)
        sizes: dict[str, int] = {}
        given: dict[Any, Array] = {}
        for value, places, projection in zip(
            self.inputs, (_PLACES, _OTHER_PLACES), found.projections[:2], strict=False
        ):
            assumed = (places, _BATCH) if places_first else (_BATCH, places)
            shape = [
                size if isinstance(size, int) else sizes.setdefault(str(size), number)
                for size, number in zip(value.shape or (None, None), assumed, strict=False)
            ]
            kernel = projection.weights["kernel"].array()
            given[value] = rng.standard_normal((*shape, kernel.shape[0])).astype(kernel.dtype)
        for value in self.measured:
            shape = [
                size if isinstance(size, int) else sizes.get(str(size), elsewhere) for size in value.shape
            ]
            given[value] = np.zeros(shape, "float32")
        return given

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


def _formula(x: Array, other: Array, found: Attention, reading: Reading) -> Array:
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


def _readings(found: Attention, places_first: bool) -> Iterator[Reading]:
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
        dealt: dict[int, Heads] = {}
        for parts in held:
            for part, i in enumerate(parts):
                dealt[i] = Heads(width // size, size, len(parts), part, by_head and len(parts) > 1)
        yield Reading((dealt[0], dealt[1], dealt[2]), causal, places_first)
