"""Weights of four bits, packed two in a byte, become INT4 tensors.

Enters: a flat ``ir.Model`` of opset 21 or newer with its weights at hand. Leaves: the same model, in which each
unpacking of a weight (see ``capture.keras.ops.quantization``) is a Cast of an INT4 or UINT4 tensor of the weight's
own shape, and the subtraction of zero points and the multiplication by scales of equal groups is a blocked
DequantizeLinear (https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html, version 21).

Invariants: a weight is stored once, under its own name, however often it is used; the numbers are the same.
A Reshape that changes nothing follows each DequantizeLinear: ONNX Runtime turns DequantizeLinear and MatMul into one
MatMulNBits that by default rounds the activations to int8 (``session.qdq_matmulnbits_accuracy_level`` is 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

#: The opset that INT4 and blocked DequantizeLinear are in.
INT4_OPSET = 21

# Backwards from the two inputs of the Concat: operator, and its constant operand where it has one.
_HIGH = (("Unsqueeze", None), ("Div", 16), ("Sub", None))
_LOW = (("Unsqueeze", None), ("Mod", 16))
_SIGNED_LOW = (("Unsqueeze", None), ("Sub", 8), ("Mod", 16), ("Add", 8), ("Mod", 16))

_FOUR_BITS = {ir.DataType.INT8: ml_dtypes.int4, ir.DataType.UINT8: ml_dtypes.uint4}


@dataclass(frozen=True)
class _Unpacking:
    """A weight taken apart.

    Attributes:
        weight: the packed initializer.
        perm: how it is transposed first; None: it is not.
        axis: the axis of the weight that is packed.
        length: the extent of that axis.
        output: the value of the unpacked tensor.
    """

    weight: Any
    perm: tuple[int, ...] | None
    axis: int
    length: int
    output: Any


def with_int4(model: Any) -> Any:
    """The flat model with four-bit weights as INT4; one of an older opset is left as it is."""
    if model.graph.opset_imports.get("", 0) < INT4_OPSET:
        return model
    found = list(_unpackings(model.graph))
    stored: dict[tuple[str, int, int], Any] = {}
    for unpacking in found:
        _replace(model.graph, unpacking, stored)
    if found:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        RemoveUnusedNodesPass()(model)
        for key, value in stored.items():
            if key[0] not in model.graph.initializers:
                _rename(model.graph, value, key[0])
            _dequantize(model.graph, value)
        RemoveUnusedNodesPass()(model)
    return model


def _unpackings(graph: Any) -> Iterator[_Unpacking]:
    for node in graph:
        if node.op_type == "Concat" and len(node.inputs) == 2:
            unpacking = _unpacking(node)
            if unpacking is not None:
                yield unpacking


def _unpacking(concat: Any) -> _Unpacking | None:
    low, high = concat.inputs
    packed = _source(high, _HIGH)
    if packed is None or packed not in (_source(low, _SIGNED_LOW), _source(low, _LOW)):
        return None
    perm = None
    weight = packed
    if weight.producer() is not None and weight.producer().op_type == "Transpose":
        perm = tuple(weight.producer().attributes["perm"].as_ints())
        weight = weight.producer().inputs[0]
    if not weight.is_initializer() or weight.const_value is None or weight.dtype not in _FOUR_BITS:
        return None
    reshape = _only_consumer(concat.outputs[0], "Reshape")
    if reshape is None:
        return None
    axis = concat.attributes["axis"].as_int() - 1
    source_axis = axis if perm is None else perm[axis]
    length = 2 * weight.const_value.shape[source_axis]
    output = reshape.outputs[0]
    cut = _only_consumer(output, "Slice")
    if cut is not None:
        starts, ends, axes, steps = (_numbers(value) for value in cut.inputs[1:])
        if starts != [0] or axes != [axis] or steps != [1] or ends is None:
            return None
        length, output = min(length, ends[0]), cut.outputs[0]
    return _Unpacking(weight, perm, source_axis, length, output)


def _source(value: Any, steps: tuple[tuple[str, int | None], ...]) -> Any:
    """The first input of a chain of operators that ends in a value; None if it is another chain."""
    for op_type, number in steps:
        node = value.producer()
        if node is None or node.op_type != op_type:
            return None
        if number is not None and _numbers(node.inputs[1]) != [number]:
            return None
        value = node.inputs[0]
    return value


def _only_consumer(value: Any, op_type: str) -> Any:
    consumers = value.consumers()
    return consumers[0] if len(consumers) == 1 and consumers[0].op_type == op_type else None


def _numbers(value: Any) -> list[int] | None:
    """A constant's elements."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.ravel(tensor.numpy()).tolist()


def _replace(graph: Any, unpacking: _Unpacking, stored: dict[tuple[str, int, int], Any]) -> None:
    """Let the consumers of the unpacked tensor read a Cast of the INT4 one."""
    weight = unpacking.weight
    key = (weight.name, unpacking.axis, unpacking.length)
    if key not in stored:
        tensor = _four_bits(weight.const_value, unpacking.axis, unpacking.length)
        stored[key] = _stored(graph, f"{weight.name}.int4", tensor)
    made = [ir.node("Cast", [stored[key]], {"to": int(weight.dtype)})]
    if unpacking.perm is not None:
        made.append(ir.node("Transpose", [made[0].outputs[0]], {"perm": list(unpacking.perm)}))
    last = made[-1].outputs[0]
    made[0].outputs[0].dtype = last.dtype = weight.dtype
    last.shape, last.name = unpacking.output.shape, f"{unpacking.output.name}.int4"
    graph.insert_before(unpacking.output.producer(), made)
    ir.convenience.replace_all_uses_with(unpacking.output, last)


def _four_bits(packed: Any, axis: int, length: int) -> Any:
    """Bytes as twice as many numbers of four bits; a byte's low half comes first."""
    array = packed.numpy()
    halves = np.stack([array & 15, (array.view(np.uint8) >> 4).view(array.dtype)], axis=axis + 1)
    whole = halves.reshape(*array.shape[:axis], -1, *array.shape[axis + 1 :])
    cut = np.take(whole, range(length), axis=axis)
    if packed.dtype == ir.DataType.INT8:
        cut = (cut ^ 8) - 8
    return cut.astype(_FOUR_BITS[packed.dtype])


def _stored(graph: Any, name: str, array: Any) -> Any:
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _rename(graph: Any, value: Any, name: str) -> None:
    del graph.initializers[value.name]
    value.name = value.const_value.name = name
    graph.register_initializer(value)


def _dequantize(graph: Any, weight: Any) -> None:
    """Cast, Sub of zero points, Mul by scales -> one DequantizeLinear, where groups are equal blocks."""
    for cast in list(weight.consumers()):
        widened = _only_consumer(cast.outputs[0], "Cast")
        shifted = widened and _only_consumer(widened.outputs[0], "Sub")
        scaled = shifted and _only_consumer(shifted.outputs[0], "Mul")
        if not shifted or not scaled:
            continue
        zeros = shifted.inputs[1].producer()
        zero = None if zeros is None or zeros.op_type != "Cast" else _grouped(zeros.inputs[0])
        scale = _grouped(next(value for value in scaled.inputs if value is not shifted.outputs[0]))
        if zero is None or scale is None or zero[1:] != scale[1:]:
            continue
        block = _block(scale, weight)
        low, high = (-8, 7) if weight.dtype == ir.DataType.INT4 else (0, 15)
        points = zero[0].const_value.numpy()
        if block is None or points.min() < low or points.max() > high:
            continue
        name = f"{zero[0].name}.int4"
        if name not in graph.initializers:
            _stored(graph, name, points.astype(weight.const_value.numpy().dtype))
        linear = ir.node(
            "DequantizeLinear",
            [weight, scale[0], graph.initializers[name]],
            {"axis": scale[2], "block_size": block},
        )
        linear.outputs[0].dtype = scaled.outputs[0].dtype
        shape = _stored(graph, f"{scaled.outputs[0].name}.shape", np.asarray(weight.shape.numpy(), np.int64))
        same = ir.node("Reshape", [linear.outputs[0], shape])
        same.outputs[0].name = f"{scaled.outputs[0].name}.int4"
        same.outputs[0].dtype, same.outputs[0].shape = scaled.outputs[0].dtype, weight.shape
        graph.insert_before(scaled, [linear, same])
        ir.convenience.replace_all_uses_with(scaled.outputs[0], same.outputs[0])


def _grouped(value: Any) -> tuple[Any, Any, int] | None:
    """(per group, group of each place, axis) if a value is a weight spread over the places of its groups."""
    node = value.producer()
    if node is None or node.op_type != "Gather" or not node.inputs[0].is_initializer():
        return None
    index = node.inputs[1]
    while index.producer() is not None and index.producer().op_type == "Cast":
        index = index.producer().inputs[0]
    if not index.is_initializer() or index.const_value is None:
        return None
    axis = node.attributes.get_int("axis", 0)
    return node.inputs[0], index, axis % len(node.inputs[0].const_value.shape)


def _block(grouped: tuple[Any, Any, int], weight: Any) -> int | None:
    """The size of the groups if they are equal blocks in order (only the last may be shorter)."""
    values, index, axis = grouped
    groups = index.const_value.numpy().astype(np.int64)
    count, extent = values.const_value.shape[axis], weight.shape[axis]
    if len(groups) != extent or len(weight.shape) != len(values.const_value.shape):
        return None
    block = int(np.count_nonzero(groups == 0)) if count > 1 else extent
    if block == 0 or -(-extent // block) != count or not np.array_equal(groups, np.arange(extent) // block):
        return None
    return block
