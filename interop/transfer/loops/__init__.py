"""Loops that compute a recurrent layer become that layer: ``Loop`` and ``Scan`` to ``LSTM``, ``GRU`` or ``RNN``.

Enters: a flat ``ir.Model`` with shapes. Leaves: the same model, changed; a loop that computes something else becomes
its steps, if they are few: layers whose parameters are one stack are such a loop. What is recognised is the arithmetic
of one step: gates are activations of a sum of products of the element and of the state with matrices, whether these are
whole or parts of larger ones.

=============  ====================================================================================
``forms``      a loop as it is written
``step``       what one step computes, in sums and products
``layers``     the gates of the layers that are known
``outside``    nodes before the loop, of what no step changes
``emission``   the layer in its place
``unrolled``   the steps in the place of another loop
``steps``      the steps in the place of a layer, where the other model has a loop that is no layer
=============  ====================================================================================
"""

from __future__ import annotations

from typing import Any

from interop.transfer.loops.emission import emit
from interop.transfer.loops.forms import NoMatch, is_used, of_loop, of_scan
from interop.transfer.loops.layers import gru, lstm, rnn
from interop.transfer.loops.outside import Outside
from interop.transfer.loops.step import Step
from interop.transfer.loops.unrolled import unroll


def recurrent_loops(model: Any) -> Any:
    """Replace the loops of a model: recurrent layers by those, others by their steps. The model is changed."""
    from onnx_ir.passes.common import ShapeInferencePass

    for node in list(model.graph):
        if node.op_type in ("Loop", "Scan"):
            try:
                _replaced(model.graph, node)
            except NoMatch:
                try:
                    unroll(model.graph, node)
                except NoMatch:
                    continue
            ShapeInferencePass(check_type=False)(model)  # a loop after this one reads what it gives
    return model


def _replaced(graph: Any, node: Any) -> None:
    loop = of_loop(node) if node.op_type == "Loop" else of_scan(node)
    if len(set(loop.elements.values())) != 1:
        raise NoMatch("it reads another number of sequences than one")
    outside = Outside(graph, node)
    try:
        _as_layer(Step(loop, outside))
    except NoMatch:
        outside.removed()
        raise


def _as_layer(step: Step) -> None:
    loop = step.loop
    for layer in (lstm, gru, rnn):
        found = layer(step)
        if found is not None:
            break
    else:
        raise NoMatch("the arithmetic of a step is none of those that are known")
    kind, gates, attributes, states, shown = found
    if any(inside is not shown for inside, outside in loop.results if is_used(outside)):
        raise NoMatch("it collects something else than the state")
    known = {state.last for state in states}
    if any(is_used(state.last) and state.last not in known for state in loop.states):
        raise NoMatch("it carries something else besides")
    emit(step, kind, gates, attributes, states)
