"""Features of classical models. Source: https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html and
https://onnx.ai/onnx/operators/onnx_aionnxml_Binarizer.html.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op


@op("Binarizer", since=1, domain="ai.onnx.ml", pointwise=True)
def binarizer(ctx: Context, x: Tensor, *, threshold: float = 0.0) -> Tensor:
    return ops.cast(ops.greater(x, threshold), ctx.dtype(x))


@op("ArrayFeatureExtractor", since=1, domain="ai.onnx.ml")
def array_features(ctx: Context, x: Tensor, places: Tensor) -> Tensor:
    """Elements along the last axis; a vector becomes a row."""
    taken = ops.take(x, ops.reshape(places, (-1,)), axis=-1)
    return taken if ctx.rank(x) > 1 else ops.reshape(taken, (1, -1))


@op("TfIdfVectorizer", since=9)
def tf_idf(
    ctx: Context,
    x: Tensor,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: Sequence[int],
    ngram_indexes: Sequence[int],
    pool_int64s: Sequence[int] = (),
    pool_strings: Sequence[str] = (),
    weights: Sequence[float] = (),
) -> Tensor:
    """How often each sequence of a pool comes in a row, or whether it does, weighted."""
    if pool_strings:
        ctx.fail("a pool of strings is not supported")
    rows = x if ctx.rank(x) > 1 else ops.expand_dims(x, 0)
    columns: list[Tensor] = []
    edges = [*ngram_counts, len(pool_int64s)]
    for length in range(1, len(ngram_counts) + 1):
        pool = np.asarray(pool_int64s[edges[length - 1] : edges[length]], ctx.dtype(x)).reshape(-1, length)
        if not len(pool):
            continue
        if min_gram_length <= length <= max_gram_length:
            columns.append(_counts(rows, pool, 0 if length == 1 else max_skip_count))
        else:
            columns.append(
                ops.multiply(ops.expand_dims(ops.zeros_like(rows[:, 0]), 1), np.zeros(len(pool), pool.dtype))
            )
    counts = ops.cast(ops.concatenate(columns, axis=1), "float32")
    # Sequences go where their index says.
    width = max(ngram_indexes) + 1
    spread = np.zeros((len(ngram_indexes), width), "float32")
    spread[np.arange(len(ngram_indexes)), list(ngram_indexes)] = 1.0
    if mode != "TF":
        counts = ops.cast(ops.greater(counts, 0), "float32")
    if mode != "IDF" and mode != "TFIDF":
        scale = np.ones(len(ngram_indexes), "float32")
    else:
        scale = np.asarray(weights or [1.0] * len(ngram_indexes), "float32")
    if mode == "TFIDF":
        counts = ops.cast(ops.concatenate(columns, axis=1), "float32")
    y = ops.matmul(ops.multiply(counts, scale), spread)
    return y if ctx.rank(x) > 1 else ops.reshape(y, (-1,))


def _counts(rows: Tensor, pool: Tensor, skips: int) -> Tensor:
    """How often each sequence of one length comes in every row, with 0 to `skips` elements left out between two."""
    length, total = pool.shape[1], None
    size = int(rows.shape[1])
    for step in range(1, skips + 2):
        places = size - (length - 1) * step
        if places <= 0:
            break
        found = None
        for i in range(length):
            window = rows[:, i * step : i * step + places]
            same = ops.equal(ops.expand_dims(window, 2), pool[:, i])
            found = same if found is None else ops.logical_and(found, same)
        count = ops.sum(ops.cast(found, "int32"), axis=1)
        total = count if total is None else ops.add(total, count)
    return ops.zeros((int(rows.shape[0]), len(pool)), dtype="int32") if total is None else total
