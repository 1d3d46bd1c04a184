"""A model becomes one ``.onnx`` file, its weights written from where they lie.

Enters: an ``ir.Model`` with its weights in memory. Leaves: the file. Invariants: no weight is copied as a whole,
whatever its size, where protobuf would hold three copies of all of them; the same model gives the same bytes.

The file is a ModelProto whose ``graph`` field is last, and in it the initializers; see
https://protobuf.dev/programming-guides/encoding/ for the wire format.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from interop.graph.arranged import ScaledTensor, blocks
from interop.memory import calls

_AHEAD = 2
"""How many blocks of weights are put in order, in a thread, while one before them is written."""

_LARGE_BYTES = 256 << 10
"""A weight that has to be put in order and is smaller takes less time than a thread takes to answer."""

# Tags of length-delimited fields, ``number << 3 | 2``: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data.
_GRAPH, _INITIALIZER, _RAW_DATA = (bytes([number << 3 | 2]) for number in (7, 5, 9))


def write_file(model: Any, path: Path) -> None:
    """Write a model with its weights inside; the whole must stay below protobuf's 2 GiB.

    Args:
        model: an ``ir.Model``; unchanged.
        path: a new file.
    """
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
    outside, graph = _without_initializers(model)
    starts = [_start(name, tensor) for name, tensor in tensors.items()]
    size = len(graph) + sum(len(start) + length for start, length in starts)
    large = [tensor for tensor in tensors.values() if _is_arranged(tensor) and tensor.nbytes >= _LARGE_BYTES]
    waiting = set(map(id, large))
    with open(path, "wb") as file, ThreadPoolExecutor(1) as beside:
        file.write(outside + _GRAPH + _varint(size) + graph)
        arranged = _ahead(blocks(large, _AHEAD + 1), beside)
        for (start, left), (name, tensor) in zip(starts, tensors.items(), strict=True):
            file.write(start)
            if id(tensor) not in waiting:
                _write(file, _contents(name, tensor))
                continue
            while left:
                left -= _write(file, next(arranged))


def _write(file: BinaryIO, data: Any) -> int:
    return sum(file.write(part) for part in calls(memoryview(data)))


def _ahead(items: Iterator[Any], beside: ThreadPoolExecutor) -> Iterator[Any]:
    """The items, the next ones made in a thread while one is in use."""
    made = deque(beside.submit(next, items, None) for _ in range(_AHEAD))
    while (item := made.popleft().result()) is not None:
        made.append(beside.submit(next, items, None))
        yield item


def _is_arranged(tensor: Any) -> bool:
    """Whether a tensor's bytes do not lie in memory as ONNX stores them, but for their order or a factor."""
    if isinstance(tensor, ScaledTensor):
        return True
    if type(tensor) is not ir.Tensor or sys.byteorder == "big":
        return False
    array = tensor.numpy()
    return array.nbytes == tensor.nbytes and not array.flags.c_contiguous


def _without_initializers(model: Any) -> tuple[bytes, bytes]:
    """The serialized model without its graph, and the graph without its initializers."""
    kept = dict(model.graph.initializers)
    model.graph.initializers.clear()
    try:
        proto = ir.serde.serialize_model(model)
    finally:
        model.graph.initializers.update(kept)
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    return proto.SerializeToString(deterministic=True), graph


def _start(name: str, tensor: Any) -> tuple[bytes, int]:
    """The bytes of an initializer before its contents, and the length of these."""
    if tensor.dtype == ir.DataType.STRING:
        length = len(_contents(name, tensor))
        return _INITIALIZER + _varint(length), length
    named = onnx.TensorProto(name=name, data_type=tensor.dtype.value, dims=list(tensor.shape.numpy()))
    header = named.SerializeToString(deterministic=True) + _RAW_DATA + _varint(tensor.nbytes)
    return _INITIALIZER + _varint(len(header) + tensor.nbytes) + header, tensor.nbytes


def _contents(name: str, tensor: Any) -> Any:
    """The bytes of a tensor as ONNX stores them: little endian, row by row, small types packed; strings in a field
    of their own, with the whole TensorProto around them."""
    if tensor.dtype == ir.DataType.STRING:
        proto = ir.serde.serialize_tensor(tensor)
        proto.name = name
        return proto.SerializeToString(deterministic=True)
    array = tensor.numpy()
    if array.nbytes != tensor.nbytes or sys.byteorder == "big":
        return tensor.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _varint(number: int) -> bytes:
    return bytes(_varint_bytes(number))


def _varint_bytes(number: int) -> Iterator[int]:
    while number > 0x7F:
        yield number & 0x7F | 0x80
        number >>= 7
    yield number
