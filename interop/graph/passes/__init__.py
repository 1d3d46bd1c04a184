"""What is done to a graph before it is written as a plain ``.onnx``; artifacts keep their functions.

Enters: an ``ir.Model`` with its weights at hand. Leaves: the same model, computing the same, smaller.
"""

from __future__ import annotations

import sys
from typing import Any


def inlined(model: Any) -> Any:
    """The model with every local function put in the place of its calls."""
    from onnx_ir.passes.common import InlinePass

    return InlinePass()(model).model


def folded(model: Any) -> Any:
    """The flat model with everything that is computed from weights alone folded into new weights."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.fold_constants(model, input_size_limit=sys.maxsize, output_size_limit=sys.maxsize)
    common.RemoveUnusedNodesPass()(model)
    return model
