"""TensorFlow checkpoints and Keras objects: the object graph of a checkpoint laid over the objects there are.

Enters: objects, and the graph of a checkpoint. Leaves: a `Matched`, or a graph to store with its variables.

The root of the graph is laid over the root object. From there, a child of the graph belongs to the child of the object
that is stored under its name (see ``trackable``). Layers of a Sequential or Functional are numbered there: those with
weights, and all of them, of which a Functional counts its inputs and a Sequential does not. Where the names that
variables had when they were stored say that a number belonged to another layer, it is in doubt.

Invariants: the walk follows the graph; keys are never taken apart. An optimizer's slots are told by the variables they
belong to, where the file says which those are, and by their place in its lists otherwise.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from interop.capture.keras import compat, trackable
from interop.errors import FormatError
from interop.formats.mapping import TensorMapping
from interop.formats.source import TensorSource
from interop.formats.tensorbundle.elements import STRING
from interop.formats.tensorbundle.objects import (
    OBJECT_GRAPH,
    VARIABLE_VALUE,
    Node,
    ObjectGraph,
    Value,
    key_of,
)
from interop.rebuild.weights.matching import Matched, Pair
from interop.rebuild.weights.slots import slot_nodes

SAVE_COUNTER = "save_counter"

SEEDS = "_INTEROP_SEEDS/"
"""What keys of seeds begin with. TensorFlow knows no seed generators of Keras 3: in the graph, they would be objects
that it misses. So they are beside it, by the names that lead to them."""


@dataclass
class StoredGraph:
    """A graph to store.

    Attributes:
        graph: of objects.
        variables: the variable of each key.
        counters: keys of integers of optimizers. They are int64 in TensorFlow, and int32 on other backends of Keras.
    """

    graph: ObjectGraph
    variables: dict[str, Any]
    counters: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Text:
    """A single string as a source."""

    text: bytes
    dtype: str = STRING
    shape: tuple[int, ...] = ()

    def read(self) -> NDArray[Any]:
        return np.array(self.text, object)


def graph_source(graph: ObjectGraph) -> dict[str, TensorSource]:
    """A graph as the tensor it is stored as."""
    return {OBJECT_GRAPH: _Text(graph.serialize())}


def read_graph(tensors: TensorMapping) -> ObjectGraph:
    """The graph of an open checkpoint.

    Raises:
        FormatError: it has none, or a damaged one.
    """
    if OBJECT_GRAPH not in tensors:
        raise FormatError(
            f"{tensors.source} has no object graph: it was written by name, as in TensorFlow 1. Its tensors open "
            "with interop.load_tensors"
        )
    if tensors.dtypes[OBJECT_GRAPH] != STRING or tensors.shapes[OBJECT_GRAPH] != ():
        raise FormatError(f"{tensors.source}: {OBJECT_GRAPH} is no text")
    return ObjectGraph.parse(tensors[OBJECT_GRAPH].item(), tensors.source)


def graph_of(root: Any, wanted: Callable[[Any], bool], *, skip: Any = None) -> StoredGraph:
    """The object graph under an object, with the variables that are wanted and without the object `skip`."""
    nodes, variables, counters = [Node()], dict[str, Any](), set[str]()
    numbers: dict[int, int] = {id(root): 0}
    kept = [root]  # lists made on the way must not be freed: their identities would be used again
    queue: deque[tuple[int, Any, tuple[str, ...]]] = deque([(0, root, ())])
    while queue:
        number, owner, path = queue.popleft()
        found = list(trackable.children(owner))
        aliases: list[tuple[str, int]] = []
        for names, child in found:
            below = (*path, _public(names))
            if isinstance(child, keras.random.SeedGenerator):
                if wanted(child.state) and id(child) not in numbers:
                    numbers[id(child)] = -1
                    variables[SEEDS + "/".join((*below, "state"))] = child.state
                continue
            if (skip is not None and child is skip) or (compat.is_variable(child) and not wanted(child)):
                continue
            if id(child) not in numbers:
                kept.append(child)
                numbers[id(child)] = len(nodes)
                nodes.append(Node())
                if compat.is_variable(child):
                    key = key_of(below)
                    nodes[-1].values[VARIABLE_VALUE] = Value(key, _full_name(child))
                    variables[key] = child
                    is_state = isinstance(owner, keras.optimizers.Optimizer)
                    if is_state and compat.variable_dtype(child) == "int32":
                        counters.add(key)
                else:
                    queue.append((numbers[id(child)], child, below))
            nodes[number].children.setdefault(names[0], numbers[id(child)])
            aliases += [(name, numbers[id(child)]) for name in names[1:]]
        for name, target in aliases:
            nodes[number].children.setdefault(name, target)
    return StoredGraph(ObjectGraph(nodes), variables, counters)


def match_graph(
    graph: ObjectGraph,
    keys: Mapping[str, Any],
    root: Any,
    names_in: Callable[[Any], Mapping[int, str]],
    *,
    optional: Any = None,
) -> Matched:
    """Match a stored graph with the objects under a root.

    Args:
        graph: of the file.
        keys: what the file stores, by key.
        root: the object that stands for the graph's root.
        names_in: the names that variables under an object have in the status, by their identity; where there are
            none, it is the names on the way to them.
        optional: an object whose variables are not missing if the file does not have the object.
    """
    walk = _Walk(graph)
    walk.run(root, optional)
    stored = {node.key for node in graph.nodes if node.key in keys}
    matched = Matched(ambiguous=sorted(key for key in walk.doubtful if key in stored))
    if walk.split & set(matched.ambiguous):
        matched.why = "as the file has one value where there are several variables now"
        matched.advice = "share them as they were shared, or restore the objects one at a time"
    given = names_in(root)
    names = {
        identity: given.get(identity) or "/".join(path) for identity, (_, path) in walk.variables.items()
    }
    for number, variable in walk.pairs.items():
        key = graph.nodes[number].key
        if key in stored and key not in walk.doubtful and key is not None:
            matched.pairs.append(Pair(key, names[id(variable)], variable))
    paired = {id(pair.variable) for pair in matched.pairs}
    matched.waiting = walk.waiting
    matched.missing = sorted(
        name for identity, name in names.items() if identity not in paired and identity not in walk.optional
    )
    places = {SEEDS + "/".join(path): v for v, path in walk.variables.values()}
    for key in sorted(key for key in keys if key.startswith(SEEDS)):
        seed = walk.seeds.get(_place_of(key, graph), places.get(key))
        if seed is not None:
            matched.pairs.append(Pair(key, names[id(seed)], seed))
        else:
            (matched.deferred if walk.unbuilt else matched.unexpected).append(key)
    used = {pair.key for pair in matched.pairs} | walk.doubtful
    waiting = {graph.nodes[n].key for start in walk.unbuilt for n in graph.reachable(start)}
    for key in sorted(key for key in stored if key is not None and key not in used):
        (matched.deferred if key in waiting else matched.unexpected).append(key)
    known = frozenset(walk.variables)
    for number, (owner, path) in walk.unbuilt.items():
        if owner is not root and isinstance(owner, keras.Layer):
            part = _Part(graph, keys, owner, number, path, known, names_in)
            matched.parts[id(owner)] = part.match
    return matched


def _place_of(seed: str, graph: ObjectGraph) -> tuple[int, str]:
    """The node of the layer that has a seed, and the names that lead from there."""
    number, names = 0, seed.removeprefix(SEEDS).split("/")
    while names and names[0] in graph.nodes[number].children:
        number = graph.nodes[number].children[names.pop(0)]
    return number, "/".join(names)


@dataclass(frozen=True)
class _Part:
    """A layer that was not built, the node it belongs to, and the variables that were there before."""

    graph: ObjectGraph
    keys: Mapping[str, Any]
    layer: Any
    number: int
    path: tuple[str, ...]
    known: frozenset[int]
    names_in: Callable[[Any], Mapping[int, str]]

    def match(self) -> Matched:
        """Match the layer alone."""
        walk = _Walk(self.graph)
        walk.run(self.layer, None, self.number, self.path)
        given = self.names_in(self.layer)
        matched, used = Matched(ambiguous=sorted(walk.doubtful)), set[str]()
        for number, variable in walk.pairs.items():
            key = self.graph.nodes[number].key
            if key in self.keys and key is not None:
                used.add(key)
                name = given.get(id(variable)) or "/".join(walk.variables[id(variable)][1])
                matched.pairs.append(Pair(key, name, variable))
        paired = {id(pair.variable) for pair in matched.pairs}
        matched.missing = [
            "/".join(path)
            for identity, (_, path) in walk.variables.items()
            if identity not in paired and identity not in self.known
        ]
        waiting = {n for start in walk.unbuilt for n in self.graph.reachable(start)}
        for n in self.graph.reachable(self.number):
            key = self.graph.nodes[n].key
            if key in self.keys and key is not None and key not in used:
                (matched.deferred if n in waiting else matched.unexpected).append(key)
        for number, (owner, path) in walk.unbuilt.items():
            if owner is not self.layer and isinstance(owner, keras.Layer):
                matched.parts[id(owner)] = replace(self, layer=owner, number=number, path=path).match
        return matched


@dataclass
class _Walk:
    """Objects and nodes that belong together.

    Attributes:
        pairs: number of a variable's node to variable.
        paired: identities of those variables.
        variables: identity of each variable under the root to itself and the names that lead to it.
        optional: identities of variables that need not be stored: seeds, and what metrics count.
        seeds: those of a layer by the number of its node and the names that lead from there.
        unbuilt: numbers of nodes whose objects are not built, those objects and the names that lead to them.
        waiting: layers of Sequentials whose numbers cannot be told before all of them are built, by identity.
        doubtful: keys of values that could belong elsewhere.
        split: those of them that several variables are in the place of.
    """

    graph: ObjectGraph
    pairs: dict[int, Any] = field(default_factory=dict)
    paired: set[int] = field(default_factory=set)
    variables: dict[int, tuple[Any, tuple[str, ...]]] = field(default_factory=dict)
    optional: set[int] = field(default_factory=set)
    seeds: dict[tuple[int, str], Any] = field(default_factory=dict)
    unbuilt: dict[int, tuple[Any, tuple[str, ...]]] = field(default_factory=dict)
    waiting: dict[int, Any] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    split: set[str] = field(default_factory=set)

    def run(self, root: Any, need_not_be: Any, start: int = 0, way: tuple[str, ...] = ()) -> None:
        """Lay the graph, from a node on, over everything under `root`, nearest first.

        Optimizers come last, for they refer to the rest.
        """
        queue: deque[tuple[Any, int | None, tuple[str, ...], bool]] = deque([(root, start, way, False)])
        late: list[tuple[Any, int | None, tuple[str, ...], bool]] = []
        seen: set[tuple[int, int | None]] = set()
        kept: list[Any] = []
        while queue or late:
            owner, number, path, optional = queue.popleft() if queue else late.pop(0)
            if (id(owner), number) in seen:
                continue
            seen.add((id(owner), number))
            kept.append(owner)
            if compat.is_variable(owner):
                self._variable(owner, number, path, optional=optional)
                continue
            optional = optional or isinstance(owner, keras.random.SeedGenerator | keras.Metric)
            optional = optional or (number is None and need_not_be is not None and owner is need_not_be)
            if (
                number is not None
                and isinstance(owner, keras.Layer | keras.optimizers.Optimizer)
                and not owner.built
            ):
                self.unbuilt.setdefault(number, (owner, path))
            if number is not None and self._waits(owner, number):
                self.unbuilt.setdefault(number, (owner, path))
                self.waiting |= {id(layer): layer for layer in owner.layers if not layer.built}
                number, optional = None, True
            for name, child, inner in self._children(owner, number):
                if number is not None and isinstance(child, keras.random.SeedGenerator):
                    self.seeds.setdefault((number, f"{name}/state"), child.state)
                step = (child, inner, (*path, name), optional)
                is_late = isinstance(child, keras.optimizers.Optimizer)
                (late if is_late else queue).append(step)

    def _variable(self, variable: Any, number: int | None, path: tuple[str, ...], *, optional: bool) -> None:
        self.variables.setdefault(id(variable), (variable, path))
        if optional:
            self.optional.add(id(variable))
        if number is None or self.graph.nodes[number].key is None:
            return
        before = self.pairs.get(number)
        if before is None:
            if id(variable) not in self.paired:
                self.pairs[number] = variable
                self.paired.add(id(variable))
        elif before is not variable:
            key = self.graph.nodes[number].key
            self.split |= {key} if key is not None else set()
            self.doubtful |= self.split

    def _waits(self, owner: Any, number: int) -> bool:
        """Whether a Sequential that is not built all through may count other layers than the file does.

        Which of its layers will have weights is not known then. The file has as many if it is of a Sequential: its
        first one has values, or has none here either; that of a Functional is an input.
        """
        if not isinstance(owner, keras.Sequential) or all(layer.built for layer in owner.layers):
            return False
        stored = self.graph.nodes[number].children
        counted = [stored[name] for i in range(len(stored)) if (name := f"layer-{i}") in stored]
        if not counted:
            return False
        first = owner.layers[0]
        begins_alike = self._has_values(counted[0]) or (first.built and not first.weights)
        return len(counted) != len(owner.layers) or not begins_alike

    def _has_values(self, number: int) -> bool:
        return any(self.graph.nodes[n].key is not None for n in self.graph.reachable(number))

    def _children(self, owner: Any, number: int | None) -> Iterator[tuple[str, Any, int | None]]:
        """Children with their public names, and the node of each."""
        found = list(trackable.children(owner))
        stored = {} if number is None else self.graph.nodes[number].children
        own = {names[0] for names, _ in found}
        if isinstance(owner, keras.optimizers.Optimizer):
            yield from self._of_optimizer(found, Node() if number is None else self.graph.nodes[number])
            return
        found = _renumbered(owner, found, stored)
        contradicted = self._contradicted(found, stored)
        for names, child in found:
            usable = [name for name in names if name in stored and (name == names[0] or name not in own)]
            inner = stored[usable[0]] if usable else None
            if inner is not None and id(child) in contradicted:
                self.doubtful |= {
                    key for n in self.graph.reachable(inner) if (key := self.graph.nodes[n].key) is not None
                }
                inner = None
            yield _public(names), child, inner

    def _contradicted(self, found: list[trackable.Child], stored: Mapping[str, int]) -> set[int]:
        """Layers whose number belonged, in the file, to a layer of another name.

        Names that Keras numbers by itself contradict nothing, nor do those of models inside: Keras 2 did not record
        them. Layers without weights take nothing: there may be more or fewer of them, as a Functional counts its
        inputs and a Sequential does not.
        """
        layers = [c for c in found if isinstance(c.value, keras.Layer) and c.names[0].startswith("layer")]
        numbered = [c for c in layers if c.value.weights or not c.value.built]
        given = {c.value.name for c in numbered if compat.automatic_name(c.value) is None}
        contradicted = set()
        for names, layer in numbered:
            inner = next((stored[name] for name in names if name in stored), None)
            recorded = set() if inner is None else self._recorded_names(inner)
            if not recorded or layer.name in recorded:
                continue
            stem = re.compile(rf"{re.escape(compat.automatic_stem(layer))}(_\d+)?")
            is_other = not isinstance(layer, keras.Model) and not any(map(stem.fullmatch, recorded))
            if is_other or recorded & given:
                contradicted.add(id(layer))
        return contradicted

    def _recorded_names(self, number: int) -> set[str]:
        """Segments of the names that the variables under a node had when they were stored."""
        return {
            segment
            for n in self.graph.reachable(number)
            for value in self.graph.nodes[n].values.values()
            for segment in value.full_name.split("/")[:-1]
        }

    def _of_optimizer(
        self, found: list[trackable.Child], node: Node
    ) -> Iterator[tuple[str, Any, int | None]]:
        """Slots by the variables they belong to; lists of slots are aligned with the list of variables."""
        stored = node.children
        optimized: Any = next((c.value for c in found if c.names[0] == trackable.OPTIMIZED), [])
        there = self._listed(stored.get(trackable.OPTIMIZED))
        for index, variable in enumerate(optimized):
            # Of what Keras 3 keeps in lists, TensorFlow finds nothing but this.
            if (number := there.get(str(index))) is not None and number not in self.pairs:
                self._variable(variable, number, (trackable.OPTIMIZED, str(index)), optional=False)
        for names, child in found:
            inner = next((stored[name] for name in names if name in stored), None)
            if names[0] == trackable.OPTIMIZED:
                continue
            if not isinstance(child, list | tuple) or len(child) != len(optimized):
                yield _public(names), child, inner
                continue
            slots = slot_nodes(self.graph, node, names, self.pairs)
            for index, slot in enumerate(child):
                yield f"{_public(names)}/{index}", slot, slots.get(id(optimized[index]))

    def _listed(self, number: int | None) -> Mapping[str, int]:
        return {} if number is None else self.graph.nodes[number].children


def _renumbered(owner: Any, found: list[trackable.Child], stored: Mapping[str, int]) -> list[trackable.Child]:
    """Layers without weights by the numbers that they have in a file which counts an input more, or one less.

    Those with weights have numbers of their own, and tell by how much all are shifted.
    """
    if not compat.named_layers(owner):
        return found
    indices = {number: i for i in range(len(stored)) if (number := stored.get(f"layer-{i}")) is not None}
    shifts = {
        indices.get(stored.get(names[0], -1), -1) - int(names[1].partition("-")[2])
        for names, _ in found
        if names[0].startswith("layer_with_weights-")
    }
    if len(shifts) != 1 or shifts == {0}:
        return found
    (shift,) = shifts
    return [
        trackable.Child((f"layer-{int(names[0].partition('-')[2]) + shift}",), child)
        if re.fullmatch(r"layer-\d+", names[0])
        else trackable.Child(names, child)
        for names, child in found
    ]


def owners(root: Any) -> list[Any]:
    """The layers and optimizers nearest to a root: what is to be watched until it is built."""
    found, pending, seen = list[Any](), [root], set[int]()
    while pending:
        item = pending.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, keras.Layer | keras.optimizers.Optimizer):
            found.append(item)
        pending += (
            [child.value for child in trackable.children(item)] if not isinstance(item, keras.Layer) else []
        )
        if isinstance(item, keras.Model) and (optimizer := compat.optimizer_of(item)) is not None:
            pending.append(optimizer)
    return found


def _public(names: tuple[str, ...]) -> str:
    """The name without an underscore if there is one."""
    return next((name for name in names if not name.startswith("_")), names[0])


def _full_name(variable: Any) -> str:
    path = getattr(variable, "path", None)
    return path if isinstance(path, str) else str(variable.name)
