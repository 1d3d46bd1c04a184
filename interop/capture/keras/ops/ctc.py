"""Connectionist temporal classification: the greedy decoder and the loss."""

from __future__ import annotations

from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.registry import op
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
    labels, scores = e.spec
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
