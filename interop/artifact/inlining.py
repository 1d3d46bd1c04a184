"""A graph without calls: each replaced by the nodes of the function that it calls.

What enters: a model that the guard has passed. What leaves: the same model, changed in place. ONNX Runtime inlines
functions itself, with the same result, and takes a seventh of a load for it.

Invariants: the same nodes on the same values in the same order, but for Transposes (see `transposes`): outputs are
the same to the bit. What the graph itself names keeps its name, and what a call brings in is called
``<call>/<name>``. What is not plain (graphs inside a body, parameters that are attributes, another version of a
domain) stays a call, for ONNX Runtime to inline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from interop.artifact.outline import Key, Outline, Step, free_name, graphs_of, key_of, steps
from interop.artifact.transposes import with_single_moves, without_undone


class _Body(NamedTuple):
    """A function that can be inlined.

    Attributes:
        inputs: how many values a call gives it.
        outputs: the names of the values that a call gets.
        inner: the names of the other values that its nodes make.
        names: the names of its nodes.
        nodes: its nodes, and the places of the values that each takes and makes. Values have these places: none, the
            inputs, the outputs, the inner ones.
    """

    inputs: int
    outputs: list[str]
    inner: list[str]
    names: list[str]
    nodes: list[tuple[Step, list[int], list[int]]]

    def fits(self, call: Step) -> bool:
        """Whether a call gives it nothing that it does not know of."""
        return (
            len(call.inputs) <= self.inputs and len(call.outputs) <= len(self.outputs) and not call.attributes
        )

    def expand(self, call: Step, values_taken: set[str], nodes_taken: set[str]) -> Iterator[Step]:
        """Its nodes under the names that they have at a call; names of values and of nodes are taken."""
        prefix = f"{call.name or call.key[1]}/"
        made = call.outputs
        if len(made) < len(self.outputs) or "" in made:
            own = _free([prefix + name for name in self.outputs], values_taken)
            made = [given or name for given, name in zip_longest(made, own)]
        absent = [""] * (self.inputs - len(call.inputs))
        inner = _free([prefix + name for name in self.inner], values_taken)
        values = ["", *call.inputs, *absent, *made, *inner]
        names = _free([prefix + name for name in self.names], nodes_taken)
        for (step, takes, makes), name in zip(self.nodes, names, strict=True):
            inputs, outputs = [values[slot] for slot in takes], [values[slot] for slot in makes]
            yield Step(step.node, step.key, name, inputs, outputs, step.attributes)


class _Inliner:
    """Knows the functions of a model, each made ready once, when it is first called; `left_any`: a call may be left."""

    def __init__(self, model: Any, outline: Outline) -> None:
        self._functions = {key_of(function): function for function in model.functions}
        self._versions = {entry.domain: entry.version for entry in model.opset_import}
        self._nodes = outline.functions
        self._bodies: dict[Key, _Body | None] = {}
        self.left_any = False

    def inline(self, nodes: list[Step], names: Iterable[str], inside: list[Any]) -> list[Step]:
        """The nodes of a graph or a function with calls replaced.

        Args:
            nodes: the nodes.
            names: names in use beside those of what they make.
            inside: the graphs inside them.
        """
        values = {*names, *_names(inside), *chain.from_iterable([step.outputs for step in nodes])}
        called = {step.name for step in nodes}
        found: list[Step] = []
        for step in nodes:
            body = self._body(step.key)
            if body is not None and body.fits(step):
                found += body.expand(step, values, called)
            else:
                found.append(step)
        self.left_any = self.left_any or bool(inside) or any(step.key in self._functions for step in found)
        return found

    def _body(self, key: Key) -> _Body | None:
        """What a call of a function is replaced by; None: nothing is known to be the same."""
        if key not in self._bodies:
            self._bodies[key] = self._prepared(key) if key in self._functions else None
        return self._bodies[key]

    def _prepared(self, key: Key) -> _Body | None:
        """The body of a function with the calls in it inlined; None if it is not plain."""
        function, nodes = self._functions[key], self._nodes[key]
        if any(self._versions.get(entry.domain) != entry.version for entry in function.opset_import):
            return None
        if any(step.key in self._functions for step in nodes):
            nodes = self.inline(nodes, function.input, _inside(nodes))
        return _plain_body(function, nodes)


def inline_calls(model: Any, outline: Outline, weights: Mapping[str, int]) -> None:
    """Replace the calls of plain functions by their nodes; once nothing is called, there are no functions.

    Args:
        model: the model, changed in place.
        outline: its nodes.
        weights: name to size in bytes of the initializers.
    """
    inliner, graph, inside = _Inliner(model, outline), model.graph, _inside(outline.graph)
    found = inliner.inline(outline.graph, [*weights, *(value.name for value in graph.input)], inside)
    if not inside:  # which may take any value by its name
        found = with_single_moves(without_undone(found, {value.name for value in graph.output}), weights)
    graph.ClearField("node")
    for step in found:
        node = graph.node.add()
        node.CopyFrom(step.node)
        node.name = step.name
        node.input[:] = step.inputs
        node.output[:] = step.outputs
    if not inliner.left_any:
        model.ClearField("functions")


def _plain_body(function: Any, nodes: list[Step]) -> _Body | None:
    """A function as it is; None if a call of it is more than its nodes under other names."""
    inputs, outputs = list(function.input), list(function.output)
    made = [name for step in nodes for name in step.outputs if name]
    results = set(outputs)
    inner = [name for name in made if name not in results]
    slots = {name: slot for slot, name in enumerate(["", *inputs, *outputs, *inner])}
    if (
        len(function.attribute)
        or len(function.attribute_proto)
        or len(slots) != 1 + len(inputs) + len(outputs) + len(inner)  # a name is missing, or means two things
        or len(made) != len(outputs) + len(inner)  # an output is made by no node, or by two
        or not all(name in slots for step in nodes for name in step.inputs)
        or any(
            attribute.ref_attr_name or graphs_of(attribute) for step in nodes for attribute in step.attributes
        )
    ):
        return None
    used: set[str] = set()
    names = [free_name(step.name or step.key[1], used) for step in nodes]
    placed = [
        (step, [slots[name] for name in step.inputs], [slots[name] for name in step.outputs])
        for step in nodes
    ]
    return _Body(len(inputs), outputs, inner, names, placed)


def _inside(nodes: list[Step]) -> list[Any]:
    """The graphs inside nodes."""
    return [graph for step in nodes for attribute in step.attributes for graph in graphs_of(attribute)]


def _names(graphs: Iterable[Any]) -> Iterator[str]:
    """The names of values in graphs and in the graphs inside their nodes."""
    pending = list(graphs)
    while pending:
        graph = pending.pop()
        yield from (value.name for value in chain(graph.input, graph.initializer))
        for step in steps(graph):
            yield from step.outputs
            pending += [inside for attribute in step.attributes for inside in graphs_of(attribute)]


def _free(wanted: list[str], taken: set[str]) -> list[str]:
    """Names that are not in use: those wanted, which differ from each other, or ones like them.

    They are in use from now on.
    """
    if taken.isdisjoint(wanted):
        taken.update(wanted)
        return wanted
    return [free_name(name, taken) for name in wanted]
