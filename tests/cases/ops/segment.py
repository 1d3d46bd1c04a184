"""Reductions by segment."""

from __future__ import annotations

import numpy as np
from cases.ops import OpCase, x
from keras import ops


def _every(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Ids with no empty segment among the first three."""
    return rng.permutation(np.arange(shape[0]) % 3)


DATA = (x("t", 2), x("t", dtype="int32", make=_every))
FUNCTIONS = ("segment_sum", "segment_max", "segment_min", "segment_prod")

CASES = [
    *(
        OpCase(name, lambda a, i, name=name: getattr(ops, name)(a, i, num_segments=3), DATA)
        for name in FUNCTIONS
    ),
    # JAX needs the number of segments.
    *(
        OpCase(
            name,
            lambda a, i, name=name: getattr(ops, name)(a, i),
            DATA,
            variant="counted",
            backends=("tensorflow", "torch"),
        )
        for name in FUNCTIONS
    ),
    *(
        OpCase(name, lambda a, i, name=name: getattr(ops, name)(a, i, num_segments=5), DATA, variant="empty")
        for name in FUNCTIONS
    ),
    *(
        OpCase(
            name,
            lambda a, i, name=name: getattr(ops, name)(a, i, num_segments=3),
            (x("t", dtype="int32", low=-9, high=9), x("t", dtype="int32", make=_every)),
            variant="int32",
        )
        for name in FUNCTIONS
    ),
    *(
        OpCase(
            name,
            lambda a, i, nodes, name=name: getattr(ops, name)(a, i, num_segments=ops.shape(nodes)[0]),
            (*DATA, x("w", 2)),
            variant="dynamic_count",
        )
        for name in FUNCTIONS
    ),
    # TensorFlow refuses ids that are too large.
    *(
        OpCase(
            name,
            lambda a, i, name=name: getattr(ops, name)(a, i, num_segments=2),
            (x("t", 2, "n"), x("t", dtype="int32", make=lambda r, s: r.permutation(np.arange(s[0]) % 4 - 1))),
            variant="out_of_range",
            backends=("jax", "torch"),
        )
        for name in FUNCTIONS
    ),
    # TensorFlow takes the number of segments or sorted ids, not both; JAX the number only.
    OpCase(
        "segment_sum",
        lambda a, i: ops.segment_sum(a, ops.sort(i), sorted=True),
        DATA,
        variant="sorted",
        backends=("tensorflow", "torch"),
    ),
]
