"""Products: with a matrix of parameters a site, of two flows a joint; tables of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from interop.transfer.elements import Numbers, reshaped, taken
from interop.transfer.nodes import Step
from interop.transfer.reading import Reader, reads
from interop.transfer.skeleton import Place
from interop.transfer.values import Constant, Flow, Frame, Pairing, Tensor, Weight


@reads("MatMul")
def matmul(reader: Reader, step: Step, a: Tensor, b: Tensor) -> list[Tensor]:
    """A product over the last axis of the first and the last but one of the second."""
    if isinstance(a, Flow) and isinstance(b, Weight) and (matrix := _matrix(b)) is not None:
        return [_times(reader, step, a, matrix)]
    if isinstance(a, Weight) and isinstance(b, Flow) and (matrix := _matrix(a)) is not None:
        return [_swapped(_times(reader, step, _swapped(b), np.swapaxes(matrix, -1, -2)))]
    if isinstance(a, Flow) and isinstance(b, Flow):
        return [_product(reader, step, a, b)]
    if isinstance(a, Flow) and isinstance(b, Constant):
        return [_mixed(reader, a, (*a.shape[:-1], b.shape[-1]))]
    if isinstance(b, Flow) and isinstance(a, Constant):
        return [_mixed(reader, b, (*b.shape[:-2], a.shape[-2], b.shape[-1]))]
    return reader.opaque(step, [a, b])


@reads("Gemm")
def gemm(reader: Reader, step: Step, a: Tensor, b: Tensor, c: Tensor | None = None) -> list[Tensor]:
    """A product of matrices and a bias."""
    turned = [_turned(t, step.attributes.get(f"trans{name}", 0)) for t, name in ((a, "A"), (b, "B"))]
    (made,) = matmul(reader, step, *turned)
    if isinstance(made, Flow) and isinstance(c, Weight):
        made = reader.biased(step, made, c)
    return [made]


@reads("Einsum")
def einsum(reader: Reader, step: Step, *inputs: Tensor) -> list[Tensor]:
    """Of two tensors, as a product of matrices."""
    equation = step.attributes["equation"].replace(" ", "")
    left, _, result = equation.partition("->")
    letters = left.split(",")
    if len(inputs) != 2 or "." in equation or not result or any(len(set(w)) < len(w) for w in letters):
        return reader.opaque(step, inputs)
    one, two = inputs
    if isinstance(one, Weight) and isinstance(two, Flow):
        one, two, letters = two, one, [letters[1], letters[0]]
    if not isinstance(one, Flow) or isinstance(two, Constant):
        return reader.opaque(step, inputs)
    shared = [c for c in letters[0] if c in letters[1]]
    batch = [c for c in shared if c in result]
    summed = [c for c in shared if c not in result]
    rows = [c for c in letters[0] if c not in shared]
    columns = [c for c in letters[1] if c not in shared]
    if set(result) != {*batch, *rows, *columns}:
        return reader.opaque(step, inputs)
    sizes = dict(zip("".join(letters), (*one.shape, *two.shape), strict=True))
    first = _arranged(one, letters[0], [batch, rows, summed], sizes, joined=len(batch))
    second = _arranged(two, letters[1], [batch, summed, columns], sizes, joined=len(batch))
    (made,) = matmul(reader, step, first, second)
    if not isinstance(made, Flow):
        return [made]
    order = [*batch, *rows, *columns]
    places = made.places().reshape([sizes[c] for c in order])
    places = places.transpose([order.index(c) for c in result])
    return [replace(made, shape=places.shape, layout=places)]


@reads("Gather")
def gather(reader: Reader, step: Step, table: Tensor, at: Tensor) -> list[Tensor]:
    """Vectors of a table by index; other lookups are not known."""
    axis = step.attributes.get("axis", 0)
    if (
        not isinstance(table, Weight)
        or len(table.terms) != 1
        or len(table.shape) != 2
        or not isinstance(at, Flow)
    ):
        return reader.opaque(step, [table, at])
    numbers = table.terms[0].numbers if axis % 2 == 0 else np.swapaxes(table.terms[0].numbers, 0, 1)
    features = numbers.shape[1]
    frame = reader.frame(step.name, features)
    places = at.places()[..., None] * features + np.arange(features)
    sites = _sites(reader, "table", numbers, frame, at, 1)
    flow = Flow(places.shape, places, dict.fromkeys(sites, frozenset()), frame)
    reader.show(step, flow)
    return [flow]


def _times(reader: Reader, step: Step, x: Flow, numbers: Numbers) -> Flow:
    return linear(reader, step, x, numbers) if numbers.ndim == 2 else _stacked(reader, step, x, numbers)


def _stacked(reader: Reader, step: Step, x: Flow, numbers: Numbers) -> Flow:
    """Each part of a flow times one of a stack of matrices, as experts have them; each has features of its own."""
    stack, outputs = numbers.shape[:-2], numbers.shape[-1]
    shape = np.broadcast_shapes(x.shape[:-2], stack)
    places = np.broadcast_to(x.places(), (*shape, *x.shape[-2:]))
    layout = np.empty((*shape, x.shape[-2], outputs), np.int64)
    frame = reader.frame(step.name, math.prod(stack) * outputs)
    used = frame.parts or (np.arange(frame.features),)
    parts: list[NDArray[np.int64]] = []
    sites: list[Place] = []
    for index in np.ndindex(stack):
        part = (..., *index, slice(None), slice(None))
        start = int(np.ravel_multi_index(index, stack)) * outputs
        some = reader.narrowed(replace(x, shape=places[part].shape, layout=places[part]))
        reader.uses.record(some)
        matrix, ranks = _lined_up(some, numbers[index])
        rows = ranks * frame.features + start
        layout[part] = (rows[:, None] + np.arange(outputs)).reshape(layout[part].shape)
        for features in used:
            own = features[(features >= start) & (features < start + outputs)]
            if own.size:
                block = frame.key, len(parts)
                sites.append(_site(reader, "linear", matrix, own - start, some, matrix.ndim - 1, block))
                parts.append(own)
    frame.parts = tuple(parts)
    return Flow(layout.shape, layout, dict.fromkeys(sites, frozenset()), frame)


def linear(reader: Reader, step: Step, x: Flow, numbers: Numbers) -> Flow:
    """A flow times a matrix (inputs, outputs), over the flow's last axis."""
    reader.uses.record(x)
    outputs = numbers.shape[1]
    numbers, ranks = _lined_up(x, numbers)
    places = ranks[:, None] * outputs + np.arange(outputs)
    frame = reader.frame(step.name, outputs)
    sites = _sites(reader, "linear", numbers, frame, x, numbers.ndim - 1)
    shape = (*x.shape[:-1], outputs)
    flow = Flow(shape, places.reshape(shape), dict.fromkeys(sites, frozenset()), frame)
    reader.show(step, flow)
    return flow


def _lined_up(x: Flow, numbers: Numbers) -> tuple[Numbers, NDArray[np.int64]]:
    """A matrix with its inputs in canonical order, which may be several axes, and the canonical place of each row."""
    order, base = _rows(x.places().reshape(-1, numbers.shape[0]))
    if order is not None:
        numbers = taken(numbers, 0, order)
    _, ranks = np.unique(base, return_inverse=True)
    return numbers, np.asarray(ranks, np.int64).reshape(-1)


def _sites(
    reader: Reader, kind: str, numbers: Numbers, frame: Frame, x: Flow, groups_before: int
) -> list[Place]:
    """One site for a matrix, or one for each part of its columns that is used apart."""
    if not frame.parts:
        return [reader.site(kind, numbers, [groups_before, numbers.ndim - groups_before], x.feeds)]
    return [
        _site(reader, kind, numbers, part, x, groups_before, (frame.key, index))
        for index, part in enumerate(frame.parts)
    ]


def _site(
    reader: Reader,
    kind: str,
    numbers: Numbers,
    features: NDArray[np.int64],
    x: Flow,
    groups_before: int,
    block: tuple[str, int],
) -> Place:
    """Some columns of a matrix."""
    columns = taken(numbers, groups_before, features)
    return reader.site(kind, columns, [groups_before, columns.ndim - groups_before], x.feeds, block=block)


def _rows(table: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """The canonical order of the summed axis, if each row has the same, and what tells the rows apart."""
    steps = table[0] - table[0, 0]
    base = table[:, 0]
    if not np.array_equal(table, base[:, None] + steps):
        return None, table.min(axis=1)
    return np.argsort(steps, kind="stable"), base


def _product(reader: Reader, step: Step, a: Flow, b: Flow) -> Flow:
    """Two flows: an element is told by what it takes of each."""
    for flow in (a, b):
        reader.uses.record(flow, ordered=True)
    left, right = a.places(), b.places()
    if left.ndim < 2 or right.ndim < 2:
        (made,) = reader.opaque(step, [a, b])
        assert isinstance(made, Flow)
        return made
    rows, columns = left.min(axis=-1)[..., :, None], right.min(axis=-2)[..., None, :]
    shape = np.broadcast_shapes(rows.shape, columns.shape)
    rows, columns = np.broadcast_to(rows, shape), np.broadcast_to(columns, shape)
    keys = rows * (int(right.max()) + 1) + columns
    _, first, ranks = np.unique(keys, return_index=True, return_inverse=True)
    feeds = reader.joined([a.feeds, b.feeds])
    joint = reader.joint("product", feeds)
    pairing = Pairing(
        joint, (rows.reshape(-1)[first], columns.reshape(-1)[first]), (_kept(a, feeds), _kept(b, feeds))
    )
    places = np.asarray(ranks, np.int64).reshape(shape)
    return Flow(shape, places, {joint: frozenset()}, pairing=pairing)


def _kept(flow: Flow, feeds: dict[Place, frozenset[str]]) -> dict[Place, frozenset[str]]:
    return {place: labels for place, labels in flow.feeds.items() if place in feeds}


def _mixed(reader: Reader, flow: Flow, shape: tuple[int, ...]) -> Flow:
    reader.uses.record(flow)
    return Flow(shape, None, flow.feeds)


def _matrix(weight: Weight) -> Numbers | None:
    """The numbers of a matrix or a stack of them; axes of size 1 before do not count. None if it is something else."""
    if len(weight.terms) != 1 or weight.terms[0].role:
        return None
    numbers = weight.terms[0].numbers
    while numbers.ndim > 2 and numbers.shape[0] == 1:
        numbers = numbers[0]
    return numbers if numbers.ndim >= 2 else None


def _swapped(flow: Flow) -> Flow:
    places = np.swapaxes(flow.places(), -1, -2)
    return replace(flow, shape=places.shape, layout=places)


def _turned(tensor: Tensor, turn: int) -> Tensor:
    if not turn:
        return tensor
    if isinstance(tensor, Flow):
        return _swapped(tensor)
    if isinstance(tensor, Weight):
        terms = tuple(t.moved(np.swapaxes(t.numbers, -1, -2)) for t in tensor.terms)
        return Weight(terms, tensor.shape[::-1])
    return Constant(tensor.array.T)


def _arranged(
    tensor: Tensor, letters: str, groups: Sequence[Sequence[str]], sizes: dict[str, int], joined: int
) -> Tensor:
    """A tensor with its axes in groups, each group one axis; those of the batch stay apart."""
    order = [letters.index(c) for group in groups for c in group]
    shape = [sizes[c] for c in groups[0]] + [int(np.prod([sizes[c] for c in group])) for group in groups[1:]]
    if isinstance(tensor, Flow):
        places = tensor.places().transpose(order).reshape(shape)
        return replace(tensor, shape=places.shape, layout=places)
    assert isinstance(tensor, Weight)
    terms = tuple(t.moved(reshaped(np.transpose(t.numbers, order), shape)) for t in tensor.terms)
    return Weight(terms, tuple(shape))
