"""Functions of TensorFlow that Keras 2 kept in a config by name (``TFOpLambda``), as operations of `keras.ops`.

Enters: the name in the config, such as ``math.reduce_mean``. Leaves: a function with TensorFlow's arguments that
computes the same with ``keras.ops``, on tensors and on the symbolic tensors of a functional model.

Source: https://www.tensorflow.org/api_docs/python/tf (signatures), tf_keras ``layers/core/tf_op_layer.py`` (names).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import backend, ops

from interop.errors import RebuildError
from interop.rebuild.legacy.namesakes import BINARY, OPERATORS, REDUCTIONS, UNARY

Function = Callable[..., Any]

_TABLE: dict[str, Function] = {}

#: Modules whose functions of these names are those of ``tf`` itself; ``tf.image.transpose`` is another one.
_SAME_AS_TF = ("math", "linalg", "nn", "dtypes")


def operation(name: str) -> Function:
    """The function by its name in a config.

    Raises:
        RebuildError: there is none.
    """
    short = name.removeprefix("compat.v1.").removeprefix("compat.v2.").removeprefix("raw_ops.")
    module, _, last = short.rpartition(".")
    found = _TABLE.get(short) or (_TABLE.get(last) if module in _SAME_AS_TF else None)
    if found is None:
        raise RebuildError(
            f"the model calls tf.{name}, which is not translated to Keras 3. Replace that call by layers with the "
            "Keras that wrote the file, or convert the model to ONNX there and open it with interop.load_graph"
        )
    return found


def known() -> tuple[str, ...]:
    """The names of all functions that are translated."""
    return tuple(sorted(_TABLE))


def _named(*names: str) -> Callable[[Function], Function]:
    def add(function: Function) -> Function:
        for name in names:
            _TABLE[name] = function
        return function

    return add


def _unary(function: Function) -> Function:
    return lambda x, name=None: function(x)


def _binary(function: Function) -> Function:
    def call(x: Any, y: Any, name: Any = None) -> Any:
        if _is_size(x) and _is_size(y):
            return None if x is None or y is None else int(function(x, y))
        return function(x, y)

    return call


def _is_size(value: Any) -> bool:
    """Whether a value is one dimension of a shape: a number, or None where it is open."""
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(_is_size(value) for value in values)


def _reduction(function: Function) -> Function:
    return lambda input_tensor, axis=None, keepdims=False, name=None: function(
        input_tensor, axis=_axis(axis), keepdims=keepdims
    )


def _axis(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


for _name, _function in UNARY.items():
    _TABLE[_name] = _unary(_function)
for _name, _function in BINARY.items():
    _TABLE[_name] = _binary(_function)
for _name, _function in REDUCTIONS.items():
    _TABLE[_name] = _reduction(_function)
for _name, _same in OPERATORS.items():
    _TABLE[f"__operators__.{_name}"] = _binary(BINARY[_same])
    _TABLE[f"__operators__.r{_name}"] = _binary(lambda x, y, _f=BINARY[_same]: _f(y, x))
for _name, _same in {"neg": "negative", "abs": "abs", "invert": "logical_not"}.items():
    _TABLE[f"__operators__.{_name}"] = _TABLE[_same]


@_named("__operators__.getitem")
def _getitem(x: Any, slice_spec: Any, var: Any = None) -> Any:
    key = _slices(slice_spec)
    if _are_sizes(x):
        return x[key]
    parts = key if isinstance(key, tuple) else (key,)
    if Ellipsis not in parts and None not in parts:  # PyTorch takes no negative steps
        backwards = [axis for axis, part in enumerate(parts) if part == slice(None, None, -1)]
        if backwards:
            x = ops.flip(x, axis=tuple(backwards))
            key = tuple(slice(None) if axis in backwards else part for axis, part in enumerate(parts))
    return ops.get_item(x, key)


def _slices(spec: Any) -> Any:
    if isinstance(spec, list):
        return tuple(_slices(part) for part in spec)
    if isinstance(spec, dict) and set(spec) <= {"start", "stop", "step"}:
        return slice(spec.get("start"), spec.get("stop"), spec.get("step"))
    return spec


@_named("strided_slice")
def _strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: Any = None,
) -> Any:
    parts: list[Any] = []
    for index, (start, stop) in enumerate(zip(begin, end, strict=True)):
        bit = 1 << index
        if ellipsis_mask & bit:
            parts.append(Ellipsis)
        elif new_axis_mask & bit:
            parts.append(None)
        elif shrink_axis_mask & bit:
            parts.append(start)
        else:
            step = strides[index] if strides is not None else 1
            parts.append(slice(None if begin_mask & bit else start, None if end_mask & bit else stop, step))
    return ops.get_item(input_, tuple(parts))


@_named("slice")
def _slice(input_: Any, begin: Any, size: Any, name: Any = None) -> Any:
    ends = [None if length == -1 else start + length for start, length in zip(begin, size, strict=True)]
    return ops.get_item(input_, tuple(slice(b, e) for b, e in zip(begin, ends, strict=True)))


@_named("linalg.matmul", "matmul")
def _matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, **unused: Any) -> Any:
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


_TABLE["__operators__.matmul"] = _matmul
_TABLE["__operators__.rmatmul"] = lambda x, y, name=None: ops.matmul(y, x)


@_named("tensordot")
def _tensordot(a: Any, b: Any, axes: Any, name: Any = None) -> Any:
    return ops.tensordot(a, b, axes=axes)


@_named("einsum")
def _einsum(equation: str, *inputs: Any, **unused: Any) -> Any:
    return ops.einsum(equation, *inputs)


@_named("transpose")
def _transpose(a: Any, perm: Any = None, conjugate: bool = False, name: Any = None) -> Any:
    return ops.transpose(a, axes=perm)


@_named("linalg.matrix_transpose", "matrix_transpose")
def _matrix_transpose(a: Any, name: Any = None, conjugate: bool = False) -> Any:
    return ops.swapaxes(a, -1, -2)


@_named("reshape")
def _reshape(tensor: Any, shape: Any, name: Any = None) -> Any:
    """A size that was read from the open dimension of a tensor is the one that is left to be inferred."""
    if not isinstance(shape, list | tuple):
        return ops.reshape(tensor, shape)
    if sum(size is None or size == -1 for size in shape) > 1:
        raise RebuildError(
            f"the model calls tf.reshape with several open sizes ({shape}); Keras 3 infers only one"
        )
    return ops.reshape(tensor, tuple(-1 if size is None else size for size in shape))


@_named("shape")
def _shape(input: Any, out_type: Any = "int32", name: Any = None) -> Any:
    return ops.shape(input)


@_named("expand_dims")
def _expand_dims(input: Any, axis: int = -1, name: Any = None) -> Any:
    return ops.expand_dims(input, axis)


@_named("squeeze")
def _squeeze(input: Any, axis: Any = None, name: Any = None) -> Any:
    return ops.squeeze(input, axis=_axis(axis))


@_named("concat", "concatenate")
def _concat(values: Any, axis: int = -1, name: Any = None) -> Any:
    return ops.concatenate(values, axis=axis)


@_named("stack")
def _stack(values: Any, axis: int = 0, name: Any = None) -> Any:
    return list(values) if _are_sizes(values) else ops.stack(values, axis=axis)


@_named("unstack")
def _unstack(value: Any, num: Any = None, axis: int = 0, name: Any = None) -> Any:
    return ops.unstack(value, num, axis)


@_named("split")
def _split(value: Any, num_or_size_splits: Any, axis: int = 0, num: Any = None, name: Any = None) -> Any:
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    ends = [sum(num_or_size_splits[: i + 1]) for i in range(len(num_or_size_splits) - 1)]
    return ops.split(value, ends, axis=axis)


@_named("tile")
def _tile(input: Any, multiples: Any, name: Any = None) -> Any:
    return ops.tile(input, multiples)


@_named("repeat")
def _repeat(input: Any, repeats: Any, axis: Any = None, name: Any = None) -> Any:
    return ops.repeat(input, repeats, axis=axis)


@_named("reverse")
def _reverse(tensor: Any, axis: Any, name: Any = None) -> Any:
    return ops.flip(tensor, axis=_axis(axis))


@_named("pad")
def _pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0, name: Any = None
) -> Any:
    if mode.upper() == "CONSTANT":
        return ops.pad(tensor, paddings, mode="constant", constant_values=constant_values)
    return ops.pad(tensor, paddings, mode=mode.lower())


@_named("broadcast_to")
def _broadcast_to(input: Any, shape: Any, name: Any = None) -> Any:
    return ops.broadcast_to(input, tuple(shape) if isinstance(shape, list) else shape)


@_named("cast")
def _cast(x: Any, dtype: Any, name: Any = None) -> Any:
    return ops.cast(x, dtype)


@_named("argmax")
def _argmax(input: Any, axis: Any = None, output_type: Any = "int64", name: Any = None) -> Any:
    return ops.cast(ops.argmax(input, axis=0 if axis is None else axis), output_type)


@_named("argmin")
def _argmin(input: Any, axis: Any = None, output_type: Any = "int64", name: Any = None) -> Any:
    return ops.cast(ops.argmin(input, axis=0 if axis is None else axis), output_type)


@_named("clip_by_value")
def _clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: Any = None) -> Any:
    return ops.minimum(ops.maximum(t, clip_value_min), clip_value_max)


@_named("where")
def _where(condition: Any, x: Any = None, y: Any = None, name: Any = None) -> Any:
    if x is None or y is None:
        raise RebuildError(
            "the model calls tf.where with a condition alone, which gives as many rows as it holds: a size that "
            "depends on values, which a Keras 3 model cannot have"
        )
    return ops.where(condition, x, y)


@_named("reduce_mean")
def _mean(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: Any = None) -> Any:
    """The mean of integers is one, rounded towards zero."""
    mean = ops.mean(input_tensor, axis=_axis(axis), keepdims=keepdims)
    dtype = backend.standardize_dtype(getattr(input_tensor, "dtype", "float32"))
    return ops.cast(mean, dtype) if "int" in dtype else mean


@_named("ones_like")
def _ones_like(input: Any, dtype: Any = None, name: Any = None, optimize: bool = True) -> Any:
    return ops.ones_like(input, dtype=dtype)


@_named("zeros_like")
def _zeros_like(input: Any, dtype: Any = None, name: Any = None, optimize: bool = True) -> Any:
    return ops.zeros_like(input, dtype=dtype)


@_named("gather")
def _gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    axis: Any = None,
    batch_dims: int = 0,
    name: Any = None,
) -> Any:
    if batch_dims:
        raise RebuildError(f"the model calls tf.gather with batch_dims={batch_dims}, which is not translated")
    return ops.take(params, ops.convert_to_tensor(indices), axis=0 if axis is None else axis)


@_named("one_hot")
def _one_hot(
    indices: Any,
    depth: int,
    on_value: Any = None,
    off_value: Any = None,
    axis: Any = None,
    dtype: Any = None,
    name: Any = None,
) -> Any:
    hot = ops.one_hot(indices, depth, axis=-1 if axis is None else axis, dtype=dtype or "float32")
    if on_value is None and off_value is None:
        return hot
    on, off = 1 if on_value is None else on_value, 0 if off_value is None else off_value
    return hot * (on - off) + off


@_named("softmax")
def _softmax(logits: Any, axis: int = -1, name: Any = None) -> Any:
    return ops.softmax(logits, axis=-1 if axis is None else axis)


@_named("log_softmax")
def _log_softmax(logits: Any, axis: int = -1, name: Any = None) -> Any:
    return ops.log_softmax(logits, axis=-1 if axis is None else axis)


@_named("leaky_relu")
def _leaky_relu(features: Any, alpha: float = 0.2, name: Any = None) -> Any:
    return ops.leaky_relu(features, negative_slope=alpha)


@_named("gelu")
def _gelu(features: Any, approximate: bool = False, name: Any = None) -> Any:
    return ops.gelu(features, approximate=approximate)


@_named("silu", "swish")
def _silu(features: Any, beta: float = 1.0, name: Any = None) -> Any:
    return features * ops.sigmoid(features * beta)


@_named("cumsum")
def _cumsum(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False, name: Any = None) -> Any:
    start = ops.flip(x, axis=axis) if reverse else x
    total = ops.cumsum(start, axis=axis)
    total = total - start if exclusive else total
    return ops.flip(total, axis=axis) if reverse else total


@_named("add_n")
def _add_n(inputs: Any, name: Any = None) -> Any:
    total = inputs[0]
    for other in inputs[1:]:
        total = total + other
    return total


@_named("nn.bias_add", "bias_add")
def _bias_add(value: Any, bias: Any, data_format: Any = None, name: Any = None) -> Any:
    if data_format not in (None, "NHWC", "NWC", "NDHWC", "channels_last"):
        raise RebuildError(
            f"the model calls tf.nn.bias_add with data_format={data_format!r}; expected channels last"
        )
    return value + bias


@_named("l2_normalize", "math.l2_normalize")
def _l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: Any = None) -> Any:
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=_axis(axis), keepdims=True), epsilon))


@_named("norm")
def _norm(
    tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: Any = None, name: Any = None
) -> Any:
    return ops.norm(
        tensor, ord=None if ord == "euclidean" else ord, axis=_axis(axis), keepdims=bool(keepdims)
    )


@_named("image.resize", "resize", "image.resize_v2")
def _resize(
    images: Any,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
    name: Any = None,
) -> Any:
    if preserve_aspect_ratio:
        raise RebuildError(
            "the model calls tf.image.resize with preserve_aspect_ratio, which is not translated"
        )
    return ops.image.resize(
        images, size, interpolation=method, antialias=antialias, data_format="channels_last"
    )


@_named("convert_to_tensor")
def _convert_to_tensor(value: Any, dtype: Any = None, dtype_hint: Any = None, name: Any = None) -> Any:
    return value if dtype is None else ops.cast(value, dtype)
