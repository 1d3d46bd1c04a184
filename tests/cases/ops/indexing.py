"""Elements by place: indices, gathers, scatters."""

from __future__ import annotations

import numpy as np
from cases.ops import OpCase, x
from keras import ops

FLOAT = x("b", "t", 4)
PLACES = x("n", dtype="int32", low=0, high=3)
# JAX and torch only: TensorFlow's tensors take no integer tensors as indices.
INDEXING = ("jax", "torch")

CASES = [
    # Indexing
    OpCase("get_item", lambda a: ops.get_item(a, 1)),
    OpCase("get_item", lambda a: a[:, 1:, ::2], variant="slices"),
    OpCase("get_item", lambda a: a[:, :-1, None, -1], variant="negative"),
    OpCase("get_item", lambda a: a[..., 0], variant="ellipsis"),
    OpCase("get_item", lambda a: a[0, ..., None, 1:3], variant="ellipsis_inside"),
    OpCase("get_item", lambda a: a[None, :, None], variant="new_axes"),
    OpCase("get_item", lambda a: a[:, -3:-1], variant="from_the_end"),
    OpCase("get_item", lambda a: a[:, ::2, 1::2], variant="steps"),
    OpCase("get_item", lambda a: a[:, ops.shape(a)[1] // 2 :], variant="dynamic_bound"),
    OpCase("get_item", lambda a: a[:, ops.shape(a)[1] - 1], variant="dynamic_integer"),
    # torch has no negative steps.
    OpCase("get_item", lambda a: a[:, ::-1], variant="reversed", backends=("jax", "tensorflow")),
    OpCase("get_item", lambda a: a[:, 4:1:-2], variant="reversed_part", backends=("jax", "tensorflow")),
    OpCase(
        "get_item", lambda a: a[:, -2::-1, ::-2], variant="reversed_steps", backends=("jax", "tensorflow")
    ),
    OpCase("get_item", lambda a, i: a[i], (FLOAT, x(dtype="int32", low=0, high=1)), variant="scalar_tensor"),
    OpCase("get_item", lambda a, i: a[:, i], (FLOAT, PLACES), variant="tensor", backends=INDEXING),
    OpCase(
        "get_item",
        lambda a, i: a[:, :, i - 4],
        (FLOAT, x("n", 2, dtype="int32", low=0, high=3)),
        variant="negative_tensor",
        backends=INDEXING,
    ),
    OpCase(
        "get_item", lambda a, i: a[1:, i, 2], (FLOAT, PLACES), variant="tensor_and_integer", backends=INDEXING
    ),
    OpCase("get_item", lambda a, i: a[0, :, i], (FLOAT, PLACES), variant="tensor_apart", backends=INDEXING),
    OpCase("get_item", lambda a, i: a[:, i, i], (FLOAT, PLACES), variant="two_tensors", backends=INDEXING),
    OpCase(
        "get_item",
        lambda a, i: a[ops.arange(ops.shape(a)[0]), i],
        (FLOAT, x("b", dtype="int32", low=0, high=5)),
        variant="row_by_row",
        backends=INDEXING,
    ),
    OpCase(
        "get_item",
        lambda a, i, j: a[i, :, None, j],
        (FLOAT, x("n", 1, dtype="int32", low=0, high=1), x(3, dtype="int32", low=0, high=3)),
        variant="two_tensors_apart",
        backends=INDEXING,
    ),
    OpCase("get_item", lambda a: a[:, np.array([0, 2, 2])], variant="array", backends=INDEXING),
    OpCase("get_item", lambda a: a[a > 0], variant="mask"),
    OpCase("get_item", lambda a: a[a[:, :, 0] > 0], variant="mask_of_two_axes"),
    OpCase("get_item", lambda a: a[a[:, 0, 0] < 9], variant="mask_of_one_axis"),
    OpCase(
        "get_item",
        lambda a, m: a[:, m],
        (FLOAT, x("t", dtype="bool")),
        variant="mask_inside",
        backends=INDEXING,
    ),
    OpCase("get_item", lambda a: a[a > 0] * a[a > 0], variant="mask_twice"),
    OpCase(
        "get_item",
        lambda a, m, i: a[m, i],
        (
            FLOAT,
            x("b", dtype="bool", make=lambda rng, shape: np.ones(shape)),
            x("b", dtype="int32", low=0, high=5),
        ),
        variant="mask_and_tensor",
        backends=INDEXING,
    ),
    OpCase(
        "get_item",
        lambda a, n: (a[:, :n] * 2, a[:, n:], a[n - 1 :, :n]),
        (FLOAT, x(dtype="int32", low=2, high=2)),
        variant="traced_bounds",
        backends=INDEXING,
    ),
    OpCase("take", lambda a: ops.take(a, [2, 0], axis=2)),
    OpCase("take", lambda a: ops.take(a, 1, axis=1), variant="scalar"),
    OpCase("take", lambda a, i: ops.take(a, i, axis=1), (FLOAT, PLACES), variant="tensor"),
    OpCase("take", lambda a, i: ops.take(a, i), (FLOAT, PLACES), variant="flat"),
    OpCase("take", lambda a: ops.take(a, [[-1, -4], [0, 1]], axis=-1), variant="negative"),
    # TensorFlow gathers by signed integers only.
    OpCase(
        "take",
        lambda a, i: ops.take(a, i, axis=0),
        (x(9, 3), x("b", "t", dtype="uint8", low=0, high=8)),
        variant="uint8",
        backends=("jax", "torch"),
    ),
    OpCase("take_along_axis", lambda a: ops.take_along_axis(a, ops.argmax(a, axis=2, keepdims=True), axis=2)),
    OpCase(
        "take_along_axis",
        lambda a, i: ops.take_along_axis(a, i - 3, axis=1),
        (FLOAT, x("b", 2, 4, dtype="int32", low=0, high=5)),
        variant="negative",
    ),
    OpCase(
        "take_along_axis",
        lambda a, i: ops.take_along_axis(a, i, axis=1),
        (FLOAT, x(1, "n", 1, dtype="int32", low=0, high=5)),
        variant="broadcast",
    ),
    OpCase("take_along_axis", lambda a, i: ops.take_along_axis(a, i), (x("t"), PLACES), variant="flat"),
    OpCase("where", lambda a: list(ops.where(a > 0)), variant="places", dtypes=("int32",) * 3),
    OpCase("nonzero", lambda a: list(ops.nonzero(a > 0))),
    OpCase(
        "nonzero", lambda a: list(ops.nonzero(a)), (x("b", "t", dtype="int8", low=0, high=1),), variant="int8"
    ),
    OpCase("nonzero", lambda a: list(ops.nonzero(ops.cast(a > 0, "int16"))), (x("t"),), variant="vector"),
    OpCase("nonzero", lambda a: ops.take(ops.ravel(a), ops.nonzero(ops.ravel(a) > 0)[0]), variant="use"),
    OpCase(
        "unravel_index", lambda i: ops.unravel_index(i, (3, 4, 5)), (x("b", dtype="int32", low=0, high=59),)
    ),
    OpCase(
        "unravel_index",
        lambda i: ops.unravel_index(i, (7,)),
        (x("b", dtype="int32", low=0, high=6),),
        variant="one",
    ),
    # TensorFlow computes a row of a matrix of indices with the last size first, which is wrong.
    OpCase(
        "unravel_index",
        lambda i: ops.unravel_index(i, (6, 10)),
        (x("b", "t", dtype="int32", low=0, high=59),),
        variant="matrix",
        backends=("jax", "torch"),
    ),
    OpCase("select", lambda a: ops.select([a > 1, a > 0], [a * 2, -a], 5.0)),
    OpCase("select", lambda a: ops.select([a[..., :1] > 1, a > 0], [a * 2, -a]), variant="broadcast"),
    # Blocks
    OpCase("slice", lambda a: ops.slice(a, (0, 1, 2), (2, 3, 2))),
    OpCase("slice", lambda a: ops.slice(a, (0, 1, 0), (ops.shape(a)[0], 3, 4)), variant="dynamic_shape"),
    OpCase(
        "slice",
        lambda a, s: ops.slice(a, s, (1, 3, 2)),
        (FLOAT, x(3, dtype="int32", low=0, high=1)),
        variant="tensor",
    ),
    # torch and JAX take -1 for "the rest" only where the start is a number, torch not at all.
    OpCase(
        "slice",
        lambda a: ops.slice(a, (1, 2, 1), (-1, -1, -1)),
        variant="rest",
        backends=("jax", "tensorflow"),
    ),
    OpCase("slice_update", lambda a: ops.slice_update(a, (0, 1, 2), ops.ones((2, 3, 2)))),
    OpCase(
        "slice_update", lambda a, u: ops.slice_update(a, (0, 2, 0), u), (FLOAT, x("b", 3, 4)), variant="rows"
    ),
    OpCase(
        "slice_update",
        lambda a, s, u: ops.slice_update(a, [0, s, 0], u),
        (FLOAT, x(dtype="int32", low=0, high=3), x("b", 2, 4)),
        variant="traced_start",
    ),
    OpCase(
        "slice_update",
        lambda a, s, u: ops.slice_update(a, s, u),
        (FLOAT, x(3, dtype="int32", low=0, high=1), x(1, 2, 3)),
        variant="tensor",
    ),
    OpCase("slice_update", lambda a: ops.slice_update(a, (0, 0, 0), a * 2), variant="whole"),
    # Scatters
    OpCase(
        "scatter",
        lambda i, v: ops.scatter(i, v, (7,)),
        (x("t", 1, dtype="int32", low=0, high=6), x("t")),
    ),
    OpCase(
        "scatter",
        lambda i, v: ops.scatter(i, v, (4, ops.shape(v)[1])),
        (x("t", 1, dtype="int32", low=0, high=3), x("t", "n")),
        variant="rows",
    ),
    OpCase(
        "scatter",
        lambda i, v: ops.scatter(i, v, (4, 3)),
        (x("t", 2, dtype="int32", low=0, high=2), x("t", dtype="int32")),
        variant="int32",
    ),
    OpCase(
        "scatter_update",
        lambda a: ops.scatter_update(a, [[0, 1, 2], [1, 3, 0]], np.array([1.5, -2.5], "float32")),
    ),
    OpCase(
        "scatter_update",
        lambda a, v: ops.scatter_update(a, [[0, 1], [1, 3]], v),
        (FLOAT, x(2, 4)),
        variant="rows",
    ),
    *(
        OpCase(
            "scatter_update",
            lambda a, i, v, reduction=reduction: ops.scatter_update(a, i, v, reduction=reduction),
            (x("t", 3), x("n", 2, dtype="int32", low=0, high=2), x("n")),
            variant=reduction,
        )
        for reduction in ("add", "max", "min", "mul")
    ),
    OpCase(
        "scatter_update",
        lambda a, i, v: ops.scatter_update(
            ops.cast(a, "float16"), i, ops.cast(v, "float16"), reduction="add"
        ),
        (x("t", 3), x("n", 2, dtype="int32", low=0, high=2), x("n")),
        variant="half",
        rtol=2e-3,  # a half has 11 bits
        atol=2e-3,
    ),
    # Windows and one-hot rows
    OpCase("extract_sequences", lambda a: ops.extract_sequences(a, 3, 2), (x("b", "t"),)),
    OpCase("extract_sequences", lambda a: ops.extract_sequences(a, 4, 1), (x("b", 2, 9),), variant="fixed"),
    OpCase("one_hot", lambda a: ops.one_hot(ops.argmax(a, axis=-1), 6)),
    OpCase(
        "one_hot",
        lambda i: ops.one_hot(i, 4, axis=1),
        (x("b", "t", dtype="int32", low=0, high=3),),
        variant="axis",
    ),
    OpCase(
        "one_hot",
        lambda i: ops.one_hot(i, 4, dtype="int32"),
        (x("b", "t", dtype="int32", low=-2, high=3),),
        variant="negative_indices",
    ),
    # torch refuses an index that is too large.
    OpCase(
        "one_hot",
        lambda i: ops.one_hot(i, 4),
        (x("b", "t", dtype="int32", low=0, high=7),),
        variant="large_indices",
        backends=("jax", "tensorflow"),
    ),
    OpCase(
        "one_hot",
        lambda i: ops.one_hot(i, 4, dtype="bool"),
        (x("b", dtype="uint8", low=0, high=3),),
        variant="bool",
    ),
    OpCase("multi_hot", lambda i: ops.multi_hot(i, 6), (x("b", 3, dtype="int32", low=0, high=5),)),
    OpCase(
        "multi_hot", lambda i: ops.multi_hot(i, 6), (x("t", dtype="int32", low=0, high=4),), variant="vector"
    ),
    OpCase(
        "multi_hot",
        lambda i: ops.multi_hot(i, 6, dtype="int32"),
        (x("b", "t", 2, dtype="int32", low=0, high=5),),
        variant="int32",
    ),
]
