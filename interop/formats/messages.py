"""Protobuf messages from a table, in a descriptor pool of their own.

Enters: message name to fields, each ``"name number type"``; ``*`` before the type marks a repeated field, ``+`` a
repeated packed one. Leaves: message classes. Fields that a table leaves out are kept as they are when a message is
serialised again.

Invariant: the default pool is not touched, where packages such as onnx and tensorflow register the same names.

Spec: https://protobuf.dev/programming-guides/encoding and descriptor.proto
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

# descriptor.proto, FieldDescriptorProto.Type
_TYPES = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "fixed32": 7,
    "bool": 8,
    "string": 9,
    "message": 11,
    "bytes": 12,
}


ONNX_TENSOR = {
    "TensorProto": (
        "dims 1 *int64",
        "data_type 2 int32",
        "float_data 4 +float",
        "int32_data 5 +int32",
        "string_data 6 *bytes",
        "int64_data 7 +int64",
        "name 8 string",
        "raw_data 9 bytes",
        "double_data 10 +double",
        "uint64_data 11 +uint64",
        "external_data 13 *StringStringEntryProto",
        "data_location 14 int32",
    ),
    "StringStringEntryProto": ("key 1 string", "value 2 string"),
}
"""A tensor of ONNX and what it consists of (onnx.proto); the parts of a table that two readers share."""


def message_classes(package: str, messages: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The class of every message of a table.

    >>> classes = message_classes("interop.example", {"Point": ("x 1 int64", "y 2 *int64")})
    >>> classes["Point"](x=1, y=[2, 3]).SerializeToString().hex()
    '080112020203'
    """
    pool, class_of = _implementation()
    pool.AddSerializedFile(_file_descriptor(package, messages))
    return {name: class_of(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def _implementation() -> tuple[Any, Callable[[Any], Any]]:
    """An empty pool, and what makes a class of a descriptor in it."""
    try:
        # What the package runs on. The rest of it takes eight times as long to import, for other kinds of schema.
        from google._upb._message import DescriptorPool, MessageMeta
    except ImportError:  # it runs on something else
        from google.protobuf import descriptor_pool, message_factory

        return descriptor_pool.DescriptorPool(), message_factory.GetMessageClass

    def class_of(descriptor: Any) -> Any:
        return MessageMeta(descriptor.name, (Message,), {"DESCRIPTOR": descriptor, "__module__": __name__})

    return DescriptorPool(), class_of


def _file_descriptor(package: str, messages: Mapping[str, tuple[str, ...]]) -> bytes:
    """The schema as a serialised ``FileDescriptorProto``; descriptor_pb2 would take longer to import."""
    file = _text(1, f"{package.replace('.', '/')}.proto") + _text(2, package)
    for message_name, declarations in messages.items():
        message = _text(1, message_name)
        for declaration in declarations:
            name, number, kind = declaration.split()
            repeated, packed = kind[0] in "*+", kind[0] == "+"
            kind = kind.lstrip("*+")
            field = _text(1, name) + _number(3, int(number)) + _number(4, 3 if repeated else 1)
            field += _number(5, _TYPES.get(kind, _TYPES["message"]))
            if kind in messages:
                field += _text(6, f".{package}.{kind}")
            if packed:
                field += _chunk(8, _number(2, 1))
            message += _chunk(2, field)
        file += _chunk(4, message)
    # ONNX says proto2; the bytes are the same, but under proto3 a name that is not UTF-8 is a parse error.
    return file + _text(12, "proto3")


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def _text(field: int, value: str) -> bytes:
    return _chunk(field, value.encode())


def _chunk(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """A natural number, seven bits in a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
