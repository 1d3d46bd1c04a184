"""Masked steps of a sequence: where the valid ones went, and what each step repeats.

Keras skips masked steps wherever they stand: a masked step keeps the state and repeats the last output.
"""

from __future__ import annotations

from dataclasses import dataclass

from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import counting
from interop.graph.record import Value


@dataclass(frozen=True)
class Packing:
    """Where valid steps went: rows packed to the front.

    Attributes:
        order: (batch, time) int64, the step that stands at each packed place.
        place: (batch, time) int64, the packed place of the last valid step at or before each step.
        started: (batch, time) bool, whether there is such a step.
        lengths: (batch,) int32, at least 1, as runtimes refuse rows of length 0.
        end: (batch, 1) int64, the packed place of the last valid step of all; 0 if there is none.
        any_valid: (batch, 1) bool.
        mask: (batch, time) bool, the mask itself.
    """

    order: Value
    place: Value
    started: Value
    lengths: Value
    end: Value
    any_valid: Value
    mask: Value


def pack(e: Emit, mask: Value) -> Packing:
    """Pack the valid steps of a (batch, time) bool mask, in order."""
    batch, time = mask.dims
    valid = e.cast(mask, "int64")
    steps = counting(e, time)
    total = e.reshape(e.size(time), ())
    # Valid step t scores time - t > 0, a masked one -t <= 0: all different, so the order is stable.
    score = e.binary("Sub", e.binary("Mul", valid, total), steps)
    _, order = e.nodes(
        "TopK", score, e.size(time), outputs=[("int64", mask.dims), ("int64", mask.dims)], axis=1
    )
    count = e.node("CumSum", valid, e.scalar(1, "int64"), shape=mask.dims)
    one = e.scalar(1, "int64")
    place = e.binary("Max", e.binary("Sub", count, one), e.scalar(0, "int64"))
    length = e.reduce("ReduceSum", valid, [1], keepdims=True)
    at_least_one = e.binary("Max", length, one)
    lengths = e.cast(e.reshape(at_least_one, (batch,)), "int32")
    end = e.binary("Sub", at_least_one, one)
    started = e.binary("Greater", count, e.scalar(0, "int64"), dtype="bool")
    any_valid = e.binary("Greater", length, e.scalar(0, "int64"), dtype="bool")
    return Packing(order, place, started, lengths, end, any_valid, mask)


def rows(e: Emit, x: Value, index: Value) -> Value:
    """``x[b, index[b, t]]`` for (batch, time, ...) values."""
    where = e.unsqueeze(index, [2])
    return e.node("GatherND", x, where, shape=(*index.dims, *x.dims[2:]), batch_dims=1)


def choose(e: Emit, condition: Value, x: Value, other: Value) -> Value:
    """``x`` where the condition holds; the condition has no more axes, from the left."""
    condition = e.unsqueeze(condition, list(range(condition.rank, x.rank)))
    return e.node("Where", condition, x, other, dtype=x.dtype, shape=x.shape)
