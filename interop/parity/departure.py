"""The first layer call whose output differs between two runs of the same inputs.

Enters: what every layer call returned on each side, by ``<object path>#<n>``, in the order the calls
finish. A layer finishes before the one that contains it, so the first that departs is the innermost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from interop.parity.difference import difference
from interop.parity.report import Departure
from interop.parity.tolerance import Tolerance

Array = np.ndarray[Any, Any]
LayerOutputs = Mapping[str, Sequence[Array]]


def first_departure(
    reference: LayerOutputs, candidate: LayerOutputs, tolerance: Callable[[str], Tolerance]
) -> tuple[Departure | None, int]:
    """Walk the reference's calls and stop at the first that the candidate does not reproduce.

    A graph returns from a layer what others use of it, in no order the framework knows; so each array
    of the reference is compared with the closest array of its dtype and shape. A call without one
    (another layout, or not used by anybody) is passed over.

    Returns:
        The departure, or None when every call that could be compared agrees; and the number compared.
    """
    compared = 0
    for call, wanted in reference.items():
        measured = False
        for array in wanted:
            alike = [
                other
                for other in candidate.get(call, ())
                if other.shape == array.shape and other.dtype == array.dtype and array.size
            ]
            if not alike:
                continue
            measured = True
            bound = tolerance(array.dtype.name).of(array)
            closest = min((difference(array, other, bound) for other in alike), key=lambda d: d.max_abs)
            if closest.disagreeing:
                return Departure(call, closest.max_abs, array.dtype.name, array.shape, compared), compared
        compared += measured
    return None, compared
