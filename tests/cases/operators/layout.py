"""Shapes."""

from __future__ import annotations

import numpy as np
from cases.operators import OnnxCase, ints, normal
from cases.ops import x

_X = x("b", "t", 6)


def _slice(variant: str, starts, ends, axes=None, steps=None) -> OnnxCase:
    more = [None if given is None else ints(*given) for given in (axes, steps)]
    return OnnxCase("Slice", (_X, ints(*starts), ints(*ends), *more), variant=variant)


CASES = [
    OnnxCase("Reshape", (_X, ints(0, -1, 3))),
    OnnxCase("Reshape", (_X, ints(0, 0, 2, 3)), variant="heads"),
    OnnxCase("Reshape", (_X, ints(-1, 6)), variant="rows"),
    OnnxCase("Reshape", (x("b", "h", "w", 6), ints(0, 0, 0, 2, 3)), variant="three open"),
    OnnxCase("Reshape", (x("b", 4, "h", 10), ints(0, 2, 2, -1, 10)), variant="channels in groups"),
    OnnxCase("Flatten", (x("b", 2, 3, 4),)),
    OnnxCase("Flatten", (_X,), {"axis": 2}, variant="two"),
    OnnxCase("Transpose", (_X,), {"perm": [0, 2, 1]}),
    OnnxCase("Transpose", (_X,), variant="reversed"),
    OnnxCase("Squeeze", (x("b", 1, "t", 1), ints(1))),
    OnnxCase("Squeeze", (x("b", 1, "t", 1),), {"axes": [-1]}, variant="attribute", opset=11),
    OnnxCase("Unsqueeze", (_X, ints(0, -1))),
    OnnxCase("Concat", (_X, x("b", "t", 2)), {"axis": -1}),
    OnnxCase("Concat", (_X, x("b", "n", 6)), {"axis": 1}, variant="open"),
    OnnxCase("Split", (_X, ints(1, 2, 3)), {"axis": 2}, outputs=3),
    OnnxCase("Split", (x("b", "t", 7),), {"axis": 2, "num_outputs": 3}, variant="uneven", outputs=3),
    _slice("middle", [1], [4], [1]),
    _slice("end", [-3], [2**63 - 1], [2]),
    _slice("steps", [0, 1], [2**31 - 1, 5], [1, 2], [2, 2]),
    _slice("backwards", [-1], [-(2**63)], [2], [-2]),
    _slice("backwards, open", [-1], [-(2**63)], [1], [-1]),
    _slice("no axes", [0, 1], [1, 3]),
    OnnxCase("Gather", (_X, np.asarray([[0, -1], [2, 1]])), {"axis": 2}),
    OnnxCase("Gather", (_X, np.asarray(1)), {"axis": 1}, variant="one"),
    OnnxCase(
        "Gather",
        (normal(10, 4), x("b", "t", dtype="int64", low=0, high=9)),
        variant="of weights",
        lifted="Embedding",
    ),
    OnnxCase("Expand", (x("b", 1, 6), ints(1, 5, 1))),
    OnnxCase("Expand", (x("b", "t", 1, dtype="int32", low=-9, high=9), ints(2, 1, 1, 3)), variant="rank"),
]
