"""Normalisation as the steps it consists of: a mean, a scale, an offset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from interop.transfer.nodes import Step
from interop.transfer.ops.convolution import spread
from interop.transfer.reading import Reader, reads
from interop.transfer.values import Constant, Flow, Tensor, Weight


@reads("BatchNormalization")
def batch_normalization(reader: Reader, step: Step, x: Tensor, *statistics: Tensor) -> list[Tensor]:
    """Subtract the mean, divide by the deviation, multiply, add."""
    scale, offset, mean, variance = statistics
    if not isinstance(x, Flow):
        return reader.opaque(step, [x, *statistics])
    facts = {"epsilon": f"{step.attributes.get('epsilon', 1e-5):.6g}", "node": step.outputs[0]}
    if isinstance(variance, Weight):
        variance = replace(variance, terms=tuple(replace(term, facts=facts) for term in variance.terms))
    flow = x
    for weight, role in ((mean, "sub"), (variance, "rsqrt"), (scale, "mul"), (offset, "add")):
        if isinstance(weight, Weight):
            flow = reader.affine(flow, spread(weight, len(x.shape)), x.shape, role)
    reader.show(step, flow)
    empty = [Flow((), None, flow.feeds) for _ in step.outputs[1:]]
    return [flow, *empty]


@reads("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(
    reader: Reader, step: Step, x: Tensor, scale: Tensor | None = None, offset: Tensor | None = None
) -> list[Tensor]:
    """Normalise, multiply, add."""
    if not isinstance(x, Flow):
        return reader.opaque(step, [x, scale, offset])
    reader.uses.record(x)
    flow = replace(
        x.labelled(f"epsilon={step.attributes.get('epsilon', 1e-5):.6g}"), frame=None, pairing=None
    )
    for weight, role in ((scale, "mul"), (offset, "add")):
        if isinstance(weight, Weight):
            flow = reader.affine(flow, weight, x.shape, role)
    if scale is not None:
        reader.show(step, flow)
    empty = [Flow((), None, flow.feeds) for _ in step.outputs[1:]]
    return [replace(flow, run=None), *empty]


@reads(
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceSumSquare",
    "ReduceL2",
    "ReduceProd",
    "ReduceL1",
    "ReduceLogSumExp",
    "ArgMax",
    "ArgMin",
)
def reduced(reader: Reader, step: Step, x: Tensor, axes: Tensor | None = None) -> list[Tensor]:
    """Over some axes: an element is told by the first of those it is made of."""
    from interop.transfer.ops.elementwise import told_keys

    given = step.attributes.get("axes", step.attributes.get("axis"))
    if isinstance(axes, Constant):
        given = axes.array.reshape(-1).tolist()
    over = tuple(range(len(x.shape))) if given is None else tuple(np.atleast_1d(given).tolist())
    keep = bool(step.attributes.get("keepdims", 1))
    if isinstance(x, Weight):
        return [reader.reduced(x, over, keep=keep)]
    if not isinstance(x, Flow):
        return reader.opaque(step, [x, axes])
    reader.uses.record(x)
    if len(over) == 1:
        told_keys(x, over[0])
    least = x.places().min(axis=over, keepdims=keep)
    _, ranks = np.unique(least, return_inverse=True)
    places = np.asarray(ranks, np.int64).reshape(least.shape)
    return [Flow(places.shape, places, dict(x.feeds))]
