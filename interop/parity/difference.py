"""Two arrays compared, and how much an array varies over its batch.

Invariants:
- NaN agrees with NaN at the same place and an infinity with the same infinity; any other value beside
  one of them is an infinite difference.
- Differences are computed in float64 (complex128 for complex), whatever the element types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.formats.dtypes import BY_NAME
from interop.parity.tolerance import Tolerance

Array = np.ndarray[Any, Any]

#: Below this relative standard deviation over the batch, an output counts as constant.
VARIES_ABOVE = 1e-2


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a candidate lies from its reference.

    Attributes:
        max_abs: largest absolute difference.
        max_rel: largest difference relative to ``max(|reference|, atol)``.
        mean_abs: mean absolute difference.
        disagreeing: number of elements beyond the tolerance.
        elements: number of elements compared.
        worst: index of the element furthest beyond the tolerance; None when there are no elements.
    """

    max_abs: float
    max_rel: float
    mean_abs: float
    disagreeing: int
    elements: int
    worst: tuple[int, ...] | None


def difference(reference: Array, candidate: Array, tolerance: Tolerance) -> Difference:
    """Compare two arrays of one shape.

    >>> difference(np.array([1.0, 2.0]), np.array([1.0, 2.5]), Tolerance(rtol=0.1, atol=0.0))
    Difference(max_abs=0.5, max_rel=0.25, mean_abs=0.25, disagreeing=1, elements=2, worst=(1,))
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {candidate.shape}")
    if reference.size == 0:
        return Difference(0.0, 0.0, 0.0, 0, 0, None)
    if not _is_number(reference) or not _is_number(candidate):
        return _compare_objects(reference, candidate)
    want, have = _widened(reference), _widened(candidate)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        equal = (reference == candidate) | (np.isnan(want) & np.isnan(have))
        distance = np.abs(have - want)
        distance = np.where(np.isnan(distance), np.inf, distance)
        # Integers beyond 2**53 can differ and still be one float64.
        distance = np.where(equal, 0.0, np.maximum(distance, np.finfo(np.float64).tiny))
        size = np.abs(want)
        size = np.where(np.isfinite(size), size, 0.0)
        bound = tolerance.atol + tolerance.rtol * size
        relative = distance / np.maximum(size, max(tolerance.atol, np.finfo(np.float64).tiny))
        excess = distance - bound
        worst = np.unravel_index(int(np.argmax(excess)), distance.shape)
    return Difference(
        max_abs=float(distance.max()),
        max_rel=float(relative.max()),
        mean_abs=float(distance.mean()),
        disagreeing=int(np.count_nonzero(excess > 0)),
        elements=distance.size,
        worst=tuple(int(i) for i in worst),
    )


def relative_std(samples: Array) -> float | None:
    """Root-mean-square deviation over axis 0, relative to the root mean square of the values.

    Returns:
        None when it cannot be told: fewer than two samples, or no finite element.

    >>> relative_std(np.array([[1.0, 5.0], [1.0, 5.0]]))
    0.0
    >>> relative_std(np.array([[1.0], [-1.0]]))
    1.0
    """
    if samples.ndim == 0 or samples.shape[0] < 2 or samples.size == 0:
        return None
    if not _is_number(samples):
        distinct = (samples != samples[:1]).any()
        return 1.0 if distinct else 0.0
    values = np.abs(_widened(samples)) if np.iscomplexobj(samples) else _widened(samples)
    finite = np.isfinite(values).all(axis=0)
    if not finite.any():
        return None
    columns = values[:, finite] if values.ndim > 1 else values
    scale = float(np.abs(columns).max())
    if scale == 0.0:
        return 0.0
    columns = columns / scale  # squares neither overflow nor vanish
    deviation = float(np.sqrt(np.mean(np.var(columns, axis=0))))
    return deviation / float(np.sqrt(np.mean(np.square(columns))))


def _is_number(array: Array) -> bool:
    # The types of ml_dtypes have kind "V", as plain structs do; strings and objects are not numbers.
    return array.dtype.kind in "biufc" or array.dtype.name in BY_NAME


def _widened(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _compare_objects(reference: Array, candidate: Array) -> Difference:
    differ = np.asarray(reference != candidate, dtype=bool)
    far = float("inf") if differ.any() else 0.0
    worst = np.unravel_index(int(np.argmax(differ)), differ.shape)
    return Difference(
        max_abs=far,
        max_rel=far,
        mean_abs=far,
        disagreeing=int(np.count_nonzero(differ)),
        elements=differ.size,
        worst=tuple(int(i) for i in worst),
    )
