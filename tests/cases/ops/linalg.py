"""Linear algebra: matrices of dynamic size and batch unless a row says otherwise.

Vectors that are defined up to their sign are compared through products in which the sign cancels.
"""

from __future__ import annotations

import numpy as np
from cases.ops import OpCase, x
from keras import ops


def _spread(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Matrices with no small pivot or singular value; rows out of order, so that pivoting matters."""
    rows, columns = shape[-2:]
    matrices = rng.uniform(-1, 1, shape)
    matrices[..., np.arange(min(rows, columns)), np.arange(min(rows, columns))] += 0.7 * max(rows, columns)
    return np.roll(matrices, 1, axis=-2)


def _definite(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Positive definite matrices."""
    root = rng.uniform(-1, 1, shape)
    return root @ np.swapaxes(root, -1, -2) + shape[-1] * 0.3 * np.eye(shape[-1])


def _lower(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Lower triangles; noise above the diagonal, which must not be read."""
    return rng.uniform(-1, 1, shape) + 3 * np.eye(shape[-1])


def _singular(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The first matrix of a batch has a zero row, the others have full rank."""
    matrices = _spread(rng, shape)
    matrices[0, 1] = 0
    return matrices


def spread(*shape: int | str) -> object:
    return x(*shape, make=_spread)


def definite(*shape: int | str) -> object:
    return x(*shape, make=_definite)


def lower(*shape: int | str) -> object:
    return x(*shape, make=_lower)


def _symmetric(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    matrices = rng.uniform(-1, 1, shape)
    return matrices + np.swapaxes(matrices, -1, -2)


def _separated(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Symmetric matrices whose eigenvalues stand apart; near ones would make their vectors uncertain."""
    basis = np.linalg.qr(rng.uniform(-1, 1, shape))[0]
    return basis * (np.arange(shape[-1]) - 1.5) @ np.swapaxes(basis, -1, -2)


def _deficient(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Matrices of full rank, but the first of a batch, whose last two columns repeat the first two."""
    matrices = _spread(rng, shape)
    matrices[0, :, -2:] = matrices[0, :, :2]
    return matrices


def _eigen(values: object, vectors: object) -> object:
    """Eigenvalues, and each vector's projection, which has no sign."""
    return values, ops.einsum("...ik,...jk->...kij", vectors, vectors)


def _singular_parts(matrix: object, u: object, s: object, vh: object) -> object:
    """Singular values, the matrix they make up, and what shows that the bases are orthonormal."""
    count = s.shape[-1]
    whole = ops.matmul(u[..., :count] * s[..., None, :], vh[..., :count, :])
    return s, whole, ops.matmul(ops.swapaxes(u, -1, -2), u), ops.matmul(vh, ops.swapaxes(vh, -1, -2))


# Keras' JAX functions invert one factor at a time, and solve for a vector with one matrix only.
_NOT_JAX = ("tensorflow", "torch")
# TensorFlow factors one square matrix at a time.
_NOT_TF = ("jax", "torch")

CASES = [
    OpCase("cholesky", ops.cholesky, (definite("b", "t", "t"),), holds=("Scan",)),
    OpCase("cholesky", ops.cholesky, (definite("b", 3, 3),), "unrolled", lacks=("Scan",)),
    OpCase("cholesky", ops.cholesky, (definite("b", 1, 1),), "one"),
    OpCase("cholesky", lambda a: ops.cholesky(a, upper=True), (definite(2, "b", 6, 6),), "upper"),
    OpCase("cholesky_inverse", ops.cholesky_inverse, (lower("t", "t"),)),
    OpCase("cholesky_inverse", ops.cholesky_inverse, (lower("b", 3, 3),), "batch", backends=_NOT_JAX),
    OpCase("cholesky_inverse", lambda a: ops.cholesky_inverse(a, upper=True), (lower("t", "t"),), "upper"),
    OpCase("solve_triangular", ops.solve_triangular, (lower("b", "t", "t"), x("b", "t", 2))),
    OpCase(
        "solve_triangular",
        lambda a, b: ops.solve_triangular(a, b, lower=True),
        (lower("t", "t"), x("t")),
        "lower vector",
    ),
    OpCase(
        "solve_triangular",
        lambda a, b: ops.solve_triangular(a, b, lower=True),
        (lower("b", 4, 4), x("b", 4)),
        "unrolled",
        lacks=("Scan",),
    ),
    OpCase("solve", ops.solve, (spread("b", "t", "t"), x("b", "t", "h")), holds=("Scan",)),
    OpCase("solve", ops.solve, (spread("t", "t"), x("t")), "vector"),
    OpCase(
        "solve", ops.solve, (spread("b", 3, 3), x("b", 3)), "unrolled", lacks=("Scan",), backends=_NOT_JAX
    ),
    OpCase("inv", ops.inv, (spread("b", "t", "t"),)),
    OpCase("inv", ops.inv, (spread("b", 2, 2),), "unrolled", lacks=("Scan",)),
    OpCase("inv", ops.inv, (spread(6, 6),), "one matrix"),
    OpCase("lu_factor", ops.lu_factor, (spread("b", "t", "t"),), backends=_NOT_TF),
    OpCase("lu_factor", ops.lu_factor, (spread("t", "t"),), "one matrix"),
    OpCase("lu_factor", ops.lu_factor, (spread("b", 3, 3),), "unrolled", backends=_NOT_TF),
    OpCase("lu_factor", ops.lu_factor, (spread(6, 4),), "tall", backends=_NOT_TF),
    OpCase("lu_factor", ops.lu_factor, (spread(4, 6),), "wide", backends=_NOT_TF),
    OpCase("lu_factor", ops.lu_factor, (spread("t", "n"),), "dynamic", backends=_NOT_TF),
    OpCase("det", ops.det, (spread("b", "n", "n"),), holds=("Det",)),
    OpCase("slogdet", ops.slogdet, (spread("b", "t", "t"),)),
    OpCase("slogdet", ops.slogdet, (spread("b", 3, 3),), "unrolled"),
    OpCase("slogdet", ops.slogdet, (x("b", 3, 3, make=_singular),), "singular"),
    OpCase("logdet", ops.logdet, (definite("b", "t", "t"),)),
    OpCase("logdet", ops.logdet, (definite("b", 3, 3),), "unrolled"),
    OpCase("qr", ops.qr, (x("b", "t", "t"),), holds=("Scan",)),
    OpCase("qr", ops.qr, (x("b", "t", 4),), "tall"),
    OpCase("qr", ops.qr, (x(3, 6),), "wide"),
    OpCase("qr", lambda a: ops.qr(a, mode="complete"), (x("b", "t", 4),), "complete"),
    OpCase("qr", ops.qr, (x("t", "n"),), "dynamic"),
    OpCase("eigh", lambda a: _eigen(*ops.eigh(a)), (x("b", "t", "t", make=_separated),), holds=("Loop",)),
    OpCase("eigh", lambda a: _eigen(*ops.eigh(a)), (x("b", 5, 5, make=_symmetric),), "odd"),
    OpCase("eigh", lambda a: _eigen(*ops.eigh(a)), (x("b", 2, 2, make=_symmetric),), "two"),
    OpCase("svd", lambda a: _singular_parts(a, *ops.svd(a, full_matrices=False)), (x("b", "t", 3),)),
    OpCase("svd", lambda a: _singular_parts(a, *ops.svd(a)), (x("b", 6, 4),), "full tall"),
    OpCase("svd", lambda a: _singular_parts(a, *ops.svd(a)), (x("b", 3, 5),), "full wide"),
    OpCase("svd", lambda a: _singular_parts(a, *ops.svd(a)), (x("b", "t", "t"),), "full square"),
    OpCase("svd", lambda a: _singular_parts(a, *ops.svd(a)), (x("b", 4, 4, make=_deficient),), "deficient"),
    OpCase("svd", lambda a: ops.svd(a, compute_uv=False), (x("b", "t", 4),), "values"),
    OpCase("svd", lambda a: ops.svd(a, compute_uv=False), (x("b", 3, "t"),), "values wide"),
    OpCase("pinv", ops.pinv, (spread("b", "t", 4),)),
    OpCase("pinv", ops.pinv, (spread("b", 3, 5),), "wide"),
    OpCase("pinv", lambda a: ops.pinv(a, rcond=1e-3), (x("b", 4, 4, make=_deficient),), "deficient"),
    OpCase("lstsq", ops.lstsq, (spread("t", 4), x("t", 2))),
    OpCase("lstsq", ops.lstsq, (spread("t", 3), x("t")), "vector"),
    OpCase("lstsq", lambda a, b: ops.lstsq(a, b, rcond=1e-3), (spread(3, 5), x(3, 2)), "wide"),
    OpCase("matrix_rank", ops.matrix_rank, (x("b", 4, 4, make=_deficient),)),
    OpCase(
        "matrix_rank", lambda a: ops.matrix_rank(a, tol=1.0), (x("b", 4, 4, make=_deficient),), "tolerance"
    ),
]
