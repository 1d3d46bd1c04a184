"""Shapes, order, joining, splitting, repeating and padding."""

from __future__ import annotations

import numpy as np
from cases.ops import OpCase, x
from keras import ops

IMAGE = (x("b", "h", "w", 3),)
MATRIX = (x("t", "n"),)
VECTOR = (x("t"),)
FIXED = (x(4, 6),)
TWO = (x("b", "t", 4), x("b", "n", 4))

CASES = [
    # Shape
    OpCase("reshape", lambda a: ops.reshape(a, (-1, 2, 2))),
    OpCase("reshape", lambda a: ops.reshape(a, (ops.shape(a)[0], -1)), variant="dynamic"),
    OpCase("reshape", lambda a: ops.reshape(a, (-1,)), variant="flat"),
    OpCase(
        "reshape",
        lambda a: ops.reshape(a, (ops.shape(a)[0] * ops.shape(a)[1], 4)),
        variant="dynamic_product",
    ),
    OpCase(
        "reshape",
        lambda a: ops.reshape(a, (ops.shape(a)[1], 2, ops.shape(a)[0], 2)),
        variant="two_dynamic",
    ),
    OpCase(
        "reshape",
        lambda a: ops.reshape(a, (ops.shape(a)[0], ops.shape(a)[1] // 2, 8)),
        (x("b", "e", 4),),
        variant="quotient",
    ),
    OpCase("reshape", lambda a: ops.reshape(a, (0, 3)), (x(3, 0),), variant="empty", constant=True),
    OpCase("ravel", ops.ravel),
    OpCase("ravel", ops.ravel, (x(dtype="float32"),), variant="scalar", constant=True),
    OpCase("transpose", lambda a: ops.transpose(a, (0, 2, 1))),
    OpCase("transpose", ops.transpose, MATRIX, variant="all"),
    OpCase("transpose", lambda a: ops.transpose(a, (-1, 0, -2)), variant="negative"),
    OpCase("swapaxes", lambda a: ops.swapaxes(a, 1, 2)),
    OpCase("swapaxes", lambda a: ops.swapaxes(a, -1, 0), variant="negative"),
    OpCase("moveaxis", lambda a: ops.moveaxis(a, 1, 2)),
    OpCase("moveaxis", lambda a: ops.moveaxis(a, (0, 1), (-1, -2)), variant="several"),
    OpCase("moveaxis", lambda a: ops.moveaxis(a, -1, 0), variant="negative"),
    OpCase("expand_dims", lambda a: ops.expand_dims(a, 1)),
    OpCase("expand_dims", lambda a: ops.expand_dims(a, -1), variant="negative"),
    OpCase("expand_dims", lambda a: ops.expand_dims(a, (0, 2, -1)), variant="several"),
    OpCase("squeeze", lambda a: ops.squeeze(a[:, :, :1], -1)),
    OpCase("squeeze", ops.squeeze, (x("b", 1, "t", 1),), variant="all"),
    OpCase("squeeze", lambda a: ops.squeeze(a, (1, -1)), (x("b", 1, "t", 1),), variant="several"),
    OpCase("broadcast_to", lambda a: ops.broadcast_to(a[:, :1], ops.shape(a))),
    OpCase(
        "broadcast_to", lambda a: ops.broadcast_to(a, (2, *ops.shape(a))), (x("t", 1, 3),), variant="rank"
    ),
    OpCase(
        "broadcast_to",
        lambda a: a + ops.broadcast_to(np.ones((1, 4), "float32"), (ops.shape(a)[1], 4)),
        variant="constant",
    ),
    OpCase("flip", lambda a: ops.flip(a, 1)),
    OpCase("flip", ops.flip, variant="all"),
    OpCase("flip", lambda a: ops.flip(a, (0, -1)), variant="several"),
    OpCase("flip", lambda a: ops.flip(a, -1), (x("b", 5, dtype="bool"),), variant="bool"),
    OpCase("fliplr", ops.fliplr),
    OpCase("flipud", ops.flipud),
    OpCase("rot90", ops.rot90, MATRIX),
    # TensorFlow turns a matrix by 180 degrees into something else.
    OpCase("rot90", lambda a: ops.rot90(a, k=2), MATRIX, variant="twice", backends=("jax", "torch")),
    OpCase("rot90", lambda a: ops.rot90(a, k=3, axes=(1, 2)), variant="thrice"),
    OpCase("rot90", lambda a: ops.rot90(a, k=-1, axes=(2, 0)), variant="back"),
    OpCase("rot90", lambda a: ops.rot90(a, k=4), MATRIX, variant="full"),
    OpCase("roll", lambda a: ops.roll(a, 2, axis=1)),
    OpCase("roll", lambda a: ops.roll(a, -1, axis=-1), variant="back"),
    OpCase("roll", lambda a: ops.roll(a, 3), variant="flat"),
    OpCase("roll", lambda a: ops.roll(a, 25, axis=1), variant="longer_than_the_axis"),
    OpCase("roll", lambda a: ops.roll(a, (1, -2), axis=(0, 2)), variant="several"),
    # Joining
    OpCase("concatenate", lambda a: ops.concatenate([a, a * 2], axis=1)),
    OpCase("concatenate", lambda a, b: ops.concatenate([a, b], axis=-2), TWO, variant="dynamic"),
    OpCase(
        "concatenate",
        lambda a, b: ops.concatenate([a, b], axis=0),
        (x("b", 3, dtype="int32"), x("t", 3)),
        variant="dtypes",
    ),
    OpCase(
        "concatenate",
        lambda a: ops.concatenate([a, np.zeros((1, 3), "float32")], axis=0),
        (x("b", 3),),
        variant="constant",
    ),
    OpCase("append", lambda a, b: ops.append(a, b, axis=1), TWO),
    OpCase("append", ops.append, TWO, variant="flat"),
    OpCase("append", lambda a: ops.append(a, a > 0, axis=-1), (x("b", 3),), variant="dtypes"),
    OpCase("stack", lambda a: ops.stack([a, -a], axis=1)),
    OpCase("stack", lambda a: ops.stack([a, -a], axis=-1), variant="last"),
    OpCase("stack", lambda a: ops.stack([a, a > 0], axis=0), variant="dtypes"),
    OpCase("hstack", lambda a, b: ops.hstack([a, b]), TWO),
    OpCase("hstack", lambda a, b: ops.hstack([a, b]), (x("t"), x("n")), variant="vectors"),
    OpCase("vstack", lambda a, b: ops.vstack([a, b]), (x("t", 3), x("b", 3))),
    # TensorFlow joins vectors end to end.
    OpCase("vstack", lambda a: ops.vstack([a, a * 2]), VECTOR, variant="vectors", backends=("jax", "torch")),
    OpCase("dstack", lambda a: ops.dstack([a, a * 2])),
    OpCase("dstack", lambda a: ops.dstack([a, a * 2]), MATRIX, variant="matrices"),
    OpCase("dstack", lambda a: ops.dstack([a, a * 2]), VECTOR, variant="vectors"),
    # Splitting
    OpCase("split", lambda a: ops.split(a, 2, axis=-1)),
    OpCase("split", lambda a: ops.split(a, [1, 3], axis=-1), variant="indices"),
    OpCase("split", lambda a: ops.split(a, 2, axis=1), (x("b", "e", 3),), variant="dynamic"),
    OpCase("split", lambda a: ops.split(a, 2, axis=1), (x("b", "e", 3),), variant="opset_17", opset=17),
    OpCase("split", lambda a: ops.split(a, [1, 4], axis=1), variant="dynamic_indices"),
    OpCase("split", lambda a: ops.split(a, 1, axis=1), variant="whole"),
    OpCase("hsplit", lambda a: ops.hsplit(a, 2), (x("b", "e", 3),)),
    OpCase("hsplit", lambda a: ops.hsplit(a, [2]), VECTOR, variant="vector"),
    OpCase("vsplit", lambda a: ops.vsplit(a, 2), (x("e", 3),)),
    OpCase("vsplit", lambda a: ops.vsplit(a, [1, 2]), (x("t", 3),), variant="indices"),
    OpCase("dsplit", lambda a: ops.dsplit(a, 2)),
    OpCase("dsplit", lambda a: ops.dsplit(a, [1]), variant="indices"),
    OpCase("array_split", lambda a: ops.array_split(a, 4, axis=1)),
    OpCase("array_split", lambda a: ops.array_split(a, 3, axis=-1), variant="fixed"),
    OpCase("unstack", lambda a: ops.unstack(a, axis=2)),
    OpCase("unstack", lambda a: ops.unstack(a, num=3, axis=-2), (x("b", 3, "t"),), variant="negative"),
    # Repetition
    OpCase("tile", lambda a: ops.tile(a, (1, 2, 1))),
    OpCase("tile", lambda a: ops.tile(a, 3), variant="number"),
    OpCase("tile", lambda a: ops.tile(a, (2, 1, 1, 3)), variant="rank"),
    OpCase(
        "tile",
        lambda a: a + ops.tile(np.arange(4, dtype="float32")[None], (ops.shape(a)[1], 1)),
        variant="dynamic_constant",
    ),
    OpCase("tile", lambda a: ops.tile(a[:, :1], (1, ops.shape(a)[1], 1)), variant="dynamic"),
    OpCase("repeat", lambda a: ops.repeat(a, 3, axis=1)),
    OpCase("repeat", lambda a: ops.repeat(a, 2), variant="flat"),
    OpCase("repeat", lambda a: ops.repeat(a, np.array([0, 2, 1, 3]), axis=-1), variant="array"),
    OpCase("repeat", lambda a: ops.repeat(a, ops.shape(a)[1], axis=0), variant="dynamic"),
    OpCase(
        "repeat",
        lambda a, n: ops.repeat(a, n, axis=0),
        (x("t", 2), x("t", dtype="int32", low=0, high=3)),
        variant="tensor",
    ),
    OpCase("tril", ops.tril),
    OpCase("tril", lambda a: ops.tril(a, k=-1), variant="below"),
    OpCase("tril", ops.tril, (x("t", "n", dtype="int32"),), variant="int32"),
    OpCase("triu", lambda a: ops.triu(a, k=1)),
    OpCase("triu", lambda a: ops.triu(a, k=-2), variant="below"),
    OpCase("triu", ops.triu, (x("t", "n", dtype="int8"),), variant="int8"),
    # Padding
    OpCase("pad", lambda a: ops.pad(a, ((0, 0), (1, 2), (0, 0)), constant_values=1.5)),
    # One pair is for all axes: TensorFlow takes one for each axis only, torch pads the last axis alone.
    OpCase("pad", lambda a: ops.pad(a, 1), variant="number", backends=("jax",)),
    OpCase("pad", lambda a: ops.pad(a, ((1, 2),)), variant="one_pair", backends=("jax",)),
    OpCase(
        "pad",
        lambda a: ops.pad(a, ((0, 0), (1, 2), (3, 0))),
        (x("b", "t", 4, dtype="int32"),),
        variant="int32",
    ),
    OpCase("pad", lambda a: ops.pad(a, ((0, 1), (2, 0))), (x("b", "t", dtype="int16"),), variant="int16"),
    OpCase(
        "pad",
        lambda a: ops.pad(a, ((0, 0), (2, 1), (1, 2), (0, 0)), mode="reflect"),
        IMAGE,
        variant="reflect",
    ),
    OpCase(
        "pad",
        lambda a: ops.pad(a, ((0, 0), (2, 0), (1, 1), (0, 0)), mode="symmetric"),
        IMAGE,
        variant="symmetric",
    ),
    # Only JAX has the modes below.
    OpCase(
        "pad", lambda a: ops.pad(a, ((0, 0), (2, 1), (0, 3)), mode="edge"), variant="edge", backends=("jax",)
    ),
    OpCase(
        "pad", lambda a: ops.pad(a, ((0, 0), (2, 1), (0, 3)), mode="wrap"), variant="wrap", backends=("jax",)
    ),
    OpCase(
        "pad",
        lambda a: ops.pad(a, ((0, 0), (2, 1), (0, 3)), mode="maximum"),
        variant="maximum",
        backends=("jax",),
    ),
    OpCase(
        "pad",
        lambda a: ops.pad(a, ((0, 0), (2, 1), (0, 3)), mode="minimum"),
        variant="minimum",
        backends=("jax",),
    ),
    OpCase(
        "pad", lambda a: ops.pad(a, ((0, 0), (2, 1), (0, 3)), mode="mean"), variant="mean", backends=("jax",)
    ),
    OpCase(
        "pad",
        lambda a: ops.pad(a, ((0, 0), (2, 1), (0, 3)), mode="median"),
        variant="median",
        backends=("jax",),
    ),
    OpCase(
        "pad",
        lambda a: ops.pad(a, ((0, 0), (2, 1), (0, 3)), mode="linear_ramp"),
        variant="linear_ramp",
        backends=("jax",),
    ),
    # Only torch has this name for wrapping around.
    OpCase(
        "pad",
        lambda a: ops.pad(a, ((0, 0), (2, 1), (0, 0)), mode="circular"),
        variant="circular",
        backends=("torch",),
    ),
    # Patterns
    OpCase("rearrange", lambda a: ops.rearrange(a, "b t c -> t b c")),
    OpCase("rearrange", lambda a: ops.rearrange(a, "b t c -> b (t c)"), variant="merge"),
    OpCase("rearrange", lambda a: ops.rearrange(a, "b t (h d) -> b h t d", h=2), variant="split"),
    OpCase(
        "rearrange",
        lambda a: ops.rearrange(a, "b (p q) c -> (b q) p c", q=2),
        (x("b", "e", 3),),
        variant="dynamic",
    ),
    OpCase("shape", lambda a: ops.reshape(a, (ops.shape(a)[1], ops.shape(a)[0], 4))),
    OpCase("shape", lambda a: ops.cast(ops.shape(a)[1], "float32") * a, variant="as_number"),
    OpCase("shape", lambda a: ops.cast(ops.prod(ops.shape(a)), "float32") * a, variant="as_tensor"),
]
