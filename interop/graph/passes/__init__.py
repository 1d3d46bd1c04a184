"""What is done to a graph before it is written as a plain ``.onnx``; artifacts keep their functions.

Enters: an ``ir.Model`` with its weights at hand. Leaves: the same model, computing the same, smaller.

``optimized`` is the whole pipeline: passes of onnx-ir, onnxscript's folding, and ours where they have none or are slow.

=================  =======================================================================
``int4``           weights of four bits, two in a byte, become INT4 (from opset 21 on)
constants          what is computed from weights alone becomes a weight (onnxscript; ``constants`` for some), but
                   where ``quantised`` says that it would be a quantised weight in a wider form
``layout``         Transposes that undo each other, however much lies between them
``convolution``    padding, bias and BatchNormalization become part of the convolution
subexpressions     what is computed twice is computed once (onnx-ir)
dead code          what reaches no output goes (onnx-ir)
=================  =======================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interop.graph.passes.convolution import Fold


def inlined(model: Any) -> Any:
    """The model with every local function put in the place of its calls."""
    from onnx_ir.passes.common import InlinePass

    return InlinePass()(model).model


def optimized(model: Any, folds: list[Fold] | None = None) -> Any:
    """The flat model in as few nodes as its opset allows, changed in place.

    Args:
        model: an ``ir.Model`` with its weights.
        folds: a list that is given an account of the normalisations that became part of convolutions.
    """
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

    from interop.graph.passes.bodies import nodes
    from interop.graph.passes.convolution import with_whole_convolutions
    from interop.graph.passes.int4 import with_int4
    from interop.graph.passes.layout import with_few_transposes

    with_int4(model)
    CommonSubexpressionEliminationPass()(model)  # a weight of two layers is folded once
    fold_constants(model)
    CommonSubexpressionEliminationPass()(model)
    with_whole_convolutions(with_few_transposes(model), folds)
    RemoveUnusedNodesPass()(model)
    for node in nodes(model.graph):
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None  # for the passes only; runtimes infer them
    return model


def fold_constants(model: Any, keep: Collection[Any] = ()) -> None:
    """Compute what depends on weights and constants alone, in place, but for the nodes to `keep`."""
    from onnxscript import optimizer

    from interop.graph.passes.constants import split_constants, view_constants
    from interop.graph.passes.quantised import foldable
    from interop.graph.passes.small import copying

    stays_narrow = foldable(model)
    kept = {id(node) for node in keep} | copying(model)

    def one_result(node: Any) -> bool | None:
        if id(node) in kept:
            return False
        # onnxscript warns of nodes with more results, and leaves them
        return stays_narrow(node) if len(node.outputs) == 1 else False

    view_constants(model, one_result)
    folding = True
    while folding:
        optimizer.fold_constants(
            model, input_size_limit=sys.maxsize, output_size_limit=sys.maxsize, should_fold=one_result
        )
        folding = split_constants(model)
