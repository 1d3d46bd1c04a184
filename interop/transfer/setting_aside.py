"""What two models do differently set aside: nodes of the one graph get the attributes that the other's have.

Enters: the facts of sites that are paired. Leaves: changes of nodes, by first output; ``changed`` makes them. Then
the graphs must agree although the models do not: so the mapping is proven, and what the models do differently explains
all of how they depart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from interop.transfer.alignment import Pair

#: Facts that are attributes of a node.
ATTRIBUTES = ("padding", "strides", "dilation", "epsilon")


def changes(pairs: Iterable[Pair]) -> dict[str, dict[str, Any]]:
    """For each node of the target that differs from its partner, what it does and what the partner does."""
    made: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        ours, theirs = pair.target.facts, pair.source.facts
        apart = {key for key in ATTRIBUTES if key in ours and key in theirs and ours[key] != theirs[key]}
        if apart:
            node = ours["node"] if "epsilon" in apart else pair.target.node
            made[node] = {"ours": ours, "theirs": theirs, "apart": apart}
    return made


def changed(graph: Any, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Change the nodes of a graph in place."""
    import onnx_ir as ir

    for node in list(graph):
        found = wanted.get(node.outputs[0].name)
        if found is None:
            continue
        if "epsilon" in found["apart"]:
            node.attributes["epsilon"] = ir.AttrFloat32("epsilon", float(found["theirs"]["epsilon"]))
        for fact, name in (("strides", "strides"), ("dilation", "dilations")):
            if fact in found["apart"]:
                node.attributes[name] = ir.AttrInt64s(name, list(found["theirs"][fact]))
        if "padding" in found["ours"]:
            _padded(graph, node, found["ours"]["padding"], found["theirs"]["padding"])


def _padded(graph: Any, node: Any, ours: Any, theirs: Any) -> None:
    """Padding as a node before, which may cut off what others added before it."""
    import numpy as np
    import onnx_ir as ir

    rank = len(ours)
    mode = node.attributes.pop("auto_pad", None)
    own = node.attributes.pop("pads", None)
    if mode is not None and mode.as_string() in ("SAME_UPPER", "SAME_LOWER"):
        pads = [pair[end] for end in (0, 1) for pair in ours]
    else:
        pads = list(own.as_ints()) if own is not None else [0] * 2 * rank
    more = [theirs[axis][end] - ours[axis][end] for end in (0, 1) for axis in range(rank)]
    amounts = [a + b for a, b in zip(pads, more, strict=True)]
    whole = np.array([0, 0, *amounts[:rank], 0, 0, *amounts[rank:]], np.int64)
    name = f"{node.outputs[0].name}/set_aside"
    values = ir.Value(name=f"{name}/pads", const_value=ir.tensor(whole, name=f"{name}/pads"))
    values.shape, values.dtype = ir.Shape(whole.shape), ir.DataType.INT64
    graph.register_initializer(values)
    pad = ir.node("Pad", [node.inputs[0], values], name=name)
    pad.outputs[0].name = name
    graph.insert_before(node, pad)
    node.replace_input_with(0, pad.outputs[0])
