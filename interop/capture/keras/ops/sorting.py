"""Order: sorting, ranks, membership and distinct values."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, element_count
from interop.capture.keras.registry import op
from interop.graph.record import Value

# Element types that ONNX Runtime's TopK takes.
SORTABLE = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8")


def ordered(e: Emit, x: Value, axis: int | None) -> tuple[Value, Value]:
    """Values in ascending order and their int64 places; equal values keep their order."""
    if axis is None or x.rank == 0:
        x, axis = e.reshape(x, (element_count(x.dims),)), 0
    axis = axis % x.rank
    keys = e.widened(x, *SORTABLE)
    outputs = [(keys.dtype, x.dims), ("int64", x.dims)]
    count = e.size(x.dims[axis])
    values, places = e.nodes("TopK", keys, count, outputs=outputs, axis=axis, largest=0, sorted=1)
    return e.cast(values, x.dtype), places


@op("Sort", since=11)
def sort(e: Emit, x: Value, *, axis: int | None) -> Value:
    return ordered(e, x, axis)[0]


@op("Argsort", since=11)
def argsort(e: Emit, x: Value, *, axis: int | None) -> Value:
    return ordered(e, x, axis)[1]


@op("Argpartition", since=11)
def argpartition(e: Emit, x: Value, *, axis: int | None) -> Value:
    """The order of a full sort, which is a partition at every place."""
    return ordered(e, x, axis)[1]


def _searchsorted_spec(operation: Any, sorted_sequence: Any, values: Any) -> Any:
    return compat.tensor_spec(getattr(values, "shape", np.shape(values)), "int32")


@op("SearchSorted", since=16, spec=_searchsorted_spec)
def searchsorted(e: Emit, sorted_sequence: Any, values: Any, *, side: str) -> Value:
    """How many edges lie before each value: for bin edges, few beside the values."""
    edges, found = e.tensor(sorted_sequence), e.tensor(values)
    common = compat.result_type(edges.dtype, found.dtype)
    edges, found = e.cast(edges, common), e.unsqueeze(e.cast(found, common), [-1])
    before = e.binary("Less" if side == "left" else "LessOrEqual", edges, found, dtype="bool")
    return e.reduce("ReduceSum", e.cast(before, e.spec.dtype), [-1])


@op("IsIn", since=13)
def isin(e: Emit, x1: Any, x2: Any, *, invert: bool) -> Value:
    a, b = e.tensor(x1), e.tensor(x2)
    common = compat.result_type(a.dtype, b.dtype)
    a, b = e.unsqueeze(e.cast(a, common), [-1]), e.reshape(e.cast(b, common), (element_count(b.dims),))
    hits = e.reduce("ReduceSum", e.cast(e.binary("Equal", a, b, dtype="bool"), "int32"), [-1])
    found = e.cast(hits, "bool")
    return e.unary("Not", found) if invert else found


@op("InTopK", since=13)
def in_top_k(e: Emit, targets: Any, predictions: Any, *, k: int) -> Value:
    """Whether fewer than ``k`` predictions are above the target's: ties count for the target."""
    scores, target = e.tensor(predictions), e.cast(e.tensor(targets), "int64")
    place = e.unsqueeze(target, [-1])
    score = e.node("GatherElements", scores, place, shape=place.shape, axis=scores.rank - 1)
    above = e.reduce("ReduceSum", e.cast(e.binary("Greater", scores, score, dtype="bool"), "int32"), [-1])
    return e.binary("Less", above, e.scalar(k, "int32"), dtype="bool")


@op("Unique", since=11)
def unique(
    e: Emit,
    x: Value,
    *,
    return_index: bool,
    return_inverse: bool,
    return_counts: bool,
    axis: int | None,
    size: int | None,
    fill_value: Any,
) -> Value | tuple[Value, ...]:
    """Distinct values in ascending order, whatever ``sorted`` is, as ONNX's Unique gives them.

    With ``size``, what is missing is filled as the backend fills it.
    """
    dims = x.dims
    along = None if axis is None else axis % x.rank
    keys = e.widened(x, "float32", "float64", "int64", "int8")
    count = e.unknown("unique" if along is None else f"unique_{along}", x)
    found = (count,) if along is None else (*dims[:along], count, *dims[along + 1 :])
    total = (element_count(dims),) if along is None else (dims[along],)
    outputs = [(keys.dtype, found), ("int64", (count,)), ("int64", total), ("int64", (count,))]
    values, first, inverse, counts = e.nodes("Unique", keys, outputs=outputs, axis=along, sorted=1)
    e.witness(values)
    values = e.cast(values, x.dtype)
    if size is not None:
        place = along or 0
        fills = _fills(e, values, fill_value, place, first)
        values, first, counts = (
            _sized(e, part, size, where, fill)
            for part, where, fill in zip((values, first, counts), (place, 0, 0), fills, strict=True)
        )
    results = [values]
    if return_index:
        results.append(e.cast(first, "int32"))
    if return_inverse:
        inverse = e.cast(inverse, "int32")
        results.append(inverse if along is not None else e.reshape(inverse, dims))
    if return_counts:
        results.append(e.cast(counts, "int32"))
    return tuple(results) if len(results) > 1 else results[0]


def _fills(e: Emit, values: Value, fill_value: Any, axis: int, first: Value) -> tuple[Value, Value, Value]:
    """What stands for missing values, first places and counts: JAX repeats its first value and place."""
    import keras

    none = e.scalar(0, "int64")
    if keras.backend.backend() != "jax":
        return e.scalar(fill_value or 0, values.dtype), e.scalar(1, "int64"), none
    if fill_value is None:
        dims = tuple(1 if i == axis else dim for i, dim in enumerate(values.dims))
        fill = e.slice(values, axis, 0, 1)
        fill.shape = dims
    else:
        fill = e.scalar(fill_value, values.dtype)
    place = e.slice(first, 0, 0, 1)
    place.shape = (1,)
    return fill, place, none


def _sized(e: Emit, x: Value, size: int, axis: int, fill: Value) -> Value:
    """``x`` cut or filled up to ``size`` along an axis."""
    target = tuple(size if i == axis else dim for i, dim in enumerate(x.dims))
    longer = e.concat([x, e.expand(fill, target)], axis)
    result = e.slice(longer, axis, 0, size)
    result.shape = target
    return result
