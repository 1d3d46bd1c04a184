"""Transposes that undo each other are taken out, however much arithmetic lies between them.

Enters: a flat ``ir.Model``. Leaves: the same model with fewer Transposes, or untouched if none can be saved.

Frameworks wrap every convolution of a channels-last model into two Transposes. Operators that compute the same
in any order of axes (``movable.py``) form groups: those that feed each other directly. A group works in one
order, and a Transpose is needed only where a value crosses into a group, or to an operator, of another order.
Each group takes the order that needs the fewest; groups are asked in turn until none changes its mind. As every
group begins with its own order, the count never grows. Cost is linear in the number of nodes.

Invariants: inputs, outputs and their names stay; a constant is reordered itself; results are the same to the bit,
but for sums, which may add up in another order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from interop.graph.passes.bodies import graphs, nodes
from interop.graph.passes.movable import (
    KEEPS_RANK,
    Order,
    composed,
    constant,
    indifferent,
    inverse,
    is_identity,
    move,
    operands,
    take,
    transposed_by,
)
from interop.graph.passes.names import Names

_SWEEPS = 8
_CANDIDATES = 4
_PADDING_PRICE = 1 / 1024
_VIEW_PRICE = 1 / 8
"""Of a Transpose that moves nothing in memory, as only axes of size 1 change places: a Reshape does it."""


def with_few_transposes(model: Any) -> Any:
    """Cancel Transposes in every graph of a model, in place."""
    names = Names(model)
    for graph in graphs(model.graph):
        if any(_is_transpose(node) for node in graph) and not _leaks(graph):
            _Layouts(graph, names).settle()
    return model


def _is_transpose(node: Any) -> bool:
    """Whether a node may go; one of a constant was left there by whoever folded the others."""
    return node.op_type == "Transpose" and not node.domain and constant(node.inputs[0]) is None


def _leaks(graph: Any) -> bool:
    """Whether a body gives out a value from outside of it as it is: no node is there to be rewritten."""
    return any(value.graph is not body for body in graphs(graph)[1:] for value in body.outputs)


@dataclass(slots=True, eq=False)
class _Group:
    """Movable nodes that feed each other directly.

    Attributes:
        rank: of all their values.
        order: in which their values are stored.
        values: what they compute.
        uses: where they take a value of another group, or of none.
    """

    rank: int
    order: Order
    values: list[Any] = field(default_factory=list)
    uses: list[_Use] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Use:
    """An input of a node, or an output of the graph (no node): ``base`` with its axes in ``order``.

    Attributes:
        base: the value that the Transposes before this use begin with.
        order: what those Transposes amount to.
        group: of the node; None if its axes are what they are.
    """

    node: Any
    index: int
    base: Any
    order: Order
    group: _Group | None


class _Layouts:
    """The orders of one graph."""

    def __init__(self, graph: Any, names: Names) -> None:
        self._graph = graph
        self._first = graph[0]
        self._unique = names.unique
        self._ranks: dict[Any, int | None] = {}
        self._bases: dict[Any, tuple[Any, Order]] = {}
        self._group_of: dict[Any, _Group] = {}  # by node, merged groups through _parents
        self._parents: dict[_Group, _Group] = {}
        self._uses: dict[Any, list[_Use]] = {}  # by base
        self._all_uses: list[_Use] = []  # in the order of nodes
        self._dims: dict[Any, list[int | None]] = {}
        self._made: dict[tuple[Any, Order], Any] = {}
        self._operands: dict[Any, list[int]] = {}
        self._transposes: list[Any] = []
        self._read()

    # --- what is there

    def _read(self) -> None:
        for node in self._graph:
            if _is_transpose(node):
                self._transposes.append(node)
                self._note_transpose(node)
            else:
                self._join(node)
        for node in nodes(self._graph):
            if not (_is_transpose(node) and node.graph is self._graph):
                self._note_uses(node)
        for index, value in enumerate(self._graph.outputs):
            self._note_use(None, index, value, None)
        for node in self._operands:
            group = self._found(self._group_of[node])
            group.values += node.outputs

    def rank(self, value: Any) -> int | None:
        if value is None:
            return None
        if value not in self._ranks:
            tensor = constant(value)
            shape = value.shape if tensor is None else tensor.shape
            self._ranks[value] = None if shape is None else len(shape)
        return self._ranks[value]

    def _note_transpose(self, node: Any) -> None:
        source, result = node.inputs[0], node.outputs[0]
        order = transposed_by(node, self.rank(source))
        if order is not None:
            base, first = self._bases.get(source, (source, tuple(range(len(order)))))
            self._bases[result] = (base, composed(first, order))
            for value in (source, result):
                if self.rank(value) is None:
                    self._ranks[value] = len(order)

    def _join(self, node: Any) -> None:
        """Put a movable node into the group of the nodes that feed it."""
        places = operands(node, self.rank)
        ranks = [self.rank(node.inputs[place]) for place in places or ()]
        if not places or None in ranks:
            if node.op_type in KEEPS_RANK and self.rank(node.outputs[0]) is None:
                self._ranks[node.outputs[0]] = self.rank(node.inputs[0])
            return
        rank = max(known for known in ranks if known is not None)
        moving = []
        for place, own in zip(places, ranks, strict=True):
            value = node.inputs[place]
            tensor = constant(value)
            if own == 0 or (tensor is not None and tensor.size == 1 and node.op_type != "Concat"):
                continue  # the same in any order
            if own != rank and tensor is None:
                return
            moving.append(place)
        for value in node.outputs:
            if self.rank(value) not in (None, rank):
                return
            self._ranks[value] = rank
        if rank < 2:
            return
        self._operands[node] = moving
        group = self._group_of[node] = _Group(rank, tuple(range(rank)))
        for place in moving:
            feeding = self._group_of.get(node.inputs[place].producer())
            if feeding is not None and (root := self._found(feeding)) is not group:
                self._parents[root] = group

    def _found(self, group: _Group) -> _Group:
        root = group
        while root in self._parents:
            root = self._parents[root]
        while group in self._parents:
            self._parents[group], group = root, self._parents[group]
        return root

    def _note_uses(self, node: Any) -> None:
        moving = self._operands.get(node, ())
        for index, value in enumerate(node.inputs):
            if value is not None:
                self._note_use(node, index, value, self._group_of[node] if index in moving else None)

    def _note_use(self, node: Any, index: int, value: Any, group: _Group | None) -> None:
        if node is not None and node.graph is not self._graph and value.graph is not self._graph:
            return  # a body's own business
        base, order = self._bases.get(value, (value, None))
        home = self._home(base)
        if group is None and home is None and order is None:
            return  # as it was, whatever happens
        group = None if group is None else self._found(group)
        if order is None:
            rank = self.rank(base) if group is None else group.rank
            order = tuple(range(rank or 0))
        use = _Use(node, index, base, order, group)
        self._uses.setdefault(base, []).append(use)
        self._all_uses.append(use)
        if group is not None and home is not group:
            group.uses.append(use)

    def _home(self, base: Any) -> _Group | None:
        """The group that computes a value."""
        group = self._group_of.get(base.producer())
        return None if group is None else self._found(group)

    # --- what it costs

    def _net(self, use: _Use) -> Order:
        """What has to happen to the stored value for a use."""
        home = self._home(use.base)
        order = use.order if use.group is None else composed(use.order, use.group.order)
        return order if home is None else composed(inverse(home.order), order)

    def _stored_dims(self, base: Any) -> list[int | None]:
        """Sizes of a value's axes in its own order, None where they are not known."""
        if base not in self._dims:
            shape = base.shape
            self._dims[base] = [
                dim if isinstance(dim, int) else None
                for dim in (shape if shape is not None else [None] * (self.rank(base) or 0))
            ]
        home = self._home(base)
        dims = self._dims[base]
        return dims if home is None else [dims[axis] for axis in home.order]

    def _view(self, base: Any, net: Order) -> list[int] | None:
        """The target of a Reshape that does what a Transpose would, if there is one."""
        dims = self._stored_dims(base)
        large = [axis for axis in net if dims[axis] != 1]
        if large != sorted(large):
            return None
        target = [
            size if (size := dims[axis]) is not None else 0 if axis == place else -1
            for place, axis in enumerate(net)
        ]
        return target if target.count(-1) <= 1 and (0 not in dims) else None

    def _cost(self, group: _Group) -> float:
        """What an order costs a group. A tie is broken where a Pad can become part of a convolution."""
        padding: int = sum(
            use.node is not None
            and use.node.op_type == "Conv"
            and getattr(use.base.producer(), "op_type", None) == "Pad"
            and is_identity(self._net(use))
            for value in group.values
            for use in self._uses.get(value, ())
        )
        return self._sum(self._touching(group)) - padding * _PADDING_PRICE

    def _sum(self, uses: Iterable[_Use]) -> float:
        """What uses cost; equal Transposes of a value count once."""
        needed: dict[tuple[Any, Order], float] = {}
        for use in uses:
            net = self._net(use)
            if is_identity(net) or constant(use.base) is not None:
                continue
            if use.group is None and use.node is not None and indifferent(use.node, use.index, net):
                continue
            needed[use.base, net] = 1 if self._view(use.base, net) is None else _VIEW_PRICE
        return sum(needed.values())

    def _touching(self, group: _Group) -> Iterator[_Use]:
        yield from group.uses
        for value in group.values:
            yield from self._uses.get(value, ())

    def _candidates(self, group: _Group) -> list[Order]:
        """Orders in which some use would cost nothing, those of most uses first."""
        found: Counter[Order] = Counter()
        for use in self._touching(group):
            home = self._home(use.base)
            if use.group is group and home is not group:
                own = tuple(range(group.rank)) if home is None else home.order
                if constant(use.base) is None:
                    found[composed(inverse(use.order), own)] += 1
            elif home is group and use.group is not group:
                found[use.order if use.group is None else composed(use.order, use.group.order)] += 1
        found.pop(group.order, None)
        return [order for order, _ in found.most_common(_CANDIDATES)]

    # --- what is done

    def settle(self) -> None:
        """Choose an order for every group and rewrite the graph, if that saves a Transpose."""
        groups = list(dict.fromkeys(self._found(group) for group in self._group_of.values()))
        for sweep in range(_SWEEPS):
            changed = False
            for group in groups[:: 1 if sweep % 2 == 0 else -1]:
                changed |= self._improve(group)
            if not changed:
                break
        if self._sum(self._all_uses) < len(self._transposes):
            self._rewrite()

    def _improve(self, group: _Group) -> bool:
        best, order = self._cost(group), group.order
        if best <= 0:
            return False
        kept = order
        for candidate in self._candidates(group):
            group.order = candidate
            if (cost := self._cost(group)) < best:
                best, order = cost, candidate
        group.order = order
        return order != kept

    def _rewrite(self) -> None:
        nets = [(use, self._net(use)) for use in self._all_uses]
        shapes = [value.shape for value in self._graph.outputs]
        views = {
            (use.base, net): self._view(use.base, net)
            for use, net in nets
            if not is_identity(net) and constant(use.base) is None
        }
        for use, net in nets:
            if use.node is None:
                continue
            if use.group is None and not is_identity(net) and indifferent(use.node, use.index, net):
                use.node.replace_input_with(use.index, use.base)
                take(use.node, net, self._integers)
            else:
                self._replace(use, self._reordered(use.base, net, views))
        for node in self._operands:
            order = self._found(self._group_of[node]).order
            if not is_identity(order):
                move(node, order, self._integers)
                for value in node.outputs:
                    value.shape = (
                        None if value.shape is None else ir.Shape([value.shape[axis] for axis in order])
                    )
        outputs = list(self._graph.outputs)
        for use, net in nets:
            if use.node is None:
                outputs[use.index] = self._reordered(use.base, net, views)
        self._give(outputs, shapes)
        for node in reversed(self._transposes):
            if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                self._graph.remove(node, safe=True)

    def _replace(self, use: _Use, value: Any) -> None:
        if use.node.inputs[use.index] is not value:
            use.node.replace_input_with(use.index, value)

    def _give(self, outputs: Sequence[Any], shapes: Sequence[Any]) -> None:
        """Give these values out, under the names of the outputs that were."""
        before = list(self._graph.outputs)
        names = [value.name for value in before]
        moved = [index for index, value in enumerate(outputs) if value is not before[index]]
        taken = {value for value, old in zip(outputs, before, strict=True) if value is old}
        for index in moved:
            before[index].name = self._unique(f"{names[index]}/reordered")
        for index in moved:
            value = outputs[index]
            if value in taken or value.is_graph_input() or value.is_initializer():
                node = ir.Node("", "Identity", [value], name=self._unique(f"{names[index]}/identity"))
                node.outputs[0].type = value.type
                self._graph.append(node)
                value = node.outputs[0]
            taken.add(value)
            value.name, value.shape = names[index], shapes[index]
            self._graph.outputs[index] = value

    def _reordered(self, base: Any, net: Order, views: dict[tuple[Any, Order], list[int] | None]) -> Any:
        """The stored value with its axes in another order."""
        if is_identity(net):
            return base
        key = (base, net)
        if key not in self._made:
            tensor = constant(base)
            self._made[key] = (
                self._transposed(base, net, views[key]) if tensor is None else self._constant(base, net)
            )
        return self._made[key]

    def _transposed(self, base: Any, net: Order, view: list[int] | None) -> Any:
        if view is None:
            node = ir.Node("", "Transpose", [base], [ir.AttrInt64s("perm", list(net))])
        else:
            source, target = _through_reshape(base, net) or (base, view)
            node = ir.Node("", "Reshape", [source, self._integers(target, None)])
        made = node.outputs[0]
        made.name = node.name = self._unique(f"{base.name}/{node.op_type.lower()}")
        made.type = base.type
        made.shape = ir.Shape([self._stored_dims(base)[axis] for axis in net])
        self._after(base, node)
        return made

    def _after(self, value: Any, node: Any) -> None:
        producer = value.producer()
        if producer is not None and producer.graph is self._graph:
            self._graph.insert_after(producer, node)
        else:
            self._graph.insert_before(self._first, node)

    def _constant(self, base: Any, net: Order) -> Any:
        """A constant with its axes in another order, those that broadcasting adds before them included."""
        array = constant(base).numpy()
        whole = array.reshape((1,) * (len(net) - array.ndim) + array.shape).transpose(net)
        ones = next((axis for axis, size in enumerate(whole.shape) if size != 1), whole.ndim)
        ones = min(ones, len(net) - array.ndim)
        return self._given(np.ascontiguousarray(whole.reshape(whole.shape[ones:])), base)

    def _given(self, array: np.ndarray[Any, Any], like: Any) -> Any:
        """A constant, stored as the one it is made from is."""
        name = self._unique(f"{like.name}/reordered" if like is not None else "axes")
        tensor = ir.Tensor(array, name=name, dtype=None if like is None else like.dtype)
        if like is not None and like.is_initializer():
            made = ir.Value(name=name, type=like.type, shape=tensor.shape, const_value=tensor)
            self._graph.register_initializer(made)
            return made
        node = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], name=name)
        made = node.outputs[0]
        made.name, made.type, made.shape, made.const_value = (
            name,
            ir.TensorType(tensor.dtype),
            tensor.shape,
            tensor,
        )
        self._graph.insert_before(self._first, node)
        return made

    def _integers(self, numbers: Sequence[int], of: Any) -> Any:
        """A vector of numbers, or of those entries of another vector."""
        if of is None:
            return self._given(np.asarray(numbers, np.int64), None)
        known = constant(of)
        if known is not None:
            return self._given(known.numpy()[list(numbers)], None)
        node = ir.Node("", "Gather", [of, self._integers(numbers, None)])
        made = node.outputs[0]
        made.name = node.name = self._unique(f"{of.name}/gather")
        made.type = of.type
        self._after(of, node)
        return made


def _through_reshape(base: Any, net: Order) -> tuple[Any, list[int]] | None:
    """What a Reshape reshapes, and the target that gives its result with the axes in another order at once."""
    node = base.producer()
    if node is None or node.op_type != "Reshape" or node.domain or node.attributes.get_int("allowzero", 0):
        return None
    known = constant(node.inputs[1])
    if known is None:
        return None
    target = known.numpy().tolist()
    if any(target[axis] == 0 and axis != place for place, axis in enumerate(net)):
        return None
    return node.inputs[0], [target[axis] for axis in net]
