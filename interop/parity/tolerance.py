"""How far two results of the same computation may lie apart, by element type.

An element agrees when ``|candidate - reference| <= atol + rtol * |reference|``. The numbers leave
room for another order of summation in a deep model, not for another formula: a 1 % change of one
weight fails them. Element types that are not in the table (integers, booleans, strings) must be equal.

A quantised layer that rounds its activations gives a whole step more or less where a value lies on the border between
two: a last bit elsewhere decides. That moves every element a little, the small ones too, so the bound gets a
share of the root mean square of the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The terms of the bound ``atol + rtol * |reference| + share * root mean square of the reference``."""

    rtol: float
    atol: float
    share: float = 0.0

    def of(self, reference: np.ndarray[Any, Any]) -> Tolerance:
        """The bound for one array: its share of the root mean square as part of ``atol``.

        >>> Tolerance(rtol=0.0, atol=0.5, share=0.1).of(np.array([3.0, -3.0]))
        Tolerance(rtol=0.0, atol=0.8, share=0.0)
        """
        if not self.share or not reference.size:
            return self
        values = np.abs(reference).astype(np.float64)
        square = float(np.mean(np.square(np.where(np.isfinite(values), values, 0.0))))
        return Tolerance(self.rtol, self.atol + self.share * square**0.5)


EXACT = Tolerance(rtol=0.0, atol=0.0)

TOLERANCES: Mapping[str, Tolerance] = MappingProxyType(
    {
        "float64": Tolerance(rtol=1e-7, atol=1e-9),
        "float32": Tolerance(rtol=1e-4, atol=1e-5),
        "float16": Tolerance(rtol=2e-2, atol=2e-3),
        "bfloat16": Tolerance(rtol=1e-1, atol=1e-2),
        "float8_e4m3fn": Tolerance(rtol=2.5e-1, atol=5e-2),
        "float8_e5m2": Tolerance(rtol=5e-1, atol=1e-1),
    }
)

#: Element type that activations are rounded to -> share of an output's root mean square.
SHARES: Mapping[str, float] = MappingProxyType({"int8": 2e-2, "float8_e4m3fn": 1.5e-1})

# In 16 bits far more values end up on the other side of a border.
_IN_HALF_FLOATS = 3


def tolerance_for(
    dtype: str, *, computed_in: frozenset[str] = frozenset(), rounded_to: frozenset[str] = frozenset()
) -> Tolerance:
    """The published tolerance of an output.

    Args:
        dtype: element type of the output, by its NumPy or ml_dtypes name.
        computed_in: element types the model computes in; the coarsest decides, so that a float32
            output of a float16 model is held to what float16 can give.
        rounded_to: element types that quantised layers round their activations to.

    >>> tolerance_for("float32")
    Tolerance(rtol=0.0001, atol=1e-05, share=0.0)
    >>> tolerance_for("float32", computed_in=frozenset({"float16"}))
    Tolerance(rtol=0.02, atol=0.002, share=0.0)
    >>> tolerance_for("int64")
    Tolerance(rtol=0.0, atol=0.0, share=0.0)
    """
    if dtype not in TOLERANCES:
        return EXACT
    used = [TOLERANCES[name] for name in {dtype, *computed_in} if name in TOLERANCES]
    coarsest = max(used, key=lambda tolerance: tolerance.rtol)
    share = max((SHARES[name] for name in rounded_to if name in SHARES), default=0.0)
    halves = {"float16", "bfloat16"} & {dtype, *computed_in}
    return Tolerance(coarsest.rtol, coarsest.atol, share * _IN_HALF_FLOATS if halves else share)
