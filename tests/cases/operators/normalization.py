"""Normalisation."""

from __future__ import annotations

import numpy as np
from cases.operators import OnnxCase, normal
from cases.ops import x

_CHANNELS = (normal(4), normal(4, scale=0.3))

CASES = [
    OnnxCase(
        "BatchNormalization",
        (x("b", 4, "h"), *_CHANNELS, normal(4), np.abs(normal(4)) + np.float32(0.5)),
        lifted="BatchNormalization",
    ),
    OnnxCase(
        "BatchNormalization",
        (x("b", 4), *_CHANNELS, normal(4), np.abs(normal(4)) + np.float32(0.5)),
        {"epsilon": 0.1},
        variant="two axes",
        lifted="BatchNormalization",
    ),
    OnnxCase("InstanceNormalization", (x("b", 4, "h"), *_CHANNELS), lifted="GroupNormalization"),
    OnnxCase("LayerNormalization", (x("b", "t", 4), *_CHANNELS), lifted="LayerNormalization"),
    OnnxCase(
        "LayerNormalization",
        (x("b", "t", 3, 4), normal(3, 4)),
        {"axis": 2, "epsilon": 0.1},
        variant="two axes",
        lifted="LayerNormalization",
    ),
    OnnxCase(
        "GroupNormalization",
        (x("b", 4, "h", "w"), *_CHANNELS),
        {"num_groups": 2},
        opset=21,
        lifted="GroupNormalization",
    ),
]
