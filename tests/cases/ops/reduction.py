"""Reductions, sorting and cumulative operations."""

from __future__ import annotations

from cases.ops import OpCase
from keras import ops

_NAMES = "sum mean max min amax amin prod var std all any argmax argmin logsumexp"


def _reduction(name: str, axis: int, keepdims: bool) -> OpCase:
    def call(a):
        return getattr(ops, name)(a > -1.5 if name == "all" else a > 1.5 if name == "any" else a, **options)

    options = {"axis": axis, "keepdims": keepdims}
    return OpCase(name, call, variant=f"{axis}{'-keepdims' if keepdims else ''}")


CASES = [
    *[_reduction(name, axis, kept) for name in _NAMES.split() for axis in (1, -1) for kept in (False, True)],
    OpCase("cumsum", lambda a: ops.cumsum(a, axis=1)),
    OpCase("top_k", lambda a: ops.top_k(a, 2), dtypes=("float32", "int32")),
    OpCase("moments", lambda a: ops.moments(a, axes=[1])),
]
