"""Operators of PyTorch that ``torch.onnx`` has no translation of, and would take apart step by step.

Enters: nothing. Leaves: functions by operator, for the exporter's ``custom_translation_table``.

``torch.nn.RNN`` would be unrolled over a sequence of fixed length; here it is an ONNX ``RNN`` a layer, as its LSTM and
GRU are (https://onnx.ai/onnx/operators/onnx__RNN.html).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def translations() -> dict[Any, Callable[..., Any]]:
    """Every operator that is translated here."""
    import torch

    return {
        torch.ops.aten.rnn_tanh.input: _recurrent("Tanh"),
        torch.ops.aten.rnn_relu.input: _recurrent("Relu"),
    }


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
