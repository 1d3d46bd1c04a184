"""Operators with weights that are a layer of their own."""

from __future__ import annotations

from cases.operators import OnnxCase, normal
from cases.ops import x

CASES = [
    OnnxCase("Gather", (normal(7, 4), x("b", dtype="int32", low=0, high=3)), {"axis": 1}, variant="columns"),
    OnnxCase("PRelu", (x("b", 4, "h"), normal(4, 1)), variant="channels", lifted="PReLU"),
    OnnxCase("PRelu", (x("b", 4, "h"), normal(1)), variant="one", lifted="PReLU"),
    OnnxCase("PRelu", (x("b", 4, 3), normal(3)), variant="last axis"),
]
