"""The Transposes of a graph as ONNX Runtime is best given them.

What enters: the nodes of a graph, in order. What leaves: nodes that make the same values, to the bit.

A layer takes and gives channels last, what it applies may not: between two layers, a Transpose undoes another. A
kernel has its axes in Keras' order, and ONNX Runtime puts it into its own while it opens the graph, element by
element, unless one axis only changes its place: that it does ten times as fast.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any

from interop.artifact.outline import Step, free_name

Order = tuple[int, ...]
"""For each axis of what a Transpose makes, the axis of what it takes."""

_TRANSPOSE = ("", "Transpose", "")
_LONG_BYTES = 16 << 10  # of a shorter weight, ONNX Runtime takes longer for one node more


def without_undone(nodes: list[Step], kept: Collection[str]) -> list[Step]:
    """The same without what moves axes and moves them back: who takes its value takes the one from before both.

    Args:
        nodes: the nodes of a graph, in order.
        kept: the values that are made whatever happens: the graph's outputs.
    """
    moved: dict[str, tuple[str, Order]] = {}
    same: dict[str, str] = {}
    found = []
    for step in nodes:
        if not same.keys().isdisjoint(step.inputs):
            step = step._replace(inputs=[same.get(name, name) for name in step.inputs])
        order = _order(step)
        if order is not None:
            [value], [result] = step.inputs, step.outputs
            source, before = moved.get(value, ("", ()))
            if result not in kept and _is_undone(before, order):
                same[result] = source
                continue
            moved[result] = value, order
        found.append(step)
    if not same:
        return nodes
    # One that nobody needs any more would keep ONNX Runtime from fusing what is around it.
    used, needed = set(kept), []
    for step in reversed(found):
        if step.key != _TRANSPOSE or not used.isdisjoint(step.outputs):
            used.update(step.inputs)
            needed.append(step)
    return needed[::-1]


def with_single_moves(nodes: list[Step], weights: Mapping[str, int]) -> list[Step]:
    """The same with a Transpose of a long weight as several, each of which moves one axis.

    Args:
        nodes: the nodes of a graph, in order.
        weights: name to size in bytes of the initializers.
    """
    found = []
    taken: set[str] = set()
    for step in nodes:
        is_long = step.key == _TRANSPOSE and any(weights.get(name, 0) >= _LONG_BYTES for name in step.inputs)
        moves = _moves(_order(step) or ()) if is_long else []
        if len(moves) > 1:
            taken = taken or {*weights, *chain(*((each.name, *each.inputs, *each.outputs) for each in nodes))}
            for move in moves[:-1]:
                name = free_name(f"{step.outputs[0]}/moved", taken)
                found.append(step._replace(node=_ordered(step.node, move), name=name, outputs=[name]))
                step = step._replace(inputs=[name])
            step = step._replace(node=_ordered(step.node, moves[-1]))
        found.append(step)
    return found


def _order(step: Step) -> Order | None:
    """The order that a Transpose puts axes in; None for another node, and where it says none or is malformed."""
    if step.key != _TRANSPOSE:
        return None
    orders = [tuple(attribute.ints) for attribute in step.attributes if attribute.name == "perm"]
    return orders[0] if len(orders) == len(step.inputs) == len(step.outputs) == 1 else None


def _is_undone(before: Order, order: Order) -> bool:
    """Whether a second order puts axes back to where they were before a first one."""
    axes = range(len(before))
    return len(order) == len(before) > 0 and all(
        axis in axes and before[axis] == place for place, axis in enumerate(order)
    )


def _moves(order: Order) -> list[Order]:
    """Orders that make an order one after the other, of which each takes one axis forward; none if it is malformed.

    >>> _moves((3, 2, 0, 1))
    [(3, 0, 1, 2), (0, 3, 1, 2)]
    """
    axes = [*range(len(order))]
    if sorted(order) != axes:
        return []
    found = []
    for place, axis in enumerate(order):
        current = axes.index(axis)
        if current != place:
            rest = [each for each in range(len(order)) if each != current]
            found.append((*rest[:place], current, *rest[place:]))
            axes.insert(place, axes.pop(current))
    return found


def _ordered(node: Any, order: Order) -> Any:
    """A copy of a Transpose with another order."""
    copy = type(node)()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        attribute.ints[:] = order
    return copy
