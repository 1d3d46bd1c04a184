"""Products of matrices, and the layers that they become."""

from __future__ import annotations

from cases.operators import OnnxCase, normal
from cases.ops import x

CASES = [
    OnnxCase("MatMul", (x("b", "t", 4), x(4, 3))),
    OnnxCase("MatMul", (x("b", 2, "t", 4), x("b", 2, 4, "t")), variant="batches"),
    OnnxCase("MatMul", (x("b", "t", 4), normal(4, 3)), variant="weight", lifted="Dense"),
    OnnxCase("MatMul", (normal(3, 4), x("b", 4, "t")), variant="weight in front"),
    OnnxCase("Gemm", (x("b", 4), normal(4, 3), normal(3)), lifted="Dense"),
    OnnxCase(
        "Gemm", (x("b", 4), normal(3, 4), normal(3)), {"transB": 1}, variant="transposed", lifted="Dense"
    ),
    OnnxCase("Gemm", (x("b", 4), normal(4, 3), normal(3)), {"alpha": 0.5, "beta": 2.0}, variant="scaled"),
    OnnxCase("Einsum", (x("b", "t", 4), x("b", "t", 4)), {"equation": "bti, bsi -> bts"}),
]
