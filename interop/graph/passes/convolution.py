"""What stands around a convolution becomes part of it: the zeros before, the bias and the BatchNormalization after.

Enters: an ``ir.Model`` whose weights are initializers. Leaves: the same model with fewer nodes. ONNX Runtime does
the same when it loads a graph; other runtimes get it from the file.

Padding and BatchNormalization are onnxscript's rules; it has none for a bias.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewritePass, RewriteRuleClassBase, RewriteRuleSet
from onnxscript.rewriter.rules import common

from interop.graph.passes.movable import constant


def with_whole_convolutions(model: Any) -> Any:
    """Fuse what belongs to convolutions, in place."""
    present = {node.op_type for node in model.graph.all_nodes()}
    for step in (_BEFORE, _AFTER):
        if rules := _rules(present, step):
            RewritePass(RewriteRuleSet(rules))(model)
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # the names of the rules
        node.name = node.name or node.outputs[0].name
    return model


def with_biases(model: Any) -> Any:
    """Fuse only the bias into the convolution before it, in place: what trains on its own stays apart."""
    RewritePass(RewriteRuleSet([rule for _, _, rule in _BIASES]))(model)
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    return model


class _BiasIntoConv(RewriteRuleClassBase):  # type: ignore[misc]
    """``Add(Conv(x, w), bias)``, a Transpose to channels-last between them or not, becomes ``Conv(x, w, bias)``."""

    def __init__(self, operator: str, transposed: bool) -> None:
        super().__init__(f"{operator}{'Transpose' if transposed else ''}Bias")
        self._operator = operator
        self._transposed = transposed

    def pattern(self, op: Any, x: Any, weight: Any, bias: Any) -> Any:
        made = getattr(op, self._operator)(x, weight, _allow_other_attributes=True, _outputs=["conv"])
        if self._transposed:
            made = op.Transpose(made, _allow_other_attributes=True, _outputs=["turned"])
        return op.Add(made, bias)

    def check(self, context: Any, bias: Any, conv: Any, turned: Any = None, **_: Any) -> Any:
        result = MatchResult()
        tensor = constant(bias)
        if tensor is None:
            return result.fail("the bias is not constant")
        weight = constant(conv.producer().inputs[1])
        if weight is None:
            return result.fail("the weights are not constant")
        rank = len(weight.shape)
        order = list(range(rank)) if turned is None else list(turned.producer().attributes["perm"].as_ints())
        channels = _channels(conv.producer())
        where = order.index(1) - rank + len(tensor.shape)
        shape = list(tensor.shape)
        if len(shape) > rank or where < 0 or tensor.size != channels or shape[where] != channels:
            return result.fail("the bias is not one number for each channel")
        return result

    def rewrite(
        self, op: Any, x: Any, weight: Any, bias: Any, conv: Any, turned: Any = None, **_: Any
    ) -> Any:
        flat = ir.tensor(constant(bias).numpy().reshape(-1), dtype=bias.dtype)
        given = op.initializer(flat, name=f"{conv.name}/bias")
        made = getattr(op, self._operator)(x, weight, given, **conv.producer().attributes)
        return made if turned is None else op.Transpose(made, **turned.producer().attributes)


def _channels(node: Any) -> int:
    """How many channels a convolution makes; 0 if its weights are not known."""
    tensor = constant(node.inputs[1])
    if tensor is None:
        return 0
    group = int(node.attributes.get_int("group", 1))
    return int(tensor.shape[0] if node.op_type == "Conv" else tensor.shape[1] * group)


def _rules(present: Collection[str], steps: Iterable[tuple[str, str, Any]]) -> list[Any]:
    """The rules for pairs of operators that a graph has both of: each is tried at every node."""
    return [rule for first, second, rule in steps if first in present and second in present]


_BIASES = [
    (kind, "Add", _BiasIntoConv.rule(kind, turned))
    for kind in ("Conv", "ConvTranspose")
    for turned in (False, True)
]
# In two steps: a rule for weights wants them unused elsewhere, and padding leaves the old node until its end.
_BEFORE = [("Pad", "Conv", common.fuse_pad_into_conv_rule)]
_AFTER = [
    *_BIASES,
    ("Conv", "BatchNormalization", common.fuse_batchnorm_into_conv_rule),
    ("ConvTranspose", "BatchNormalization", common.fuse_batchnorm_into_conv_transpose_rule),
]
