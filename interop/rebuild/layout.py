"""Operators that know their axes by number, computed in whatever order of axes a tensor is at hand in.

A convolution leaves its channels last. An operator in ``RULES`` that comes next is not made to move them back: its
axes are renumbered instead, and its result keeps the order. Enters: the order of axes (``values.Permutation``), the
arguments of a handler that must be known, and the attributes of the node. Leaves: the same for a tensor in that
order, and the order of the result; None where the operator has to see the graph's own order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.rebuild.registry import Handler
from interop.rebuild.values import Permutation


@dataclass(frozen=True)
class Moved:
    """A node on a tensor whose axes are in another order.

    Attributes:
        arguments: known inputs by their position, where they change.
        attributes: all of them.
        permutation: of the axes of the result.
    """

    arguments: Mapping[int, Any]
    attributes: Mapping[str, Any]
    permutation: Permutation


Rule = Callable[[Handler, Permutation, Sequence[Any], Mapping[str, Any]], "Moved | None"]


def moved(
    handler: Handler, permutation: Permutation, known: Sequence[Any], attributes: Mapping[str, Any]
) -> Moved | None:
    """The node for a tensor in an order of axes.

    Args:
        handler: what computes it.
        permutation: the order.
        known: the inputs by position; None where one is a tensor, or is left out.
        attributes: of the node.
    """
    rule = None if handler.domain else RULES.get(handler.op_type)
    return None if rule is None else rule(handler, permutation, known, attributes)


def without(permutation: Permutation, gone: Sequence[int]) -> Permutation:
    """The order of the axes that are left when some are gone."""
    kept = [axis for axis in permutation if axis not in gone]
    return tuple(sorted(kept).index(axis) for axis in kept)


def _places(permutation: Permutation, axes: Sequence[int]) -> list[int]:
    """Where axes lie; out of range, they are left to the handler to refuse."""
    rank = len(permutation)
    return [permutation.index(axis % rank) if -rank <= axis < rank else axis for axis in axes]


def _one_axis(default: int) -> Rule:
    """Operators along one axis, ``axis``, which keep all axes."""

    def rule(
        handler: Handler, permutation: Permutation, known: Sequence[Any], attributes: Mapping[str, Any]
    ) -> Moved | None:
        if handler.op_type in ("Softmax", "LogSoftmax") and handler.since < 13:
            return None  # they flatten what follows the axis
        axis = _places(permutation, [attributes.get("axis", default)])[0]
        return Moved({}, {**attributes, "axis": axis}, permutation)

    return rule


def _axes_of(known: Sequence[Any], position: int, attributes: Mapping[str, Any]) -> list[int] | None:
    if "axes" in attributes:
        return [int(axis) for axis in attributes["axes"]]
    if len(known) > position and known[position] is not None:
        return [int(axis) for axis in np.asarray(known[position]).reshape(-1)]
    return None


def _replaced(position: int, axes: list[int], attributes: Mapping[str, Any]) -> tuple[dict[int, Any], Any]:
    """Axes put where they came from."""
    if "axes" in attributes:
        return {}, {**attributes, "axes": axes}
    return {position: np.asarray(axes, "int64")}, attributes


def _reduction(
    handler: Handler, permutation: Permutation, known: Sequence[Any], attributes: Mapping[str, Any]
) -> Moved | None:
    axes = _axes_of(known, 1, attributes)
    if not axes:
        return None
    arguments, changed = _replaced(1, _places(permutation, axes), attributes)
    if attributes.get("keepdims", 1):
        return Moved(arguments, changed, permutation)
    rank = len(permutation)
    return Moved(arguments, changed, without(permutation, [axis % rank for axis in axes]))


def _extreme_index(
    handler: Handler, permutation: Permutation, known: Sequence[Any], attributes: Mapping[str, Any]
) -> Moved | None:
    axis = attributes.get("axis", 0)
    changed = {**attributes, "axis": _places(permutation, [axis])[0]}
    kept = attributes.get("keepdims", 1)
    return Moved({}, changed, permutation if kept else without(permutation, [axis % len(permutation)]))


def _squeeze(
    handler: Handler, permutation: Permutation, known: Sequence[Any], attributes: Mapping[str, Any]
) -> Moved | None:
    axes = _axes_of(known, 1, attributes)
    if not axes:
        return None
    arguments, changed = _replaced(1, _places(permutation, axes), attributes)
    return Moved(arguments, changed, without(permutation, [axis % len(permutation) for axis in axes]))


def _slice(
    handler: Handler, permutation: Permutation, known: Sequence[Any], attributes: Mapping[str, Any]
) -> Moved | None:
    axes = _axes_of(known, 3, attributes)
    if axes is None:
        starts = attributes["starts"] if "starts" in attributes else known[1]
        axes = list(range(len(starts)))
        if "starts" in attributes:
            return Moved({}, {**attributes, "axes": _places(permutation, axes)}, permutation)
    arguments, changed = _replaced(3, _places(permutation, axes), attributes)
    return Moved(arguments, changed, permutation)


def _pad(
    handler: Handler, permutation: Permutation, known: Sequence[Any], attributes: Mapping[str, Any]
) -> Moved | None:
    axes = _axes_of(known, 3, attributes)
    if axes is not None:
        return Moved({3: np.asarray(_places(permutation, axes), "int64")}, attributes, permutation)
    rank = len(permutation)
    order = [*permutation, *(axis + rank for axis in permutation)]
    if "pads" in attributes:
        pads = attributes["pads"]
        if len(pads) != 2 * rank:
            return None
        return Moved({}, {**attributes, "pads": [pads[place] for place in order]}, permutation)
    if len(known) < 2 or known[1] is None or known[1].size != 2 * rank:
        return None
    return Moved({1: known[1].reshape(-1)[order]}, attributes, permutation)


RULES: dict[str, Rule] = {
    "ArgMax": _extreme_index,
    "ArgMin": _extreme_index,
    "Concat": _one_axis(0),
    "LogSoftmax": _one_axis(-1),
    "Pad": _pad,
    "Slice": _slice,
    "Softmax": _one_axis(-1),
    "Split": _one_axis(0),
    "Squeeze": _squeeze,
}
RULES |= dict.fromkeys(
    (
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
    ),
    _reduction,
)
