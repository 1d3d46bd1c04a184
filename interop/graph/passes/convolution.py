"""What stands around a convolution becomes part of it: the zeros before, the bias and the BatchNormalization after.

Enters: an ``ir.Model`` whose weights are initializers. Leaves: the same model with fewer nodes. ONNX Runtime does
the same when it loads a graph; other runtimes get it from the file.

onnxscript has no rule for a bias, and its one for BatchNormalization keeps no account: a ``Fold`` says what went into a
convolution, so that it can be taken apart again (``rebuild/original.py``). Its matcher would take longer than all of
this, so padding is done here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from interop.graph.arranged import ScaledTensor
from interop.graph.passes.bodies import graphs, nodes
from interop.graph.passes.movable import constant
from interop.graph.passes.names import Names

Array = NDArray[Any]

_KINDS = ("Conv", "ConvTranspose")


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
        factor, bias = self.factor_and_bias()
        return self.before[0] * factor, bias

    def factor_and_bias(self) -> tuple[Array, Array]:
        """What the weight becomes multiplied with, and the bias, of the convolution that does both."""
        scale = self.scale(self.parameters)
        _, beta, mean, _ = self.parameters
        bias = self.before[1]
        shift = (np.zeros_like(mean) if bias is None else bias) - mean
        return self.spread(scale), shift * scale + beta


def with_whole_convolutions(model: Any, folds: list[Fold] | None = None) -> Any:
    """Fuse what belongs to convolutions, in place; the list is given an account of each normalisation."""
    names = Names(model)
    for graph in graphs(model.graph):
        for node in list(graph):
            if node.op_type == "Conv":
                _take_padding(node)
            elif node.op_type == "Add":
                _give_bias(graph, node, names)
            elif node.op_type == "BatchNormalization":
                _give_normalization(graph, node, names, folds)
    for node in nodes(model.graph):
        node.metadata_props.clear()  # what other passes noted
        node.name = node.name or node.outputs[0].name
    return model


def with_biases(model: Any) -> Any:
    """Fuse only the bias into the convolution before it, in place: what trains on its own stays apart."""
    names = Names(model)
    for graph in graphs(model.graph):
        for node in list(graph):
            if node.op_type == "Add":
                _give_bias(graph, node, names)
    return model


def _take_padding(node: Any) -> None:
    """``Conv(Pad(x), w)`` becomes ``Conv(x, w)`` where zeros were put around the spatial axes."""
    pad = _only_producer(node.inputs[0], ("Pad",), shared=True)
    if node.domain or pad is None or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return
    shape = pad.inputs[0].shape
    around = None if shape is None else _zeros_around(pad, len(shape))
    if shape is None or around is None:
        return
    rank = len(shape)
    if min(around) < 0 or any(around[:2]) or any(around[rank : rank + 2]):
        return
    spatial = around[2:rank] + around[rank + 2 :]
    own = node.attributes.get_ints("pads", [0] * len(spatial))
    node.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(own, spatial, strict=True)])
    node.replace_input_with(0, pad.inputs[0])


def _zeros_around(pad: Any, rank: int) -> list[int] | None:
    """How many zeros a Pad puts before each axis, and then after each; None if that is not known or not all it does."""
    if pad.attributes.get_string("mode", "constant") != "constant":
        return None
    given = [*pad.inputs[1:], None, None][:3]
    counts, value, axes = known = [constant(each) for each in given]
    if counts is None or [each is None for each in known] != [each is None for each in given]:
        return None
    if value is not None and value.numpy().item() != 0:
        return None
    places = range(rank) if axes is None else [int(axis) % rank for axis in axes.numpy()]
    before, after = counts.numpy().reshape(2, -1).tolist()
    around = [0] * 2 * rank
    for axis, first, last in zip(places, before, after, strict=True):
        around[axis], around[axis + rank] = first, last
    return around


def _give_bias(graph: Any, node: Any, names: Names) -> None:
    """``Add(Conv(x, w), bias)``, a Transpose to channels-last between them or not, becomes ``Conv(x, w, bias)``."""
    if node.domain:
        return
    given, bias = node.inputs
    turned = _only_producer(given, ("Transpose",))
    conv = _only_producer(given if turned is None else turned.inputs[0], _KINDS)
    tensor = constant(bias)
    if conv is None or tensor is None or any(each is not None for each in conv.inputs[2:]):
        return
    weight = constant(conv.inputs[1])
    if weight is None:
        return
    rank = len(weight.shape)
    order = list(range(rank)) if turned is None else list(turned.attributes["perm"].as_ints())
    channels = _channels(conv, weight)
    where = order.index(1) - rank + len(tensor.shape)
    shape = list(tensor.shape)
    if len(shape) > rank or where < 0 or tensor.size != channels or shape[where] != channels:
        return  # not one number for each channel
    flat = ir.Tensor(tensor.numpy().reshape(-1), dtype=bias.dtype)
    conv.resize_inputs(3)
    conv.replace_input_with(2, _initializer(graph, names.unique(f"{conv.outputs[0].name}/bias"), flat))
    _stand_in(graph, node, conv if turned is None else turned)


def _give_normalization(graph: Any, node: Any, names: Names, folds: list[Fold] | None) -> None:
    """``BatchNormalization(Conv(x, w, b))`` becomes ``Conv(x, w * scale, (b - mean) * scale + beta)``."""
    conv = _only_producer(node.inputs[0], _KINDS)
    if node.domain or conv is None or len(node.outputs) > 1:
        return
    weight, *biases = (value for value in conv.inputs[1:] if value is not None)
    for value in (weight, *biases, *node.inputs[1:]):
        if not value.is_initializer() or value.const_value is None or value.is_graph_input():
            return
    if any(user is not conv for value in (weight, *biases) for user, _ in value.uses()):
        return  # the new ones get their names
    fold = Fold(
        weight.name,
        biases[0].name if biases else names.unique(f"{weight.name}_bias"),
        (weight.const_value.numpy(), biases[0].const_value.numpy() if biases else None),
        tuple(str(value.name) for value in node.inputs[1:]),
        tuple(value.const_value.numpy() for value in node.inputs[1:]),
        node.attributes.get_float("epsilon", 1e-5),
        conv.attributes.get_int("group", 1) if conv.op_type == "ConvTranspose" else 0,
    )
    if folds is not None:
        folds.append(fold)
    factor, bias = fold.factor_and_bias()
    weight.const_value = ScaledTensor(fold.before[0], factor, weight.name)
    if biases:
        biases[0].const_value = ir.Tensor(bias)
    else:
        conv.resize_inputs(3)
        conv.replace_input_with(2, _initializer(graph, fold.bias, ir.Tensor(bias)))
    _stand_in(graph, node, conv)


def _only_producer(value: Any, kinds: Sequence[str], *, shared: bool = False) -> Any:
    """The node of one of these operators that makes a value, if nothing else uses it, unless it may be shared."""
    node = None if value is None else value.producer()
    if node is None or node.domain or node.op_type not in kinds:
        return None
    return node if shared or (len(value.uses()) == 1 and not value.is_graph_output()) else None


def _stand_in(graph: Any, node: Any, maker: Any) -> None:
    """Let another node make what a node made, under its name; the node goes."""
    (old,), (made,) = node.outputs, maker.outputs
    old.replace_all_uses_with(made, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    made.type, made.shape = old.type or made.type, old.shape or made.shape
    made.name = maker.name = old.name


def _initializer(graph: Any, name: str, tensor: Any) -> Any:
    tensor.name = name
    made = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(made)
    return made


def _channels(node: Any, weight: Any) -> int:
    """How many channels a convolution makes."""
    group = int(node.attributes.get_int("group", 1))
    return int(weight.shape[0] if node.op_type == "Conv" else weight.shape[1] * group)
