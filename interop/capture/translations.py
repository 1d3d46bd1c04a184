"""Operators of PyTorch that ``torch.onnx`` has no translation of, or would take apart step by step.

Enters: nothing. Leaves: functions by operator, for the exporter's ``custom_translation_table``.

``torch.nn.RNN`` would be unrolled over a sequence of fixed length; here it is an ONNX ``RNN`` a layer, as its LSTM and
GRU are (https://onnx.ai/onnx/operators/onnx__RNN.html). The others have no translation in PyTorch 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any


def translations() -> dict[Any, Callable[..., Any]]:
    """Every operator that is translated here."""
    import torch

    aten = torch.ops.aten
    return {
        aten.rnn_tanh.input: _recurrent("Tanh"),
        aten.rnn_relu.input: _recurrent("Relu"),
        aten.fmax.default: _without_nan("Max"),
        aten.fmin.default: _without_nan("Min"),
        aten.hypot.default: _hypot,
        aten.copysign.Tensor: _copysign,
        aten._cdist_forward.default: _distances,
        aten.kthvalue.default: _kth,
        aten.median.dim: _median,
        aten.searchsorted.Tensor: _searchsorted,
        aten.masked_select.default: _masked_select,
    }


def _without_nan(op_type: str) -> Callable[..., Any]:
    """The greater or smaller, where one that is NaN does not count."""

    def extreme(x: Any, y: Any) -> Any:
        from onnxscript import opset18 as op

        either = getattr(op, op_type)(x, y)
        if not x.dtype.is_floating_point():
            return either
        return op.Where(op.IsNaN(x), y, op.Where(op.IsNaN(y), x, either))

    return extreme


def _hypot(x: Any, y: Any) -> Any:
    """The longer side times sqrt(1 + ratio²), which does not overflow before the result does."""
    from onnxscript import opset18 as op

    x, y = op.Abs(x), op.Abs(y)
    long, short = op.Max(x, y), op.Min(x, y)
    zero = op.CastLike(0.0, x)
    ratio = op.Where(
        op.Equal(short, zero), zero, op.Div(short, op.Where(op.Equal(long, zero), op.CastLike(1.0, x), long))
    )
    return op.Mul(long, op.Sqrt(op.Add(op.Mul(ratio, ratio), op.CastLike(1.0, x))))


def _copysign(x: Any, y: Any) -> Any:
    """1 / y tells the sign of a zero."""
    from onnxscript import opset18 as op

    zero = op.CastLike(0.0, y)
    negative = op.Or(op.Less(y, zero), op.And(op.Equal(y, zero), op.Less(op.Reciprocal(y), zero)))
    size = op.Abs(x)
    return op.Where(negative, op.Neg(size), size)


def _distances(x1: Any, x2: Any, p: float, compute_mode: int | None = None) -> Any:
    from onnxscript import opset18 as op

    gap = op.Abs(op.Sub(op.Unsqueeze(x1, [-2]), op.Unsqueeze(x2, [-3])))
    if p == 2:
        return op.ReduceL2(gap, [-1], keepdims=0)
    if p == 1:
        return op.ReduceSum(gap, [-1], keepdims=0)
    if p == math.inf:
        return op.ReduceMax(gap, [-1], keepdims=0)
    if p == 0:
        return op.ReduceSum(op.CastLike(op.Not(op.Equal(gap, op.CastLike(0.0, gap))), gap), [-1], keepdims=0)
    return op.Pow(op.ReduceSum(op.Pow(gap, op.CastLike(p, gap)), [-1], keepdims=0), op.CastLike(1 / p, gap))


def _kth(x: Any, k: Any, dim: int = -1, keepdim: bool = False) -> tuple[Any, Any]:
    """The k-th smallest, and where it is."""
    from onnxscript import opset18 as op

    count = op.Constant(value_ints=[k]) if isinstance(k, int) else k
    values, places = op.TopK(x, count, axis=dim, largest=0)
    last = op.Sub(count, op.Constant(value_ints=[1]))
    values, places = (op.Gather(each, last, axis=dim) for each in (values, places))
    return (values, places) if keepdim else (op.Squeeze(values, [dim]), op.Squeeze(places, [dim]))


def _median(x: Any, dim: int, keepdim: bool = False) -> tuple[Any, Any]:
    """The lower of the two in the middle."""
    from onnxscript import opset18 as op

    size = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
    one = op.Constant(value_ints=[1])
    return _kth(x, op.Div(op.Add(size, one), op.Add(one, one)), dim, keepdim)


def _searchsorted(
    edges: Any,
    values: Any,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """How many edges lie before each value."""
    from onnxscript import opset18 as op

    if sorter is not None:
        edges = op.GatherElements(edges, sorter, axis=-1)
    edges = edges if len(edges.shape) == 1 else op.Unsqueeze(edges, [-2])
    before = op.LessOrEqual if right or side == "right" else op.Less
    found = op.Cast(before(edges, op.Unsqueeze(values, [-1])), to=7)
    return op.Cast(op.ReduceSum(found, [-1], keepdims=0), to=6 if out_int32 else 7)


def _masked_select(x: Any, mask: Any) -> Any:
    from onnxscript import opset18 as op

    shape = op.Shape(op.Where(mask, x, x))
    return op.Compress(op.Expand(x, shape), op.Reshape(op.Expand(mask, shape), [-1]))


def _recurrent(activation: str) -> Callable[..., Any]:
    def rnn(
        input: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Any, Any]:
        return _layers(activation, input, hx, params, (has_biases, num_layers, bidirectional, batch_first))

    return rnn


def _layers(
    activation: str, x: Any, state: Any, params: Sequence[Any], options: tuple[bool, int, bool, bool]
) -> tuple[Any, Any]:
    """All layers, the last output and the last states, as ``torch.nn.RNN`` returns them; dropout is for training."""
    from onnxscript import opset18 as op

    has_biases, count, both, batch_first = options
    directions, step = 2 if both else 1, 4 if has_biases else 2
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    states = []
    for layer in range(count):
        first = layer * directions
        rows = [params[(first + k) * step : (first + k + 1) * step] for k in range(directions)]
        kernel, inner = (_stacked([op.Unsqueeze(row[i], [0]) for row in rows]) for i in (0, 1))
        bias = None
        if has_biases:
            bias = _stacked([op.Unsqueeze(op.Concat(row[2], row[3], axis=0), [0]) for row in rows])
        made, last = op.RNN(
            x,
            kernel,
            inner,
            bias,
            None,
            op.Slice(state, [first], [first + directions], [0]),
            activations=[activation] * directions,
            direction="bidirectional" if both else "forward",
            hidden_size=state.shape[2],
        )
        # (time, directions, batch, units) to (time, batch, directions * units)
        x = op.Reshape(op.Transpose(made, perm=[0, 2, 1, 3]), [0, 0, -1])
        states.append(last)
    return (op.Transpose(x, perm=[1, 0, 2]) if batch_first else x), _stacked(states)


def _stacked(parts: list[Any]) -> Any:
    from onnxscript import opset18 as op

    return op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0]
