"""The integers that a tensor of sizes holds, as in ``ops.tile(x, ops.stack([ops.shape(x)[0], 1]))``.

Enters: a recorded value. Leaves: an array of its elements, ints that may be symbolic; None if they depend on
more than sizes and constants, or if the operators between are not among those of ``_RULES``.

Invariant: nothing is emitted; the nodes that computed the value are read backwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from interop.capture.keras.symint import SymInt
from interop.graph.record import Node, Value

Elements = Any  # numpy.ndarray of Python ints

#: No shape has more axes; longer vectors are data.
_MOST_ELEMENTS = 64


def elements_of(value: Value) -> Elements | None:
    """The elements of an integer value of at most one axis, or None; see the top of this file."""
    if value.rank > 1:
        return None
    found = _elements(value)
    return None if found is None else found.reshape([int(dim) for dim in value.dims])


def _elements(value: Value) -> Elements | None:
    if not value.dtype.startswith(("int", "uint")):
        return None
    if value.kind == "constant" and value.array is not None:
        return _ints(value.array) if value.array.size <= _MOST_ELEMENTS else None
    node = value.producer
    rule = None if node is None or node.domain else _RULES.get(node.op_type)
    return None if rule is None or node is None else rule(node)


def _ints(array: Any) -> Elements:
    made = np.empty(array.shape, dtype=object)
    made.reshape(-1)[:] = [int(item) for item in array.reshape(-1)]
    return made


def _integers(values: Any) -> list[int] | None:
    """The plain integers of a node's input: axes, starts, the target of a reshape."""
    found = None if values is None else _elements(values)
    if found is None or any(isinstance(item, SymInt) for item in found.reshape(-1)):
        return None
    return [int(item) for item in found.reshape(-1)]


def _shape(node: Node) -> Elements | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    dims = source.dims[node.attributes.get("start", 0) : node.attributes.get("end")]
    made = np.empty(len(dims), dtype=object)
    made[:] = dims
    return made


def _of_operands(compute: Callable[..., Any]) -> Callable[[Node], Elements | None]:
    def rule(node: Node) -> Elements | None:
        operands = [None if value is None else _elements(value) for value in node.inputs]
        return None if any(item is None for item in operands) else np.asarray(compute(*operands), object)

    return rule


def _quotient(node: Node) -> Elements | None:
    """ONNX rounds towards zero, so that floor division is written (a - a mod b) / b."""
    number, divisor = node.inputs
    if number is None or divisor is None:
        return None
    whole = number.producer
    if whole is not None and whole.op_type == "Sub":
        rest = whole.inputs[1]
        exact = (
            rest is not None
            and rest.producer is not None
            and rest.producer.op_type == "Mod"
            and rest.producer.inputs == (whole.inputs[0], divisor)
        )
        number = whole.inputs[0] if exact else number
    if number is None:
        return None
    a, b = _elements(number), _elements(divisor)
    if a is None or b is None or any(item <= 0 for item in (*a.reshape(-1), *b.reshape(-1))):
        return None
    return np.asarray(a // b, object)


def _concat(node: Node) -> Elements | None:
    parts = [None if value is None else _elements(value) for value in node.inputs]
    known = [part for part in parts if part is not None]
    return np.concatenate(known, axis=node.attributes["axis"]) if len(known) == len(parts) else None


def _with_axes(change: Callable[[Elements, tuple[int, ...]], Elements]) -> Callable[[Node], Elements | None]:
    def rule(node: Node) -> Elements | None:
        source = None if node.inputs[0] is None else _elements(node.inputs[0])
        axes = _integers(node.inputs[1]) if len(node.inputs) > 1 else None
        return None if source is None or axes is None else change(source, tuple(axes))

    return rule


def _reshape(node: Node) -> Elements | None:
    source = None if node.inputs[0] is None else _elements(node.inputs[0])
    dims = node.outputs[0].shape
    if source is None or dims is None or any(isinstance(dim, SymInt) for dim in dims):
        return None
    return source.reshape([int(dim) for dim in dims])


def _gather(node: Node) -> Elements | None:
    source, places = (None if value is None else _elements(value) for value in node.inputs)
    if source is None or places is None or any(isinstance(item, SymInt) for item in places.reshape(-1)):
        return None
    return np.asarray(source.take(places.astype(np.int64), axis=node.attributes.get("axis", 0)), object)


def _slice(node: Node) -> Elements | None:
    source = None if node.inputs[0] is None else _elements(node.inputs[0])
    given = [_integers(value) for value in node.inputs[1:]]
    if source is None or any(part is None for part in given) or len(given) < 2:
        return None
    starts, ends, axes, steps = [*given, None, None][:4]
    index = [slice(None)] * source.ndim
    for i, (start, end) in enumerate(zip(starts or [], ends or [], strict=True)):
        index[axes[i] if axes else i] = slice(start, end, steps[i] if steps else 1)
    return source[tuple(index)]


def _product(node: Node) -> Elements | None:
    source = None if node.inputs[0] is None else _elements(node.inputs[0])
    if source is None or source.ndim != 1:
        return None
    total: Any = 1
    for item in source:
        total = total * item
    return np.asarray([total] if node.outputs[0].rank else total, object)


_RULES: dict[str, Callable[[Node], Elements | None]] = {
    "Shape": _shape,
    "Cast": _of_operands(lambda a: a),
    "Identity": _of_operands(lambda a: a),
    "Add": _of_operands(lambda a, b: a + b),
    "Sub": _of_operands(lambda a, b: a - b),
    "Mul": _of_operands(lambda a, b: a * b),
    "Mod": _of_operands(lambda a, b: a % b),
    "Div": _quotient,
    "Concat": _concat,
    "Unsqueeze": _with_axes(lambda a, axes: np.expand_dims(a, axes)),
    "Squeeze": _with_axes(lambda a, axes: np.squeeze(a, axes)),
    "Reshape": _reshape,
    "Gather": _gather,
    "Slice": _slice,
    "ReduceProd": _product,
}
