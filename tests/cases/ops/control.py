"""Loops, branches and maps over Python functions."""

from __future__ import annotations

from cases.ops import OpCase
from keras import ops

CASES = [
    OpCase("cond", lambda a: ops.cond(ops.sum(a) > 0, lambda: a * 2, lambda: a - 1), holds=("If",)),
    OpCase(
        "scan",
        lambda a: ops.scan(lambda c, v: (c + v, c * v), ops.zeros((a.shape[1], 4)), a),
        holds=("Scan",),
    ),
    OpCase(
        "while_loop",
        lambda a: ops.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s * 1.5), (0, a)),
        holds=("Loop",),
    ),
    OpCase("map", lambda a: ops.map(lambda v: ops.sum(v, axis=0), a), holds=("Scan",)),
]
