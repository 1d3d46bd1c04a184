"""Activations."""

from __future__ import annotations

from cases.operators import OnnxCase, normal
from cases.ops import x

_X = (x("b", "t", 4),)

CASES = [
    *[
        OnnxCase(name, _X)
        for name in "LeakyRelu Elu Selu HardSigmoid HardSwish Mish Gelu ThresholdedRelu".split()
    ],
    OnnxCase("LeakyRelu", _X, {"alpha": 0.3}, variant="alpha"),
    OnnxCase("Gelu", _X, {"approximate": "tanh"}, variant="tanh"),
    OnnxCase("PRelu", (*_X, normal(1, 4))),
    *[
        OnnxCase(name, _X, {"axis": axis}, variant=str(axis))
        for name in ("Softmax", "LogSoftmax")
        for axis in (1, -1)
    ],
    OnnxCase("Softmax", _X, {"axis": 1}, variant="of rows", opset=12),
]
