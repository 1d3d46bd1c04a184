"""What stands around a convolution becomes part of it: the zeros before, the bias and the BatchNormalization after.

Enters: an ``ir.Model`` whose weights are initializers. Leaves: the same model with fewer nodes. ONNX Runtime does
the same when it loads a graph; other runtimes get it from the file.

Padding is onnxscript's rule; it has none for a bias, and its one for BatchNormalization keeps no account: a ``Fold``
says what went into a convolution, so that it can be taken apart again (``rebuild/original.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import MatchResult, RewritePass, RewriteRuleClassBase, RewriteRuleSet
from onnxscript.rewriter.rules import common

from interop.graph.passes.movable import constant

Array = NDArray[Any]


@dataclass(frozen=True)
class Fold:
    """A BatchNormalization that became part of the convolution before it.

    Attributes:
        weight: name of the convolution's weight, before and after.
        bias: name of its bias after.
        before: the weight, and the bias or None, as they were.
        names: of the normalisation's parameters: gamma, beta, mean and variance.
        parameters: their values.
        epsilon: what is added to the variance.
        groups: of a transposed convolution, whose output channels are on axis 1; 0 for a convolution.
    """

    weight: str
    bias: str
    before: tuple[Array, Array | None]
    names: tuple[str, ...]
    parameters: tuple[Array, ...]
    epsilon: float
    groups: int

    def scale(self, parameters: Sequence[Array]) -> Array:
        """The factor of each output channel."""
        gamma, _, _, variance = parameters
        made: Array = gamma / np.sqrt(variance + self.epsilon)
        return made

    def spread(self, scale: Array) -> Array:
        """The factors of the channels in a shape that multiplies with the weight."""
        inputs, *_ = shape = self.before[0].shape
        if not self.groups:
            return scale.reshape(-1, *(1,) * (len(shape) - 1))
        # The weight is (input channels, output channels of a group, *kernel), its input channels by group.
        of_groups = scale.reshape(self.groups, 1, -1)
        spread = np.broadcast_to(of_groups, (self.groups, inputs // self.groups, of_groups.shape[2]))
        return spread.reshape(inputs, -1, *(1,) * (len(shape) - 2))

    def after(self) -> tuple[Array, Array]:
        """The weight and the bias of the convolution that does both."""
        scale = self.scale(self.parameters)
        _, beta, mean, _ = self.parameters
        weight, bias = self.before
        shift = (np.zeros_like(mean) if bias is None else bias) - mean
        return weight * self.spread(scale), shift * scale + beta


def with_whole_convolutions(model: Any, folds: list[Fold] | None = None) -> Any:
    """Fuse what belongs to convolutions, in place; the list is given an account of each normalisation."""
    present = {node.op_type for node in model.graph.all_nodes()}
    made: list[Fold] = [] if folds is None else folds
    normalizations = [
        (kind, "BatchNormalization", _BatchNormIntoConv.rule(kind, made))
        for kind in ("Conv", "ConvTranspose")
        if {kind, "BatchNormalization"} <= present
    ]
    # In two steps: a rule for weights wants them unused elsewhere, and padding leaves the old node until its end.
    for step in (_BEFORE, [*_BIASES, *normalizations]):
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


class _BatchNormIntoConv(RewriteRuleClassBase):  # type: ignore[misc]
    """``BatchNormalization(Conv(x, w, b))`` becomes ``Conv(x, w * scale, (b - mean) * scale + beta)``."""

    def __init__(self, operator: str, folds: list[Fold]) -> None:
        super().__init__(f"BatchNormalizationInto{operator}")
        self._operator = operator
        self._folds = folds

    def pattern(self, op: Any, x: Any) -> Any:
        made = getattr(op, self._operator)(x, _allow_other_inputs=True, _outputs=["conv"])
        return op.BatchNormalization(made, _allow_other_inputs=True, _outputs=["normalized"])

    def check(self, context: Any, conv: Any, normalized: Any, **_: Any) -> Any:
        result = MatchResult()
        node, after = conv.producer(), normalized.producer()
        weights = [value for value in node.inputs[1:] if value is not None]
        for value in (*weights, *after.inputs[1:]):
            if not value.is_initializer() or value.const_value is None or value.is_graph_input():
                return result.fail(f"{value.name} is not a weight")
        for value in weights:  # the new ones get their names
            if any(user is not node for user, _ in value.uses()):
                return result.fail(f"{value.name} is used elsewhere")
        return result

    def rewrite(self, op: Any, x: Any, conv: Any, normalized: Any, **_: Any) -> Any:
        node, after = conv.producer(), normalized.producer()
        weight = node.inputs[1]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        fold = Fold(
            weight.name,
            f"{weight.name}_bias" if bias is None else bias.name,
            (weight.const_value.numpy(), None if bias is None else bias.const_value.numpy()),
            tuple(str(value.name) for value in after.inputs[1:]),
            tuple(value.const_value.numpy() for value in after.inputs[1:]),
            after.attributes.get_float("epsilon", 1e-5),
            node.attributes.get_int("group", 1) if self._operator == "ConvTranspose" else 0,
        )
        self._folds.append(fold)
        new_weight, new_bias = fold.after()
        return getattr(op, self._operator)(
            x,
            op.initializer(ir.tensor(new_weight), name=fold.weight),
            op.initializer(ir.tensor(new_bias), name=fold.bias),
            **node.attributes,
        )


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
_BEFORE = [("Pad", "Conv", common.fuse_pad_into_conv_rule)]
