"""Products of matrices, attention, normalisation."""

from __future__ import annotations

from cases.ops import OpCase, x
from keras import ops

CASES = [
    OpCase("matmul", lambda a: ops.matmul(a, ops.transpose(a, (0, 2, 1)))),
    OpCase("einsum", lambda a: ops.einsum("btd,bsd->bts", a, a)),
    OpCase("tensordot", lambda a: ops.tensordot(a, ops.ones((4, 3)), axes=1)),
    OpCase("dot", lambda a: ops.dot(a, ops.ones((4, 3)))),
    OpCase(
        "dot_product_attention",
        lambda a: ops.dot_product_attention(a, a, a, is_causal=True),
        (x("b", "t", 2, 4),),
    ),
    OpCase("rms_normalization", lambda a: ops.rms_normalization(a, ops.ones((4,)))),
]
