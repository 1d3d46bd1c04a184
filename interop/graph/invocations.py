"""How layers were called, as JSON: what calls a layer's function, or the layer itself, without the code around it.

Enters: an ``Invocation`` and what the function of its scope takes and gives. Leaves: an entry of a layer's
``invocations`` in ``config.json``, and back its structures as Python ones.

A structure is an int (position among the inputs or outputs of the function), ``{"list": [...]}``, ``{"tuple": [...]}``,
``{"dict": {...}}``, ``{"value": ...}`` (a plain value), ``{"unused": true}`` (a tensor the function lacks), or null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from interop.graph.record import OPAQUE, Invocation, Value

UNUSED = {"unused": True}


def leaves(structure: Any) -> Iterator[Any]:
    """What lists, tuples and dicts hold, dicts by their keys' names: whoever makes one anew may order it otherwise."""
    if isinstance(structure, dict):
        for _, item in _by_name(structure):
            yield from leaves(item)
    elif isinstance(structure, list | tuple):
        for item in structure:
            yield from leaves(item)
    else:
        yield structure


def _by_name(items: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(items.items(), key=lambda item: str(item[0]))


def encode(structure: Any, places: Mapping[Value, int]) -> Any:
    """A structure as JSON; None for an argument becomes null."""
    if isinstance(structure, dict):
        return {"dict": {str(key): encode(item, places) for key, item in structure.items()}}
    if isinstance(structure, list | tuple):
        kind = "list" if isinstance(structure, list) else "tuple"
        return {kind: [encode(item, places) for item in structure]}
    if structure is None:
        return None
    if isinstance(structure, Value):
        return places.get(structure, UNUSED)
    return {"value": structure}


def places_of(encoded: Any) -> Iterator[int]:
    """The positions in an encoded structure, in the order of ``leaves``."""
    if isinstance(encoded, int):
        yield encoded
    elif isinstance(encoded, Mapping):
        for kind in ("list", "tuple"):
            for item in encoded.get(kind, ()):
                yield from places_of(item)
        for _, item in _by_name(encoded.get("dict", {})):
            yield from places_of(item)


def decode(encoded: Any, at: Callable[[int], Any]) -> Any:
    """An encoded structure with what stands at its positions."""
    if encoded is None or isinstance(encoded, int):
        return None if encoded is None else at(encoded)
    if "dict" in encoded:
        return {key: decode(item, at) for key, item in encoded["dict"].items()}
    for kind, make in (("list", list), ("tuple", tuple)):
        if kind in encoded:
            return make(decode(item, at) for item in encoded[kind])
    return encoded.get("value")


def described(
    invocation: Invocation | None,
    function: str | None,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    layers: Sequence[tuple[str, int]],
) -> dict[str, Any]:
    """An entry of ``invocations``.

    Args:
        invocation: the call; None or with OPAQUE arguments: only the function can be called.
        function: the name of the function; None for the graph itself.
        inputs: what the function takes, its variables last.
        outputs: what it gives.
        layers: (path, number of the invocation) of each call of a layer in the function, in order.
    """
    taken = {value: index for index, value in reversed(list(enumerate(inputs)))}
    given = {value: index for index, value in reversed(list(enumerate(outputs)))}
    entry: dict[str, Any] = {
        "function": function,
        "inputs": [[v.dtype, _dims(v)] for v in inputs if v.kind != "variable"],
        "variables": [value.name for value in inputs if value.kind == "variable"],
        "layers": [list(layer) for layer in layers],
        "arguments": None,
    }
    if invocation is not None and invocation.adds_loss:
        entry["adds_loss"] = True
    if invocation is not None and invocation.masked and not any(invocation.masks):
        entry["ends_masks"] = True
    if invocation is None or any(
        leaf is OPAQUE for leaf in leaves([invocation.arguments, invocation.results])
    ):
        return entry
    entry["arguments"] = {name: encode(item, taken) for name, item in invocation.arguments.items()}
    entry["results"] = encode(invocation.results, given)
    entry["masks"] = [_mask(mask, taken, given) for mask in invocation.masks]
    return entry


def _mask(mask: Value | None, taken: Mapping[Value, int], given: Mapping[Value, int]) -> Any:
    if mask is None:
        return None
    if mask in given:
        return ["output", given[mask]]
    return ["input", taken[mask]] if mask in taken else None


def _dims(value: Value) -> list[int | None] | None:
    return None if value.shape is None else [dim if type(dim) is int else None for dim in value.shape]
