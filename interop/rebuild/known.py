"""Shape arithmetic: operators on integers that are known when the graph is read.

Enters: an operator and NumPy arrays, whose items may be symbolic sizes. Leaves: arrays, or None where the result
depends on what a size turns out to be; then the operator is computed with tensors. ``Shape -> Gather -> Mul -> Concat``
thereby becomes numbers and expressions, which ``Reshape`` and its kind take as targets.

Invariant: nothing here ever sees a tensor of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.capture.keras.symint import SymInt, same
from interop.graph.typecodes import dtype_name

Array = NDArray[Any]
_LARGEST = 4096  # elements; what is larger is no shape


class _Undecided(Exception):
    """The result depends on the value of a symbolic size."""


def evaluate(
    op_type: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any]
) -> list[Array] | None:
    """The results of an operator of ONNX' own domain on known integers, or None."""
    function = _FUNCTIONS.get(op_type)
    if function is None or any(
        x is not None and (x.dtype.kind not in "iubO" or x.size > _LARGEST or _is_text(x)) for x in inputs
    ):
        return None
    try:
        result = function(*inputs, **attributes)
    except _Undecided:
        return None
    return [settled(array) for array in (result if isinstance(result, list) else [result])]


def computes(op_type: str) -> bool:
    """Whether `evaluate` knows an operator."""
    return op_type in _FUNCTIONS


def _is_text(x: Array) -> bool:
    return x.dtype == object and bool(x.size) and isinstance(x.flat[0], str)


def settled(made: Any) -> Array:
    """An array of plain numbers where no item is symbolic."""
    array = _array(made)
    if array.dtype == object and not any(isinstance(item, SymInt) for item in array.flat):
        truth = bool(array.size) and isinstance(array.flat[0], bool | np.bool_)
        return np.array(array, bool if truth else "int64")
    return array


def _array(x: Any) -> Array:
    """What NumPy made, which of an array without axes is the item itself; a symbolic one stays what it is."""
    if isinstance(x, SymInt):
        array = np.empty((), object)
        array[()] = x
        return array
    return np.asarray(x)


def sizes_array(sizes: Sequence[int]) -> Array:
    """A vector of sizes."""
    array = np.empty(len(sizes), object)
    array[:] = list(sizes)
    return settled(array)


def _axes(axes: Array | Sequence[int] | None) -> tuple[int, ...] | None:
    return None if axes is None else tuple(int(axis) for axis in np.asarray(axes).flat)


def _squeeze(x: Array, axes: Any = None) -> Array:
    return np.squeeze(x, axis=_axes(axes))


def _unsqueeze(x: Array, axes: Any) -> Array:
    return np.expand_dims(x, _axes(axes) or ())


def _gather(x: Array, indices: Array, axis: int = 0) -> Array:
    return _array(np.take(x, _numbers(indices), axis=axis))


def _slice(x: Array, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Array:
    starts, ends = _numbers(starts), _numbers(ends)
    axes = range(len(starts)) if axes is None else _numbers(axes)
    steps = [1] * len(starts) if steps is None else _numbers(steps)
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -x.shape[axis] else int(end)
        index[int(axis)] = slice(int(start), stop, int(step))
    return x[tuple(index)]


def _numbers(x: Any) -> Array:
    array = np.asarray(x)
    if array.dtype == object:
        raise _Undecided
    return array


def _concat(*xs: Array, axis: int) -> Array:
    return np.concatenate(xs, axis=axis)


def _split(x: Array, split: Any = None, *, axis: int = 0, num_outputs: int | None = None) -> list[Array]:
    if split is None:
        if num_outputs is None:
            raise _Undecided
        step = -(-x.shape[axis] // num_outputs)
        return np.split(x, range(step, x.shape[axis], step), axis=axis)
    return np.split(x, np.cumsum(_numbers(split))[:-1], axis=axis)


def _cast(x: Array, to: int, **_: Any) -> Array:
    name = dtype_name(to)
    if x.dtype == object:
        if "int" not in name:
            raise _Undecided
        return x
    if np.dtype(name).kind not in "iub":
        raise _Undecided
    return x.astype(name)


def _div(x: Array, y: Array) -> Array:
    if x.dtype == object or y.dtype == object:
        return x // y  # sizes are not negative
    return (np.abs(x) // np.abs(y) * np.sign(x) * np.sign(y)).astype(x.dtype)


def _mod(x: Array, y: Array, fmod: int = 0) -> Array:
    if fmod and not (x.dtype == object or y.dtype == object):
        return np.fmod(x, y)
    return x % y


def _elementwise(function: Callable[[Any, Any], Any]) -> Callable[[Array, Array], Array]:
    def apply(x: Array, y: Array) -> Array:
        return _array(np.frompyfunc(function, 2, 1)(x, y))

    return apply


def _equal(a: Any, b: Any) -> bool:
    if same(a, b):
        return True
    if isinstance(a, SymInt) or isinstance(b, SymInt):
        number = b if isinstance(a, SymInt) else a
        if isinstance(number, SymInt) or number >= 0:
            raise _Undecided  # only a negative number is no size
    return False


def _decided(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def function(a: Any, b: Any) -> bool:
        if isinstance(a, SymInt) or isinstance(b, SymInt):
            number = b if isinstance(a, SymInt) else a
            if isinstance(number, SymInt) or number >= 0:
                raise _Undecided
        return bool(compare(int(a), int(b)))

    return function


def _extreme(pick: Callable[[int, int], int]) -> Callable[..., Array]:
    def choose(a: Any, b: Any) -> Any:
        if same(a, b):
            return a
        if isinstance(a, SymInt) or isinstance(b, SymInt):
            number = b if isinstance(a, SymInt) else a
            if isinstance(number, SymInt) or number > 0:
                raise _Undecided
        return pick(a, b)

    def function(*xs: Array) -> Array:
        result = xs[0]
        for x in xs[1:]:
            result = _array(np.frompyfunc(choose, 2, 1)(result, x))
        plain = settled(result)
        return plain if plain.dtype == object else plain.astype(xs[0].dtype)

    return function


def _where(condition: Array, x: Array, y: Array) -> Array:
    return np.where(_numbers(condition).astype(bool), x, y)


def _range(start: Array, limit: Array, delta: Array) -> Array:
    return np.arange(*(_numbers(x).item() for x in (start, limit, delta)), dtype=start.dtype)


def _constant_of_shape(shape: Array, value: Array | None = None) -> Array:
    if value is None or value.dtype.kind not in "iub" or np.prod(_numbers(shape)) > _LARGEST:
        raise _Undecided
    return np.full(_numbers(shape), value.reshape(()), value.dtype)


def _reshape(x: Array, shape: Array, allowzero: int = 0) -> Array:
    target = [
        x.shape[axis] if size == 0 and not allowzero else int(size)
        for axis, size in enumerate(_numbers(shape))
    ]
    return x.reshape(target)


def _reduce(function: Callable[..., Any]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
        if axes is None and noop_with_empty_axes:
            return x
        return _array(function(x, axis=_axes(axes) or None, keepdims=bool(keepdims)))

    return reduce


def _expand(x: Array, shape: Array) -> Array:
    return np.broadcast_to(
        x, np.broadcast_shapes(x.shape, tuple(int(size) for size in _numbers(shape)))
    ).copy()


def _logical(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda *xs: np.asarray(function(*(_numbers(x) for x in xs)))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Identity": lambda x: x,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Cast": _cast,
    "Add": lambda x, y: x + y,
    "Sub": lambda x, y: x - y,
    "Mul": lambda x, y: x * y,
    "Neg": lambda x: -x,
    "Div": _div,
    "Mod": _mod,
    "Max": _extreme(max),
    "Min": _extreme(min),
    "Equal": _elementwise(_equal),
    "Greater": _elementwise(_decided(lambda a, b: a > b)),
    "GreaterOrEqual": _elementwise(_decided(lambda a, b: a >= b)),
    "Less": _elementwise(_decided(lambda a, b: a < b)),
    "LessOrEqual": _elementwise(_decided(lambda a, b: a <= b)),
    "And": _logical(np.logical_and),
    "Or": _logical(np.logical_or),
    "Not": _logical(np.logical_not),
    "Where": _where,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "Reshape": _reshape,
    "Transpose": lambda x, perm=None: np.transpose(x, perm),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Expand": _expand,
    "Size": lambda x: np.asarray(x.size),
    "Shape": lambda x, start=0, end=None: np.asarray(x.shape[start:end], "int64"),
}

#: Operators that change nothing but the shape of an array, for arrays of any contents and size.
RESHAPES: dict[str, Callable[..., Array]] = {
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}

#: Operators that take parts of an array, in the same way.
PARTS: dict[str, Callable[..., Any]] = {"Slice": _slice, "Split": _split}
