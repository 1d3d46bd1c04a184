"""Convolutions: one site for the kernel, channels last in the layout. A kernel of one point is a product."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.transfer.elements import taken
from interop.transfer.nodes import Step
from interop.transfer.ops.linear import linear
from interop.transfer.reading import Reader, reads
from interop.transfer.values import Flow, Tensor, Weight


@reads("Conv")
def conv(reader: Reader, step: Step, x: Tensor, w: Tensor, b: Tensor | None = None) -> list[Tensor]:
    """A convolution over axes 2 and on."""
    if not isinstance(x, Flow) or not isinstance(w, Weight) or len(w.terms) != 1:
        return reader.opaque(step, [x, w, b])
    numbers = w.terms[0].numbers
    group = step.attributes.get("group", 1)
    sizes = tuple(numbers.shape[2:])
    strides = step.attributes.get("strides") or [1] * len(sizes)
    if group == 1 and set(sizes) == {1} and not any(step.attributes.get("pads") or []):
        points = tuple(slice(None, None, stride) for stride in strides)
        last = np.moveaxis(x.places()[(slice(None), slice(None), *points)], 1, -1)
        taken_from = Flow(last.shape, last, x.feeds, x.frame, x.partial)
        corner: tuple[Any, ...] = (..., *[0] * len(sizes))
        matrix = numbers[corner]
        made = linear(reader, step, taken_from, np.swapaxes(matrix, 0, 1))
        places = np.moveaxis(made.places(), -1, 1)
        flow = Flow(places.shape, places, made.feeds, made.frame)
        for place in made.feeds:
            place.facts["strides"] = tuple(strides)
        reader.show(step, flow)
        return [_biased(reader, step, flow, b)]
    reader.uses.record(x)
    order, filters = _channels(x), None
    before = [1, 1]
    if group == 1:
        numbers = taken(numbers, 1, order)
        before[1] = numbers.ndim - 1 - len(sizes)
    elif group == len(order):
        each = w.shape[0] // group
        filters = (order[:, None] * each + np.arange(each)).reshape(-1)
        numbers = taken(numbers, 0, filters)
        before[0] = numbers.ndim - 1 - len(sizes)
    groups = before + [1] * len(sizes)
    facts = _facts(step, x, sizes, group)
    flow = _image(reader, step, x, "conv", numbers, groups, w.shape[0], facts)
    if filters is not None and flow.layout is not None:
        flow = replace(flow, layout=np.take(flow.layout, np.argsort(filters), 1))
        reader.show(step, flow)
    return [_biased(reader, step, flow, b)]


@reads("ConvTranspose")
def conv_transpose(reader: Reader, step: Step, x: Tensor, w: Tensor, b: Tensor | None = None) -> list[Tensor]:
    """A transposed convolution; its kernel has inputs first."""
    if not isinstance(x, Flow) or not isinstance(w, Weight) or len(w.terms) != 1:
        return reader.opaque(step, [x, w, b])
    reader.uses.record(x)
    numbers, group = w.terms[0].numbers, step.attributes.get("group", 1)
    facts = {**_facts(step, x, tuple(numbers.shape[2:]), group), "output": step.shapes[0]}
    groups = [1] * numbers.ndim
    if group == 1:
        numbers = taken(numbers, 0, _channels(x))
        groups[0] += numbers.ndim - len(groups)
    flow = _image(reader, step, x, "transposed conv", numbers, groups, w.shape[1] * group, facts)
    return [_biased(reader, step, flow, b)]


@reads(
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Resize",
    "Upsample",
)
def pooled(reader: Reader, step: Step, x: Tensor, *others: Tensor | None) -> list[Tensor]:
    """Each channel by itself."""
    if not isinstance(x, Flow) or step.shapes[0] is None:
        return reader.opaque(step, [x, *others])
    reader.uses.record(x)
    return [Flow(step.shapes[0], channels_last(step.shapes[0]), x.feeds)]


@reads("InstanceNormalization", "GroupNormalization", "LRN")
def normalised(reader: Reader, step: Step, x: Tensor, *others: Tensor | None) -> list[Tensor]:
    """Each channel or group of them by itself; scales and offsets are sites."""
    if not isinstance(x, Flow):
        return reader.opaque(step, [x, *others])
    reader.uses.record(x)
    flow = Flow(x.shape, x.layout, x.feeds)
    if "epsilon" in step.attributes:
        flow = flow.labelled(f"epsilon={step.attributes['epsilon']:.6g}")
    for weight, role in zip(others, ("mul", "add"), strict=False):
        if isinstance(weight, Weight):
            flow = reader.affine(flow, spread(weight, len(flow.shape)), flow.shape, role)
    return [flow]


def spread(weight: Weight, rank: int) -> Weight:
    """Parameters of each channel, as they are broadcast over an image."""
    index = (slice(None), *[None] * (rank - 2))
    terms = tuple(term.moved(term.numbers[index]) for term in weight.terms)
    return Weight(terms, (weight.shape[0], *[1] * (rank - 2)))


def channels_last(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The layout of an image whose channels are axis 1."""
    sizes = (shape[0], *shape[2:], shape[1])
    return np.moveaxis(np.arange(int(np.prod(shape)), dtype=np.int64).reshape(sizes), -1, 1)


def _image(
    reader: Reader,
    step: Step,
    x: Flow,
    kind: str,
    numbers: Any,
    groups: list[int],
    features: int,
    facts: dict[str, Any],
) -> Flow:
    shape = step.shapes[0]
    frame = reader.frame(step.name, features)
    if facts["groups"] > 1 or kind != "conv":
        frame.parts = ()
    layout = channels_last(shape) if shape is not None else None
    sites: list[Any] = []
    if frame.parts:
        for index, part in enumerate(frame.parts):
            some = taken(numbers, 0, part)
            first = 1 + some.ndim - numbers.ndim
            block = (frame.key, index)
            sites.append(reader.site(kind, some, [first, *groups[1:]], x.feeds, facts=facts, block=block))
    else:
        sites.append(reader.site(kind, numbers, groups, x.feeds, facts=facts))
    flow = Flow(shape or (), layout, dict.fromkeys(sites, frozenset()), frame)
    if shape is not None:
        reader.show(step, flow)
    return flow


def _biased(reader: Reader, step: Step, flow: Flow, bias: Tensor | None) -> Flow:
    if not isinstance(bias, Weight):
        return flow
    return reader.biased(step, flow, spread(bias, len(flow.shape)))


def _channels(x: Flow) -> NDArray[np.int64]:
    """The canonical order of the channels."""
    places = x.places()
    middle = tuple(size // 2 for size in places.shape[2:])
    return np.argsort(places[(0, slice(None), *middle)], kind="stable")


def _facts(step: Step, x: Flow, sizes: tuple[int, ...], group: int) -> dict[str, Any]:
    """What a convolution does besides its kernel; padding that was added before counts as its own."""
    rank = len(sizes)
    strides = tuple(step.attributes.get("strides") or [1] * rank)
    dilations = tuple(step.attributes.get("dilations") or [1] * rank)
    pads = list(step.attributes.get("pads") or [0] * 2 * rank)
    mode = step.attributes.get("auto_pad", "NOTSET")
    places = x.places()
    for axis in range(rank):
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            size, span = places.shape[axis + 2], (sizes[axis] - 1) * dilations[axis] + 1
            total = max((-(-size // strides[axis]) - 1) * strides[axis] + span - size, 0)
            small, large = total // 2, total - total // 2
            pads[axis], pads[axis + rank] = (small, large) if mode == "SAME_UPPER" else (large, small)
        other = tuple(a for a in range(places.ndim) if a != axis + 2)
        empty = np.flatnonzero(~np.all(places == -1, axis=other))
        if empty.size:
            pads[axis] += int(empty[0])
            pads[axis + rank] += places.shape[axis + 2] - 1 - int(empty[-1])
    return {
        "padding": tuple(zip(pads[:rank], pads[rank:], strict=True)),
        "strides": strides,
        "dilation": dilations,
        "groups": group,
    }
