"""Operations that TensorFlow 2.0 to 2.3 kept in a config as nodes of a graph (``TensorFlowOpLayer``).

Enters: the config of such a layer: the node, with its attributes, and those of its inputs that are constants. Leaves:
a function of the other inputs, made of the functions in `operations`.

Source: tensorflow/python/keras/engine/base_layer.py of TensorFlow 2.3; https://www.tensorflow.org/api_docs/python/tf/raw_ops
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from interop.errors import RebuildError
from interop.rebuild.legacy.operations import Function, operation

_SAME = {
    "Abs": "abs",
    "Add": "add",
    "AddV2": "add",
    "BiasAdd": "bias_add",
    "Ceil": "ceil",
    "Cos": "cos",
    "Elu": "elu",
    "Equal": "equal",
    "Erf": "erf",
    "Exp": "exp",
    "ExpandDims": "expand_dims",
    "Floor": "floor",
    "FloorDiv": "floordiv",
    "FloorMod": "floormod",
    "Greater": "greater",
    "GreaterEqual": "greater_equal",
    "Identity": "identity",
    "Less": "less",
    "LessEqual": "less_equal",
    "Log": "log",
    "Log1p": "log1p",
    "LogicalAnd": "logical_and",
    "LogicalNot": "logical_not",
    "LogicalOr": "logical_or",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "Mul": "multiply",
    "Neg": "negative",
    "NotEqual": "not_equal",
    "OnesLike": "ones_like",
    "Pad": "pad",
    "Pow": "pow",
    "RealDiv": "truediv",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Relu6": "relu6",
    "Reshape": "reshape",
    "Round": "round",
    "Rsqrt": "rsqrt",
    "SelectV2": "where",
    "Shape": "shape",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Softmax": "softmax",
    "Softplus": "softplus",
    "Sqrt": "sqrt",
    "Square": "square",
    "SquaredDifference": "squared_difference",
    "StopGradient": "stop_gradient",
    "Sub": "subtract",
    "Tanh": "tanh",
    "Tile": "tile",
    "Transpose": "transpose",
    "ZerosLike": "zeros_like",
}
"""Nodes whose inputs are the arguments of a function in `operations`."""

_REDUCTIONS = {
    "All": "reduce_all",
    "Any": "reduce_any",
    "Max": "reduce_max",
    "Mean": "reduce_mean",
    "Min": "reduce_min",
    "Prod": "reduce_prod",
    "Sum": "reduce_sum",
}
_TYPES = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_HALF": "float16",
    "DT_BFLOAT16": "bfloat16",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
    "DT_BOOL": "bool",
}
_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def raw_operation(config: Mapping[str, Any]) -> Function:
    """The function that a node stands for, of the inputs that are no constants.

    Raises:
        RebuildError: the node is not translated, or is none.
    """
    node, constants = config.get("node_def"), config.get("constants") or {}
    if not isinstance(node, dict) or not isinstance(constants, dict) or not isinstance(node.get("op"), str):
        raise RebuildError(f"layer {config.get('name')!r} has no readable node of a TensorFlow graph")
    attributes = node.get("attr") if isinstance(node.get("attr"), dict) else {}
    function = _function(node["op"], attributes or {})
    if not all(key.isdigit() for key in constants):
        raise RebuildError(f"layer {config.get('name')!r}: its constants are not numbered")
    placed = {int(key): value for key, value in constants.items()}

    def call(tensors: Any) -> Any:
        waiting = list(tensors) if isinstance(tensors, list | tuple) else [tensors]
        count = len(waiting) + len(placed)
        return function(*(placed[i] if i in placed else waiting.pop(0) for i in range(count)))

    return call


def _function(name: str, attributes: Mapping[str, Any]) -> Function:
    if name in _SAME:
        return operation(_SAME[name])
    if name in _REDUCTIONS:
        reduce, keep = operation(_REDUCTIONS[name]), bool(_value(attributes, "keep_dims"))
        return lambda x, axis: reduce(x, axis=axis, keepdims=keep)
    if name in _WITH_ATTRIBUTES:
        return _WITH_ATTRIBUTES[name](attributes)
    return operation(f"raw_ops.{name}")


def _value(attributes: Mapping[str, Any], name: str) -> Any:
    """An attribute, which protobuf's JSON wraps by its type: ``{"b": true}``, ``{"i": "1"}``."""
    wrapped = attributes.get(name)
    if not isinstance(wrapped, dict) or len(wrapped) != 1:
        return None
    kind, value = next(iter(wrapped.items()))
    return int(value) if kind == "i" and isinstance(value, int | str) else value


def _cast(attributes: Mapping[str, Any]) -> Function:
    dtype = _TYPES.get(str(_value(attributes, "DstT")))
    if dtype is None:
        raise RebuildError(
            f"the model casts to {_value(attributes, 'DstT')!r:.60}, which Keras 3 does not have"
        )
    return lambda x: operation("cast")(x, dtype)


def _matmul(attributes: Mapping[str, Any]) -> Function:
    flags = {
        f"transpose_{side}": bool(
            _value(attributes, f"transpose_{side}") or _value(attributes, f"adj_{other}")
        )
        for side, other in (("a", "x"), ("b", "y"))
    }
    return lambda a, b: operation("matmul")(a, b, **flags)


def _strided_slice(attributes: Mapping[str, Any]) -> Function:
    masks = {name: _value(attributes, name) or 0 for name in _MASKS}
    return lambda x, begin, end, strides: operation("strided_slice")(x, begin, end, strides, **masks)


_WITH_ATTRIBUTES: Mapping[str, Callable[[Mapping[str, Any]], Function]] = {
    "Cast": _cast,
    "MatMul": _matmul,
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "StridedSlice": _strided_slice,
    "ConcatV2": lambda attributes: lambda *inputs: operation("concat")(list(inputs[:-1]), axis=inputs[-1]),
    "Pack": lambda attributes: (
        lambda *inputs: operation("stack")(list(inputs), axis=_value(attributes, "axis") or 0)
    ),
    "Squeeze": lambda attributes: lambda x: operation("squeeze")(x, axis=_squeezed(attributes)),
    "LeakyRelu": lambda attributes: (
        lambda x: operation("leaky_relu")(x, alpha=_value(attributes, "alpha") or 0.2)
    ),
    "GatherV2": lambda attributes: lambda x, indices, axis: operation("gather")(x, indices, axis=axis),
}


def _squeezed(attributes: Mapping[str, Any]) -> Any:
    listed = _value(attributes, "squeeze_dims")
    sizes = listed.get("i") if isinstance(listed, dict) else None
    return [int(size) for size in sizes] if sizes else None
