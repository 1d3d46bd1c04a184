"""How configs write down the calls of layers, from Keras 1 to 3.

Enters: a node of a config: ``[["x", 0, 0, {"mask": ...}]]`` of Keras 1 and 2, or
``{"args": [...], "kwargs": {...}}`` of Keras 3. Leaves: a `Call`, in which every tensor is a `Reference`:
output 0 of call 0 of layer ``x``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from interop.errors import RebuildError

_CONSTANT = "_CONSTANT_VALUE"
_KEYWORDS = 3
"""Where Keras 2 keeps the keyword arguments of a call: behind every tensor's layer, call and output."""


@dataclass(frozen=True)
class Reference:
    """A tensor: which output of which call of which layer."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True)
class Call:
    """The arguments of one call of a layer, in which tensors are references."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


def parse_call(node: Any, names: Set[str]) -> Call:
    """Read one node; `names` are those of the layers there are.

    Raises:
        RebuildError: it is no node.
    """
    if isinstance(node, dict) and node.keys() == {"args", "kwargs"}:
        args, kwargs = parse(node["args"], names), parse(node["kwargs"], names)
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise RebuildError(f"a call is described by {node!r:.80}; expected arguments")
        return Call(tuple(args), kwargs)
    keywords: dict[str, Any] = {}
    argument = _argument(node, names, keywords)
    if isinstance(argument, list) and len(argument) == 1:
        argument = argument[0]
    return Call((argument,), {name: parse(value, names) for name, value in keywords.items()})


def _argument(node: Any, names: Set[str], keywords: dict[str, Any]) -> Any:
    """The first argument, structured; the keyword arguments found beside its tensors go to `keywords`."""
    if isinstance(node, list) and len(node) in (_KEYWORDS, _KEYWORDS + 1) and node[0] == _CONSTANT:
        _take_keywords(node, keywords)
        return parse(node[2], names)
    if (found := _reference(node, names)) is not None:
        _take_keywords(node, keywords)
        return found
    if isinstance(node, list):
        return [_argument(item, names, keywords) for item in node]
    if isinstance(node, dict):
        return {key: _argument(item, names, keywords) for key, item in node.items()}
    raise RebuildError(f"a call is described by {node!r:.80}; expected tensors")


def _take_keywords(node: list[Any], keywords: dict[str, Any]) -> None:
    if len(node) > _KEYWORDS and isinstance(node[_KEYWORDS], dict):
        keywords.update(node[_KEYWORDS])


def parse(value: Any, names: Set[str]) -> Any:
    """A structure in which references to tensors stand among other values."""
    if (found := _reference(value, names)) is not None:
        return found
    if isinstance(value, list):
        return [parse(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__ellipsis__":
        return Ellipsis
    if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
        return tuple(parse(item, names) for item in value["items"])
    if value.get("class_name") == "__slice__" and isinstance(value.get("config"), dict):
        ends = (value["config"].get(part) for part in ("start", "stop", "step"))
        return slice(*(parse(end, names) for end in ends))
    return {key: parse(item, names) for key, item in value.items()}


def _reference(value: Any, names: Set[str]) -> Reference | None:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        value = value["config"].get("keras_history") if isinstance(value.get("config"), dict) else None
    if not isinstance(value, list) or len(value) not in (_KEYWORDS, _KEYWORDS + 1):
        return None
    if not isinstance(value[0], str) or value[0] not in names:
        return None
    if not (_is_index(value[1]) and _is_index(value[2])):
        return None
    return Reference(value[0], value[1], value[2])


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def references(structure: Any) -> Iterator[Reference]:
    """Every reference in a call or a structure."""
    if isinstance(structure, Reference):
        yield structure
    elif isinstance(structure, Call):
        yield from references(structure.args)
        yield from references(structure.kwargs)
    elif isinstance(structure, list | tuple):
        for item in structure:
            yield from references(item)
    elif isinstance(structure, dict):
        for item in structure.values():
            yield from references(item)


def resolved(structure: Any, tensor: Callable[[Reference], Any]) -> Any:
    """A structure with every reference replaced by its tensor."""
    if isinstance(structure, Reference):
        return tensor(structure)
    if isinstance(structure, list):
        return [resolved(item, tensor) for item in structure]
    if isinstance(structure, tuple):
        return tuple(resolved(item, tensor) for item in structure)
    if isinstance(structure, dict):
        return {key: resolved(item, tensor) for key, item in structure.items()}
    return structure
