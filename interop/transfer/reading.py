"""A graph becomes a skeleton: one walk over its nodes, in which every tensor is a constant, a weight or a flow.

Enters: a flat ``ir.Model`` of fixed sizes, and which of its initializers are parameters. Leaves: a ``Skeleton``.

The walk is done twice. The first finds which features of each product are used apart from each other (a fused
projection that is split into queries, keys and values); in the second these are sites of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.elements import (
    Numbering,
    Numbers,
    numbered,
    regular,
    taken,
    without_parameters,
    without_repeats,
)
from interop.transfer.movement import movement
from interop.transfer.nodes import Step, captured, computed, is_index, step_of
from interop.transfer.skeleton import Joint, Place, Probe, Site, Skeleton
from interop.transfer.values import (
    REDUCED,
    Constant,
    Feeds,
    Flow,
    Frame,
    Run,
    Tensor,
    Term,
    Uses,
    Weight,
    labelled,
    united,
    within,
)

_MANY = 8  # more places than this meet in a joint of their own


Handler = Callable[..., list[Tensor]]
_HANDLERS: dict[str, Handler] = {}


def reads(*op_types: str) -> Callable[[Handler], Handler]:
    """Register what reads nodes of these operators."""

    def register(handler: Handler) -> Handler:
        for op_type in op_types:
            if op_type in _HANDLERS:
                raise ValueError(f"{op_type} has two handlers")
            _HANDLERS[op_type] = handler
        return handler

    return register


def _handlers() -> Mapping[str, Handler]:
    if not _HANDLERS:
        from interop.transfer import ops

        for module in iter_modules(ops.__path__):
            import_module(f"{ops.__name__}.{module.name}")
    return _HANDLERS


def read_skeleton(
    model: Any,
    numbering: Numbering,
    orders: Sequence[Sequence[int]],
    whole: frozenset[str] = frozenset(),
    *,
    sums: bool = False,
    joins: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> Skeleton:
    """Read a graph.

    Args:
        model: a flat ``ir.Model``; its inputs have fixed sizes.
        numbering: of the parameters, by the names of initializers.
        orders: for each input, the order of its axes in which both models have the same.
        whole: keys of the frames that stay one although their features are used apart.
        sums: whether parameters that are added are one sum also where some are added to each row alike.
        joins: for nodes that put flows beside each other, the places of these where they are not as they stand.
    """
    first = Reader(model, numbering, orders, {}, sums=sums, joins=joins)
    first.read()
    parts = {key: found for key, found in first.uses.parts().items() if key not in whole}
    if not parts:
        return first.skeleton()
    second = Reader(model, numbering, orders, parts, sums=sums, joins=joins)
    second.read()
    return second.skeleton()


class Reader:
    """One walk over a graph.

    Attributes:
        uses: which features are used together.
    """

    def __init__(
        self,
        model: Any,
        numbering: Numbering,
        orders: Sequence[Sequence[int]],
        parts: Mapping[str, tuple[NDArray[np.int64], ...]],
        *,
        sums: bool = False,
        joins: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self.uses = Uses()
        self._ranks = joins
        self._joins: dict[str, tuple[frozenset[Place], ...]] = {}
        self._model = model
        self._numbering = numbering
        self._orders = orders
        self._parts = parts
        self._sums = sums
        self._places: list[Place] = []
        self._outputs: list[Probe] = []
        self._at = ""
        self._entering: Probe | None = None
        self._reduced: list[Numbers] = []

    def skeleton(self) -> Skeleton:
        return Skeleton(tuple(self._places), tuple(self._outputs), self._joins)

    def read(self) -> None:
        """Walk over the graph."""
        graph = self._model.graph
        known: dict[Any, Tensor] = {}
        for name, value in graph.initializers.items():
            known[value] = self._initializer(name, value)
        for index, (value, order) in enumerate(zip(graph.inputs, self._orders, strict=True)):
            known[value] = self._input(index, tuple(int(dim) for dim in value.shape), order)
        for node in graph:
            inputs = [None if value is None else known[value] for value in node.inputs]
            made = self._node(node, inputs, known)
            known.update(zip(node.outputs, made, strict=False))
        self._keep_reduced()
        for index, value in enumerate(graph.outputs):
            self._output(index, value.name, known[value])

    def _initializer(self, name: str, value: Any) -> Tensor:
        if name in self._numbering.shapes and not is_index(value):
            numbers = self._numbering.of(name)
            return Weight((Term(numbers),), numbers.shape)
        return Constant(value.const_value.numpy())

    def _input(self, index: int, shape: tuple[int, ...], order: Sequence[int]) -> Flow:
        sizes = [shape[axis] for axis in order]
        layout = np.arange(int(np.prod(sizes)), dtype=np.int64).reshape(sizes).transpose(np.argsort(order))
        place = self._add(Joint(f"input {index}", len(self._places)))
        return Flow(shape, layout, {place: frozenset()})

    def _output(self, index: int, name: str, tensor: Tensor) -> None:
        if isinstance(tensor, Flow):
            self.uses.record(tensor)
            self._add(Joint("output", len(self._places), dict(tensor.feeds)))
            self._outputs.append(self.probe(name, tensor))
        else:
            self._outputs.append(Probe(name, np.arange(int(np.prod(tensor.shape)), dtype=np.int64)))

    def _node(self, node: Any, inputs: list[Tensor | None], known: Mapping[Any, Tensor]) -> list[Tensor]:
        step = step_of(node)
        self._at, self._entering = step.outputs[0], _entering(node, inputs)
        inner = captured(node, known)
        sized = all(v is None or v.shape is not None or not isinstance(known[v], Flow) for v in node.inputs)
        if inner or not sized:
            return self.opaque(step, [*inputs, *inner])
        if all(tensor is None or isinstance(tensor, Constant) for tensor in inputs):
            return [Constant(array) for array in computed(node, inputs)]
        if step.op_type in ("Shape", "Size") and inputs[0] is not None:
            stand_in = Constant(np.broadcast_to(np.zeros((), np.int8), inputs[0].shape))
            return [Constant(array) for array in computed(node, [stand_in])]
        first = inputs[0]
        if isinstance(first, Weight | Flow):
            constants = all(tensor is None or isinstance(tensor, Constant) for tensor in inputs[1:])
            arrays = [t.array if isinstance(t, Constant) else None for t in inputs[1:]]
            if constants or step.op_type == "CastLike":
                move = movement(step.op_type, step.attributes, arrays)
                if move is not None:
                    return self._moved(first, move)
        handler = _handlers().get(step.op_type)
        return handler(self, step, *inputs) if handler is not None else self.opaque(step, inputs)

    def _moved(self, tensor: Weight | Flow, move: Callable[[Numbers], list[Numbers]]) -> list[Tensor]:
        if isinstance(tensor, Weight):
            columns = [move(term.numbers) for term in tensor.terms]
            return [
                Weight(
                    tuple(term.moved(a) for a, term in zip(arrays, tensor.terms, strict=True)),
                    arrays[0].shape,
                )
                for arrays in zip(*columns, strict=True)
            ]
        made: list[Tensor] = []
        for layout in move(tensor.places()):
            flow = replace(tensor, shape=layout.shape, layout=layout)
            made.append(self.narrowed(flow) if layout.size < tensor.places().size else flow)
        return made

    def narrowed(self, flow: Flow) -> Flow:
        """The flow, coming only from those parts of its frame that are in it."""
        flow = replace(flow, partial=True)
        if flow.frame is None or not flow.frame.parts:
            return flow
        features = flow.features()
        if features is None:
            return flow
        return replace(flow, feeds=within(flow.feeds, flow.frame, features))

    # What handlers use.

    def _add(self, place: Any) -> Any:
        self._places.append(place)
        return place

    def joint(self, kind: str, feeds: Feeds) -> Joint:
        """A new joint."""
        joint: Joint = self._add(Joint(kind, len(self._places), dict(feeds)))
        return joint

    def ranks(self, step: Step, parts: Sequence[Feeds]) -> Sequence[int]:
        """In which order the flows that a node puts beside each other are taken."""
        self._joins[step.outputs[0]] = tuple(frozenset(feeds) for feeds in parts)
        return self._ranks.get(step.outputs[0], range(len(parts)))

    def joined(self, all_feeds: Sequence[Feeds]) -> Feeds:
        """The places of several flows, through a joint if they are many."""
        feeds = united(all_feeds)
        if len(feeds) > _MANY:
            return {self.joint("many", feeds): frozenset()}
        return feeds

    def site(
        self,
        kind: str,
        numbers: Numbers | Sequence[Numbers],
        groups: Sequence[int],
        feeds: Feeds,
        *,
        facts: Mapping[str, Any] | None = None,
        block: tuple[str, int] | None = None,
    ) -> Site:
        """A new use of parameters."""
        terms = (numbers,) if isinstance(numbers, np.ndarray) else tuple(numbers)
        site: Site = self._add(
            Site(
                kind,
                len(self._places),
                dict(feeds),
                dict(facts or {}),
                terms=terms,
                groups=tuple(groups),
                block=block,
                node=self._at,
                entering=self._entering,
            )
        )
        return site

    def frame(self, key: str, features: int) -> Frame:
        """The frame of a product, with the parts that the first walk found."""
        return Frame(key, features, self._parts.get(key, ()))

    def probe(self, value: str, flow: Flow) -> Probe:
        """What shows a flow in its canonical order."""
        return Probe(value, flow.places())

    def show(self, step: Step, flow: Flow) -> None:
        """The node's first output is the result of the sites that the flow comes from."""
        for place in flow.feeds:
            if isinstance(place, Site) and place.block is None:
                place.probe = self.probe(step.outputs[0], flow)

    def biased(self, step: Step, flow: Flow, bias: Weight) -> Flow:
        """A product whose node adds parameters to it: the output shows the sum alone."""
        for place in flow.feeds:
            if isinstance(place, Site):
                place.probe = None
        made = self.affine(flow, bias, flow.shape, "add")
        self.show(step, made)
        return made

    def opaque(self, step: Step, inputs: Sequence[Tensor | None]) -> list[Tensor]:
        """A node of which nothing is known but that it takes these."""
        flows = [tensor for tensor in inputs if isinstance(tensor, Flow)]
        for flow in flows:
            self.uses.record(flow)
        feeds = self.joined([flow.feeds for flow in flows]) if flows else {}
        sites: Feeds = {}
        for index, tensor in enumerate(inputs):
            if isinstance(tensor, Weight):
                for term in tensor.terms:
                    numbers = without_repeats(regular(term.numbers))
                    kind = f"{step.op_type}:{index}"
                    sites[self.site(kind, numbers, [1] * numbers.ndim, feeds)] = frozenset()
        after = sites or feeds
        shapes = [() if shape is None else shape for shape in step.shapes]
        return [Flow(shape, None, labelled(after, step.op_type)) for shape in shapes]

    def reduced(self, weight: Weight, axes: Sequence[int], *, keep: bool) -> Weight:
        """One number for many parameters, such as a norm."""
        self._reduced += [term.numbers for term in weight.terms]
        over = {axis % len(weight.shape) for axis in axes}
        one = slice(0, 1) if keep else 0
        first = tuple(one if axis in over else slice(None) for axis in range(len(weight.shape)))
        terms = tuple(
            Term(term.numbers[(*first, ...)], REDUCED) for term in weight.terms
        )  # a view of no axes too
        return Weight(terms, terms[0].numbers.shape)

    def _keep_reduced(self) -> None:
        """Parameters of which nothing but a reduced number is used are used too."""
        sites = [place for place in self._places if isinstance(place, Site)]
        used = {name for site in sites for term in site.terms for name in self._numbering.owners(term)}
        for numbers in self._reduced:
            if not used.issuperset(self._numbering.owners(numbers)):
                kept = without_repeats(regular(numbers))
                self.site(REDUCED, kept, [1] * kept.ndim, {})

    def affine(self, flow: Flow, weight: Weight, shape: tuple[int, ...], role: str) -> Flow:
        """A flow after parameters were added to, or multiplied with, each element.

        Args:
            flow: before.
            weight: the parameters.
            shape: of the result.
            role: ``"add"`` or ``"mul"``, and how the parameters enter if it is not said in their terms.
        """
        kind = "add" if role in ("add", "sub") else "mul"
        weight = replace(weight, terms=tuple(term for term in weight.terms if term.role != REDUCED))
        if not weight.terms:
            return flow.labelled(REDUCED)
        grown = flow if flow.shape == shape else replace(flow, shape=shape, layout=_grown(flow, shape))
        weight = replace(weight, terms=tuple(t for t in weight.terms if not without_parameters(t.numbers)))
        if not weight.terms:
            return replace(grown, run=None)
        run = flow.run if flow.run is not None and flow.run.kind == kind else Run(kind, flow.feeds, ())
        plain = kind == "add" and not any(term.role for term in weight.terms)
        roles: dict[str, list[Numbers]] = {}
        for term in weight.terms:
            roles.setdefault(term.role or role, []).append(np.broadcast_to(term.numbers, shape))
        made: list[Site] = []
        for name, arrays in roles.items():
            sites = self._elementwise_sites(name, arrays, grown, run.before)
            for term in weight.terms:
                if (term.role or role) == name:
                    for site in sites:
                        site.facts |= term.facts
            made += sites
        if plain:
            for site in made:
                site.signs = (-1 if role == "sub" else 1,) * len(site.terms)
            if self._summed(run, made):
                return replace(grown, feeds=dict.fromkeys(run.sites, frozenset()), run=run)
        after: Feeds = dict.fromkeys([*run.sites, *made], frozenset())
        return replace(grown, feeds=after, run=replace(run, sites=(*run.sites, *made)))

    def _summed(self, run: Run, made: Sequence[Site]) -> bool:
        """Take summands that are like some of the run's into these: only their sum means something."""
        known = [place for place in run.sites if isinstance(place, Site) and place.signs]
        wholes = []
        for site in made:
            alike = [other for other in known if self._is_one_sum(site, other)]
            if not alike:
                return False
            wholes.append(alike[0])
        for site, whole in zip(made, wholes, strict=True):
            first, second = sorted((whole, site), key=lambda one: -math.prod(one.shape))
            shape, whole.groups = first.terms[0].shape, first.groups
            whole.signs = first.signs + second.signs
            whole.terms = first.terms + tuple(np.broadcast_to(numbers, shape) for numbers in second.terms)
            whole.kind = "sub" if -1 in whole.signs else "add"
            whole.probe = None
        del self._places[len(self._places) - len(made) :]
        return True

    def _is_one_sum(self, one: Site, other: Site) -> bool:
        """Whether only the sum of two sites means something: as large as each other, or one of them added to rows."""
        if one.block != other.block:
            return False
        if (one.shape, one.groups) == (other.shape, other.groups):
            return True
        shapes = one.terms[0].shape, other.terms[0].shape
        least = min(map(len, shapes))
        return self._sums and least > 0 and shapes[0][-least:] == shapes[1][-least:]

    def _elementwise_sites(
        self, role: str, arrays: Sequence[Numbers], flow: Flow, before: Feeds
    ) -> list[Site]:
        made: list[Site] = []
        for alike in _summands(role, [_canonical(numbers, flow.places()) for numbers in arrays]):
            terms, places = [numbers for numbers, _ in alike], alike[0][1]
            if flow.frame is None or not flow.frame.parts:
                made.append(self.site(role, terms, [terms[0].ndim], before))
            else:
                made += self._sites_of_parts(role, terms, places, flow.frame, before)
        return made

    def _sites_of_parts(
        self, role: str, terms: Sequence[Numbers], places: NDArray[np.int64], frame: Frame, before: Feeds
    ) -> list[Site]:
        rows, features = np.divmod(places, frame.features)
        made: list[Site] = []
        for index, part in enumerate(frame.parts):
            rank = np.full(frame.features, -1)
            rank[part] = np.arange(len(part))
            chosen = np.flatnonzero(rank[features] >= 0)
            chosen = chosen[np.lexsort((rank[features[chosen]], rows[chosen]))]
            if chosen.size:
                some = [regular(numbered(numbers).reshape(-1)[chosen]) for numbers in terms]
                feeds = within(before, frame, part)
                made.append(self.site(role, some, [some[0].ndim], feeds, block=(frame.key, index)))
        return made


def _entering(node: Any, inputs: Sequence[Tensor | None]) -> Probe | None:
    """What shows the only flow that a node takes, in its canonical order."""
    flows = [(v.name, t) for v, t in zip(node.inputs, inputs, strict=True) if isinstance(t, Flow)]
    if len(flows) != 1 or flows[0][1].layout is None:
        return None
    return Probe(flows[0][0], flows[0][1].layout)


def _canonical(numbers: Numbers, places: NDArray[np.int64]) -> tuple[Numbers, NDArray[np.int64]]:
    """Parameters of each element in canonical order, without repetition, and the place of each."""
    kept = [axis for axis in range(numbers.ndim) if numbers.shape[axis] != 1 and not _repeats(numbers, axis)]
    corner = (
        *(slice(None) if axis in kept else 0 for axis in range(numbers.ndim)),
        ...,
    )  # a view in any case
    inner, at = numbers[corner], places[corner]
    lines = [at[tuple(slice(None) if a == axis else 0 for a in range(at.ndim))] for axis in range(at.ndim)]
    steps = [int(np.min(np.abs(np.diff(np.sort(line))))) if len(line) > 1 else 0 for line in lines]
    order = sorted(range(at.ndim), key=lambda axis: -steps[axis])
    inner, at = np.transpose(inner, order), np.transpose(at, order)
    for axis in reversed(range(at.ndim)):
        by_place = np.argsort(lines[order[axis]], kind="stable")
        inner = taken(inner, axis, by_place)
        at = np.take(at, by_place, axis)
    return inner, at.reshape(-1)


def _summands(
    role: str, arrays: Sequence[tuple[Numbers, NDArray[np.int64]]]
) -> list[list[tuple[Numbers, NDArray[np.int64]]]]:
    """Arrays that one site adds up: those of one size. Each factor is by itself."""
    made: dict[Any, list[tuple[Numbers, NDArray[np.int64]]]] = {}
    for index, array in enumerate(arrays):
        made.setdefault(array[0].shape if role in ("add", "sub") else index, []).append(array)
    return list(made.values())


def _repeats(numbers: Numbers, axis: int) -> bool:
    if numbers.dtype == np.int8:
        return bool(numbers.strides[axis] == 0)
    return bool(np.array_equal(numbers, np.broadcast_to(np.take(numbers, [0], axis), numbers.shape)))


def _grown(flow: Flow, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The layout of a flow that is broadcast: what is repeated follows in the order of the result."""
    before = np.broadcast_to(flow.places(), shape)
    padded = (1,) * (len(shape) - len(flow.shape)) + flow.shape
    spread = [size if padded[axis] == 1 else 1 for axis, size in enumerate(shape)]
    copies = np.arange(int(np.prod(spread)), dtype=np.int64).reshape(spread)
    return before + np.broadcast_to(copies, shape) * (int(flow.places().max(initial=0)) + 1)
