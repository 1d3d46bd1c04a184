"""Convolutions, poolings, normalisations, attention and rearrangements of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from cases.ops import OpCase, x
from keras import ops


def weights(*shape: int) -> Any:
    """Fixed kernels: every call of a row gets the same numbers."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def row(name: str, variant: str, inputs: Any, *others: Any, backends: Any = None, **options: Any) -> OpCase:
    """``keras.ops.<name>`` on one traced input, constants and keyword options."""
    function: Callable[..., Any] = getattr(ops, name)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)

    def call(*traced: Any) -> Any:
        return function(*traced, *others, **options)

    extra = {} if backends is None else {"backends": backends}
    return OpCase(name, call, arguments, variant=variant, **extra)


LINE, PLANE, BOX = x("b", "t", 3), x("b", "h", "w", 3), x("b", 6, "t", 7, 3)
FIRST_LINE, FIRST_PLANE, FIRST_BOX = x("b", 3, "t"), x("b", 3, "h", "w"), x("b", 3, 6, "t", 7)
# TensorFlow's CPU kernels run neither channels_first convolutions nor dilated transposed ones.
OFF_TF = ("jax", "torch")
# On jax, Keras reads strides=None as strides of the batch and channels too, and fails.
OFF_JAX = ("tensorflow", "torch")
FIRST = {"data_format": "channels_first"}

CONV = [
    row("conv", "1d", LINE, weights(3, 3, 5)),
    row("conv", "1d_same_even", LINE, weights(4, 3, 5), padding="same"),
    row("conv", "1d_same_strided", LINE, weights(4, 3, 5), padding="same", strides=2),
    row("conv", "1d_same_dilated", LINE, weights(2, 3, 5), padding="same", dilation_rate=3),
    # TensorFlow runs no stride with a dilation.
    row(
        "conv",
        "1d_same_strided_dilated",
        LINE,
        weights(2, 3, 5),
        backends=OFF_TF,
        padding="same",
        strides=2,
        dilation_rate=3,
    ),
    row("conv", "1d_first", FIRST_LINE, weights(3, 3, 5), backends=OFF_TF, padding="same", **FIRST),
    row("conv", "", PLANE, weights(3, 2, 3, 5)),
    row("conv", "strided", PLANE, weights(3, 2, 3, 5), strides=(2, 3)),
    row("conv", "same", PLANE, weights(3, 2, 3, 5), padding="same"),
    row("conv", "same_strided", PLANE, weights(3, 2, 3, 5), padding="same", strides=2),
    row("conv", "same_short", PLANE, weights(1, 1, 3, 5), padding="same", strides=2),
    row("conv", "same_shorter", PLANE, weights(2, 1, 3, 5), padding="same", strides=3),
    row("conv", "same_static", x("b", 11, 8, 3), weights(3, 4, 3, 5), padding="same", strides=(2, 3)),
    row("conv", "dilated", PLANE, weights(3, 2, 3, 5), dilation_rate=(2, 3)),
    row("conv", "grouped", x("b", "h", "w", 6), weights(3, 3, 2, 9), padding="SAME"),
    row("conv", "first", FIRST_PLANE, weights(3, 3, 3, 5), backends=OFF_TF, strides=2, **FIRST),
    row("conv", "first_same", FIRST_PLANE, weights(3, 3, 3, 5), backends=OFF_TF, padding="same", **FIRST),
    row("conv", "3d", BOX, weights(3, 2, 1, 3, 5)),
    row("conv", "3d_same", BOX, weights(3, 2, 2, 3, 5), padding="same", strides=2),
    row("depthwise_conv", "1d", LINE, weights(3, 3, 2)),
    row("depthwise_conv", "1d_same", LINE, weights(4, 3, 2), padding="same", strides=2),
    row("depthwise_conv", "", PLANE, weights(3, 2, 3, 2)),
    row("depthwise_conv", "same", PLANE, weights(3, 4, 3, 1), padding="same", strides=2),
    row("depthwise_conv", "dilated", PLANE, weights(3, 2, 3, 1), dilation_rate=2),
    row(
        "depthwise_conv",
        "same_strided_dilated",
        PLANE,
        weights(3, 3, 3, 1),
        padding="same",
        strides=2,
        dilation_rate=2,
    ),
    row("depthwise_conv", "first", FIRST_PLANE, weights(3, 3, 3, 2), padding="same", **FIRST),
    row("separable_conv", "1d", LINE, weights(3, 3, 2), weights(1, 6, 4)),
    row("separable_conv", "", PLANE, weights(3, 2, 3, 2), weights(1, 1, 6, 4)),
    row("separable_conv", "same", PLANE, weights(3, 2, 3, 2), weights(1, 1, 6, 4), padding="same", strides=2),
    row("separable_conv", "dilated", PLANE, weights(3, 2, 3, 2), weights(1, 1, 6, 4), dilation_rate=2),
    row("separable_conv", "first", FIRST_PLANE, weights(3, 3, 3, 1), weights(1, 1, 3, 4), **FIRST),
]

# (kernel, stride, dilation, output_padding): kernels longer and shorter than the stride, odd and even.
TRANSPOSED = [
    (3, 1, 1, None),
    (3, 2, 1, None),
    (4, 2, 1, None),
    (2, 3, 1, None),
    (5, 3, 1, None),
    (3, 2, 1, 1),
    (3, 2, 1, 0),
    (4, 3, 1, 2),
    (2, 3, 1, 2),
    (3, 1, 2, None),
    (2, 1, 3, None),
]
CONV_TRANSPOSE = [
    row(
        "conv_transpose",
        f"{padding}_k{kernel}_s{stride}_d{dilation}_o{extra}",
        LINE,
        weights(kernel, 5, 3),
        backends=OFF_TF if dilation > 1 else None,
        padding=padding,
        strides=stride,
        dilation_rate=dilation,
        output_padding=extra,
    )
    for kernel, stride, dilation, extra in TRANSPOSED
    for padding in ("valid", "same")
] + [
    row("conv_transpose", "2d", PLANE, weights(3, 2, 5, 3), strides=(2, 3)),
    row("conv_transpose", "2d_same", PLANE, weights(3, 2, 5, 3), padding="same", strides=(2, 3)),
    row(
        "conv_transpose",
        "2d_output_padding",
        PLANE,
        weights(3, 4, 5, 3),
        padding="same",
        strides=(2, 3),
        output_padding=(1, 1),
    ),
    row("conv_transpose", "2d_first", FIRST_PLANE, weights(3, 3, 5, 3), backends=OFF_TF, strides=2, **FIRST),
    row("conv_transpose", "3d", BOX, weights(3, 2, 2, 5, 3), padding="same", strides=2),
]

POOL = [
    case
    for name in ("max_pool", "average_pool")
    for case in (
        row(name, "1d", LINE, 2, backends=OFF_JAX),
        row(name, "1d_same", LINE, 3, strides=2, padding="same"),
        row(name, "", PLANE, 2, backends=OFF_JAX),
        row(name, "overlapping", PLANE, (3, 2), strides=1),
        row(name, "same", PLANE, 3, strides=1, padding="same"),
        row(name, "same_strided", PLANE, (3, 4), strides=2, padding="same"),
        row(name, "same_even", PLANE, (2, 4), strides=1, padding="same"),
        row(name, "same_mixed", PLANE, (3, 2), strides=(2, 1), padding="SAME"),
        row(name, "same_default_strides", PLANE, (2, 3), backends=OFF_JAX, padding="same"),
        row(name, "same_short", PLANE, 1, strides=2, padding="same"),
        row(name, "short", PLANE, (2, 3), strides=(3, 2)),
        row(name, "same_short_window", PLANE, (2, 3), strides=(3, 4), padding="same"),
        row(name, "3d_same_short", BOX, 2, strides=3, padding="same"),
        row(name, "same_short_static", x("b", 11, 7, 3), 2, strides=3, padding="same"),
        row(name, "same_static", x("b", 11, 8, 3), 3, strides=(2, 3), padding="same"),
        row(name, "first", FIRST_PLANE, 3, strides=2, padding="same", **FIRST),
        row(name, "3d", BOX, 2, strides=1),
        row(name, "3d_same", BOX, (2, 3, 2), strides=2, padding="same"),
        row(name, "3d_first", FIRST_BOX, 2, backends=OFF_JAX, padding="valid", **FIRST),
    )
] + [
    case
    for name in ("adaptive_max_pool", "adaptive_average_pool")
    for case in (
        row(name, "1d", LINE, 4),
        row(name, "1d_more_than_cells", LINE, 11),
        row(name, "", PLANE, (4, 3)),
        row(name, "global", PLANE, 1),
        row(name, "divisible", x("b", 12, 8, 3), (3, 4)),
        row(name, "static", x("b", 11, 7, 3), (4, 5)),
        row(name, "first", FIRST_PLANE, (5, 2), **FIRST),
        row(name, "first_divisible", x("b", 3, 12, 8), 4, **FIRST),
        row(name, "3d", BOX, (4, 2, 3)),
    )
]

IMAGE, DEEP = x("b", 3, "h", "w"), x("b", "h", "w", 12)
PATCHES = [
    row("unfold", "", IMAGE, 3),
    row("unfold", "all", IMAGE, (3, 2), dilation=(1, 2), padding=(2, 1), stride=(2, 3)),
    row("unfold", "static", x("b", 2, 8, 9), 2, stride=2),
    row("fold", "", x("b", 12, 20), (5, 6), 2),
    row("fold", "all", x("b", 12, 20), (8, 11), (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 2)),
    # jax drops the cells that no window reaches.
    row("fold", "rest", x("b", 12, 6), (5, 7), 2, backends=OFF_JAX, stride=2),
    OpCase(
        "fold",
        lambda a: ops.fold(a, (8, 11), (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 2)),
        (x("b", 12, 20),),
        variant="opset17",
        opset=17,
        lacks=("Col2Im",),
    ),
    row("depth_to_space", "", DEEP, 2),
    row("depth_to_space", "first", x("b", 12, "h", "w"), 2, **FIRST),
    row("depth_to_space", "int", x("b", "h", "w", 9, dtype="int32", high=9), 3),
    row("space_to_depth", "", x("b", "e", 6, 3), 2),
    row("space_to_depth", "first", x("b", 5, "e", 6), 2, **FIRST),
    row("space_to_depth", "int", x("b", "e", 4, 3, dtype="int32", high=9), 2),
]

VECTOR, ROWS = x(5), x("b", "t", 5)
POSITIVE = x(5, low=0.5)


def normalized(variant: str, inputs: Any, **options: Any) -> OpCase:
    """``batch_normalization`` of traced images by traced statistics."""

    def call(a: Any, mean: Any, variance: Any, *rest: Any) -> Any:
        given = dict(zip(("offset", "scale"), rest, strict=False))
        return ops.batch_normalization(a, mean, variance, **given, **options)

    return OpCase("batch_normalization", call, inputs, variant)


NORMALIZATIONS = [
    normalized("", (x("b", "h", "w", 5), VECTOR, POSITIVE, VECTOR, VECTOR), axis=-1),
    normalized("plain", (ROWS, VECTOR, POSITIVE), axis=2, epsilon=1e-5),
    normalized("offset", (ROWS, VECTOR, POSITIVE, VECTOR), axis=-1),
    normalized("first", (x("b", 5, "h", "w"), VECTOR, POSITIVE, VECTOR, VECTOR), axis=1),
    normalized("middle", (x("b", "t", 5, 3), VECTOR, POSITIVE, VECTOR, VECTOR), axis=2),
    normalized("rank2", (x("b", 5), VECTOR, POSITIVE), axis=1),
    normalized("rank1", (x(5), VECTOR, POSITIVE), axis=0),
    normalized("batch_axis", (x(5, "t"), VECTOR, POSITIVE, VECTOR, VECTOR), axis=0),
    OpCase("layer_normalization", ops.layer_normalization, (ROWS,)),
    OpCase("layer_normalization", ops.layer_normalization, (ROWS, VECTOR, VECTOR), "scaled"),
    OpCase("layer_normalization", ops.layer_normalization, (ROWS, VECTOR), "gamma"),
    OpCase("layer_normalization", lambda a, b: ops.layer_normalization(a, beta=b), (ROWS, VECTOR), "beta"),
    OpCase(
        "layer_normalization",
        lambda a, g, b: ops.layer_normalization(a, g, b, axis=[1, 2], epsilon=1e-2),
        (x("b", 4, 5), x(4, 5), x(4, 5)),
        "axes",
    ),
    # torch normalises the last axes whatever `axis` says.
    OpCase(
        "layer_normalization",
        lambda a, g, b: ops.layer_normalization(a, g, b, axis=1),
        (x("b", 5, "t"), VECTOR, VECTOR),
        "inner",
        backends=("jax", "tensorflow"),
    ),
    OpCase(
        "layer_normalization",
        lambda a: ops.layer_normalization(a, axis=1),
        (ROWS,),
        "dynamic",
        backends=("jax", "tensorflow"),
    ),
    OpCase("rms_normalization", ops.rms_normalization, (ROWS,), "plain"),
    OpCase("rms_normalization", ops.rms_normalization, (ROWS, VECTOR), "scaled"),
    OpCase(
        "rms_normalization",
        lambda a, s: ops.rms_normalization(a, s, axis=(1, 2), epsilon=1e-2),
        (x("b", 4, 5), x(4, 5)),
        "axes",
    ),
    OpCase(
        "rms_normalization",
        lambda a: ops.rms_normalization(a, axis=0),
        (ROWS,),
        "dynamic",
        backends=("jax", "tensorflow"),
    ),
    OpCase("moments", lambda a: ops.moments(a, axes=(0, 1)), (ROWS,), "tuple"),
    OpCase("moments", lambda a: ops.moments(a, axes=(0, 1, 2)), (ROWS,), "all", constant=True),
    # Squares beyond float16. (A model casts what it is given to float32.)
    OpCase(
        "rms_normalization",
        lambda a: ops.rms_normalization(ops.cast(a * 200.0, "float16")),
        (ROWS,),
        "half",
        rtol=1e-3,
    ),
]

QUERY, KEY = x("b", "t", 4, 6), x("b", "n", 4, 6)
FEW = x("b", "n", 2, 6)


def attention(variant: str, *inputs: Any, names: tuple[str, ...] = (), **options: Any) -> OpCase:
    """``dot_product_attention`` with further traced operands by name."""

    def call(query: Any, key: Any, value: Any, *rest: Any) -> Any:
        given = dict(zip(names, rest, strict=True))
        return ops.dot_product_attention(query, key, value, **given, **options)

    return OpCase("dot_product_attention", call, inputs, variant)


ATTENTION = [
    attention("cross", QUERY, KEY, KEY),
    attention("value_size", QUERY, KEY, KEY, scale=0.3),
    attention("causal", QUERY, QUERY, QUERY, is_causal=True),
    attention("no_flash", QUERY, QUERY, QUERY, flash_attention=False),
    attention("bias", QUERY, KEY, KEY, x("b", 4, "t", "n"), names=("bias",)),
    attention("mask", QUERY, KEY, KEY, x("b", 1, "t", "n", dtype="bool"), names=("mask",)),
    attention("heads_mask", QUERY, KEY, KEY, x("b", 4, "t", "n", dtype="bool"), names=("mask",)),
    attention(
        "causal_mask", QUERY, QUERY, QUERY, x("b", 1, "t", "t", dtype="bool"), names=("mask",), is_causal=True
    ),
    attention("grouped_heads", QUERY, FEW, FEW),
    attention("grouped_mask", QUERY, FEW, FEW, x("b", 1, "t", "n", dtype="bool"), names=("mask",)),
]

# As one operator, from the opset that has it.
ONE_OPERATOR = [
    *(replace(row, variant=f"{row.variant}_opset23", opset=23, holds=("Attention",)) for row in ATTENTION),
    OpCase(
        "rms_normalization",
        ops.rms_normalization,
        (ROWS, VECTOR),
        "opset23",
        opset=23,
        holds=("RMSNormalization",),
        lacks=("ReduceMean",),
    ),
]

CASES = [*CONV, *CONV_TRANSPOSE, *POOL, *PATCHES, *NORMALIZATIONS, *ATTENTION, *ONE_OPERATOR]
