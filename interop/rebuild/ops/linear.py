"""Products of matrices. Source: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

import numpy as np
from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


@op("MatMul", since=1)
def matmul(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
    left, right = ctx.dims(a), ctx.dims(b)
    batch = ctx.sizes.broadcast([left[:-2], right[:-2]])
    dims = [*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())]
    return ctx.declare(ops.matmul(a, b), dims)


@op("Gemm", since=7)
def gemm(
    ctx: Context,
    a: Tensor,
    b: Tensor,
    c: Tensor = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    a = ops.transpose(a) if transA else a
    b = ops.transpose(b) if transB else b
    y = ops.matmul(a, b)
    dtype = ctx.dtype(y)
    if alpha != 1.0:
        y = ops.multiply(y, np.asarray(alpha, dtype))
    if c is not None:
        y = ctx.add(y, c if beta == 1.0 else ops.multiply(c, np.asarray(beta, dtype)))
    return ctx.declare(y, (ctx.dims(a)[0], ctx.dims(b)[1]))


@op("Einsum", since=12)
def einsum(ctx: Context, *xs: Tensor, equation: str) -> Tensor:
    equation = equation.replace(" ", "")
    result = ops.einsum(equation, *xs)
    if "..." in equation:
        return result
    terms, arrow, output = equation.partition("->")
    labels = terms.replace(",", "")
    if not arrow:
        output = "".join(sorted(label for label in set(labels) if labels.count(label) == 1))
    sizes = [size for x in xs for size in ctx.dims(x)]
    of_label = {
        label: [(size,) for other, size in zip(labels, sizes, strict=True) if other == label]
        for label in output
    }
    return ctx.declare(result, [ctx.sizes.broadcast(of_label[label])[0] for label in output])


@op("Det", since=11)
def det(ctx: Context, x: Tensor) -> Tensor:
    return ctx.declare(ops.det(x), ctx.dims(x)[:-2])
