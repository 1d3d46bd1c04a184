"""``tf.linalg``."""

from __future__ import annotations

from typing import Any

from interop.capture.keras.emit import Emit
from interop.capture.tf_forms.registry import Operation, form, keras_form
from interop.graph.record import Value


def _matrix(e: Emit, node: Operation, x: Value) -> Value:
    """A matrix, or its transpose where the operation asks for the adjoint."""
    if not node.get("adjoint", False):
        return x
    return e.transpose(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])


@form("Cholesky")
def _cholesky(e: Emit, node: Operation, x: Value) -> Any:
    return keras_form(e, "Cholesky", x, upper=False)


@form("MatrixInverse")
def _inverse(e: Emit, node: Operation, x: Value) -> Any:
    return keras_form(e, "Inv", _matrix(e, node, x))


@form("MatrixSolve")
def _solve(e: Emit, node: Operation, a: Value, b: Value) -> Any:
    return keras_form(e, "Solve", _matrix(e, node, a), b)


@form("MatrixTriangularSolve")
def _solve_triangular(e: Emit, node: Operation, a: Value, b: Value) -> Any:
    lower = bool(node.get("lower", True)) != bool(node.get("adjoint", False))
    return keras_form(e, "SolveTriangular", _matrix(e, node, a), b, lower=lower)


@form("LogMatrixDeterminant")
def _slogdet(e: Emit, node: Operation, x: Value) -> Any:
    return keras_form(e, "Slogdet", x)
