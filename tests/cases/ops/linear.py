"""Products of matrices, attention, normalisation."""

from __future__ import annotations

import numpy as np
from cases.ops import OpCase, x
from keras import ops

MATRICES = (x("b", "t", 4), x("b", 4, "n"))
INTEGERS = (x("t", 3, dtype="int32"), x(3, "n", dtype="int32"))
SPACE = (x("b", "t", 3), x("b", "t", 3))

EINSUMS = {
    # equation: inputs
    "btd,bsd->bts": (x("b", "t", 4), x("b", "n", 4)),
    "btd,de->bte": (x("b", "t", 4), x(4, 3)),
    "abc,cde->abde": (x("b", "t", 4), x(4, 2, 3)),
    "ij,jk": (x("t", 4), x(4, "n")),
    "ij->ji": (x("t", "n"),),
    "ij": (x("t", "n"),),
    "ij->i": (x("t", "n"),),
    "ij->": (x("t", "n"),),
    "ii->i": (x("t", "t"),),
    "bii->b": (x("b", "t", "t"),),
    "i,i->": (x("t"), x("t")),
    "i,j->ij": (x("t"), x("n")),
    "bi,bj->bij": (x("b", "t"), x("b", "n")),
    "...ij,...jk->...ik": (x("b", 1, "t", 4), x(3, 4, 2)),
    "...ij,jk->...ik": (x("b", 2, "t", 4), x(4, 3)),
    "b...i,i->b...": (x("b", "t", 2, 4), x(4)),
    "...i->...": (x("b", "t", 4),),
    "ab,bc,cd->ad": (x("t", 3), x(3, 4), x(4, "n")),
    "bthd,bshd->bhts": (x("b", "t", 2, 4), x("b", "n", 2, 4)),
    "bhts,bshd->bthd": (x("b", 2, "t", "n"), x("b", "n", 2, 4)),
    " b t , t -> b ": (x("b", "t"), x("t")),
}

CASES = [
    OpCase("matmul", lambda a: ops.matmul(a, ops.transpose(a, (0, 2, 1)))),
    OpCase("matmul", ops.matmul, (x("t"), x("t")), variant="vectors", constant=True),
    OpCase("matmul", ops.matmul, (x("t"), x("b", "t", 3)), variant="vector_and_batch"),
    OpCase("matmul", ops.matmul, (x("b", "t", 4), x(4)), variant="batch_and_vector"),
    OpCase("matmul", ops.matmul, (x("b", 1, 2, "t", 4), x(3, 1, 4, "n")), variant="rank_5"),
    OpCase("matmul", ops.matmul, INTEGERS, variant="int32"),
    OpCase("matmul", ops.matmul, (x("t", 3, dtype="int32"), x(3, "n")), variant="mixed"),
    OpCase("matmul", ops.matmul, (x("t", 3, dtype="int8"), x(3, "n", dtype="int8")), variant="int8"),
    OpCase("matmul", lambda a: a @ np.eye(4, dtype="float32"), variant="constant"),
    *(
        OpCase(
            "einsum",
            lambda *args, equation=equation: ops.einsum(equation, *args),
            inputs,
            variant=equation.replace(" ", "_"),
            constant=equation in ("ij->", "i,i->"),
        )
        for equation, inputs in EINSUMS.items()
    ),
    OpCase("einsum", lambda a, b: ops.einsum("ij,jk->ik", a, b), INTEGERS, variant="int32"),
    OpCase(
        "einsum",
        lambda a, b: ops.einsum("ij,jk->ik", a, b),
        (x("t", 3, dtype="int8"), x(3, "n", dtype="int8")),
        variant="int8",
    ),
    OpCase("einsum", lambda a: ops.einsum("btd,de->bte", a, np.ones((4, 3), "float32")), variant="constant"),
    OpCase("tensordot", lambda a: ops.tensordot(a, ops.ones((4, 3)), axes=1)),
    OpCase("tensordot", ops.tensordot, (x("b", "t", 4), x("t", 4, 3)), variant="two"),
    OpCase("tensordot", lambda a, b: ops.tensordot(a, b, axes=0), (x("b", 2), x("t")), variant="none"),
    OpCase(
        "tensordot",
        lambda a, b: ops.tensordot(a, b, axes=[[1, 2], [0, 1]]),
        (x("b", "t", 4), x("t", 4, "n")),
        variant="lists",
    ),
    OpCase(
        "tensordot",
        lambda a, b: ops.tensordot(a, b, axes=[[-1, 0], [0, 2]]),
        (x("b", "t", 4), x(4, 3, "b")),
        variant="crossed",
    ),
    OpCase(
        "tensordot",
        lambda a, b: ops.tensordot(a, b, axes=(1, 0)),
        (x("b", "t", 3), x("t", 2)),
        variant="pair",
    ),
    OpCase("dot", lambda a: ops.dot(a, ops.ones((4, 3)))),
    OpCase("dot", ops.dot, (x("t"), x("t")), variant="vectors", constant=True),
    OpCase("dot", ops.dot, (x("b", "t", 4), x(4)), variant="vector"),
    # torch puts the axes as matmul does, not as Keras declares them.
    OpCase("dot", ops.dot, (x("b", 4), x("t", 4, 3)), variant="rank_3", backends=("jax", "tensorflow")),
    OpCase("dot", lambda a: ops.dot(a, 3.0), variant="number"),
    OpCase("dot", ops.dot, INTEGERS, variant="int32"),
    OpCase("inner", ops.inner, (x("b", "t", 4), x("n", 4))),
    OpCase("inner", ops.inner, (x("t"), x("t")), variant="vectors", constant=True),
    OpCase("inner", ops.inner, (x("t", 3, dtype="int32"), x("n", 3, dtype="int32")), variant="int32"),
    OpCase("vdot", ops.vdot, (x("t"), x("t")), constant=True),
    OpCase("vdot", ops.vdot, (x("t", dtype="int32"), x("t", dtype="int32")), variant="int32", constant=True),
    # torch takes vectors only.
    OpCase(
        "vdot",
        ops.vdot,
        (x("b", "t"), x("b", "t")),
        variant="matrices",
        constant=True,
        backends=("jax", "tensorflow"),
    ),
    OpCase("outer", ops.outer, (x("t"), x("n"))),
    OpCase("outer", ops.outer, (x("t", 2), x("b", 3)), variant="matrices"),
    OpCase("outer", ops.outer, (x("t", dtype="int32"), x("n")), variant="mixed"),
    OpCase("kron", ops.kron, (x("b", "t"), x("n", 2))),
    OpCase("kron", ops.kron, (x("b", dtype="int32"), x("n", dtype="int32")), variant="int32"),
    OpCase("cross", lambda a, b: ops.cross(a, b, axis=-1), SPACE),
    # torch takes `axis` alone and vectors of three components.
    OpCase(
        "cross",
        lambda a, b: ops.cross(a, b, axisa=0, axisb=-1, axisc=1),
        (x(3, "b", "t"), x("b", "t", 3)),
        variant="axes",
        backends=("jax", "tensorflow"),
    ),
    OpCase("cross", ops.cross, (x("b", 2), x("b", 2)), variant="plane", backends=("jax", "tensorflow")),
    OpCase(
        "cross", ops.cross, (x("b", 2), x("b", 3)), variant="plane_and_space", backends=("jax", "tensorflow")
    ),
    OpCase("cross", lambda a, b: ops.cross(a, b, axis=0), (x(3, "t"), x(3, "t")), variant="first_axis"),
    OpCase("cdist", ops.cdist, (x("t", 4), x("n", 4))),
    OpCase("cdist", ops.cdist, (x("b", "t", 4), x("n", 4)), variant="broadcast"),
    OpCase("cdist", lambda a: ops.cdist(a, a), (x("b", "t", 2),), variant="itself"),
    # Keras' own vectorize never works on TensorFlow: it refuses the axes that Keras passes.
    OpCase(
        "vectorize",
        lambda a: ops.vectorize(lambda v: v * ops.sum(v), signature="(n)->(n)")(a),
        backends=("jax", "torch"),
    ),
    OpCase(
        "vectorize",
        lambda a, b: ops.vectorize(lambda u, v: u * v + 1)(a, b),
        (x("t", 3), x(3)),
        variant="elements",
        backends=("jax", "torch"),
    ),
    OpCase(
        "vectorize",
        lambda a, b: ops.vectorize(ops.dot, signature="(n,m),(m)->(n)")(a, b),
        (x("b", "t", 4), x(4)),
        variant="broadcast",
        backends=("jax", "torch"),
    ),
    OpCase(
        "dot_product_attention",
        lambda a: ops.dot_product_attention(a, a, a, is_causal=True),
        (x("b", "t", 2, 4),),
    ),
    OpCase("rms_normalization", lambda a: ops.rms_normalization(a, ops.ones((4,)))),
]
