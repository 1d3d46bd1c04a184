"""Reductions."""

from __future__ import annotations

from cases.operators import OnnxCase, ints
from cases.ops import x

_X = x("b", "t", 4, low=0.1)
_NAMES = "Max Min Mean Prod Sum SumSquare L1 L2 LogSum LogSumExp"

CASES = [
    *[OnnxCase(f"Reduce{name}", (_X, ints(1, -1))) for name in _NAMES.split()],
    OnnxCase(
        "ReduceMean",
        (_X,),
        {"axes": [1], "keepdims": 0},
        variant="attribute",
        opset=13,
        lifted="GlobalAveragePooling1D",
    ),
    OnnxCase("ReduceSum", (_X,), {"noop_with_empty_axes": 1}, variant="noop"),
    OnnxCase("ReduceMax", (_X,), variant="all", constant=True),
    OnnxCase("ArgMax", (_X,), {"axis": 1, "keepdims": 0}),
    OnnxCase("ArgMin", (_X,), {"axis": -1}),
]
