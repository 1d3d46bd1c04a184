"""The protobuf messages of checkpoints, in a pool of their own.

What enters and leaves: bytes and messages. Spec: tensor_bundle.proto, tensor_shape.proto, tensor_slice.proto and
trackable_object_graph.proto of TensorFlow.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

from interop.errors import FormatError
from interop.formats.messages import message_classes

_MESSAGES = {
    "BundleHeader": ("num_shards 1 int32", "endianness 2 int32", "version 3 Version"),
    "Version": ("producer 1 int32", "min_consumer 2 int32"),
    "BundleEntry": (
        "dtype 1 int32",
        "shape 2 Shape",
        "shard_id 3 int32",
        "offset 4 int64",
        "size 5 int64",
        "crc32c 6 fixed32",
        "slices 7 *Slice",
    ),
    "Shape": ("dim 2 *Dim", "unknown_rank 3 bool"),
    "Dim": ("size 1 int64",),
    "Slice": ("extent 1 *Extent",),
    # `length` is in a oneof in TensorFlow: absent says "all of this dimension"; 0 is never written.
    "Extent": ("start 1 int64", "length 2 int64"),
    "ObjectGraph": ("nodes 1 *Object",),
    "Object": (
        "children 1 *Reference",
        "attributes 2 *Attribute",
        "slot_variables 3 *SlotVariable",
        "registered_saver 4 RegisteredSaver",
        "has_checkpoint_values 5 BoolValue",
    ),
    "Reference": ("node_id 1 int32", "local_name 2 string"),
    "Attribute": ("name 1 string", "full_name 2 string", "checkpoint_key 3 string"),
    "SlotVariable": (
        "original_variable_node_id 1 int32",
        "slot_name 2 string",
        "slot_variable_node_id 3 int32",
    ),
    "RegisteredSaver": ("name 1 string", "object_name 2 string"),
    "BoolValue": ("value 1 bool",),
}


def message(name: str, **fields: Any) -> Any:
    """A new message."""
    return _classes()[name](**fields)


def parse(name: str, data: bytes, source: str) -> Any:
    """Parse a message; `source` says in errors what it belongs to.

    Raises:
        FormatError: the bytes are no such message.
    """
    parsed = message(name)
    try:
        parsed.ParseFromString(data)
    except (DecodeError, ValueError, MemoryError) as e:
        raise FormatError(f"{source}: not a {name} message: {e}") from e
    return parsed


@cache
def _classes() -> dict[str, Any]:
    return message_classes("interop.tensorbundle", _MESSAGES)
