"""Concatenation: of parameters a movement, of flows one after the other, in the order that is asked for."""

from __future__ import annotations

import numpy as np

from interop.transfer.elements import numbered, regular
from interop.transfer.nodes import Step
from interop.transfer.reading import Reader, reads
from interop.transfer.values import Feeds, Flow, Layout, Tensor, Term, Weight, labelled


@reads("Concat")
def concat(reader: Reader, step: Step, *inputs: Tensor) -> list[Tensor]:
    """Along one axis."""
    axis = step.attributes["axis"]
    if not any(isinstance(tensor, Flow) for tensor in inputs):
        return [_weights(inputs, axis)]
    places = [_places(reader, tensor) for tensor in inputs]
    ranks = reader.ranks(step, [tensor.feeds if isinstance(tensor, Flow) else {} for tensor in inputs])
    feeds, start = [], 0
    for index in np.argsort(ranks):
        tensor, layout = inputs[index], places[index]
        if isinstance(tensor, Flow):
            feeds.append(labelled(tensor.feeds, f"part {ranks[index]}"))
        elif isinstance(tensor, Weight):
            feeds.append(_parameters(reader, tensor))
        places[index] = np.where(layout < 0, layout, layout + start)
        start += int(layout.max(initial=-1)) + 1
    made = np.concatenate(places, axis)
    return [Flow(made.shape, made, reader.joined(feeds))]


def _places(reader: Reader, tensor: Tensor) -> Layout:
    if isinstance(tensor, Flow):
        reader.uses.record(tensor)
        return tensor.places()
    return np.arange(int(np.prod(tensor.shape)), dtype=np.int64).reshape(tensor.shape)


def _weights(inputs: tuple[Tensor, ...], axis: int) -> Weight:
    """Parameters and constants; elements of constants have the number -1."""
    count = max(len(tensor.terms) for tensor in inputs if isinstance(tensor, Weight))
    terms = []
    for index in range(count):
        arrays, role = [], ""
        for tensor in inputs:
            if isinstance(tensor, Weight) and index < len(tensor.terms):
                arrays.append(numbered(tensor.terms[index].numbers))
                role = role or tensor.terms[index].role
            else:
                arrays.append(np.full(tensor.shape, -1, np.int64))
        terms.append(Term(np.concatenate(arrays, axis), role))
    return Weight(tuple(terms), terms[0].numbers.shape)


def _parameters(reader: Reader, weight: Weight) -> Feeds:
    """Parameters that stand beside a flow, such as the embedding of a class token."""
    sites: Feeds = {}
    for term in weight.terms:
        numbers = regular(term.numbers)
        kept = numbers[(*(0 if size == 1 else slice(None) for size in numbers.shape), ...)]
        sites[reader.site("beside", kept, [kept.ndim], {})] = frozenset()
    return sites
