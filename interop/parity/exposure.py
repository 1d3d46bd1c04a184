"""Makes the output of every layer call of an artifact's graph an output of the graph itself.

Enters: the serialised graph (layer = local function, layer call = node named ``<object path>#<n>``)
and which functions each layer owns. Leaves: the serialised graph with more outputs, and which of them
belong to which call, in the order the calls finish.

Invariants:
- What the graph computed before, it computes unchanged: only outputs are added.
- A function shared by several layers is written once; the calls inside it are named after the layer
  whose call is being made, which is found by replacing the path of the layer that the body was written
  for. Names that do not come out exactly are harmless: they match no layer on the other side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ExposedCall:
    """One layer call.

    Attributes:
        call: ``<object path>#<n>``.
        outputs: names of the graph outputs that carry what the call returned.
    """

    call: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Inner:
    """A call inside a function: its node's name, its function, and where the function returns it."""

    node: str
    function: str
    indices: tuple[int, ...]
    inside: tuple[_Inner, ...]


def expose(graph: bytes, functions_of: Mapping[str, Sequence[str]]) -> tuple[bytes, list[ExposedCall]]:
    """Add an output for everything that a layer call returns.

    Args:
        graph: a serialised ``ModelProto`` of an artifact.
        functions_of: names of the local functions of each layer, by object path.

    Returns:
        The new ``ModelProto``, serialised, and the calls in the order in which they finish.
    """
    import onnx_ir as ir

    from interop.graph.serialized import deserialized

    model = deserialized(graph)
    bodies = dict(model.functions.items())
    widened: dict[Any, tuple[_Inner, ...]] = {}

    def widen(identifier: Any) -> tuple[_Inner, ...]:
        """Let a function also return what the calls inside it return."""
        if identifier not in widened:
            body = bodies[identifier]
            widened[identifier] = tuple(widen_call(node, body.outputs) for node in list(body) if called(node))
        return widened[identifier]

    def called(node: Any) -> bool:
        return node.op_identifier() in bodies

    def widen_call(node: Any, returned: Any) -> _Inner:
        before = len(node.outputs)
        inside = widen(node.op_identifier())
        node.resize_outputs(len(bodies[node.op_identifier()].outputs))
        for index in range(before, len(node.outputs)):
            node.outputs[index].name = f"{node.name}:{index}"
        indices = {index: _position(returned, output) for index, output in enumerate(node.outputs)}
        own = tuple(indices[index] for index in range(before))
        return _Inner(node.name, node.op_type, own, tuple(_moved(inner, indices) for inner in inside))

    top = [widen_call(node, model.graph.outputs) for node in list(model.graph) if called(node)]
    names = [value.name for value in model.graph.outputs]
    resolver = _Resolver(functions_of, names)
    calls = [exposed for call in top for exposed in resolver.resolve(call, None)]
    return ir.to_proto(model).SerializeToString(), calls


def _position(returned: Any, value: Any) -> int:
    """The index of a value among what is returned, appended if it was not there."""
    for index, known in enumerate(returned):
        if known is value:
            return index
    returned.append(value)
    return len(returned) - 1


def _moved(inner: _Inner, indices: Mapping[int, int]) -> _Inner:
    """The same call, seen one level further out."""
    own = tuple(indices[index] for index in inner.indices)
    return _Inner(inner.node, inner.function, own, tuple(_moved(deeper, indices) for deeper in inner.inside))


class _Resolver:
    """Gives calls inside shared functions the name they have at this call."""

    def __init__(self, functions_of: Mapping[str, Sequence[str]], names: Sequence[str]) -> None:
        self._owners: dict[str, list[str]] = defaultdict(list)
        for path, functions in functions_of.items():
            for function in functions:
                self._owners[function].append(path)
        for paths in self._owners.values():
            paths.sort(key=len, reverse=True)
        self._names = names
        self._calls: dict[str, int] = defaultdict(int)

    def resolve(self, call: _Inner, caller: tuple[str, str] | None) -> Iterator[ExposedCall]:
        """Name a call and everything inside it; `caller` is the path and the function around it."""
        written = call.node.rpartition("#")[0]
        path = written if caller is None else self._relocated(written, *caller)
        number = self._calls[path]
        self._calls[path] += 1
        for inner in call.inside:
            yield from self.resolve(inner, (path, call.function))
        yield ExposedCall(f"{path}#{number}", tuple(self._names[index] for index in call.indices))

    def _relocated(self, written: str, caller: str, function: str) -> str:
        for owner in self._owners[function]:
            if written.startswith(f"{owner}/"):
                return f"{caller}/{written[len(owner) + 1 :]}"
        return written
