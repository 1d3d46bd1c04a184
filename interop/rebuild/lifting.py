"""Which nodes of a graph become real layers: patterns, and the plan that they make together.

A pattern is

    @lift("MatMul", size=2)
    def dense(site: Site, node: ir.Node) -> Lifted | NoMatch: ...

It looks at the graph before anything is built, from the node its name stands for, and says either which layer
computes that node (and others with it) or why not. Larger patterns (``size``, in nodes) are asked first.

Invariants of a plan: a node belongs to one layer at most; an initializer is a variable of one layer at most, which
is called wherever the same initializers are used in the same way, so that what is shared in ONNX is shared in Keras;
an initializer that is used in two ways is lifted in none, and is held as a weight of its own (see ``importer.py``).
Nodes that reach no output are left out.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from interop.rebuild import known
from interop.rebuild.interpreter import array_of, attributes_of
from interop.rebuild.known import PARTS, RESHAPES, sizes_array
from interop.rebuild.registry import canonical
from interop.rebuild.sizes import Dims, Sizes
from interop.rebuild.source import name_of
from interop.rebuild.values import Array, Permutation


@dataclass(frozen=True)
class NoMatch:
    """Why a pattern does not hold.

    Attributes:
        reason: for the report.
        near: whether so much of it holds that the report says why not all does, if no weights are used too.
    """

    reason: str
    near: bool = False


@dataclass(frozen=True)
class Weight:
    """Where a variable of a layer comes from: an initializer, or a known array, changed in its layout.

    Attributes:
        source: the initializer's ``ir.Value``; None for an array that is no parameter of the graph.
        array: its contents.
        layout: how the variable differs from the initializer, e.g. "transposed"; equal layouts of one
            initializer are one variable.
        frozen: whether it does not train.
    """

    source: Any
    array: Callable[[], Array]
    layout: str = "same"
    frozen: bool = False

    def changed(self, layout: str, change: Callable[[Array], Array]) -> Weight:
        """The same weight in another layout."""
        name = layout if self.layout == "same" else f"{self.layout}, {layout}"
        return Weight(self.source, lambda: change(self.array()), name, self.frozen)


Order = Callable[[int], Permutation]


def channels_last(rank: int) -> Permutation:
    """The order of axes in which Keras' layers have them: ONNX has channels on axis 1."""
    return (0, *range(2, rank), 1) if rank > 1 else (0,) * rank


@dataclass(frozen=True)
class Lifted:
    """A layer in place of nodes.

    Attributes:
        node: the last of them, whose outputs the layer makes.
        covers: all of them. Their inner values are used by nothing else (``Site.only_user``).
        inputs: the values that the layer is called with.
        make: the layer, of a name and a dtype.
        config: what tells it from another layer, such as ``("Dense", 10, "relu")``.
        weights: variable name (``kernel``) to where it comes from, in the order of ``layer.weights``.
        order: of axes, in which the layer computes, by the rank of its first input; None: the graph's own. Inputs
            of another rank come as they are.
        call: how it is called; by default with the inputs, one after the other.
        dims: of the inputs' sizes in that order, the sizes of each output; None: as the first input.
        permutations: of the axes of each output; None: `order` for all.
        built_for: of the first input's shape, the shape that the layer is built for; None: the same.
        build: builds the layer for its inputs' shapes, where it takes more than one.
    """

    node: Any
    covers: tuple[Any, ...]
    inputs: tuple[Any, ...]
    make: Callable[[str, str], Any]
    config: tuple[Hashable, ...]
    weights: Mapping[str, Weight]
    order: Order | None = None
    call: Callable[..., Any] | None = None
    dims: Callable[[list[Dims]], Sequence[Sequence[int | None]]] | None = None
    permutations: tuple[Permutation | None, ...] | None = None
    built_for: Callable[[tuple[int | None, ...]], tuple[int | None, ...]] | None = None
    build: Callable[[Any, Sequence[tuple[int | None, ...]]], object] | None = None

    @property
    def key(self) -> Hashable:
        """Equal for calls of one layer."""
        sources = tuple((name, id(w.source), w.layout) for name, w in self.weights.items())
        alone = (
            id(self.node) if any(w.source is None for w in self.weights.values()) or not self.weights else 0
        )
        return (self.config, sources, alone)


Pattern = Callable[["Site", Any], "Lifted | NoMatch"]
#: Attributes that a Constant may have its contents in, and of which type they are; a tensor has its own.
_CONSTANTS = {
    "value": None,
    "value_int": "int64",
    "value_ints": "int64",
    "value_float": "float32",
    "value_floats": "float32",
}
#: Patterns of so many nodes are asked before others, of which they have several inside.
_BLOCK = 20
#: Operators whose result is one number throughout, if what they are given is.
_SPREAD = ("Expand", "Identity", "Unsqueeze", "Reshape", "Cast", "CastLike")
_PATTERNS: dict[tuple[str, str], list[tuple[int, str, Pattern]]] = defaultdict(list)


def lift(*op_types: str, size: int = 1, domain: str = "") -> Callable[[Pattern], Pattern]:
    """Register a pattern that begins at nodes of some operators."""

    def decorate(pattern: Pattern) -> Pattern:
        for op_type in op_types:
            _PATTERNS[domain, op_type].append((-size, pattern.__name__, pattern))
            _PATTERNS[domain, op_type].sort(key=lambda entry: entry[:2])
        return pattern

    return decorate


@cache
def _discover() -> None:
    package = "interop.rebuild.lift"
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def patterns(node: Any, *, blocks: bool = False) -> Iterator[tuple[str, Pattern]]:
    """The patterns that begin at a node, larger ones first: those of whole blocks, or those of layers."""
    _discover()
    for negative_size, name, pattern in _PATTERNS.get((canonical(node.domain), node.op_type), ()):
        if (-negative_size >= _BLOCK) == blocks:
            yield name, pattern


class Site:
    """What a pattern may ask of the graph around a node."""

    def __init__(self, graph: Any, layout: str) -> None:
        """`layout` is "nhwc" or "keep", as in ``import_onnx``; `proved` is for what patterns compute to decide."""
        self.graph, self.layout = graph, layout
        self._outputs = {id(value) for value in graph.outputs}
        self.proved: dict[Hashable, Any] = {}
        self._computed: dict[Any, Array] = {}
        self._sizes = Sizes()
        for node in graph:
            self._compute(node)

    def _compute(self, node: Any) -> None:
        """Integers that follow from constants and sizes alone, such as the axes of a Reshape."""
        if canonical(node.domain) or not known.computes(node.op_type):
            return
        if node.op_type == "Shape":
            self._measure(node)
            return
        inputs = [None if value is None else self._integers(value) for value in node.inputs]
        if any(array is None and value is not None for array, value in zip(inputs, node.inputs, strict=True)):
            return
        try:
            made = known.evaluate(node.op_type, inputs, attributes_of(node))
        except (ValueError, IndexError, TypeError):
            return  # told when the node is computed
        self._computed.update(zip(node.outputs, made or (), strict=False))

    def _measure(self, node: Any) -> None:
        """The sizes that shape inference knows, those that are open as symbols."""
        value = node.inputs[0]
        if value is None or value.shape is None:
            return
        sizes = [
            size if isinstance(size, int) else self._sizes.symbol(size.value or f"{value.name}_{axis}")
            for axis, size in enumerate(value.shape)
        ]
        attributes = attributes_of(node)
        measured = slice(attributes.get("start", 0), attributes.get("end"))
        self._computed[node.outputs[0]] = sizes_array(sizes[measured])

    def _integers(self, value: Any) -> Array | None:
        if value in self._computed:
            return self._computed[value]
        kind = value.dtype if value.const_value is None else value.const_value.dtype
        if kind is None or not (kind.is_integer() or kind == ir.DataType.BOOL):
            return None
        return self.constant(value)

    def attributes(self, node: Any) -> dict[str, Any]:
        """As a handler gets them."""
        return attributes_of(node)

    def constant(self, value: Any) -> Array | None:
        """The contents of an initializer or Constant, seen through Identity, and integers that follow from those;
        None of anything else."""
        if value is None:
            return None
        producer = value.producer()
        if producer is None:
            return (
                array_of(value.const_value, f"initializer {value.name!r}") if value.is_initializer() else None
            )
        if producer.op_type == "Identity":
            return self.constant(producer.inputs[0])
        if producer.op_type == "Constant":
            for name, dtype in _CONSTANTS.items():
                if name in producer.attributes:
                    return np.asarray(attributes_of(producer)[name], dtype)
        made = self._computed.get(value)
        return None if made is None or made.dtype == object else made

    def weight(self, value: Any) -> Weight | None:
        """A float initializer as a weight, or part of one, seen through Identity, Transpose, Reshape, Slice and Split;
        None of anything else."""
        if value is None:
            return None
        producer = value.producer()
        if producer is None:
            if not value.is_initializer() or value.is_graph_input():
                return None
            what = f"initializer {value.name!r}"
            if not is_float(value.const_value):
                return None
            return Weight(value, lambda: array_of(value.const_value, what))
        if producer.op_type == "Identity":
            return self.weight(producer.inputs[0])
        if producer.op_type == "Transpose":
            inner = self.weight(producer.inputs[0])
            if inner is None:
                return None
            perm = attributes_of(producer).get("perm")
            axes = tuple(perm) if perm is not None else None
            return inner.changed(f"transposed {axes}", lambda array: np.transpose(array, axes))
        if producer.op_type in RESHAPES:
            return self._reshaped(producer)
        if producer.op_type in PARTS:
            return self._part(producer, value)
        return None

    def _part(self, producer: Any, value: Any) -> Weight | None:
        """What a node takes of a weight; attention has the weights of its projections in one."""
        inner, arguments = self.weight(producer.inputs[0]), self._constants(producer.inputs[1:])
        if inner is None or arguments is None:
            return None
        attributes = attributes_of(producer)
        index = producer.outputs.index(value)
        if producer.op_type == "Split" and not arguments and "split" not in attributes:
            attributes["num_outputs"] = len(producer.outputs)

        def change(array: Array) -> Array:
            made = PARTS[str(producer.op_type)](array, *arguments, **attributes)
            part: Array = made if isinstance(made, np.ndarray) else made[index]
            return part

        asked = [None if argument is None else argument.tolist() for argument in arguments]
        return inner.changed(
            f"part {index} of {producer.op_type} {asked} {sorted(attributes.items())}", change
        )

    def _constants(self, values: Sequence[Any]) -> list[Array | None] | None:
        """The contents of optional inputs, None for those that are left out; None if not all are constants."""
        found = [None if value is None else self.constant(value) for value in values]
        known_all = all(
            array is not None for array, value in zip(found, values, strict=True) if value is not None
        )
        return found if known_all else None

    def _reshaped(self, producer: Any) -> Weight | None:
        """What a node makes of a weight that only changes its shape."""
        inner = self.weight(producer.inputs[0])
        arguments = self._constants(producer.inputs[1:])
        if inner is None or arguments is None:
            return None
        attributes = attributes_of(producer)

        def change(array: Array) -> Array:
            return RESHAPES[str(producer.op_type)](array, *arguments, **attributes)

        return inner.changed(f"reshaped {change(inner.array()).shape}", change)

    def only_user(self, value: Any) -> Any:
        """The node that alone uses a value, if there is one and the value is no output of the graph."""
        users = {id(user): user for user, _ in value.uses()}
        if len(users) != 1 or id(value) in self._outputs:
            return None
        user = next(iter(users.values()))
        return user if user.graph is self.graph else None

    def is_all(self, value: Any, number: float) -> bool:
        """Whether a value is one number throughout: a constant, or one that is expanded."""
        producer = value.producer()
        if producer is not None and producer.op_type in _SPREAD:
            return self.is_all(producer.inputs[0], number)
        if producer is not None and producer.op_type == "ConstantOfShape":
            return bool(np.all(attributes_of(producer).get("value", 0) == number))
        constant = self.constant(value)
        return constant is not None and bool(np.all(constant == number))

    def rank(self, value: Any) -> int | None:
        """How many axes a value has, where shape inference knew it."""
        return None if value.shape is None else len(value.shape)


def is_float(tensor: Any) -> bool:
    """Whether an ONNX tensor can be a weight: floats of 16 bits or more."""
    return tensor is not None and tensor.dtype.is_floating_point() and tensor.dtype.itemsize >= 2


@dataclass
class Plan:
    """What is computed by which layer.

    Attributes:
        lifted: layers by the node whose outputs they make.
        skipped: nodes that are covered by a layer or reach no output.
        reasons: by node name, why nodes that use weights were not lifted.
    """

    lifted: dict[Any, Lifted] = field(default_factory=dict)
    skipped: set[Any] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)


def plan(graph: Any, layout: str, elsewhere: Callable[[Any], bool] | None = None) -> Plan:
    """Match every pattern and settle which matches stand.

    Args:
        graph: whose nodes are looked at.
        layout: "nhwc" or "keep", as in ``import_onnx``.
        elsewhere: whether another graph uses an initializer too; None: there is none.
    """
    site, refused = Site(graph, layout), dict[Any, str]()
    while True:
        made, begun = _matched(site, refused)
        while conflicting := _conflicts(graph, made, elsewhere):
            # Of a block that does not stand, the layers inside may.
            blocks = {begun[lifted.node]: reason for lifted, reason in conflicting if lifted.node in begun}
            if blocks:
                refused |= blocks
                break
            for lifted, reason in conflicting:
                del made.lifted[lifted.node]
                made.reasons[name_of(lifted.node)] = reason
        else:
            break
    live = _live(graph, made)
    made.lifted = {node: lifted for node, lifted in made.lifted.items() if node in live}
    made.skipped = {node for node in graph if node not in live} | {
        node for lifted in made.lifted.values() for node in lifted.covers if node is not lifted.node
    }
    return made


def _matched(site: Site, refused: Mapping[Any, str]) -> tuple[Plan, dict[Any, Any]]:
    """Every pattern that holds, and of blocks, the node that the pattern began at by the node that the layer makes.

    Args:
        site: of the graph.
        refused: nodes at which no block begins, and why.
    """
    made = Plan(reasons={name_of(node): reason for node, reason in refused.items()})
    claimed: dict[Any, Lifted] = {}
    begun: dict[Any, Any] = {}
    for node, blocks in ((node, blocks) for blocks in (True, False) for node in site.graph):
        reasons, near = [], False
        for name, pattern in patterns(node, blocks=blocks):
            if blocks and node in refused:
                continue
            found = pattern(site, node)
            if isinstance(found, NoMatch):
                reasons.append(f"{name}: {found.reason}")
                near = near or found.near
            elif any(other in claimed for other in found.covers):
                reasons.append(f"{name}: some of its nodes belong to another layer")
            else:
                claimed.update(dict.fromkeys(found.covers, found))
                made.lifted[found.node] = found
                if blocks:
                    begun[found.node] = node
                break
        else:
            if reasons and (near or any(site.weight(x) for x in node.inputs)):
                made.reasons[name_of(node)] = "; ".join(reasons)
    for node in claimed:
        made.reasons.pop(name_of(node), None)
    return made, begun


def _conflicts(graph: Any, made: Plan, elsewhere: Callable[[Any], bool] | None) -> list[tuple[Lifted, str]]:
    """Layers whose initializers are used otherwise too."""
    live = _live(graph, made)
    covered = {node for lifted in made.lifted.values() for node in lifted.covers}
    users: dict[int, set[Hashable]] = defaultdict(set)
    for lifted in made.lifted.values():
        if lifted.node in live:
            for weight in lifted.weights.values():
                if weight.source is not None:
                    users[id(weight.source)].add(lifted.key)
                    if elsewhere is not None and elsewhere(weight.source):
                        users[id(weight.source)].add(None)
    for node in live - covered:
        for value in values_of(node):
            if value.is_initializer():
                users[id(value)].add(id(node))
    conflicting = []
    for lifted in made.lifted.values():
        for weight in lifted.weights.values():
            count = len(users[id(weight.source)]) if weight.source is not None else 1
            if count > 1:
                conflicting.append((lifted, f"{weight.source.name!r} is used in {count} ways"))
                break
    return conflicting


def _live(graph: Any, made: Plan) -> set[Any]:
    """Nodes that an output needs, those inside layers included."""
    live: set[Any] = set()
    waiting = [value.producer() for value in graph.outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in live or node.graph is not graph:
            continue
        live.add(node)
        lifted = made.lifted.get(node)
        live.update(lifted.covers if lifted is not None else ())
        needed = lifted.inputs if lifted is not None else values_of(node)
        waiting.extend(value.producer() for value in needed if value is not None)
    return live


def values_of(node: Any) -> Iterator[Any]:
    """Values a node uses, those that its subgraphs take from around included."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        graphs: Sequence[Any] = []
        if attribute.type.name == "GRAPH":
            graphs = [attribute.value]
        elif attribute.type.name == "GRAPHS":
            graphs = attribute.value
        for graph in graphs:
            for inner in graph:
                yield from values_of(inner)
            yield from graph.outputs
