"""How far two results of the same computation may lie apart, by element type.

An element agrees when ``|candidate - reference| <= atol + rtol * |reference|``. The numbers leave
room for another order of summation in a deep model, not for another formula: a 1 % change of one
weight fails them. Element types that are not in the table (integers, booleans, strings) must be equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The two terms of the bound ``atol + rtol * |reference|``."""

    rtol: float
    atol: float


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


def tolerance_for(dtype: str, *, computed_in: frozenset[str] = frozenset()) -> Tolerance:
    """The published tolerance of an output.

    Args:
        dtype: element type of the output, by its NumPy or ml_dtypes name.
        computed_in: element types the model computes in; the coarsest decides, so that a float32
            output of a float16 model is held to what float16 can give.

    >>> tolerance_for("float32")
    Tolerance(rtol=0.0001, atol=1e-05)
    >>> tolerance_for("float32", computed_in=frozenset({"float16"}))
    Tolerance(rtol=0.02, atol=0.002)
    >>> tolerance_for("int64")
    Tolerance(rtol=0.0, atol=0.0)
    """
    if dtype not in TOLERANCES:
        return EXACT
    used = [TOLERANCES[name] for name in {dtype, *computed_in} if name in TOLERANCES]
    return max(used, key=lambda tolerance: tolerance.rtol)
