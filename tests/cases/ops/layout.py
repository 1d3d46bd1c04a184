"""Shapes, slices and tensors made from shapes."""

from __future__ import annotations

from cases.ops import OpCase
from keras import ops

CASES = [
    OpCase("transpose", lambda a: ops.transpose(a, (0, 2, 1))),
    OpCase("swapaxes", lambda a: ops.swapaxes(a, 1, 2)),
    OpCase("moveaxis", lambda a: ops.moveaxis(a, 1, 2)),
    OpCase("expand_dims", lambda a: ops.expand_dims(a, 1)),
    OpCase("squeeze", lambda a: ops.squeeze(a[:, :, :1], -1)),
    OpCase("concatenate", lambda a: ops.concatenate([a, a * 2], axis=1)),
    OpCase("stack", lambda a: ops.stack([a, -a], axis=1)),
    OpCase("split", lambda a: ops.split(a, 2, axis=-1)),
    OpCase("split", lambda a: ops.split(a, [1, 3], axis=-1), variant="indices"),
    OpCase("unstack", lambda a: ops.unstack(a, axis=2)),
    OpCase("take", lambda a: ops.take(a, [2, 0], axis=2)),
    OpCase("take_along_axis", lambda a: ops.take_along_axis(a, ops.argmax(a, axis=2, keepdims=True), axis=2)),
    OpCase("flip", lambda a: ops.flip(a, 1)),
    OpCase("tile", lambda a: ops.tile(a, (1, 2, 1))),
    OpCase("repeat", lambda a: ops.repeat(a, 3, axis=1)),
    OpCase("pad", lambda a: ops.pad(a, ((0, 0), (1, 2), (0, 0)), constant_values=1.5)),
    OpCase("tril", ops.tril),
    OpCase("triu", lambda a: ops.triu(a, k=1)),
    OpCase("ravel", ops.ravel),
    OpCase("reshape", lambda a: ops.reshape(a, (-1, 2, 2))),
    OpCase("reshape", lambda a: a[:, 1:, ::2], variant="slices"),
    OpCase("reshape", lambda a: a[:, :-1, None, -1], variant="negative_slice"),
    OpCase("one_hot", lambda a: ops.one_hot(ops.argmax(a, axis=-1), 6)),
    OpCase("zeros_like", lambda a: a + ops.zeros_like(a)),
    OpCase("ones_like", lambda a: a + ops.ones_like(a)),
    OpCase("full_like", lambda a: a + ops.full_like(a, 2.0)),
    OpCase("eye", lambda a: ops.eye(ops.shape(a)[1])[None] @ a),
    OpCase("tri", lambda a: ops.tri(ops.shape(a)[1])[None] @ a),
    OpCase("zeros", lambda a: a + ops.zeros((ops.shape(a)[1], 1))),
    OpCase("ones", lambda a: a + ops.ones((1, ops.shape(a)[1], 1))),
    OpCase("broadcast_to", lambda a: ops.broadcast_to(a[:, :1], ops.shape(a))),
]
