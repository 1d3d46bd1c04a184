"""What two models do differently set aside: the target's graph does as the source's, at the places that are named.

Enters: differences. Leaves: an ``Aside``, and graphs changed by it. Then the graphs must agree although the models do
not: so the mapping is proven, and what the models do differently explains all of how they depart.

- An attribute of a node, such as its padding or an epsilon, becomes that of the source's.
- Where something else lies before a layer, such as another activation, the layer takes what the source's layer takes.
- Where it lies before an output, that output is not compared.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.transfer.alignment import Pair
from interop.transfer.differences import Difference

_ATTRIBUTES = (
    *("padding", "strides", "dilation", "epsilon"),
    *("activations", "activation_alpha", "activation_beta"),
)


@dataclass(frozen=True)
class Aside:
    """What becomes of the target's graph.

    Attributes:
        attributes: pairs whose nodes differ in attributes, and in which.
        epsilons: pairs between which and what lies before there is another epsilon: (source's, target's).
        cuts: pairs whose target takes what the source takes.
        outputs: positions of outputs that are not compared.
    """

    attributes: tuple[tuple[Pair, str], ...] = ()
    epsilons: tuple[tuple[Pair, tuple[float, float]], ...] = ()
    cuts: tuple[Pair, ...] = ()
    outputs: frozenset[int] = frozenset()


def aside(found: Iterable[Difference]) -> Aside:
    """What to change so that these differences are none; those that cannot be set aside stay."""
    attributes, epsilons, cuts, outputs = [], [], {}, set()
    for one in found:
        if one.output is not None:
            outputs.add(one.output)
        elif one.pair is None:
            continue
        elif one.fact in _ATTRIBUTES and (one.fact != "epsilon" or _have_epsilons(one.pair)):
            attributes.append((one.pair, one.fact))
        elif one.epsilons is not None:
            epsilons.append((one.pair, one.epsilons))
        elif not one.fact and _is_cut(one.pair):
            cuts[one.pair.target.node] = one.pair
    return Aside(tuple(attributes), tuple(epsilons), tuple(cuts.values()), frozenset(outputs))


def _have_epsilons(pair: Pair) -> bool:
    return all("epsilon" in site.facts for site in (pair.source, pair.target))


def _is_cut(pair: Pair) -> bool:
    """Whether both sites tell what they take, and it is as much."""
    one, two = pair.source.entering, pair.target.entering
    return one is not None and two is not None and np.sum(one.places >= 0) == np.sum(two.places >= 0)


def changed(graph: Any, wanted: Aside, layers: Container[str]) -> list[Any]:
    """Change a graph in place.

    Args:
        graph: the target's.
        wanted: what to change.
        layers: the first outputs of all nodes that have parameters.

    Returns:
        What the cuts take, each a new input of the graph.
    """
    nodes = {node.outputs[0].name: node for node in graph}
    values = [_cut(graph, nodes[pair.target.node], pair) for pair in wanted.cuts]
    padded = set()
    for pair, fact in wanted.attributes:
        ours, theirs = pair.target.facts.get(fact), pair.source.facts.get(fact)
        if fact == "epsilon":
            _with_epsilon(graph, nodes[pair.target.facts["node"]], float(str(ours)), float(str(theirs)))
            continue
        node = nodes[pair.target.node]
        if fact == "padding" and node not in padded:
            padded.add(node)
            _padded(graph, node, ours, theirs)
        elif fact != "padding":
            _set(node, fact, theirs)
    for pair, (theirs, ours) in wanted.epsilons:
        for node in _before(nodes[pair.target.node], layers):
            _with_epsilon(graph, node, ours, theirs)
    return values


def _cut(graph: Any, node: Any, pair: Pair) -> Any:
    """Let a node take a new input of the graph in place of what it takes."""
    import onnx_ir as ir

    entering = pair.target.entering
    assert entering is not None
    place = next(
        k for k, value in enumerate(node.inputs) if value is not None and value.name == entering.value
    )
    old = node.inputs[place]
    new = ir.Value(
        name=f"{node.outputs[0].name}/entering", type=old.type, shape=ir.Shape(entering.places.shape)
    )
    new.dtype = old.dtype if old.dtype is not None else ir.DataType.FLOAT
    node.replace_input_with(place, new)
    graph.inputs.append(new)
    return new


def _set(node: Any, fact: str, theirs: Any) -> None:
    import onnx_ir as ir

    if fact.startswith("activation"):
        directions = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
        if theirs is None:
            node.attributes.pop(fact, None)
        else:
            node.attributes[fact] = ir.convenience.convert_attribute(fact, list(theirs) * directions)
    else:
        name = {"dilation": "dilations"}.get(fact, fact)
        node.attributes[name] = ir.AttrInt64s(name, list(theirs))


def _before(node: Any, stops: Container[str]) -> Iterator[Any]:
    """A node and those before it, up to the next layers with parameters."""
    found, waiting = set(), [node]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        yield one
        waiting += [
            before
            for value in one.inputs
            if value is not None and (before := value.producer()) is not None
            if before.outputs[0].name not in stops
        ]


def _with_epsilon(graph: Any, node: Any, ours: float, theirs: float) -> None:
    """Another epsilon, if the node has ours: as an attribute, or as a constant that it adds."""
    import onnx_ir as ir

    own = node.attributes.get_float("epsilon", None)
    if own is not None and np.isclose(own, ours, rtol=1e-4, atol=0):
        node.attributes["epsilon"] = ir.AttrFloat32("epsilon", theirs)
    if node.op_type != "Add":
        return
    for place, value in enumerate(node.inputs):
        tensor = value.const_value
        producer = value.producer()
        if tensor is None and producer is not None and "value" in producer.attributes:
            tensor = producer.attributes["value"].value
        if tensor is None or tensor.size != 1:
            continue
        array = tensor.numpy()
        if np.isclose(float(array.reshape(())), ours, rtol=1e-4, atol=0):
            name = f"{node.outputs[0].name}/epsilon"
            made = ir.node("Constant", [], {"value": ir.tensor(np.full_like(array, theirs))}, name=name)
            made.outputs[0].name = name
            graph.insert_before(node, made)
            node.replace_input_with(place, made.outputs[0])


def _padded(graph: Any, node: Any, ours: Any, theirs: Any) -> None:
    """Padding as a node before, which may cut off what others added before it."""
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
