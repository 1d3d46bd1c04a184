"""Recurrent layers as ONNX has them: for each direction and gate, three sites.

The table of equivalences: gates have names, so their order in a framework means nothing; two biases of a gate that are
added are one sum, which are all of an LSTM's and a simple RNN's, and those of a GRU's gates z and r. The biases of its
gate h stay two where the reset gate comes after the product (``linear_before_reset``); before it, they are added too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.elements import Numbers, numbered, regular
from interop.transfer.nodes import Step
from interop.transfer.reading import Reader, reads
from interop.transfer.skeleton import Place
from interop.transfer.values import Feeds, Flow, Tensor, Weight, labelled

_GATES = {"LSTM": "iofc", "GRU": "zrh", "RNN": "h"}


@reads("LSTM", "GRU", "RNN")
def recurrent(
    reader: Reader,
    step: Step,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    *states: Tensor | None,
) -> list[Tensor]:
    """One layer, in one direction or both."""
    given = [x, w, r, b, lengths, *states]
    if not isinstance(x, Flow) or not isinstance(w, Weight) or not isinstance(r, Weight):
        return reader.opaque(step, given)
    for flow in (tensor for tensor in given if isinstance(tensor, Flow)):
        reader.uses.record(flow)
    first = [labelled(tensor.feeds, "state") for tensor in states if isinstance(tensor, Flow)]
    flows = [tensor.feeds for tensor in (x, w, r, b, lengths) if isinstance(tensor, Flow)]
    before = reader.joined([*flows, *first])
    facts = _facts(step)
    channels = np.argsort(x.places()[0, 0], kind="stable")
    directions = w.shape[0]
    turned = bool(x.places()[0, 0, 0] > x.places()[-1, 0, 0])  # the graph has reversed the sequence before
    made: list[list[Place]] = []
    for direction in range(directions):
        backward = (directions == 2 and direction == 1) or step.attributes.get("direction") == "reverse"
        backward = backward != turned
        name = f"{step.op_type}{' backward' if backward else ''}"
        sites: list[Place] = []
        for gate, rows in _rows(step, w.shape[1]):
            kernel = numbered(w.terms[0].numbers)[direction, rows][:, channels]
            inner = numbered(r.terms[0].numbers)[direction, rows]
            for role, numbers in (("kernel", kernel), ("recurrent", inner)):
                sites.append(_site(reader, f"{name} {role} {gate}", [numbers], 2, before, facts))
            if isinstance(b, Weight):
                sites += _biases(reader, step, f"{name} bias {gate}", b, (direction, rows), before, facts)
        made.append(sites)
    after: Feeds = {
        reader.joint(step.op_type, dict.fromkeys(sites, frozenset())): frozenset() for sites in made
    }
    return _results(step, x, r, after, directions, turned=turned)


def _results(step: Step, x: Flow, r: Weight, feeds: Feeds, directions: int, *, turned: bool) -> list[Tensor]:
    """Layouts of the sequence (time, direction, batch, unit) and of the last states: units last, then directions."""
    time, batch, units = x.shape[0], x.shape[1], r.shape[2]
    whole = np.arange(time * batch * directions * units, dtype=np.int64)
    sequence = whole.reshape(time, batch, directions, units).transpose(0, 2, 1, 3)
    sequence = sequence[::-1] if turned else sequence
    last = whole[: batch * directions * units].reshape(batch, directions, units).transpose(1, 0, 2)
    layouts = [sequence, last, last]
    return [Flow(layout.shape, layout, feeds) for layout, _ in zip(layouts, step.outputs, strict=False)]


def _rows(step: Step, size: int) -> list[tuple[str, slice]]:
    gates = _GATES[step.op_type]
    units = size // len(gates)
    return [(gate, slice(i * units, (i + 1) * units)) for i, gate in enumerate(gates)]


def _biases(
    reader: Reader,
    step: Step,
    kind: str,
    bias: Weight,
    at: tuple[int, slice],
    before: Feeds,
    facts: dict[str, Any],
) -> list[Place]:
    direction, rows = at
    half = bias.shape[1] // 2
    arrays: list[list[NDArray[np.int64]]] = [[], []]
    for term in bias.terms:
        line = numbered(term.numbers)[direction]
        for side, start in enumerate((0, half)):
            part = line[start + rows.start : start + rows.stop]
            if (part >= 0).all():
                arrays[side].append(part)
    apart = step.op_type == "GRU" and kind.endswith("h") and step.attributes.get("linear_before_reset", 0)
    if not apart:
        arrays = [arrays[0] + arrays[1]]
    suffixes = ("", " recurrent")
    return [
        _site(reader, f"{kind}{suffix}", terms, 1, before, facts)
        for suffix, terms in zip(suffixes, arrays, strict=False)
        if terms
    ]


def _site(
    reader: Reader,
    kind: str,
    terms: Sequence[Numbers],
    rank: int,
    before: Feeds,
    facts: dict[str, Any],
) -> Place:
    arrays = [regular(numbers) for numbers in terms]
    groups = [1] * rank if arrays[0].ndim == rank else [arrays[0].ndim]
    if rank == 2 and arrays[0].ndim != 2:
        arrays, groups = [np.asarray(numbers) for numbers in terms], [1, 1]
    return reader.site(kind, arrays, groups, before, facts=facts)


def _facts(step: Step) -> dict[str, Any]:
    """What the result depends on besides the parameters; of one direction, as both are alike."""
    default = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[step.op_type]
    directions = 2 if step.attributes.get("direction") == "bidirectional" else 1
    facts: dict[str, Any] = {}
    for name in ("activations", "activation_alpha", "activation_beta"):
        given = step.attributes.get(name, default if name == "activations" else None)
        if given:
            facts[name] = tuple(given[: max(len(given) // directions, 1)] if given is not default else given)
    if step.op_type == "GRU":
        facts["reset_after"] = bool(step.attributes.get("linear_before_reset", 0))
    return facts
