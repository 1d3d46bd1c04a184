"""Sequences and optionals, which are Python lists and None. Source: https://onnx.ai/onnx/operators/.

They exist while a graph is read or computed at once; a Keras model has no inputs or outputs of that kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


@op("SequenceConstruct", since=11)
def construct(ctx: Context, *xs: Tensor) -> Tensor:
    return list(xs)


@op("SequenceEmpty", since=11)
def empty(ctx: Context, *, dtype: int = 1) -> Tensor:
    return []


@op("SequenceLength", since=11)
def length(ctx: Context, sequence: Any) -> Tensor:
    return np.asarray(len(sequence), "int64")


def _place(ctx: Context, sequence: list[Tensor], position: Tensor, beyond: int = 0) -> int:
    place = ctx.ints(position)[0]
    if not -len(sequence) <= place < len(sequence) + beyond:
        ctx.fail(f"position {place} of a sequence of {len(sequence)}")
    return place + len(sequence) if place < 0 else place


@op("SequenceAt", since=11)
def at(ctx: Context, sequence: Any, position: Tensor) -> Tensor:
    return sequence[_place(ctx, sequence, position)]


@op("SequenceInsert", since=11)
def insert(ctx: Context, sequence: Any, x: Tensor, position: Tensor = None) -> Tensor:
    place = len(sequence) if position is None else _place(ctx, sequence, position, beyond=1)
    return [*sequence[:place], x, *sequence[place:]]


@op("SequenceErase", since=11)
def erase(ctx: Context, sequence: Any, position: Tensor = None) -> Tensor:
    place = len(sequence) - 1 if position is None else _place(ctx, sequence, position)
    return [*sequence[:place], *sequence[place + 1 :]]


@op("ConcatFromSequence", since=11)
def concat(ctx: Context, sequence: Any, *, axis: int, new_axis: int = 0) -> Tensor:
    return ops.stack(sequence, axis=axis) if new_axis else ops.concatenate(sequence, axis=axis)


@op("SplitToSequence", since=11, static=("split",))
def split(ctx: Context, x: Tensor, split: Tensor = None, *, axis: int = 0, keepdims: int = 1) -> Tensor:
    """Into parts of given sizes; a single number is the size of every part but the last."""
    dims = list(ctx.dims(x))
    axis = ctx.axis(axis, len(dims))
    total = dims[axis]
    if isinstance(total, SymInt):
        ctx.fail(f"splits the open dimension {total}; import the model with that dimension fixed")
    if split is None:
        sizes = [1] * total
    elif not split.ndim:
        step = ctx.ints(split)[0]
        sizes = [min(step, total - start) for start in range(0, total, step)]
    else:
        sizes = ctx.ints(split)
    if sum(sizes) != total:
        ctx.fail(f"parts of {', '.join(map(str, sizes))} of an axis of the size {total}")
    parts, start = [], 0
    for size in sizes:
        part = x[(slice(None),) * axis + (slice(start, start + size),)]
        part = ctx.declare(part, [size if i == axis else have for i, have in enumerate(dims)])
        parts.append(ops.squeeze(part, axis) if split is None and not keepdims else part)
        start += size
    return parts


@op("Optional", since=15)
def optional(ctx: Context, x: Tensor = None, *, type: Any = None) -> Tensor:
    return x


@op("OptionalHasElement", since=15)
def has_element(ctx: Context, x: Tensor = None) -> Tensor:
    return np.asarray(x is not None)


@op("OptionalGetElement", since=15)
def get_element(ctx: Context, x: Tensor) -> Tensor:
    if x is None:
        ctx.fail("takes the element of an empty optional")
    return x
