"""What is left of a graph for matching: where parameters are used, and which use feeds which.

A ``Site`` is one use of parameters in one role: the matrix of a product, a kernel, a gate of an LSTM, what is added to
or multiplied with a tensor. Its tensor is in a form that does not depend on how a framework stores it: the matrix of
a product has its inputs in rows, in the order of the canonical layout of what it is multiplied with.
A ``Joint`` is a point where tensors meet without parameters.

Invariant: edges are labelled by what lies on them, but structure alone decides which edges there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.elements import Numbers, identity

Labels = frozenset[str]


@dataclass(eq=False)
class Place:
    """A node of the skeleton.

    Attributes:
        kind: what it does.
        index: its position, in the order of execution.
        feeds: the places whose results it takes, each with labels of what lies between.
        facts: attributes that the result depends on, but not the matching.
    """

    kind: str
    index: int
    feeds: dict[Place, Labels] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


@dataclass(eq=False)
class Joint(Place):
    """An input, an output, a product of two tensors, or a point where many meet."""


@dataclass(eq=False)
class Site(Place):
    """A use of parameters.

    Attributes:
        terms: arrays of element numbers whose sum is the tensor; more than one only where a graph adds parameters.
        signs: of the terms; none if all are added.
        groups: of how many axes of an array each axis of the canonical tensor consists.
        block: the frame it belongs to and which part of its features, where parts are used apart.
        probe: the value that shows its result, with where each canonical element lies in it; None if none does.
        node: the first output of the node it is of.
        entering: the only flow that the node takes; None if it takes several, or its order is not known.
    """

    terms: tuple[Numbers, ...] = ()
    groups: tuple[int, ...] = ()
    block: tuple[str, int] | None = None
    probe: Probe | None = None
    signs: tuple[int, ...] = ()
    node: str = ""
    entering: Probe | None = None

    @cached_property
    def uses(self) -> tuple[Any, ...]:
        """What is equal for two sites only if they use the same parameters in the same way; once the graph is read."""
        return (self.kind, *(identity(numbers) for numbers in self.terms))

    @property
    def all_signs(self) -> tuple[int, ...]:
        """The sign of each term."""
        return self.signs or (1,) * len(self.terms)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the canonical tensor."""
        sizes = self.terms[0].shape
        found, at = [], 0
        for count in self.groups:
            found.append(math.prod(sizes[at : at + count]))
            at += count
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Probe:
    """A value of the graph, and the canonical places of its elements."""

    value: str
    places: NDArray[np.int64]

    def canonical(self, array: NDArray[Any]) -> NDArray[Any]:
        """The elements of the value in canonical order, flat."""
        return array.reshape(-1)[self._order()]

    def inner(self, array: NDArray[Any]) -> NDArray[Any]:
        """The same, without what padding added."""
        return array.reshape(-1)[self._order(padding=False)]

    def placed(self, elements: NDArray[Any]) -> NDArray[Any]:
        """The value whose elements, without padding, these are; padding is zero."""
        made = np.zeros(self.places.size, elements.dtype)
        made[self._order(padding=False)] = elements
        return made.reshape(self.places.shape)

    def _order(self, *, padding: bool = True) -> NDArray[np.int64]:
        places = self.places.reshape(-1)
        order = np.argsort(places, kind="stable")
        return order if padding else order[np.count_nonzero(places < 0) :]


@dataclass(frozen=True)
class Skeleton:
    """The places of a graph in the order of execution.

    Attributes:
        places: inputs, sites, joints and outputs.
        outputs: one probe for each output of the graph.
        joins: for each node that puts flows beside each other, the places that each of them comes from.
    """

    places: tuple[Place, ...]
    outputs: tuple[Probe, ...]
    joins: Mapping[str, tuple[frozenset[Place], ...]] = field(default_factory=dict)

    @property
    def ends(self) -> list[Place]:
        """The place of each output; none if some output depends on no input."""
        found = [place for place in self.places if place.kind == "output"]
        return found if len(found) == len(self.outputs) else []

    @property
    def inputs(self) -> list[Place]:
        """The places of the inputs."""
        return [place for place in self.places if place.kind.startswith("input ")]

    @property
    def sites(self) -> list[Site]:
        return [place for place in self.places if isinstance(place, Site)]
