"""Arithmetic, comparison, logic and selection."""

from __future__ import annotations

import numpy as np
from cases.operators import OnnxCase, normal
from cases.ops import x

_ANY = "Abs Atan Cos Erf Exp Neg Round Floor Ceil Sign Sin Tanh Relu Sigmoid Softplus Softsign IsNaN Identity"
_POSITIVE = "Sqrt Log Reciprocal"
_BINARY = "Add Sub Mul Div Equal Greater Less GreaterOrEqual LessOrEqual"

CASES = [
    *[OnnxCase(name, (x("b", "t", 4),), constant=name == "IsNaN") for name in _ANY.split()],
    *[OnnxCase(name, (x("b", "t", 4, low=0.1),)) for name in _POSITIVE.split()],
    *[OnnxCase(name, (x("b", "t", 4), x("t", 1)), constant=name == "Equal") for name in _BINARY.split()],
    # Keras on TensorFlow takes the second for a bias of the last axis.
    OnnxCase("Add", (x("b", 5, 5), x(1, 5, 1)), variant="bias of a middle axis"),
    OnnxCase("Add", (x(1, 5, 1), x(1, 1, 5)), variant="two vectors"),
    OnnxCase("Add", (x("b", 5, 5), normal(5, 1)), variant="weight"),
    OnnxCase(
        "Div",
        (x("b", "t", dtype="int32", low=-9, high=9), x("t", dtype="int32", low=1, high=4)),
        variant="int",
    ),
    OnnxCase("Mod", (x("b", "t", dtype="int32", low=-9, high=9), x("t", dtype="int32", low=1, high=4))),
    OnnxCase("Pow", (x("b", "t", 4, low=0.1), np.asarray(2.5, "float32"))),
    OnnxCase("Max", (x("b", "t", 4), x("t", 4), x(4)), variant="three"),
    OnnxCase("Min", (x("b", "t", 4), x("t", 4))),
    OnnxCase("Sum", (x("b", 5, 5), x(1, 5, 1), x(5, 1))),
    OnnxCase("Mean", (x("b", "t", 4), x("t", 4))),
    OnnxCase("Where", (x("b", "t", 4, dtype="bool"), x("b", "t", 4), x(4))),
    OnnxCase("Clip", (x("b", "t"), np.asarray(-1.0, "float32"), np.asarray(0.5, "float32"))),
    OnnxCase("Clip", (x("b", "t"), None, np.asarray(0.5, "float32")), variant="above"),
    OnnxCase("Clip", (x("b", "t"),), {"min": -1.0, "max": 0.5}, variant="attributes", opset=10),
    OnnxCase("Cast", (x("b", "t", low=-5, high=5),), {"to": 6}),
    OnnxCase("And", (x("b", "t", 4, dtype="bool"), x("t", 4, dtype="bool"))),
    OnnxCase("Not", (x("b", "t", 4, dtype="bool"),)),
]
