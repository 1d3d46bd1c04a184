"""Lookup tables of a SavedModel, without TensorFlow: the words and numbers that a layer had learned.

Enters: a folder, and the way to a table through the objects of the SavedModel. Leaves: its keys and values.

A table that changes has its content in the checkpoint. One that does not has a function that fills it, whose operation
takes keys and values: constants of the graph, which the function captures or holds itself; or a text file that was
copied into the folder.

Invariant: nothing is run; a file is read only if it is one of the folder's ``assets``.

Spec: TensorFlow's ``saved_object_graph.proto``, ``function.proto``, ``tensor.proto``, and the operations
``LookupTableImportV2`` and ``InitializeTableFromTextFileV2``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from interop.errors import FormatError
from interop.formats import TensorMapping
from interop.formats.messages import message_classes
from interop.formats.tensorbundle.elements import NAMES, STRING, array_dtype

_MESSAGES = {
    "SavedModel": ("meta_graphs 2 *MetaGraph",),
    "MetaGraph": ("graph_def 2 Graph", "asset_file_def 6 *AssetFile", "object_graph_def 7 ObjectGraph"),
    "Graph": ("node 1 *Node", "library 2 Library"),
    "Library": ("function 1 *Function",),
    "Function": ("signature 1 Signature", "node_def 3 *Node"),
    "Signature": ("name 1 string", "input_arg 2 *Argument"),
    "Argument": ("name 1 string",),
    "Node": ("name 1 string", "op 2 string", "input 3 *string", "attr 5 *Attribute"),
    "Attribute": ("key 1 string", "value 2 AttributeValue"),
    "AttributeValue": ("i 3 int64", "s 2 bytes", "tensor 8 Tensor"),
    "Tensor": (
        "dtype 1 int32",
        "tensor_shape 2 Shape",
        "tensor_content 4 bytes",
        "int_val 7 +int32",
        "string_val 8 *bytes",
        "int64_val 10 +int64",
    ),
    "Shape": ("dim 2 *Dim",),
    "Dim": ("size 1 int64",),
    "AssetFile": ("filename 2 string",),
    "ObjectGraph": ("nodes 1 *Object", "concrete_functions 2 *Concrete"),
    "Concrete": ("key 1 string", "value 2 ConcreteFunction"),
    "ConcreteFunction": ("bound_inputs 2 +int32",),
    "Object": ("children 1 *Child", "asset 5 Asset", "function 6 Functions", "constant 9 Constant"),
    "Child": ("node_id 1 int32", "local_name 2 string"),
    "Asset": ("asset_file_def_index 1 int32",),
    "Functions": ("concrete_functions 1 *string",),
    "Constant": ("operation 1 string",),
}
_WHOLE_LINE, _LINE_NUMBER = -2, -1
_MOST_ELEMENTS = 1 << 28


@dataclass(frozen=True)
class Entries:
    """The content of a table: keys and values, in pairs."""

    keys: list[Any]
    values: list[Any]


class LookupTables:
    """The tables of one SavedModel."""

    def __init__(self, folder: Path, tensors: TensorMapping) -> None:
        self._folder = folder
        self._tensors = tensors
        self._graph = cache(partial(_parsed, folder))

    def read(self, way: Sequence[str], key: str | None) -> Entries | None:
        """A table's content; None if the files do not have it.

        Args:
            way: the attributes that lead to the table from the root.
            key: of the table in the checkpoint, for one that is stored there.

        Raises:
            FormatError: the files are damaged.
        """
        if key is not None and f"{key}-keys" in self._tensors and f"{key}-values" in self._tensors:
            keys, values = self._tensors[f"{key}-keys"], self._tensors[f"{key}-values"]
            return Entries(keys.ravel().tolist(), values.ravel().tolist())
        file = self._folder / "saved_model.pb"
        try:
            return self._graph().table(way)
        except (IndexError, KeyError, ValueError, TypeError, OverflowError, DecodeError) as error:
            raise FormatError(f"{file}: the table at {'.'.join(way)!r} is damaged: {error!r}") from error


@cache
def _classes() -> dict[str, Any]:
    return message_classes("interop.lookup_tables", _MESSAGES)


def _parsed(folder: Path) -> _Graph:
    message = _classes()["SavedModel"]()
    message.ParseFromString((folder / "saved_model.pb").read_bytes())
    return _Graph(message.meta_graphs[0], folder / "assets")


class _Graph:
    """Objects, functions and constants of a SavedModel."""

    def __init__(self, graph: Any, assets: Path) -> None:
        self._assets = assets
        self._files = graph.asset_file_def
        self._objects = graph.object_graph_def.nodes
        self._captured = {
            item.key: item.value.bound_inputs for item in graph.object_graph_def.concrete_functions
        }
        self._functions = {item.signature.name: item for item in graph.graph_def.library.function}
        self._nodes = {node.name: node for node in graph.graph_def.node}

    def table(self, way: Sequence[str]) -> Entries | None:
        """The content that a table's initializer gives it."""
        initializer = self._object((*way, "_initialize"))
        for name in () if initializer is None else initializer.function.concrete_functions:
            function = self._functions[name]
            inside = {node.name: node for node in function.node_def}
            arguments = self._arguments(name, function)
            for node in function.node_def:
                if node.op.startswith("LookupTableImport"):
                    keys, values = (self._constant(name, inside, arguments) for name in node.input[1:3])
                    return Entries(keys.ravel().tolist(), values.ravel().tolist())
                if node.op.startswith("InitializeTableFromTextFile"):
                    file = arguments[node.input[1].partition(":")[0]]
                    return self._from_text(file, {item.key: item.value for item in node.attr})
        return None

    def _object(self, way: Sequence[str]) -> Any:
        number = 0
        for step in way:
            found = [child.node_id for child in self._objects[number].children if child.local_name == step]
            if not found:
                return None
            number = found[0]
        return self._objects[number]

    def _arguments(self, name: str, function: Any) -> dict[str, Any]:
        """Name of each captured argument of a function to the object it is; they are its last."""
        names = [argument.name for argument in function.signature.input_arg]
        captured = self._captured.get(name, ())
        start = len(names) - len(captured)
        return {names[start + place]: self._objects[number] for place, number in enumerate(captured)}

    def _constant(self, name: str, inside: Mapping[str, Any], arguments: Mapping[str, Any]) -> NDArray[Any]:
        name = name.partition(":")[0]
        node = inside[name] if name in inside else self._nodes[arguments[name].constant.operation]
        if node.op != "Const":
            raise ValueError(f"{name!r} is a {node.op}; expected a constant")
        return _array(next(item.value.tensor for item in node.attr if item.key == "value"))

    def _from_text(self, asset: Any, attributes: Mapping[str, Any]) -> Entries:
        """The lines of a vocabulary file, numbered as the operation asks for."""
        columns = attributes["key_index"].i, attributes["value_index"].i
        if sorted(columns) != [_WHOLE_LINE, _LINE_NUMBER]:
            raise ValueError(f"the columns of its file are {columns}; expected whole lines and their numbers")
        name = self._files[asset.asset.asset_file_def_index].filename
        file = self._assets / Path(name).name
        if not file.is_file() or file.is_symlink():
            raise ValueError(f"there is no file {name!r} in assets")
        lines: list[Any] = file.read_bytes().removesuffix(b"\n").split(b"\n")
        size = attributes["vocab_size"].i if "vocab_size" in attributes else -1
        lines = lines[:size] if size > 0 else lines
        first = attributes["offset"].i if "offset" in attributes else 0
        numbers: list[Any] = list(range(first, first + len(lines)))
        return Entries(lines, numbers) if columns[0] == _WHOLE_LINE else Entries(numbers, lines)


def _array(tensor: Any) -> NDArray[Any]:
    """The values of a constant."""
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = math.prod(shape)
    if any(size < 0 for size in shape) or count > _MOST_ELEMENTS:
        raise ValueError(f"a constant has shape {shape}")
    name = NAMES[tensor.dtype]
    if name not in (STRING, "int32", "int64"):
        raise ValueError(f"a constant is {name}; expected text or integers")
    dtype = array_dtype(name)
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    listed = {STRING: tensor.string_val, "int32": tensor.int_val, "int64": tensor.int64_val}[name]
    values = list(listed)[:count]
    values += values[-1:] * (count - len(values)) or [0] * (count - len(values))
    return np.array(values, dtype).reshape(shape)
