"""How loops over time are written: what they carry, read and collect.

Enters: a ``Scan``, or a ``Loop`` that runs as often as an open dimension is long, and the values around it. Leaves: a
``Loop`` of states, elements of sequences and results; None of a node that is none of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx_ir import convenience

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.interpreter import Scope
from interop.rebuild.registry import canonical
from interop.rebuild.values import Value

_SMALL = 1 << 16  # elements of a constant that is looked at; a mask of attention has as many
_IDLE = ("Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape")


@dataclass(frozen=True)
class Carried:
    """What goes from step to step: before the first, inside, after each, after the last."""

    first: Any
    inside: Any
    becomes: Any
    last: Any


@dataclass(frozen=True)
class Read:
    """A sequence and the value inside that is its next element; `node` looks it up, if it is no input of the body."""

    whole: Any
    inside: Any
    axis: int
    backwards: bool = False
    node: Any = None


@dataclass(frozen=True)
class Collected:
    """A value inside, and the sequence that its steps make."""

    inside: Any
    whole: Any
    axis: int
    backwards: bool = False


@dataclass
class Loop:
    """A loop over time.

    Attributes:
        body: the graph.
        time: how often it runs.
        carried, read, collected: see there.
        position: the input of the body that is the number of the step.
        given: inputs of the body that no step changes, and what they are.
    """

    body: Any
    time: int
    carried: list[Carried]
    read: list[Read]
    collected: list[Collected]
    position: Any = None
    given: dict[Any, Value] = field(default_factory=dict)


def loops_of(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, those in bodies included, that may be a loop over an open dimension."""
    for node in graph.all_nodes():
        if node.op_type in ("Scan", "Loop") and not canonical(node.domain):
            yield node


def of_scan(context: Context, scope: Scope) -> Loop | None:
    node = context.node
    if context.opset < 9:
        return None
    body = node.attributes["body"].value
    count = node.attributes["num_scan_inputs"].as_int()
    carried = len(node.inputs) - count
    collected = len(node.outputs) - carried
    if carried < 0 or len(body.inputs) != len(node.inputs) or len(body.outputs) != len(node.outputs):
        context.fail(
            f"has {len(node.inputs)} inputs, {count} of them sequences, and {len(node.outputs)} outputs; its body has "
            f"{len(body.inputs)} and {len(body.outputs)}"
        )

    def given(name: str, length: int) -> list[int]:
        found = list(node.attributes.get_ints(name, ())) or [0] * length
        if len(found) != length:
            context.fail(f"has {len(found)} {name}; expected {length}")
        return found

    axes, turned = given("scan_input_axes", count), given("scan_input_directions", count)
    read = []
    for whole, inside, axis, backwards in zip(
        node.inputs[carried:], body.inputs[carried:], axes, turned, strict=True
    ):
        tensor = scope[whole].tensor()
        read.append(Read(tensor, inside, context.axis(axis, context.rank(tensor)), bool(backwards)))
    times = [context.dims(line.whole)[line.axis] for line in read]
    if not any(isinstance(time, SymInt) for time in times):
        return None
    return Loop(
        body,
        next(time for time in times if isinstance(time, SymInt)),
        [
            Carried(scope[first].tensor(), inside, becomes, last)
            for first, inside, becomes, last in zip(
                node.inputs[:carried], body.inputs, body.outputs, node.outputs, strict=False
            )
        ],
        read,
        [
            Collected(inside, whole, axis, bool(backwards))
            for inside, whole, axis, backwards in zip(
                body.outputs[carried:],
                node.outputs[carried:],
                given("scan_output_axes", collected),
                given("scan_output_directions", collected),
                strict=True,
            )
        ],
    )


def of_loop(context: Context, scope: Scope) -> Loop | None:
    """A Loop whose limit is an open size, and which nothing ends before it."""
    node = context.node
    limit = None if node.inputs[0] is None else scope[node.inputs[0]].array
    if limit is None or limit.size != 1 or not isinstance(limit.reshape(-1)[0], SymInt):
        return None
    body = node.attributes["body"].value
    position, going = body.inputs[:2]
    goes_on = _plain(body.outputs[0])
    if goes_on is not going and not _is_true(convenience.get_const_tensor(goes_on)):
        return None
    if node.inputs[1] is not None:
        start = scope[node.inputs[1]].array
        if start is None or not bool(start.reshape(-1)[0]):
            return None
    time, carried = limit.reshape(-1)[0], len(node.inputs) - 2
    loop = Loop(body, time, [], [], [], position, {going: Value(context.sizes, array=np.asarray(True))})
    for first, inside, becomes, last in zip(
        node.inputs[2:], body.inputs[2:], body.outputs[1:], node.outputs, strict=False
    ):
        if _plain(becomes) is inside:
            loop.given[inside] = scope[first]
            scope[last] = scope[first]
        else:
            loop.carried.append(Carried(scope[first].tensor(), inside, becomes, last))
    inner = set(body)
    for look_up in body:
        if look_up.op_type != "Gather" or _plain(look_up.inputs[1]) is not position:
            continue
        whole = look_up.inputs[0]
        if whole in loop.given or (whole.producer() not in inner and whole not in set(body.inputs)):
            tensor = (loop.given[whole] if whole in loop.given else scope[whole]).tensor()
            axis = context.axis(look_up.attributes.get_int("axis", 0), context.rank(tensor))
            if context.sizes.same(context.dims(tensor)[axis], time):
                loop.read.append(Read(tensor, look_up.outputs[0], axis, node=look_up))
    loop.collected = [
        Collected(inside, whole, 0)
        for inside, whole in zip(body.outputs[1 + carried :], node.outputs[carried:], strict=True)
    ]
    return loop


def _plain(value: Any) -> Any:
    """The value before what changes nothing but its shape or type."""
    while (node := value.producer()) is not None and node.op_type in _IDLE and not canonical(node.domain):
        value = node.inputs[0]
    return value


def _is_true(tensor: Any) -> bool:
    return tensor is not None and bool(tensor.numpy().all())


def form_of(graph: Any, outer: dict[Any, int] | None = None) -> str:
    """What a body is but for names: equal for bodies that compute the same of what is around them.

    Initializers around it are themselves, other values around it are numbered.
    """
    around: dict[Any, int] = {} if outer is None else outer
    own = {value: f"in{i}" for i, value in enumerate(graph.inputs)}
    own |= {value: f"w{id(value)}" for value in graph.initializers.values()}

    def text(value: Any) -> str:
        if value is None or value in own:
            return "" if value is None else own[value]
        return f"w{id(value)}" if value.is_initializer() else f"out{around.setdefault(value, len(around))}"

    lines = []
    for i, node in enumerate(graph):
        attributes = []
        for name, attribute in sorted(node.attributes.items()):
            graphs = attribute.type.name in ("GRAPH", "GRAPHS")
            given = attribute.value if attribute.type.name == "GRAPHS" else [attribute.value]
            written = [form_of(inner, around) for inner in given] if graphs else _written(attribute)
            attributes.append(f"{name}={written}")
        lines.append(f"{node.domain}:{node.op_type}({', '.join(map(text, node.inputs))}; {attributes})")
        own |= {value: f"n{i}.{k}" for k, value in enumerate(node.outputs)}
    return "\n".join([*lines, ", ".join(map(text, graph.outputs))])


def _written(attribute: Any) -> str:
    if attribute.type.name == "TENSOR":
        array = attribute.value.numpy()
        return f"{array.dtype}{array.shape}{array.tobytes()!r}"
    return repr(attribute.value)


def has_infinite_constants(graph: Any) -> bool:
    """Whether a graph, or a body in it, has a constant that holds an infinite number."""
    tensors = [
        value.const_value for inner in (graph, *graph.subgraphs()) for value in inner.initializers.values()
    ]
    for node in graph.all_nodes():
        if node.op_type in ("Constant", "ConstantOfShape"):
            value = node.attributes.get("value")
            tensors += [] if value is None or value.is_ref() else [value.value]
            number = node.attributes.get_float("value_float", 0.0)
            if math.isinf(number):
                return True
    small = (t for t in tensors if t is not None and t.size <= _SMALL and t.dtype.is_floating_point())
    return any(bool(np.isinf(tensor.numpy().astype("float64")).any()) for tensor in small)
