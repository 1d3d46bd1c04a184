"""Matrix products, einsum and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit, element_count, to_numpy
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.ops.elementwise import operands
from interop.capture.keras.ops.quantization import integer_product
from interop.capture.keras.registry import op
from interop.capture.keras.shapes import broadcast_shapes, merge
from interop.capture.keras.symint import is_symbolic
from interop.graph.record import Dims, Value


def _matmul_spec(operation: Any, x1: Any, x2: Any) -> Any:
    a, b = list(x1.shape), list(x2.shape)
    left, right = len(a) == 1, len(b) == 1
    a = [1, *a] if left else a
    b = [*b, 1] if right else b
    merge(a[-1], b[-2])
    shape = [*broadcast_shapes(a[:-2], b[:-2]), *([] if left else [a[-2]]), *([] if right else [b[-1]])]
    dtype = compat.result_type(x1.dtype, x2.dtype)
    if x1.dtype == "int8" and x2.dtype == "int8":
        dtype = "int32"
    return compat.tensor_spec(shape, dtype)


# Element types that ONNX Runtime multiplies matrices of.
_MULTIPLIED = ("float32", "float16", "bfloat16", "float64", "int32", "int64", "uint32", "uint64")


def _factors(e: Emit, x1: Any, x2: Any) -> tuple[Value, Value]:
    """Both operands in the result's dtype, or a wider one that has a kernel; int8 by int8 stays as it is."""
    if all(getattr(x, "dtype", None) == "int8" for x in (x1, x2)) and e.spec.dtype == "int32":
        return e.tensor(x1), e.tensor(x2)
    a, b = operands(e, x1, x2, e.spec.dtype)
    return e.widened(a, *_MULTIPLIED), e.widened(b, *_MULTIPLIED)


def _product_spec(operation: Any, x1: Any, x2: Any) -> Any:
    """NumPy's promotion; the emitter knows the shape."""
    dtype = compat.result_type(*(getattr(x, "dtype", type(x)) for x in (x1, x2)))
    return compat.tensor_spec((None,), dtype)


@op("Matmul", since=13, spec=_matmul_spec)
def matmul(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = _factors(e, x1, x2)
    return _product(e, a, b, tuple(e.spec.shape))


def _product(e: Emit, a: Value, b: Value, shape: Dims) -> Value:
    if a.dtype == "int8":
        return integer_product(e, a, b, shape)
    return e.node("MatMul", a, b, dtype=a.dtype, shape=shape)


@op("Dot", since=13, spec=_product_spec)
def dot(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = _factors(e, x1, x2)
    if a.rank == 0 or b.rank == 0:
        return e.binary("Mul", a, b)
    return _contract(e, a, b, [a.rank - 1], [max(b.rank - 2, 0)])


@op("Inner", since=13, spec=_product_spec)
def inner(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = _factors(e, x1, x2)
    if a.rank == 0 or b.rank == 0:
        return e.binary("Mul", a, b)
    return _contract(e, a, b, [a.rank - 1], [b.rank - 1])


@op("Vdot", since=13, spec=_product_spec)
def vdot(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = (e.reshape(x, (element_count(x.dims),)) for x in _factors(e, x1, x2))
    return _contract(e, a, b, [0], [0])


@op("Outer", since=13, spec=_product_spec)
def outer(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    column = e.reshape(a, (element_count(a.dims), 1))
    return _multiplied(e, column, e.reshape(b, (1, element_count(b.dims))))


def _multiplied(e: Emit, a: Value, b: Value) -> Value:
    return e.binary("And" if a.dtype == "bool" else "Mul", a, b)


@op("Kron", since=13, spec=_product_spec)
def kron(e: Emit, x1: Any, x2: Any) -> Value:
    a, b = operands(e, x1, x2, e.spec.dtype)
    rank = max(a.rank, b.rank)
    a, b = (e.unsqueeze(x, list(range(rank - x.rank))) for x in (a, b))
    wide = e.unsqueeze(a, list(range(1, 2 * rank, 2)))
    product = _multiplied(e, wide, e.unsqueeze(b, list(range(0, 2 * rank, 2))))
    return e.reshape(product, [m * n for m, n in zip(a.dims, b.dims, strict=True)])


@op("Cross", since=13, spec=_product_spec)
def cross(e: Emit, x1: Any, x2: Any, *, axisa: int, axisb: int, axisc: int) -> Value:
    """Components moved last; vectors of two components lie in the plane."""
    a, b = operands(e, x1, x2, e.spec.dtype)
    a, b = (e.transpose(x, _last(x.rank, axis)) for x, axis in ((a, axisa), (b, axisb)))
    if a.dims[-1] == b.dims[-1] == 2:
        turned = e.binary("Mul", a, _components(e, b, [1, 0]))
        parts = e.nodes("Split", turned, [1, 1], outputs=[(a.dtype, (*turned.dims[:-1], 1))] * 2, axis=-1)
        return e.squeeze(e.binary("Sub", parts[0], parts[1]), [-1])
    a, b = _in_space(e, a), _in_space(e, b)
    forth = e.binary("Mul", _components(e, a, [1, 2, 0]), _components(e, b, [2, 0, 1]))
    back = e.binary("Mul", _components(e, a, [2, 0, 1]), _components(e, b, [1, 2, 0]))
    product = e.binary("Sub", forth, back)
    perm = list(range(product.rank - 1))
    perm.insert(axisc % product.rank, product.rank - 1)
    return e.transpose(product, perm)


def _last(rank: int, axis: int) -> list[int]:
    return [*(i for i in range(rank) if i != axis % rank), axis % rank]


def _components(e: Emit, x: Value, order: list[int]) -> Value:
    return e.node("Gather", x, order, shape=x.shape, axis=x.rank - 1)


def _in_space(e: Emit, x: Value) -> Value:
    if not is_symbolic(x.dims[-1]) and x.dims[-1] == 2:
        return e.concat([x, e.expand(e.like(0, x), (*x.dims[:-1], 1))], -1)
    merge(x.dims[-1], 3)
    return x


@op("Vander", since=15)
def vander(e: Emit, x: Value, *, N: int | None, increasing: bool) -> Value:
    """Powers of a vector, one column each."""
    count = x.dims[0] if N is None else N
    wide = e.widened(x, "float32", "float64", "int32", "int64")
    powers = counting(e, count)
    if not increasing:
        powers = e.binary("Sub", e.reshape(e.size(count - 1), ()), powers)
    return e.binary("Pow", e.unsqueeze(wide, [1]), e.cast(powers, wide.dtype))


@op("CDist", since=13)
def cdist(e: Emit, x1: Any, x2: Any) -> Value:
    """Distances by differences, not by products, which would lose near points."""
    a, b = operands(e, x1, x2, e.spec.dtype)
    apart = e.binary("Sub", e.unsqueeze(a, [-2]), e.unsqueeze(b, [-3]))
    return e.unary("Sqrt", e.reduce("ReduceSum", e.binary("Mul", apart, apart), [-1]))


def _contract(e: Emit, a: Value, b: Value, axes_a: list[int], axes_b: list[int]) -> Value:
    """Sum over paired axes as one matrix product: free axes of ``a`` first, then those of ``b``."""
    free_a = [i for i in range(a.rank) if i not in axes_a]
    free_b = [i for i in range(b.rank) if i not in axes_b]
    rows, columns = [a.dims[i] for i in free_a], [b.dims[i] for i in free_b]
    inner = math.prod(merge(a.dims[i], b.dims[j]) for i, j in zip(axes_a, axes_b, strict=True))
    left = e.transpose(a, [*free_a, *axes_a])
    # Leading axes can stay: MatMul broadcasts over them, and no size needs to be computed.
    left = e.reshape(left, (*rows, inner)) if len(axes_a) != 1 else left
    right = e.reshape(e.transpose(b, [*axes_b, *free_b]), (inner, math.prod(columns)))
    if left.rank == 1:
        product = _product(e, left, right, (math.prod(columns),))
    else:
        product = _product(e, left, right, (*rows, math.prod(columns)))
    return e.reshape(product, (*rows, *columns))


@op("Tensordot", since=13, spec=_product_spec)
def tensordot(e: Emit, x1: Any, x2: Any, *, axes: Any) -> Value:
    a, b = _factors(e, x1, x2)
    if isinstance(axes, int):
        axes_a, axes_b = list(range(a.rank - axes, a.rank)), list(range(axes))
    else:
        axes_a, axes_b = ([one] if isinstance(one, int) else list(one) for one in axes)
        axes_a, axes_b = [i % a.rank for i in axes_a], [i % b.rank for i in axes_b]
    return _contract(e, a, b, axes_a, axes_b)


def _parse(subscripts: str, ranks: list[int]) -> tuple[list[str], str]:
    """Einsum terms with every ellipsis spelt out in capital letters, and the output term."""
    left, _, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [chr(code) for code in range(ord("Z"), ord("A") - 1, -1) if chr(code) not in subscripts]
    widest = max((rank - len(t) + 3 for t, rank in zip(terms, ranks, strict=True) if "..." in t), default=0)
    spelt = "".join(spare[:widest][::-1])
    full = []
    for term, rank in zip(terms, ranks, strict=True):
        width = rank - len(term) + 3 if "..." in term else 0
        full.append(term.replace("...", spelt[len(spelt) - width :]))
    if "->" in subscripts:
        return full, right.replace("...", spelt)
    letters = sorted("".join(full))
    once = "".join(
        letter for letter in dict.fromkeys(letters) if letters.count(letter) == 1 and letter not in spelt
    )
    return full, spelt + once


def _without_ones(e: Emit, values: list[Value], terms: list[str]) -> tuple[list[Value], list[str]]:
    """Axes of size 1 that NumPy broadcasts taken out: ONNX's Einsum wants equal sizes."""
    wide = {
        letter
        for term, x in zip(terms, values, strict=True)
        for letter, dim in zip(term, x.dims, strict=True)
        if is_symbolic(dim) or dim != 1
    }
    squeezed, left = [], []
    for term, x in zip(terms, values, strict=True):
        gone = [i for i, dim in enumerate(x.dims) if term[i] in wide and not is_symbolic(dim) and dim == 1]
        squeezed.append(e.squeeze(x, gone))
        left.append("".join(letter for i, letter in enumerate(term) if i not in gone))
    return squeezed, left


def _einsum_spec(operation: Any, *args: Any, **kwargs: Any) -> Any:
    terms, output = _parse(operation.subscripts, [len(x.shape) for x in args])
    sizes: dict[str, Any] = {}
    for term, x in zip(terms, args, strict=True):
        for letter, dim in zip(term, x.shape, strict=True):
            sizes[letter] = merge(sizes[letter], dim) if letter in sizes else dim
    dtype = compat.result_type(*(x.dtype for x in args))
    if all(x.dtype == "int8" for x in args):
        dtype = "int32"
    return compat.tensor_spec([sizes[letter] for letter in output], dtype)


@op("Einsum", since=13, spec=_einsum_spec)
def einsum(e: Emit, *args: Any, subscripts: str) -> Value:
    """A two-operand contraction without batch letters as MatMul; the rest as ONNX Einsum."""
    operation_terms, output = _parse(subscripts, [len(x.shape) for x in args])
    values = list(_factors(e, *args)) if len(args) == 2 else [e.tensor(x, e.spec.dtype) for x in args]
    values, operation_terms = _without_ones(e, values, operation_terms)
    if len(values) == 2:
        left, right = operation_terms
        shared = [letter for letter in right if letter in left and letter not in output]
        free = [t for t in left if t not in shared], [t for t in right if t not in shared]
        no_batch = (
            not set(free[0]) & set(free[1]) and len(set(left)) == len(left) and len(set(right)) == len(right)
        )
        if shared and no_batch and "".join(free[0] + free[1]) == output:
            places_left, places_right = [left.index(t) for t in shared], [right.index(t) for t in shared]
            return _contract(e, values[0], values[1], places_left, places_right)
    equation = ",".join(operation_terms) + "->" + output
    values = [e.cast(x, e.spec.dtype) for x in values]
    values = [e.widened(x, "float32", "float16", "bfloat16", "float64", "int32", "int64") for x in values]
    return e.node("Einsum", *values, equation=equation, shape=tuple(e.spec.shape))


def _attention_spec(operation: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    dtype = compat.result_type(query.dtype, key.dtype, value.dtype)
    return compat.tensor_spec((*query.shape[:-1], value.shape[-1]), dtype)


@op("DotProductAttention", since=16, spec=_attention_spec)
def dot_product_attention(
    e: Emit,
    query: Value,
    key: Value,
    value: Value,
    bias: Value | None = None,
    mask: Any = None,
    scale: Any = None,
    *,
    is_causal: bool,
    attn_logits_soft_cap: float | None,
) -> Value:
    """softmax(scale * q k^T + bias, masked) v; tensors are (batch, length, heads, size)."""
    dtype = e.spec.dtype
    query, key, value = (e.cast(x, dtype) for x in (query, key, value))
    factor = 1 / math.sqrt(int(query.dims[-1])) if scale is None else scale
    key, value = (_shared_heads(e, x, query.dims[2]) for x in (key, value))
    q = e.transpose(query, [0, 2, 1, 3])
    logits = e.matmul(e.binary("Mul", q, e.tensor(factor, dtype)), e.transpose(key, [0, 2, 3, 1]))
    if bias is not None:
        logits = e.binary("Add", logits, e.cast(bias, dtype))
    if attn_logits_soft_cap is not None:
        cap = e.like(float(attn_logits_soft_cap), logits)
        logits = e.binary("Mul", cap, e.unary("Tanh", e.binary("Div", logits, cap)))
    allowed = _allowed(e, mask, is_causal, query, key)
    if allowed is not None:
        logits = e.node("Where", allowed, logits, _floor(e, dtype), dtype=dtype, shape=logits.shape)
    weights = e.unary("Softmax", logits, axis=-1)
    mixed = e.matmul(weights, e.transpose(value, [0, 2, 1, 3]))
    return e.transpose(mixed, [0, 2, 1, 3])


@op("DotProductAttention", since=23, spec=_attention_spec)
def native_attention(
    e: Emit,
    query: Value,
    key: Value,
    value: Value,
    bias: Value | None = None,
    mask: Any = None,
    scale: Any = None,
    *,
    is_causal: bool,
    attn_logits_soft_cap: float | None,
) -> Value:
    """As one operator, where ONNX Runtime has it and it means the same.

    The mask is added: where a row has no key at all, Keras takes the mean of the values and ONNX not-a-number.
    """
    heads, own, size = query.dims[2], key.dims[2], query.dims[-1]
    known = not any(is_symbolic(dim) for dim in (heads, own, size, value.dims[-1]))
    if e.spec.dtype != "float32" or attn_logits_soft_cap is not None or isinstance(scale, Value) or not known:
        return dot_product_attention(
            e,
            query,
            key,
            value,
            bias,
            mask,
            scale,
            is_causal=is_causal,
            attn_logits_soft_cap=attn_logits_soft_cap,
        )
    query, key, value = (e.cast(x, "float32") for x in (query, key, value))
    added = None if bias is None else e.cast(bias, "float32")
    allowed = _allowed(e, mask, is_causal and (mask is not None or bias is not None), query, key)
    if allowed is not None:
        kept = e.scalar(0, "float32") if added is None else added
        shape = tuple(broadcast_shapes(allowed.dims, kept.dims))
        added = e.node("Where", allowed, kept, _floor(e, "float32"), dtype="float32", shape=shape)
    if added is not None:  # ONNX Runtime broadcasts no further than over batch and heads
        added = e.expand(added, (*added.dims[:-2], query.dims[1], key.dims[1]))
    flat = [e.reshape(x, (*x.dims[:2], x.dims[2] * x.dims[3])) for x in (query, key, value)]
    mixed = e.node(
        "Attention",
        *flat,
        added,
        shape=(*query.dims[:2], heads * value.dims[-1]),
        q_num_heads=int(heads),
        kv_num_heads=int(own),
        scale=float(1 / math.sqrt(int(size)) if scale is None else to_numpy(scale)),
        is_causal=1 if is_causal and added is None else None,
    )
    return e.reshape(mixed, (*query.dims[:3], value.dims[-1]))


def _allowed(e: Emit, mask: Any, is_causal: bool, query: Value, key: Value) -> Value | None:
    """Where a query may look; None if everywhere."""
    allowed = None if mask is None else e.tensor(mask, "bool")
    if not is_causal:
        return allowed
    causal = causal_mask(e, query.dims[1], key.dims[1])
    return causal if allowed is None else e.binary("And", allowed, causal)


def _floor(e: Emit, dtype: str) -> Value:
    """Keras' own "minus infinity" for masked logits: 0.7 of the dtype's range."""
    return e.scalar(-0.7 * float(_largest(dtype)), dtype)


def _largest(dtype: str) -> Any:
    return 3.3895313892515355e38 if dtype == "bfloat16" else np.finfo(dtype).max


def _shared_heads(e: Emit, x: Value, heads: Any) -> Value:
    """Repeat key or value heads for grouped queries."""
    own = x.dims[2]
    if is_symbolic(own) or own == heads:
        return x
    group = heads // own
    wide = e.expand(e.unsqueeze(x, [3]), (*x.dims[:3], group, x.dims[3]))
    return e.reshape(wide, (*x.dims[:2], heads, x.dims[3]))


def causal_mask(e: Emit, rows: Any, columns: Any) -> Value:
    """(rows, columns), true where the column is not after the row."""
    row = e.unsqueeze(counting(e, rows), [1])
    column = e.unsqueeze(counting(e, columns), [0])
    return e.binary("GreaterOrEqual", row, column, dtype="bool")
