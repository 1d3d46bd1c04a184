"""Cross entropies, sequence losses and decoders, signal to noise."""

from __future__ import annotations

from typing import Any

from cases.ops import OpCase, x
from keras import ops

UNIT: dict[str, Any] = {"low": 0.0, "high": 1.0}
TARGET, OUTPUT, LOGITS = x("b", "t", 5, **UNIT), x("b", "t", 5, **UNIT), x("b", "t", 5, high=9.0)
CLASSES = x("b", "t", dtype="int32", low=0, high=4)
LABELS = x("b", 3, dtype="int32", low=1, high=2)
STEPS, COUNTS = x("b", dtype="int32", low=5, high=6), x("b", dtype="int32", low=1, high=3)

# Few classes, so that labels repeat.
SCORES, LENGTHS = x("b", "t", 3), x("b", dtype="int32", low=1, high=6)

CASES = [
    OpCase("binary_crossentropy", ops.binary_crossentropy, (TARGET, OUTPUT)),
    OpCase("binary_crossentropy", ops.binary_crossentropy, (TARGET, x("b", "t", 5, high=2.0)), "outside"),
    OpCase(
        "binary_crossentropy",
        lambda a, b: ops.binary_crossentropy(a, b * 30, from_logits=True),
        (TARGET, LOGITS),
        "logits",
    ),
    OpCase("categorical_crossentropy", ops.categorical_crossentropy, (TARGET, OUTPUT)),
    OpCase(
        "categorical_crossentropy",
        lambda a, b: ops.categorical_crossentropy(a, b, from_logits=True),
        (TARGET, LOGITS),
        "logits",
    ),
    OpCase(
        "categorical_crossentropy",
        lambda a, b: ops.categorical_crossentropy(a, b, axis=1),
        (x("b", 5, "t", **UNIT), x("b", 5, "t", **UNIT)),
        "axis",
    ),
    OpCase(
        "sparse_categorical_crossentropy",
        ops.sparse_categorical_crossentropy,
        (CLASSES, OUTPUT),
    ),
    OpCase(
        "sparse_categorical_crossentropy",
        lambda a, b: ops.sparse_categorical_crossentropy(a, b, from_logits=True),
        (x("b", "t", 1, dtype="int32", low=0, high=4), LOGITS),
        "logits_column",
    ),
    OpCase(
        "sparse_categorical_crossentropy",
        lambda a, b: ops.sparse_categorical_crossentropy(a, b, from_logits=True, axis=1),
        (CLASSES, x("b", 5, "t")),
        "axis",
        # jax and TensorFlow take the last axis only.
        backends=("torch",),
    ),
    OpCase("ctc_loss", ops.ctc_loss, (LABELS, x("b", "t", 4), COUNTS, STEPS)),
    OpCase(
        "ctc_loss",
        lambda y, a, n, m: ops.ctc_loss(y, a * 20, n, m, mask_index=3),
        (LABELS, x("b", "t", 4), COUNTS, STEPS),
        "far_apart",
    ),
    OpCase("ctc_decode", ops.ctc_decode, (SCORES, LENGTHS)),
    OpCase("ctc_decode", lambda a, n: ops.ctc_decode(a, n, mask_index=None), (SCORES, LENGTHS), "last"),
    OpCase(
        "ctc_decode",
        lambda a, n: ops.ctc_decode(a, n, merge_repeated=False, mask_index=1),
        (SCORES, LENGTHS),
        "repeats",
    ),
    OpCase("psnr", lambda a, b: ops.psnr(a, b, 255.0)[None] * a[0, :1], (LOGITS, OUTPUT)),
]
