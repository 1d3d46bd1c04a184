"""Operators that compute the same in any order of axes, and what changes about them in another one.

An order of axes is a permutation: axis ``i`` of the reordered tensor is axis ``order[i]`` of the original one.

- A *movable* operator takes operands of one rank and gives results of that rank: elementwise arithmetic with
  broadcasting, Concat, Pad, reductions that keep their axes.
- An *indifferent* one gives the same result for a reordered operand, once its axes are renamed: Shape,
  reductions and Squeeze where the axes that remain keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

Order = tuple[int, ...]
#: Makes an int64 vector: of numbers, or of entries of another vector.
Integers = Callable[[Sequence[int], Any], Any]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNARY = _words(
    """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh
    Softplus Softsign Sqrt Tan Tanh ThresholdedRelu
    """
)
_BROADCASTING = _words(
    """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod
    Mul Or PRelu Pow Sub Sum Where Xor
    """
)
_REDUCTIONS = _words(
    """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    """
)
#: Operators whose result has the rank of their first operand.
KEEPS_RANK = _words(
    """
    AveragePool BatchNormalization Conv ConvTranspose CumSum GlobalAveragePool GlobalMaxPool InstanceNormalization
    LayerNormalization LpNormalization LRN LogSoftmax MaxPool Resize Softmax Trilu
    """
)


def composed(first: Order, then: Order) -> Order:
    """The order that comes of one reordering after the other."""
    return tuple(first[axis] for axis in then)


def inverse(order: Order) -> Order:
    """The order that undoes this one."""
    places = [0] * len(order)
    for place, axis in enumerate(order):
        places[axis] = place
    return tuple(places)


def is_identity(order: Order) -> bool:
    return all(place == axis for place, axis in enumerate(order))


def transposed_by(node: Any, rank: int | None) -> Order | None:
    """The order that a Transpose node gives; None if it gives the reverse of a rank that is not known."""
    perm = node.attributes.get("perm")
    if perm is not None:
        return tuple(perm.as_ints())
    return None if rank is None else tuple(reversed(range(rank)))


def constant(value: Any) -> Any:
    """The tensor that a value always is, or None."""
    return None if value is None or value.is_graph_input() else value.const_value


def _axes(node: Any) -> list[int] | None:
    """The axes a node names, as attribute or constant input; [] for none, None if they are not known."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"].as_ints())
    place = {"Pad": 3, "Slice": 3}.get(node.op_type, 1)
    if len(node.inputs) <= place or node.inputs[place] is None:
        return []
    known = constant(node.inputs[place])
    return None if known is None else [int(axis) for axis in known.numpy()]


def operands(node: Any, rank_of: Callable[[Any], int | None]) -> list[int] | None:
    """The inputs of a movable operator that have axes; None if the operator is not movable here."""
    kind = node.op_type
    if node.domain or any(value is None for value in node.inputs[:1]):
        return None
    if kind in _UNARY:
        return [0]
    if kind in _BROADCASTING or kind == "Concat":
        return list(range(len(node.inputs)))
    if kind in _REDUCTIONS:
        return [0] if _keeps_axes(node) and _axes(node) is not None else None
    if kind == "Pad":
        return [0] if _axes(node) is not None else None
    if kind == "Slice":
        return [0] if _axes(node) else None
    if kind == "Split":
        return [0]
    if kind == "Gather":
        return [0] if rank_of(node.inputs[1]) == 1 else None
    return None


def _keeps_axes(node: Any) -> bool:
    return bool(node.attributes.get_int("keepdims", 1))


def move(node: Any, order: Order, integers: Integers) -> None:
    """Make a movable operator work on operands in this order of axes; the operands are the caller's."""
    places, rank = inverse(order), len(order)
    if node.op_type in ("Concat", "Split", "Gather"):
        _set_axis(node, places[node.attributes.get_int("axis", 0) % rank])
    elif node.op_type == "Pad" and not _axes(node):
        both = [*order, *(axis + rank for axis in order)]
        node.replace_input_with(1, integers(both, node.inputs[1]))
    elif node.op_type in _REDUCTIONS or node.op_type in ("Pad", "Slice"):
        rename_axes(node, places, integers)


def rename_axes(node: Any, places: Order, integers: Integers) -> None:
    """Name other axes: what was axis ``a`` is axis ``places[a]``."""
    axes = [places[axis % len(places)] for axis in _axes(node) or []]
    if not axes:
        return
    if "axes" in node.attributes:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    else:
        place = {"Pad": 3, "Slice": 3}.get(node.op_type, 1)
        node.replace_input_with(place, integers(axes, None))


def _set_axis(node: Any, axis: int) -> None:
    node.attributes["axis"] = ir.AttrInt64("axis", axis)


def indifferent(node: Any, index: int, order: Order) -> bool:
    """Whether a node that is not movable can do without a Transpose to this order before an input."""
    if node.domain or index:
        return False
    if node.op_type == "Shape":
        return _in_a_row(_read(node, order)) or not node.outputs[0].is_graph_output()
    if node.op_type == "Squeeze" or (node.op_type in _REDUCTIONS and not _keeps_axes(node)):
        axes = _axes(node)
        if axes is None:
            return False
        gone = {axis % len(order) for axis in axes} if axes else set(range(len(order)))
        rest = [place for axis, place in enumerate(order) if axis not in gone]
        return rest == sorted(rest)
    return False


def take(node: Any, order: Order, integers: Integers) -> None:
    """Make an indifferent node do without a Transpose to this order before its first input."""
    if node.op_type != "Shape":
        rename_axes(node, order, integers)
        return
    places = _read(node, order)
    if _in_a_row(places):
        first = places[0] if places else 0
        node.attributes["start"] = ir.AttrInt64("start", first)
        node.attributes["end"] = ir.AttrInt64("end", first + len(places))
        return
    node.attributes.pop("start", None)
    node.attributes.pop("end", None)
    whole = node.outputs[0]
    picked = integers(places, whole)
    whole.replace_all_uses_with(picked)
    picked.producer().replace_input_with(0, whole)


def _read(node: Any, order: Order) -> Order:
    """The axes that a Shape reads, of what is in front of a Transpose to this order."""
    return order[slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None))]


def _in_a_row(places: Order) -> bool:
    return not places or places == tuple(range(places[0], places[0] + len(places)))
