"""Elements picked and placed by index, blocks and padding."""

from __future__ import annotations

import numpy as np
from cases.operators import OnnxCase, ints
from cases.ops import x

CASES = [
    OnnxCase("Pad", (x("b", 4, 3), ints(0, 1, 0, 0, 0, 2)), {"mode": "reflect"}, variant="reflect"),
    OnnxCase("Pad", (x("b", 4, 3), ints(0, 1, -1, 0, 0, 2), np.asarray(0.5, "float32")), variant="crop"),
    OnnxCase("Pad", (x("b", "t", 3), ints(0, 2, 1, 0, 1, 1)), {"mode": "edge"}, variant="edge, open"),
    OnnxCase("Pad", (x("b", "t", 3), ints(0, 2, 1, 0, 1, 1)), {"mode": "reflect"}, variant="reflect, open"),
    OnnxCase(
        "GatherND",
        (x("b", "t", 3), x("b", 4, 1, dtype="int64", low=-2, high=1)),
        {"batch_dims": 1},
        variant="batch",
    ),
    OnnxCase(
        "ScatterElements",
        (x("b", "t", 5), x("b", "t", 1, dtype="int64", low=-5, high=4), x("b", "t", 1)),
        {"axis": 2},
        variant="open",
    ),
    OnnxCase(
        "ScatterElements",
        (x("b", 5), x("b", 4, dtype="int64", low=0, high=4), x("b", 4)),
        {"axis": 1, "reduction": "add"},
        variant="open, added",
    ),
    OnnxCase("Tile", (x("b", 3), ints(1, 2))),
    OnnxCase("DepthToSpace", (x("b", 8, 2, 3),), {"blocksize": 2}),
    OnnxCase("DepthToSpace", (x("b", 8, "h", "w"),), {"blocksize": 2}, variant="open"),
    OnnxCase("SpaceToDepth", (x("b", 2, 4, 6),), {"blocksize": 2}),
    OnnxCase("Trilu", (x("b", 4, 4),), {"upper": 0}),
    OnnxCase("TopK", (x("b", 6), ints(3)), outputs=2),
    OnnxCase("CumSum", (x("b", 5), np.asarray(1)), {"exclusive": 1, "reverse": 1}),
    OnnxCase("Resize", (x("b", 2, 3, 4), None, np.asarray([1, 1, 2, 2], "float32")), {"mode": "linear"}),
    OnnxCase("Resize", (x("b", 2, "h", 4), None, np.asarray([1, 1, 2, 1], "float32")), variant="open"),
    *[
        OnnxCase(
            "Resize",
            (x("b", 2, "h", "w"), None, np.asarray([1, 1, *scales], "float32")),
            {"mode": mode, "coordinate_transformation_mode": coordinates, **more},
            variant=f"open-{mode}-{coordinates}",
        )
        for mode, coordinates, scales, more in (
            ("linear", "half_pixel", (2, 3), {}),
            ("linear", "align_corners", (2, 1), {}),
            ("linear", "pytorch_half_pixel", (0.5, 2.5), {}),
            ("cubic", "half_pixel", (1.5, 2), {"cubic_coeff_a": -0.5}),
            ("nearest", "half_pixel", (2, 1.5), {"nearest_mode": "floor"}),
            ("nearest", "asymmetric", (3, 0.5), {"nearest_mode": "ceil"}),
        )
    ],
    OnnxCase("LRN", (x("b", 5, 3, 3),), {"size": 3}),
    OnnxCase("LpNormalization", (x("b", 5),)),
]
