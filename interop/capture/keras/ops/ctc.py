"""Connectionist temporal classification: the greedy decoder and the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import merge
from interop.capture.keras.subgraphs import scan
from interop.errors import UnsupportedOp
from interop.graph.record import Value


@op("CTCDecode", since=13)
def ctc_decode(
    e: Emit,
    inputs: Any,
    sequence_lengths: Any,
    *,
    strategy: str,
    merge_repeated: bool,
    mask_index: int | None,
) -> tuple[Value, Value]:
    """The likeliest class of every step, blanks and repeats left out, -1 behind the end."""
    if strategy != "greedy":
        raise UnsupportedOp(
            f"ops.ctc_decode with strategy={strategy!r}: ONNX has no operator that keeps the best of a growing "
            "set of paths. Decode greedily in the model, or export the scores and search outside of it."
        )
    scores = e.spec[1]
    x, lengths = e.tensor(inputs, scores.dtype), e.tensor(sequence_lengths, "int64")
    batch, steps, classes = x.dims
    shape = (batch, steps)
    blank = e.scalar(int(classes) - 1 if mask_index is None else mask_index, "int64")
    best = e.node("ArgMax", x, dtype="int64", shape=shape, axis=-1, keepdims=0)
    score = e.reduce("ReduceMax", x, [-1])
    step = e.unsqueeze(counting(e, steps), [0])
    outside = e.binary("GreaterOrEqual", step, e.unsqueeze(lengths, [1]), dtype="bool")
    best = e.node("Where", outside, blank, best, dtype="int64", shape=shape)
    score = e.node("Where", outside, e.like(0, score), score, dtype=score.dtype, shape=shape)
    left_out = e.binary("Equal", best, blank, dtype="bool")
    if merge_repeated:
        before = e.node("Pad", best, [0, 1, 0, -1], e.scalar(-1, "int64"), shape=shape)
        left_out = e.binary("Or", left_out, e.binary("Equal", best, before, dtype="bool"))
    label = e.node("Where", left_out, e.scalar(-1, "int64"), best, dtype="int64", shape=shape)
    end = e.reshape(e.size(steps), ())
    place = e.node("Where", left_out, end, step, dtype="int64", shape=shape)
    _, order = e.nodes(
        "TopK",
        place,
        e.size(steps),
        outputs=[("int64", shape), ("int64", shape)],
        axis=-1,
        largest=0,
    )
    label = e.node("GatherElements", label, order, shape=shape, axis=-1)
    total = e.unary("Neg", e.reduce("ReduceSum", score, [1], True))
    return e.unsqueeze(label, [0]), total


# The logarithm of a probability of 0, and what is as unlikely.
_NEVER, _IMPOSSIBLE = -1e30, -1e29


def _ctc_spec(operation: Any, target: Any, output: Any, target_length: Any, output_length: Any) -> Any:
    batch = output.shape[0]
    for other in (target, target_length, output_length):
        batch = merge(batch, other.shape[0])
    return compat.tensor_spec((batch,), compat.result_type(output.dtype, "float32"))


@op("CTCLoss", since=17, spec=_ctc_spec)
def ctc_loss(
    e: Emit, target: Any, output: Any, target_length: Any, output_length: Any, *, mask_index: int
) -> Value:
    """-log p(target): the forward variables of labels with blanks around them, a Scan over time.

    Infinite where the output is too short for its labels. Source: Graves et al., Connectionist Temporal
    Classification, ICML 2006, section 4.1.
    """
    logits = e.tensor(output, e.spec.dtype)
    labels, label_count, step_count = (e.tensor(x, "int64") for x in (target, target_length, output_length))
    batch, steps, _ = logits.dims
    count = labels.dims[1]
    states = 2 * count + 1
    blank = e.scalar(mask_index % int(logits.dims[2]), "int64")
    # blank, label, blank, label, ..., blank
    pairs = e.concat([e.unsqueeze(e.expand(blank, (batch, count)), [2]), e.unsqueeze(labels, [2])], 2)
    path = e.reshape(pairs, (batch, 2 * count))
    path = e.concat([path, e.expand(blank, (batch, 1))], 1)
    index = e.expand(e.unsqueeze(path, [1]), (batch, steps, states))
    scores = e.unary("LogSoftmax", logits, axis=-1)
    scores = e.node("GatherElements", scores, index, shape=(batch, steps, states), axis=2)
    two_back = _shifted(e, path, 2, e.scalar(-1, "int64"))
    fresh = e.node("Not", e.binary("Equal", path, two_back, dtype="bool"), shape=path.shape)
    skips = e.binary("And", fresh, e.node("Not", e.binary("Equal", path, blank, dtype="bool")), dtype="bool")
    never = e.like(_NEVER, logits)
    place = e.unsqueeze(counting(e, states), [0])
    first = e.binary("Equal", place, e.scalar(0, "int64"), dtype="bool")
    start = e.node("Where", first, e.like(0, logits), never, dtype=logits.dtype, shape=(1, states))
    valid = e.binary("Less", e.unsqueeze(counting(e, steps), [0]), e.unsqueeze(step_count, [1]), dtype="bool")

    def advance(carry: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
        (alpha,), (score, running) = carry, slices
        twice = _shifted(e, alpha, 2, never)
        twice = e.node("Where", skips, twice, never, dtype=alpha.dtype, shape=alpha.shape)
        total = _log_sum(e, [alpha, _shifted(e, alpha, 1, never), twice])
        moved = e.binary("Add", total, score)
        keep = e.unsqueeze(running, [1])
        return [e.node("Where", keep, moved, alpha, dtype=alpha.dtype, shape=alpha.shape)], []

    (final,), _ = scan(e, advance, [e.expand(start, (batch, states))], [scores, valid], axis=1)
    last = e.binary("Mul", e.unsqueeze(label_count, [1]), e.scalar(2, "int64"))
    distance = e.binary("Sub", last, place)
    not_after = e.binary("GreaterOrEqual", distance, e.scalar(0, "int64"), dtype="bool")
    ends = e.binary("And", not_after, e.binary("LessOrEqual", distance, e.scalar(1, "int64"), dtype="bool"))
    ending = e.node("Where", ends, final, never, dtype=final.dtype, shape=final.shape)
    likely = e.reduce("ReduceLogSumExp", ending, [1])
    infinite = e.binary("Less", likely, e.like(_IMPOSSIBLE, likely), dtype="bool")
    return e.node(
        "Where", infinite, e.like(np.inf, likely), e.unary("Neg", likely), dtype=likely.dtype, shape=(batch,)
    )


def _shifted(e: Emit, x: Value, by: int, fill: Value) -> Value:
    """The last axis of two moved towards its end."""
    return e.node("Pad", x, [0, by, 0, -by], fill, shape=x.shape)


def _log_sum(e: Emit, values: list[Value]) -> Value:
    """log of the sum of exponentials of tensors of one shape, none of them infinite."""
    peak = e.node("Max", *values, shape=values[0].shape)
    parts = [e.unary("Exp", e.binary("Sub", value, peak)) for value in values]
    total = e.node("Sum", *parts, shape=peak.shape)
    return e.binary("Add", peak, e.unary("Log", total))
