"""The part of ONNX's protobuf schema that reading safely needs, in a pool of its own.

What enters: the bytes of a ``ModelProto``. What leaves: a message to look at and to change. Fields that are
not declared here are kept as they are when a message is serialised again.

Invariants: the default descriptor pool is not touched (the onnx and tensorflow packages register the same
names there); ``onnx`` is not imported (it costs more than ONNX Runtime itself).

Spec: https://github.com/onnx/onnx/blob/v1.17.0/onnx/onnx.proto
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from interop.artifact.outline import Outline, graphs_of, steps
from interop.errors import ArtifactError
from interop.formats.dtypes import BY_NAME
from interop.formats.messages import ONNX_TENSOR, message_classes
from interop.formats.safetensors import Entry

_EXTERNAL = 1
_CAST = ("", "Cast", "")

# message -> "field number type", where * marks repeated and + repeated packed.
_MESSAGES = {
    "ModelProto": (
        "ir_version 1 int64",
        "graph 7 GraphProto",
        "opset_import 8 *OperatorSetIdProto",
        "training_info 20 *TrainingInfoProto",
        "functions 25 *FunctionProto",
    ),
    "OperatorSetIdProto": ("domain 1 string", "version 2 int64"),
    "TrainingInfoProto": ("initialization 1 GraphProto", "algorithm 2 GraphProto"),
    "GraphProto": (
        "node 1 *NodeProto",
        "initializer 5 *TensorProto",
        "input 11 *ValueInfoProto",
        "output 12 *ValueInfoProto",
        "sparse_initializer 15 *SparseTensorProto",
    ),
    "ValueInfoProto": ("name 1 string",),
    "FunctionProto": (
        "name 1 string",
        "input 4 *string",
        "output 5 *string",
        "attribute 6 *string",
        "node 7 *NodeProto",
        "opset_import 9 *OperatorSetIdProto",
        "domain 10 string",
        "attribute_proto 11 *AttributeProto",
        "overload 13 string",
    ),
    "NodeProto": (
        "input 1 *string",
        "output 2 *string",
        "name 3 string",
        "op_type 4 string",
        "attribute 5 *AttributeProto",
        "domain 7 string",
        "overload 8 string",
    ),
    "AttributeProto": (
        "name 1 string",
        "i 3 int64",
        "t 5 TensorProto",
        "g 6 GraphProto",
        "ints 8 *int64",
        "tensors 10 *TensorProto",
        "graphs 11 *GraphProto",
        "ref_attr_name 21 string",
        "sparse_tensor 22 SparseTensorProto",
        "sparse_tensors 23 *SparseTensorProto",
    ),
    "SparseTensorProto": ("values 1 TensorProto", "indices 2 TensorProto", "dims 3 *int64"),
    **ONNX_TENSOR,
}

_CLASSES = message_classes("interop.onnx", _MESSAGES)


def parse_model(data: bytes | memoryview) -> Any:
    """Parse a ``ModelProto``.

    Raises:
        ArtifactError: the bytes are no ONNX model.
    """
    model = _CLASSES["ModelProto"]()
    try:
        model.MergeFromString(data)
    except (DecodeError, ValueError, MemoryError) as e:
        raise ArtifactError(f"the bytes are not an ONNX model: {e}") from e
    if not model.HasField("graph"):
        raise ArtifactError("the bytes are not an ONNX model: they hold no graph")
    return model


def serialize_model(model: Any) -> bytes:
    """Serialise a message of `parse_model`.

    Raises:
        ArtifactError: it is over protobuf's limit of 2 GiB.
    """
    try:
        data: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as e:
        raise ArtifactError(f"the graph cannot be serialised: {e}") from e
    return data


def is_external(tensor: Any) -> bool:
    """Whether a ``TensorProto`` keeps its values in another file, or claims anything to that end."""
    return bool(tensor.data_location == _EXTERNAL or len(tensor.external_data))


class ExternalTensors:
    """Messages of tensors in one file. They share what they can: the last one made is changed into the next."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._kinds: dict[tuple[str, tuple[int, ...]], tuple[Any, Any]] = {}

    def make(self, name: str, entry: Entry, start: int = 0) -> Any:
        """The ``TensorProto`` of an entry, counted from byte `start`, until the next is made."""
        kind = entry.dtype, entry.shape
        if kind not in self._kinds:
            made = _CLASSES["TensorProto"](
                dims=entry.shape, data_type=BY_NAME[entry.dtype].onnx, data_location=_EXTERNAL
            )
            made.external_data.add(key="location", value=self._location)
            offset = made.external_data.add(key="offset")
            made.external_data.add(key="length", value=str(entry.size_bytes))
            self._kinds[kind] = made, offset
        tensor, offset = self._kinds[kind]
        tensor.name, offset.value = name, str(entry.begin - start)
        return tensor


def float_types(model: Any, outline: Outline) -> frozenset[str]:
    """The float types that a model's weights are in, and those it casts to."""
    codes = {tensor.data_type for tensor in model.graph.initializer}
    pending = [outline.graph, *outline.functions.values()]
    while pending:
        for step in pending.pop():
            for attribute in step.attributes:
                pending += map(steps, graphs_of(attribute))
                if step.key == _CAST and attribute.name == "to":
                    codes.add(attribute.i)
    names = ("float16", "bfloat16", "float32", "float64")
    return frozenset(name for name in names if BY_NAME[name].onnx in codes)
