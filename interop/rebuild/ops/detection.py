"""NonMaxSuppression. Source: https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html."""

from __future__ import annotations

import numpy as np
from keras import ops

from interop.rebuild.context import Context
from interop.rebuild.ops.indexing import must_be_eager
from interop.rebuild.registry import Tensor, op


@op("NonMaxSuppression", since=10)
def non_max_suppression(
    ctx: Context,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor = None,
    overlap: Tensor = None,
    lowest: Tensor = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Rows (batch, class, box) of the boxes that are kept, the best first."""
    must_be_eager(ctx, scores)
    count = 0 if most is None else ctx.ints(most)[0]
    over = np.zeros((), "float32") if overlap is None else ops.reshape(overlap, ())
    crossing = ops.greater(_overlaps(_corners(boxes, center_point_box)), over)
    order = ops.flip(ops.argsort(ops.flip(scores, -1), axis=-1), -1)
    order = ops.subtract(int(scores.shape[-1]) - 1, order)  # of equal scores the first box comes first
    good = (
        ops.ones_like(scores, dtype="bool")
        if lowest is None
        else ops.greater(scores, ops.reshape(lowest, ()))
    )
    crosses, orders, goods = (ops.convert_to_numpy(x) for x in (crossing, order, good))
    kept: list[tuple[int, int, int]] = []
    for batch, label in np.ndindex(*orders.shape[:2]):
        chosen: list[int] = []
        for box in orders[batch, label].tolist():
            if len(chosen) == count:
                break
            if goods[batch, label, box] and not any(crosses[batch, box, other] for other in chosen):
                chosen.append(box)
        kept += [(batch, label, box) for box in chosen]
    return np.asarray(kept, "int64").reshape(-1, 3)


def _corners(boxes: Tensor, center_point_box: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Low and high ends of both axes, (batch, boxes)."""
    a, b, c, d = (boxes[..., i] for i in range(4))
    if center_point_box:
        half_width, half_height = ops.multiply(c, 0.5), ops.multiply(d, 0.5)
        a, b, c, d = (
            ops.subtract(b, half_height),
            ops.subtract(a, half_width),
            ops.add(b, half_height),
            ops.add(a, half_width),
        )
    return ops.minimum(a, c), ops.minimum(b, d), ops.maximum(a, c), ops.maximum(b, d)


def _overlaps(corners: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Intersection over union of every two boxes."""
    top, left, bottom, right = corners

    def length(low: Tensor, high: Tensor) -> Tensor:
        shared = ops.subtract(
            ops.minimum(ops.expand_dims(high, 2), ops.expand_dims(high, 1)),
            ops.maximum(ops.expand_dims(low, 2), ops.expand_dims(low, 1)),
        )
        return ops.maximum(shared, 0.0)

    both = ops.multiply(length(top, bottom), length(left, right))
    area = ops.multiply(ops.subtract(bottom, top), ops.subtract(right, left))
    union = ops.subtract(ops.add(ops.expand_dims(area, 2), ops.expand_dims(area, 1)), both)
    return ops.where(ops.greater(union, 0.0), ops.divide(both, union), ops.zeros_like(both))
