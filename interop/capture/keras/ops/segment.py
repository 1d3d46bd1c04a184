"""Reductions of rows by segment."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.ops.creation import filled
from interop.capture.keras.registry import op
from interop.graph.record import Value


def _segment_spec(operation: Any, data: Any, segment_ids: Any) -> Any:
    return compat.tensor_spec((operation.num_segments, *data.shape[1:]), data.dtype)


def _reduced(e: Emit, data: Any, ids: Any, count: int | None, reduction: str, start: float | int) -> Value:
    """Rows scattered to their segments; ids out of range go to one more row, which is cut off."""
    data, places = e.tensor(data), e.cast(e.tensor(ids), "int64")
    rows = e.widened(data, "float32", "float64", "int32", "int64")
    extent: Any = count
    if count is None:
        extent = e.unknown("segments", places)
        top = e.reduce("ReduceMax", places, None)
        number = e.reshape(e.binary("Add", top, e.scalar(1, "int64")), (1,))
        dims = e.concat([number, e.sizes(data.dims[1:])], 0) if data.rank > 1 else number
        shape = (extent, *data.dims[1:])
        value = np.full(1, start, rows.dtype)
        base = e.witness(e.node("ConstantOfShape", dims, dtype=rows.dtype, shape=shape, value=value))
    else:
        base = filled(e, (extent + 1, *data.dims[1:]), start, rows.dtype)
        places = e.node("Clip", places, e.scalar(-1, "int64"), e.tensor(count, "int64"), shape=places.shape)
    result = e.node("ScatterND", base, e.unsqueeze(places, [1]), rows, shape=base.shape, reduction=reduction)
    if count is not None:
        result = e.slice(result, 0, 0, count)
        result.shape = (count, *data.dims[1:])
    return e.cast(result, data.dtype)


def _extreme(dtype: str, sign: int) -> float | int:
    """What an empty segment is: infinite, except in TensorFlow and for integers."""
    if dtype.startswith(("float", "bfloat")):
        if keras.backend.backend() != "tensorflow" or dtype == "bfloat16":
            return sign * float("inf")
        return sign * float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    return int(limits.max if sign > 0 else limits.min)


@op("SegmentSum", since=16, spec=_segment_spec)
def segment_sum(e: Emit, data: Value, segment_ids: Any, *, num_segments: int | None) -> Value:
    return _reduced(e, data, segment_ids, num_segments, "add", 0)


@op("SegmentProd", since=16, spec=_segment_spec)
def segment_prod(e: Emit, data: Value, segment_ids: Any, *, num_segments: int | None) -> Value:
    return _reduced(e, data, segment_ids, num_segments, "mul", 1)


@op("SegmentMax", since=18, spec=_segment_spec)
def segment_max(e: Emit, data: Value, segment_ids: Any, *, num_segments: int | None) -> Value:
    return _reduced(e, data, segment_ids, num_segments, "max", _extreme(data.dtype, -1))


@op("SegmentMin", since=18, spec=_segment_spec)
def segment_min(e: Emit, data: Value, segment_ids: Any, *, num_segments: int | None) -> Value:
    return _reduced(e, data, segment_ids, num_segments, "min", _extreme(data.dtype, 1))
