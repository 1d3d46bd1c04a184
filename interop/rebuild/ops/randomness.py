"""Random numbers. Source: https://onnx.ai/onnx/operators/onnx__RandomNormal.html and its kind.

ONNX fixes the distribution and not the numbers, which therefore differ from those of other runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import KerasTensor, ops, random

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


def _seed(seed: float | None) -> int:
    """A seed for Keras; a new one where the graph has none."""
    return (
        int(np.random.default_rng().integers(2**31)) if seed is None else int(np.float32(seed).view("int32"))
    )


def _shape(ctx: Context, sizes: Sequence[int], x: Tensor = None) -> tuple[int, ...]:
    if isinstance(x, KerasTensor):
        ctx.fail(
            "would give the same random numbers at every call of a Keras model, which has no such operation"
        )
    for size in sizes:
        if isinstance(size, SymInt):
            ctx.fail(f"needs fixed sizes, and has the open dimension {size}")
    return tuple(int(size) for size in sizes)


def _normal(
    ctx: Context, shape: tuple[int, ...], dtype: str, mean: float, scale: float, seed: float | None
) -> Tensor:
    wide = dtype if dtype == "float64" else "float32"
    return ops.cast(random.normal(shape, mean, scale, dtype=wide, seed=_seed(seed)), dtype)


def _uniform(
    ctx: Context, shape: tuple[int, ...], dtype: str, low: float, high: float, seed: float | None
) -> Tensor:
    wide = dtype if dtype == "float64" else "float32"
    return ops.cast(random.uniform(shape, low, high, dtype=wide, seed=_seed(seed)), dtype)


@op("RandomNormal", since=1, repeatable=False)
def random_normal(
    ctx: Context,
    *,
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
    shape: Sequence[int],
) -> Tensor:
    return _normal(ctx, tuple(shape), ctx.dtype_of_code(dtype), mean, scale, seed)


@op("RandomUniform", since=1, repeatable=False)
def random_uniform(
    ctx: Context,
    *,
    dtype: int = 1,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
    shape: Sequence[int],
) -> Tensor:
    return _uniform(ctx, tuple(shape), ctx.dtype_of_code(dtype), low, high, seed)


@op("RandomNormalLike", since=1, repeatable=False)
def random_normal_like(
    ctx: Context,
    x: Tensor,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    made = ctx.dtype(x) if dtype is None else ctx.dtype_of_code(dtype)
    return _normal(ctx, _shape(ctx, ctx.dims(x), x), made, mean, scale, seed)


@op("RandomUniformLike", since=1, repeatable=False)
def random_uniform_like(
    ctx: Context,
    x: Tensor,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Tensor:
    made = ctx.dtype(x) if dtype is None else ctx.dtype_of_code(dtype)
    return _uniform(ctx, _shape(ctx, ctx.dims(x), x), made, low, high, seed)


@op("Bernoulli", since=15, repeatable=False)
def bernoulli(ctx: Context, x: Tensor, *, dtype: int | None = None, seed: float | None = None) -> Tensor:
    made = ctx.dtype(x) if dtype is None else ctx.dtype_of_code(dtype)
    drawn = _uniform(ctx, _shape(ctx, ctx.dims(x), x), ctx.dtype(x), 0.0, 1.0, seed)
    return ops.cast(ops.less(drawn, x), made)


@op("Multinomial", since=7, repeatable=False)
def multinomial(
    ctx: Context, x: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None
) -> Tensor:
    """Classes drawn by the logarithms of their probabilities."""
    _shape(ctx, ctx.dims(x), x)
    return ops.cast(random.categorical(x, sample_size, seed=_seed(seed)), ctx.dtype_of_code(dtype))
