"""What an emitter works with: tensors in, ONNX nodes out, in the scope of the layer being traced.

Invariants:
- Every value has its dtype; a shape is set wherever a later step may ask for it.
- No size of a dynamic dimension is ever written as a number: a symbolic size becomes 0 or -1 in a
  reshape where that is exact, and Shape arithmetic otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from interop.capture.keras.symint import Poly, SymInt, is_symbolic, same
from interop.errors import UnsupportedOp
from interop.formats.dtypes import numpy_dtype
from interop.graph.record import Body, Dims, Recorder, Scope, Value
from interop.graph.typecodes import onnx_type_code

# A constant with more elements than this is stored once with the weights instead of inside the graph.
INLINE_CONSTANT_LIMIT = 1024

# From as many numbers on a sum is made axis by axis.
_MANY = 1 << 16

# Hints of sizes that depend on values (the count of nonzero elements): another one for every trace.
_UNKNOWN_SIZES = itertools.cycle(range(97, 397, 2))


class Emit:
    """Appends ONNX nodes for one trace.

    Attributes:
        recorder: where nodes go.
        opset: opset of the default domain.
        spec: the output spec (shape and dtype tree) of the Keras operation being emitted.
        arguments: tensors of the operation being emitted; sizes are read off these first.
        bound: called with (indices, row count) when integer values look up rows of a table.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.opset = recorder.opset
        self.spec: Any = None
        self.arguments: list[Value] = []
        self.bound: Callable[[Value, int], None] = lambda indices, count: None
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self._sizes: dict[tuple[Scope, Any], Value] = {}
        self._unknown: dict[tuple[str, Value], SymInt] = {}

    # Nodes and constants

    def node(
        self,
        op_type: str,
        *inputs: Any,
        dtype: str | None = None,
        shape: Dims | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> Value:
        """One node with one output.

        Args:
            op_type: ONNX operator.
            inputs: values, None for an omitted input, or ints / lists of ints / arrays as constants.
            dtype: output dtype; by default the first input's.
            shape: output shape, where a later step needs it.
            domain: operator domain.
            attributes: ONNX attributes; None values are left out.
        """
        return self.nodes(op_type, *inputs, outputs=[(dtype, shape)], domain=domain, **attributes)[0]

    def nodes(
        self,
        op_type: str,
        *inputs: Any,
        outputs: Sequence[tuple[str | None, Dims | None]],
        domain: str = "",
        bodies: Mapping[str, Body] | None = None,
        **attributes: Any,
    ) -> tuple[Value, ...]:
        """One node with several outputs, given as (dtype, shape) pairs; loops and branches have bodies."""
        if domain == "":
            self._check_known(op_type)
        values = [self._operand(x) for x in inputs]
        while values and values[-1] is None:
            values.pop()
        first = next((v.dtype for v in values if v is not None), "float32")
        made = {name: value for name, value in attributes.items() if value is not None}
        return self.recorder.node(
            op_type, values, [(d or first, s) for d, s in outputs], made, domain, bodies
        )

    def _check_known(self, op_type: str) -> None:
        since = _first_opset(op_type, self.opset)
        if since > self.opset:
            raise UnsupportedOp(
                f"{self.recorder.scope.path or 'the model'!r} uses the ONNX operator {op_type}: {op_type} needs opset "
                f"{since} or newer, but opset {self.opset} was requested. Pass opset={since} or leave opset out."
            )

    def _operand(self, x: Any) -> Value | None:
        if x is None or isinstance(x, Value):
            return x
        if isinstance(x, np.ndarray):
            return self.constant(x)
        if isinstance(x, int | list | tuple):
            return self.constant(np.asarray(x, dtype=np.int64))
        raise TypeError(f"an emitter passed {type(x).__name__} where a tensor is needed")

    def constant(self, array: Any, dtype: str | None = None) -> Value:
        """A constant; large ones are stored with the weights under ``<layer path>/constant_<n>``."""
        array = np.asarray(array)
        if dtype is not None:
            array = array.astype(numpy_dtype(dtype))
        if not array.flags.c_contiguous:
            array = np.asarray(array, order="C")
        if array.size <= INLINE_CONSTANT_LIMIT:
            return Value("constant", array.dtype.name, array.shape, array=array)
        path = self.recorder.scope.path
        number = sum(key.startswith(f"{path}/constant_" if path else "constant_") for key in self.constants)
        key = f"{path}/constant_{number}" if path else f"constant_{number}"
        for known, stored in self.constants.items():
            if stored.dtype == array.dtype and stored.shape == array.shape and np.array_equal(stored, array):
                key = known
        self.constants[key] = array
        return self.recorder.variable(key, array.dtype.name, array.shape)

    def scalar(self, value: float | int | bool, dtype: str) -> Value:
        """A rank 0 constant of the given dtype."""
        return self.constant(np.asarray(value), dtype)

    # Conversions

    def tensor(self, x: Any, dtype: str | None = None) -> Value:
        """Anything an operation may be given, as a value, cast to ``dtype`` when that is set."""
        if isinstance(x, Value):
            return x if dtype is None else self.cast(x, dtype)
        if is_symbolic(x):
            return self.cast(self.reshape(self.size(x), ()), dtype or "int32")
        if isinstance(x, list | tuple) and any(isinstance(item, SymInt | Value) for item in x):
            parts = [self.tensor(item, dtype) for item in x]
            kind = dtype or parts[0].dtype
            stacked = [self.unsqueeze(self.cast(part, kind), [0]) for part in parts]
            return self.concat(stacked, 0)
        array = to_numpy(x)
        if dtype is None:
            if array.dtype == np.float64 and isinstance(x, float | list | tuple):
                array = array.astype(np.float32)
            elif array.dtype == np.int64 and isinstance(x, int | list | tuple):
                array = array.astype(np.int32)
        return self.constant(array, dtype)

    def cast(self, x: Value, dtype: str) -> Value:
        """``x`` in another element type; nothing is emitted when it already is."""
        if x.dtype == dtype:
            return x
        if x.kind == "constant" and x.array is not None:
            return Value("constant", dtype, x.shape, array=x.array.astype(numpy_dtype(dtype)))
        if dtype.startswith("float8") and self.opset < 19:
            raise UnsupportedOp(
                f"layer {self.recorder.scope.path!r}: Cast to {dtype} needs opset 19 or newer, but opset {self.opset} "
                "was requested. Pass opset=19 or leave opset out."
            )
        result = self.node("Cast", x, dtype=dtype, shape=x.shape, to=onnx_type_code(dtype))
        result.origin = x.origin
        return result

    def widened(self, x: Value, *kernels: str) -> Value:
        """``x`` in a dtype that ONNX Runtime has a kernel for, wide enough for every value of its own."""
        if x.dtype in kernels:
            return x
        if x.dtype.startswith(("float", "bfloat")):
            return self.cast(x, "float32")
        small = x.dtype not in ("int64", "uint32", "uint64") and "int32" in kernels
        return self.cast(x, "int32" if small else "int64")

    # Sizes

    def size(self, dim: int) -> Value:
        """A dimension as an int64 tensor of shape (1,)."""
        if not is_symbolic(dim):
            return self.constant(np.asarray([int(dim)], np.int64))
        key = (self.recorder.scope, dim.poly)
        found = self._sizes.get(key)
        if found is None:
            found = self._sizes[key] = self._read(dim) or self._compute(dim)
        return found

    def _read(self, dim: SymInt) -> Value | None:
        """Read a size off a tensor at hand: an argument, or an input of an enclosing layer call."""
        scope: Scope | None = self.recorder.scope
        candidates: list[Value] = list(self.arguments)
        while scope is not None:
            candidates.extend(scope.witnesses)
            scope = scope.parent
        for value in candidates:
            for axis, extent in enumerate(value.shape or ()):
                if is_symbolic(extent) and same(extent, dim):
                    return self.node("Shape", value, dtype="int64", shape=(1,), start=axis, end=axis + 1)
        return None

    def unknown(self, label: str, cause: Value) -> SymInt:
        """A dimension that depends on the values of ``cause``; the same one each time it is asked for."""
        key = (label, cause)
        if key not in self._unknown:
            number = sum(known == label for known, _ in self._unknown)
            self._unknown[key] = SymInt.unknown(f"{label}_{number}", next(_UNKNOWN_SIZES))
        return self._unknown[key]

    def witness(self, x: Value) -> Value:
        """Note ``x``, the first value with a dimension from ``unknown``: later sizes are read off it."""
        self.recorder.scope.region.witnesses.append(x)
        return x

    def _compute(self, dim: SymInt) -> Value:
        term, coefficient = dim.poly[0]
        if len(dim.poly) == coefficient == len(term) == 1 and term[0][0] in ("s", "u"):
            raise ValueError(f"no tensor at hand has the dimension {dim}")
        return self._polynomial(dim.poly)

    def _polynomial(self, poly: Poly) -> Value:
        total: Value | None = None
        for monomial, coefficient in poly:
            term: Value | None = None
            for atom in monomial:
                factor = self._atom(atom)
                term = factor if term is None else self._integer("Mul", term, factor)
            if term is None or coefficient != 1:
                number = self.constant(np.asarray([coefficient], np.int64))
                term = number if term is None else self._integer("Mul", term, number)
            total = term if total is None else self._integer("Add", total, term)
        return total if total is not None else self.constant(np.asarray([0], np.int64))

    def _atom(self, atom: tuple[Any, ...]) -> Value:
        if atom[0] in ("s", "u"):
            return self.size(SymInt(1, (((atom,), 1),)))
        left, right = self._polynomial(atom[1]), self._polynomial(atom[2])
        return self._integer("Div" if atom[0] == "//" else "Mod", left, right)

    def _integer(self, op_type: str, a: Value, b: Value) -> Value:
        return self.node(op_type, a, b, dtype="int64", shape=(1,))

    def sizes(self, dims: Sequence[int]) -> Value:
        """Dimensions as one int64 vector, constant where all are known."""
        if not any(is_symbolic(dim) for dim in dims):
            return self.constant(np.asarray([int(dim) for dim in dims], np.int64))
        key = (self.recorder.scope, tuple(d.poly if is_symbolic(d) else int(d) for d in dims))
        found = self._sizes.get(key)
        if found is None:
            found = self.concat([self.size(dim) for dim in dims], 0) if len(dims) > 1 else self.size(dims[0])
            self._sizes[key] = found
        return found

    def forget_sizes(self, scope: Scope) -> None:
        """Drop the sizes that were computed in a scope whose nodes were discarded."""
        gone = set(map(id, scope.walk()))
        self._sizes = {key: value for key, value in self._sizes.items() if id(key[0]) not in gone}

    # Layout

    def reshape(self, x: Value, dims: Sequence[int]) -> Value:
        """``x`` with the given shape."""
        dims = tuple(dims)
        source = x.dims
        if len(dims) == len(source) and all(same(a, b) for a, b in zip(dims, source, strict=True)):
            return x
        target: list[int] = []
        open_axes = 0
        for axis, dim in enumerate(dims):
            if not is_symbolic(dim):
                target.append(int(dim))
            elif axis < len(source) and same(dim, source[axis]):
                target.append(0)
            else:
                target.append(-1)
                open_axes += 1
        copies_zero = any(not is_symbolic(dim) and dim == 0 for dim in dims)
        vector: Any = target
        if open_axes > 1 or copies_zero:
            vector = self.sizes(dims)
        result = self.node("Reshape", x, vector, shape=dims, allowzero=1 if copies_zero else None)
        result.origin = x.origin
        return result

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """Axes reordered; nothing is emitted for the identity."""
        perm = [int(axis) % x.rank for axis in perm]
        if perm == sorted(perm):
            return x
        result = self.node("Transpose", x, shape=tuple(x.dims[axis] for axis in perm), perm=perm)
        result.origin = x.origin
        return result

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        """Axes of size 1 inserted at the given positions of the result."""
        if not axes:
            return x
        rank = x.rank + len(axes)
        places = sorted(axis % rank for axis in axes)
        dims = list(x.dims)
        for place in places:
            dims.insert(place, 1)
        result = self.node("Unsqueeze", x, list(places), shape=tuple(dims))
        result.origin = x.origin
        return result

    def squeeze(self, x: Value, axes: Sequence[int]) -> Value:
        """Axes of size 1 removed."""
        if not axes:
            return x
        gone = sorted(axis % x.rank for axis in axes)
        dims = tuple(dim for axis, dim in enumerate(x.dims) if axis not in gone)
        result = self.node("Squeeze", x, list(gone), shape=dims)
        result.origin = x.origin
        return result

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values joined along an axis."""
        axis = axis % values[0].rank
        dims = list(values[0].dims)
        dims[axis] = sum((value.dims[axis] for value in values[1:]), start=dims[axis])
        return self.node("Concat", *values, shape=tuple(dims), axis=axis)

    def expand(self, x: Value, dims: Sequence[int]) -> Value:
        """``x`` broadcast to the given shape."""
        if x.rank == len(dims) and all(same(a, b) for a, b in zip(x.dims, dims, strict=True)):
            return x
        return self.node("Expand", x, self.sizes(dims), shape=tuple(dims))

    def slice(self, x: Value, axis: int, start: Any, stop: Any, step: int = 1) -> Value:
        """A slice of one axis; ``stop=None`` runs to the end (to the beginning when reversed)."""
        axis = axis % x.rank
        edge = np.iinfo(np.int64)
        if stop is None:
            stop = edge.max if step > 0 else edge.min
        return self.node("Slice", x, self.size(start), self.size(stop), [axis], [step])

    def flip(self, x: Value, axis: int) -> Value:
        """One axis reversed."""
        result = self.slice(x, axis, -1, None, -1)
        result.shape = x.shape
        return result

    # Arithmetic that many emitters share

    def binary(self, op_type: str, a: Value, b: Value, dtype: str | None = None) -> Value:
        """An elementwise operator with NumPy broadcasting; both sides must have one dtype."""
        from interop.capture.keras.shapes import broadcast_shapes

        shape = None if a.shape is None or b.shape is None else tuple(broadcast_shapes(a.shape, b.shape))
        return self.node(op_type, a, b, dtype=dtype, shape=shape)

    def unary(self, op_type: str, x: Value, **attributes: Any) -> Value:
        """An elementwise operator of one input."""
        return self.node(op_type, x, shape=x.shape, **attributes)

    def like(self, value: float | int | bool, x: Value) -> Value:
        """A rank 0 constant in ``x``'s dtype."""
        return self.scalar(value, x.dtype)

    def reduce(self, op_type: str, x: Value, axes: Iterable[int] | None, keepdims: bool = False) -> Value:
        """A Reduce* operator; ``axes=None`` reduces everything."""
        places = list(range(x.rank)) if axes is None else sorted(int(a) % x.rank for a in axes)
        if keepdims:
            dims = tuple(1 if axis in places else dim for axis, dim in enumerate(x.dims))
        else:
            dims = tuple(dim for axis, dim in enumerate(x.dims) if axis not in places)
        if not places:
            return x
        if op_type in ("ReduceMean", "ReduceSum") and not keepdims and _adds_up_many(x, places):
            for axis in reversed(places):
                x = self._reduce(op_type, x, [axis], (*x.dims[:axis], *x.dims[axis + 1 :]), False)
            return x
        return self._reduce(op_type, x, places, dims, keepdims)

    def _reduce(
        self, op_type: str, x: Value, places: list[int], dims: tuple[Any, ...], keepdims: bool
    ) -> Value:
        as_input = self.opset >= (13 if op_type == "ReduceSum" else 18)
        inputs: list[Any] = [x, places] if as_input else [x]
        attribute = None if as_input else places
        return self.node(op_type, *inputs, shape=dims, keepdims=int(keepdims), axes=attribute)

    def matmul(self, a: Value, b: Value) -> Value:
        """Matrix product of values with at least two axes each."""
        from interop.capture.keras.shapes import broadcast_shapes

        batch = broadcast_shapes(a.dims[:-2], b.dims[:-2])
        return self.node("MatMul", a, b, shape=(*batch, a.dims[-2], b.dims[-1]))


def _adds_up_many(x: Value, places: Sequence[int]) -> bool:
    """Whether so many floats are added up that it is to be done axis by axis.

    ONNX Runtime adds to one float32, which loses some 1e-3 of a mean over a million. Volumes of an unknown size have as
    many.
    """
    if len(places) < 2 or not x.dtype.startswith(("float", "bf")):
        return False
    sizes = [x.dims[axis] for axis in places]
    known = math.prod(int(size) for size in sizes if not is_symbolic(size))
    return known > _MANY or sum(map(is_symbolic, sizes)) > 2


@cache
def _first_opset(op_type: str, opset: int) -> int:
    """`opset` if it has the operator, otherwise the one that brought it; one nobody knows is the checker's to find."""
    import onnx

    try:
        onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        schemas = onnx.defs.get_all_schemas_with_history()
        versions = (s.since_version for s in schemas if s.name == op_type and s.domain == "")
        return min(versions, default=opset)
    return opset


def to_numpy(x: Any) -> np.ndarray[Any, Any]:
    """A concrete tensor of any backend, or Python numbers, as an array."""
    if isinstance(x, np.ndarray | np.generic | int | float | bool | list | tuple):
        return np.asarray(x)
    from interop.capture.keras import compat

    return compat.to_numpy(x)


def axis_list(axis: Any, rank: int) -> list[int]:
    """An ``axis`` argument (int, sequence or None for all) as non-negative axes."""
    if axis is None:
        return list(range(rank))
    if isinstance(axis, int):
        return [axis % rank]
    return [int(a) % rank for a in axis]


def element_count(dims: Sequence[int]) -> int:
    """Number of elements; symbolic when a dimension is."""
    return math.prod(dims)
