"""The config of a revived layer, read: functions to compute, ways to call them, parts.

Enters: the JSON that ``revival`` makes (see ``Program``), which may come from a file. Leaves: functions as ``onnx_ir``
ones, with the nodes that are calls of layers. Invariant: nothing is read of a function before the guard has passed it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from interop.artifact import guard
from interop.artifact.schema import parse_model
from interop.capture.keras import compat
from interop.errors import RebuildError
from interop.graph.assemble import FUNCTION_DOMAIN
from interop.graph.invocations import UNUSED, leaves, places_of

_OF_CALLS = ("function", "inputs", "variables", "arguments", "results", "masks", "children")


@dataclass(frozen=True)
class ChildCall:
    """A node that is the call of a layer which is there.

    Attributes:
        part: the layer.
        positional: encoded structures, in order.
        keywords: encoded structures by parameter.
        takes_training: whether it is given the training flag.
        results: for each leaf of its result, the output of the node.
        masks: leaf of its result to the output of the node that is its mask.
    """

    part: str
    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]
    takes_training: bool
    results: tuple[int, ...]
    masks: Mapping[int, int]


@dataclass(frozen=True)
class Invocation:
    """One way to call the layer.

    Attributes:
        function: the ``ir.Function``.
        inputs: (dtype, sizes, None where open) of each tensor it takes.
        variables: keys in the saved model of the variables it takes after them.
        arguments: encoded structures by parameter; the training flag is not among them.
        results: the encoded structure of what it returns.
        masks: output to the mask that goes with it: ("input" or "output", position).
        calls: the nodes that are calls of layers.
    """

    function: Any
    inputs: tuple[tuple[str, list[int | None] | None], ...]
    variables: tuple[str, ...]
    arguments: Mapping[str, Any]
    results: Any
    masks: Mapping[int, tuple[str, int]]
    calls: Mapping[Any, ChildCall] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{name}={self._text(item)}" for name, item in self.arguments.items())

    def _text(self, encoded: Any) -> str:
        if isinstance(encoded, int):
            dtype, dims = self.inputs[encoded]
            sizes = "..." if dims is None else ", ".join("any" if d is None else str(d) for d in dims)
            return f"{dtype}({sizes})"
        if isinstance(encoded, Mapping):
            if "value" in encoded:
                return repr(encoded["value"])
            if encoded == UNUSED:
                return "any"
            if "dict" in encoded:
                return (
                    "{" + ", ".join(f"{key!r}: {self._text(x)}" for key, x in encoded["dict"].items()) + "}"
                )
            return f"[{', '.join(self._text(x) for x in encoded.get('list', encoded.get('tuple', ())))}]"
        return "None"


class Program:
    """See the module.

    Attributes:
        config: as it was given, plain JSON.
        original: what configs say of the original.
        how: what Keras must know to call it.
        signature: of its ``call``, by that.
        variables: records of the variables of its own: key among the parts, dtype, shape, trainable, role.
        places: key or path in the saved model to part.
        ends_masks: whether masks go in that do not come out.
        bound: variables by key in the saved model; filled by the layer when it is first called.
    """

    def __init__(self, config: Mapping[str, Any], children: Mapping[str, Any]) -> None:
        """Read a config: original, how, functions (base64), invocations, variables, places, input_specs."""
        self.config = dict(config)
        self.bound: dict[str, Any] = {}
        try:
            self.original: dict[str, Any] = dict(config["original"])
            self.how: dict[str, Any] = dict(config["how"])
            self.signature = compat.signature_of(self.how)
            self.variables = [_variable(record) for record in config["variables"]]
            _ = self.how["masking"], keras.dtype_policies.get(self.how["dtype"])
            self.places: dict[str, str] = dict(config["places"])
            self.input_specs = config.get("input_specs")
            model = _read(base64.b64decode(config["functions"], validate=True))
            self.functions = model.functions
            self.opsets: dict[str, int] = dict(model.opset_imports)
            self.invocations = [self._invocation(entry, children) for entry in config["invocations"]]
            self.ends_masks = any(entry.get("ends_masks") for entry in config["invocations"])
        except (KeyError, TypeError, AttributeError, binascii.Error, IndexError, ValueError) as error:
            raise RebuildError(
                f"the config of a revived layer is broken: {type(error).__name__}: {error}"
            ) from error
        self._roles = {record["key"]: record["role"] for record in self.variables}

    def role_of(self, key: str) -> str:
        """What a variable of the layer's own is for."""
        return str(self._roles[key])

    def _invocation(self, entry: Mapping[str, Any], children: Mapping[str, Any]) -> Invocation:
        function = self.functions[(FUNCTION_DOMAIN, entry["function"], "")]
        nodes = [node for node in function if node.domain == FUNCTION_DOMAIN]
        calls = {}
        for node, call in zip(nodes, entry["children"], strict=True):
            if call is not None:
                made = ChildCall(
                    call["part"],
                    tuple(call["positional"]),
                    call["keywords"],
                    bool(call["training"]),
                    tuple(call["results"]),
                    {int(leaf): int(place) for leaf, place in call["masks"]},
                )
                _check_call(made, node, children)
                calls[node] = made
        inputs = tuple((str(dtype), dims) for dtype, dims in entry["inputs"])
        if len(inputs) + len(entry["variables"]) != len(function.inputs):
            raise ValueError(f"function {entry['function']!r} has {len(function.inputs)} inputs")
        masks = {int(place): (str(kind), int(index)) for place, kind, index in entry["masks"]}
        return Invocation(
            function,
            inputs,
            tuple(entry["variables"]),
            entry["arguments"],
            entry["results"],
            masks,
            calls,
        )


def _variable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with all that it takes to make a variable."""
    shape = [int(size) for size in record["shape"]]
    if any(size < 0 for size in shape):
        raise ValueError(f"variable {record['key']!r} has the shape {shape}")
    return {
        "key": str(record["key"]),
        "dtype": keras.backend.standardize_dtype(record["dtype"]),
        "shape": shape,
        "trainable": bool(record["trainable"]),
        "role": str(record["role"]),
    }


def _check_call(call: ChildCall, node: Any, children: Mapping[str, Any]) -> None:
    places = list(places_of({"list": [*call.positional, *call.keywords.values()]}))
    results = [*call.results, *call.masks.values()]
    if call.part not in children:
        raise ValueError(f"node {node.name!r} calls the layer {call.part!r}, which is not there")
    if any(not 0 <= place < len(node.inputs) for place in places) or any(
        not 0 <= place < len(node.outputs) for place in results
    ):
        raise ValueError(f"the call of {call.part!r} does not fit the node {node.name!r}")


def _read(data: bytes) -> Any:
    guard.check_artifact_graph(parse_model(data), {})
    try:
        return ir.serde.deserialize_model(onnx.load_from_string(data))
    except (DecodeError, ir.serde.SerdeError, ValueError) as error:
        raise RebuildError(f"the functions of a revived layer cannot be read: {error}") from error


def bind_arguments(invocation: Invocation, bound: Mapping[str, Any]) -> dict[int, Any] | None:
    """The tensors of a call by the position they have in the function; None if it is not called so."""
    found: dict[int, Any] = {}
    given = {name: item for name, item in bound.items() if item is not None}
    known = {name: item for name, item in invocation.arguments.items() if item is not None}
    if any(name not in known and not _is_default(item) for name, item in given.items()):
        return None
    for name, item in known.items():
        if not _bind(item, given.get(name), invocation.inputs, found):
            return None
    return found if len(found) == len(invocation.inputs) else None


def _is_default(item: Any) -> bool:
    """An empty ``*args`` or ``**kwargs``, or a mask of nothing."""
    return isinstance(item, list | tuple | dict) and all(leaf is None for leaf in leaves(item))


def _bind(encoded: Any, item: Any, inputs: Sequence[Any], found: dict[int, Any]) -> bool:
    if isinstance(encoded, int):
        if not hasattr(item, "shape") or not _fits(item.shape, inputs[encoded][1]):
            return False
        found[encoded] = item
        return True
    if encoded is None or encoded == UNUSED:
        return True
    if "value" in encoded:
        return item is None or bool(encoded["value"] == item)
    if "dict" in encoded:
        return isinstance(item, Mapping) and all(
            key in item and _bind(each, item[key], inputs, found) for key, each in encoded["dict"].items()
        )
    items = encoded.get("list", encoded.get("tuple"))
    if items is None or not isinstance(item, list | tuple) or len(item) != len(items):
        return not any(True for _ in places_of(encoded)) and item is None
    return all(_bind(each, one, inputs, found) for each, one in zip(items, item, strict=True))


def _fits(shape: Any, dims: Sequence[int | None] | None) -> bool:
    if dims is None:
        return True
    return len(shape) == len(dims) and all(
        size is None or wanted is None or size == wanted for size, wanted in zip(shape, dims, strict=True)
    )
