"""Order, membership and distinct values."""

from __future__ import annotations

import numpy as np
from cases.ops import OpCase, x
from keras import ops

TIES = (x("b", "t", dtype="int32", low=0, high=3),)
BINS = np.array([-1.5, -0.5, 0.0, 0.25, 1.0], "float32")


def _distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1)


CASES = [
    OpCase("sort", ops.sort),
    OpCase("sort", lambda a: ops.sort(a, axis=1), variant="axis"),
    OpCase("sort", lambda a: ops.sort(a, axis=None), variant="flat"),
    OpCase("sort", ops.sort, TIES, variant="ties"),
    OpCase("sort", ops.sort, (x("b", "t", dtype="uint8", low=0, high=255),), variant="uint8"),
    OpCase("sort", ops.sort, (x("b", "t", dtype="bool"),), variant="bool"),
    OpCase("sort", lambda a: ops.sort(ops.cast(a, "float16")), variant="float16"),
    OpCase("argsort", ops.argsort),
    OpCase("argsort", lambda a: ops.argsort(a, axis=0), variant="axis"),
    OpCase("argsort", lambda a: ops.argsort(a, axis=None), variant="flat"),
    OpCase("argsort", ops.argsort, TIES, variant="ties"),
    # Any order within the parts is right: compare what lies in them. torch and TensorFlow partition
    # integers only, TensorFlow vectors only.
    OpCase(
        "argpartition",
        lambda a: ops.sort(ops.take_along_axis(a, ops.argpartition(a, 2), axis=-1)[..., :3]),
        (x("b", "t", dtype="int32", make=_distinct),),
        backends=("jax", "torch"),
    ),
    OpCase(
        "argpartition",
        lambda a: ops.sort(ops.take(a, ops.argpartition(a, 3, axis=None))[:4]),
        (x("t", dtype="int32", make=_distinct),),
        variant="flat",
    ),
    OpCase(
        "argpartition",
        lambda a: ops.sort(ops.take_along_axis(a, ops.argpartition(a, 1, axis=0), axis=0)[:2], axis=0),
        (x("b", "t"),),
        variant="axis",
        backends=("jax",),
    ),
    # TensorFlow searches for vectors of the same dtype only.
    OpCase("searchsorted", lambda a: ops.searchsorted(BINS, a), (x("t"),)),
    OpCase("searchsorted", lambda a: ops.searchsorted(BINS, a), variant="tensor", backends=("jax", "torch")),
    OpCase(
        "searchsorted",
        lambda a: ops.searchsorted(np.array([0, 1, 1, 3], "int32"), a, side="right"),
        (x("t", dtype="int32", low=0, high=3),),
        variant="right",
    ),
    OpCase(
        "searchsorted", lambda s, v: ops.searchsorted(ops.sort(s), v), (x("t"), x("n")), variant="dynamic"
    ),
    OpCase("isin", lambda a: ops.isin(a, [0, 2]), TIES),
    OpCase(
        "isin", lambda a, b: ops.isin(a, b), (*TIES, x("n", dtype="int32", low=0, high=3)), variant="dynamic"
    ),
    OpCase("isin", lambda a: ops.isin(a, [[0], [2]], invert=True), TIES, variant="invert"),
    OpCase("isin", lambda a: ops.isin(a, 1, assume_unique=True), TIES, variant="scalar"),
    OpCase("in_top_k", lambda t, p: ops.in_top_k(t, p, 2), (x("t", dtype="int32", low=0, high=4), x("t", 5))),
    OpCase(
        "in_top_k",
        lambda t, p: ops.in_top_k(t, ops.cast(p, "float32"), 2),
        (x("t", dtype="int32", low=0, high=4), x("t", 5, dtype="int32", low=0, high=2)),
        variant="ties",
    ),
    # Any order is right: compare the values in order.
    OpCase("top_k", lambda a: ops.sort(ops.top_k(a, 3, sorted=False)[0]), variant="unsorted"),
    OpCase("unique", ops.unique, TIES),
    # torch gives the inverse and the counts in its own dtype, int64, and takes no return_index for a matrix.
    OpCase(
        "unique",
        lambda a: ops.unique(a, return_index=True, return_inverse=True, return_counts=True),
        TIES,
        variant="everything",
        backends=("jax", "tensorflow"),
    ),
    OpCase(
        "unique",
        lambda a: ops.unique(a, return_inverse=True, return_counts=True),
        TIES,
        variant="counts",
        dtypes=("int32", "int32", "int32"),
    ),
    OpCase(
        "unique", lambda a: ops.unique(a, axis=0), (x("t", 2, dtype="int32", low=0, high=1),), variant="axis"
    ),
    OpCase(
        "unique",
        ops.unique,
        (x("t", dtype="float32", make=lambda r, s: r.integers(0, 3, s)),),
        variant="float",
    ),
    OpCase("unique", lambda a: ops.unique(a, size=7), TIES, variant="filled"),
    OpCase("unique", lambda a: ops.unique(a, size=2, fill_value=9), TIES, variant="cut"),
    OpCase(
        "unique",
        lambda a: ops.unique(a, size=6, fill_value=9, return_counts=True),
        TIES,
        variant="fill_value",
        dtypes=("int32", "int32"),
    ),
]
