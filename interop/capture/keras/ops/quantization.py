"""Four-bit integers, two in a byte, and products of eight-bit integers.

Invariants: a packed tensor stays packed in the file; it is unpacked by arithmetic in the graph, on the
packed tensor's own layout. A product of int8 tensors is the exact int32 sum, whatever its length.
"""

from __future__ import annotations

from interop.capture.keras.emit import Emit
from interop.capture.keras.registry import function
from interop.graph.record import Dims, Value


@function("unpack_int4", since=14)
def unpack_int4(e: Emit, packed: Value, orig_len: int, axis: int = 0, dtype: str = "int8") -> Value:
    """Low halves and high halves of the bytes, interleaved along ``axis``; a byte's low half comes first.

    Mod and Div instead of bit operations, which ONNX has from opset 18 on only. ``graph.passes.int4`` knows
    this form.
    """
    axis %= packed.rank
    packed = e.cast(packed, dtype)
    sixteen = e.scalar(16, dtype)
    low = e.binary("Mod", packed, sixteen)  # from 0 to 15, for negative bytes too
    high = e.binary("Div", e.binary("Sub", packed, low), sixteen)
    if dtype == "int8":
        eight = e.scalar(8, dtype)
        low = e.binary("Sub", e.binary("Mod", e.binary("Add", low, eight), sixteen), eight)
    pairs = e.concat([e.unsqueeze(low, [axis + 1]), e.unsqueeze(high, [axis + 1])], axis + 1)
    dims = list(packed.dims)
    dims[axis] *= 2
    whole = e.reshape(pairs, dims)
    if orig_len == dims[axis]:
        return whole
    dims[axis] = orig_len
    result = e.slice(whole, axis, 0, orig_len)
    result.shape = tuple(dims)
    return result


def integer_product(e: Emit, a: Value, b: Value, shape: Dims) -> Value:
    """The matrix product of two int8 tensors in int32.

    Both are moved to uint8, with 128 as zero: ONNX Runtime's x86 kernels for that are exact and 40 times as fast
    as the ones for int8 by int8; those for uint8 by int8 overflow on processors without VNNI.
    """
    zero = e.scalar(128, "uint8")
    return e.node("MatMulInteger", _unsigned(e, a), _unsigned(e, b), zero, zero, dtype="int32", shape=shape)


def _unsigned(e: Emit, x: Value) -> Value:
    moved = e.binary("Add", e.cast(x, "int16"), e.scalar(128, "int16"))
    return e.cast(moved, "uint8")
