"""Loops and branches: bodies recorded once, as the graph attributes of ONNX Scan, Loop and If.

A body is a Python function on values, called while its own scope is open. It may use any value from
outside, variables included, and call layers. ``traced`` turns a function on traced tensors (a user's) into
one on values.

Sources: https://onnx.ai/onnx/operators/onnx__Scan.html, onnx__Loop.html, onnx__If.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from interop.capture.keras import compat
from interop.capture.keras.emit import Emit
from interop.capture.keras.shapes import Unify
from interop.capture.keras.symint import equated, same
from interop.errors import CaptureError
from interop.graph.record import Body, Dims, Value

Values = list[Value]


def traced(e: Emit, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, which works on traced tensors, as one on values; structures are kept."""

    def call(*arguments: Any) -> Any:
        wrapped = [compat.map_structure(_to_sym, argument) for argument in arguments]
        return compat.map_structure(lambda item: _to_value(e, item), function(*wrapped))

    return call


def _to_sym(item: Any) -> Any:
    return compat.Sym(item) if isinstance(item, Value) else item


def _to_value(e: Emit, item: Any) -> Any:
    if isinstance(item, compat.Sym):
        return item.value
    if item is None or isinstance(item, Value):
        return item
    current = compat.value_of(item)
    return current.value if isinstance(current, compat.Sym) else e.tensor(current)


@contextmanager
def _body(e: Emit, inputs: Sequence[tuple[str, Dims]]) -> Iterator[Body]:
    """Open the scope of a body; what the emitter around it works on comes back afterwards."""
    spec, arguments, updates = e.spec, e.arguments, compat.variable_updates()
    try:
        with e.recorder.body(inputs) as body:
            e.arguments = list(body.inputs)
            yield body
    finally:
        e.spec, e.arguments = spec, arguments
    if compat.variable_updates() != updates:
        raise CaptureError(
            f"{e.recorder.scope.path or 'the model'!r} assigns a variable inside the body of a loop or branch. "
            "Carry the value through the loop, and assign it afterwards."
        )


def _agreed(carry: Value, result: Value) -> None:
    """Refuse a carried value whose shape changes."""
    if result.shape is None:
        return
    if len(result.dims) == carry.rank:
        for left, right in zip(carry.dims, result.dims, strict=True):
            if not same(left, right):
                needed = equated(left, right)
                if needed is not None:
                    raise Unify(*needed)
                break
        else:
            return
    raise CaptureError(
        f"the body of a loop turns a value of shape {tuple(carry.dims)} into one of shape {tuple(result.dims)}; "
        "what a loop carries must keep its shape"
    )


def _settled(
    e: Emit, carries: Sequence[Value], record: Callable[[Values], tuple[Body, Values, Values]]
) -> tuple[Values, Body, Values, Values]:
    """Record a body until it gives back the dtypes that it takes; then (carries, body, results, outputs)."""
    start = list(carries)
    while True:
        body, results, outputs = record(start)
        if len(results) != len(start):
            raise CaptureError(f"the body of a loop takes {len(start)} values and returns {len(results)}")
        kinds = [_wider(a.dtype, b.dtype) for a, b in zip(start, results, strict=True)]
        if all(kind == value.dtype for kind, value in zip(kinds, start, strict=True)):
            for value, result in zip(start, results, strict=True):
                _agreed(value, result)
            return start, body, results, outputs
        start = [e.cast(value, kind) for value, kind in zip(start, kinds, strict=True)]


def _specs(values: Sequence[Value]) -> list[tuple[str, Dims]]:
    return [(value.dtype, value.dims) for value in values]


def scan(
    e: Emit,
    step: Callable[[Values, Values], tuple[Sequence[Value], Sequence[Value]]],
    carries: Sequence[Value],
    sequences: Sequence[Value],
    *,
    axis: int = 0,
    reverse: bool = False,
) -> tuple[Values, Values]:
    """A loop over one axis of some sequences.

    Args:
        e: the running trace.
        step: (carried values, the sequences' slices) -> (new carried values, what is stacked).
        carries: what is carried at first; shapes stay, dtypes are promoted where the step widens them.
        sequences: at least one; all of one size along ``axis``.
        axis: of the sequences, and of the stacked results.
        reverse: whether to run from the last slice to the first; results stand where their slice stood.

    Returns:
        The values carried at last, and the stacked results.
    """
    count = sequences[0].dims[axis]
    slices = [(x.dtype, tuple(d for i, d in enumerate(x.dims) if i != axis)) for x in sequences]

    def record(start: Values) -> tuple[Body, Values, Values]:
        with _body(e, _specs(start) + slices) as body:
            given = list(body.inputs)
            for value, whole in zip(given[len(start) :], sequences, strict=True):
                value.origin = whole.origin
            results, outputs = (list(part) for part in step(given[: len(start)], given[len(start) :]))
            results = [_as(e, r, s) for r, s in zip(results, start, strict=True)]
            body.outputs = (*results, *outputs)
        return body, results, outputs

    start, body, _, outputs = _settled(e, carries, record)
    stacked = [(x.dtype, (*x.dims[:axis], count, *x.dims[axis:])) for x in outputs]
    made = e.nodes(
        "Scan",
        *start,
        *sequences,
        outputs=[*_specs(start), *stacked],
        bodies={"body": body},
        num_scan_inputs=len(sequences),
        scan_input_axes=[axis] * len(sequences) if axis else None,
        scan_output_axes=[axis] * len(outputs) if axis and outputs else None,
        scan_input_directions=[1] * len(sequences) if reverse else None,
        scan_output_directions=[1] * len(outputs) if reverse and outputs else None,
    )
    return list(made[: len(start)]), list(made[len(start) :])


def _as(e: Emit, result: Value, carry: Value) -> Value:
    """A body's result in the dtype of what is carried, where that is the wider one."""
    return e.cast(result, carry.dtype) if _wider(result.dtype, carry.dtype) == carry.dtype else result


def _wider(a: str, b: str) -> str:
    """Keras' promotion, but 64 bits stay 64 bits."""
    if a == b:
        return a
    if {a, b} <= {"int32", "int64"}:
        return "int64"
    return compat.result_type(a, b)


def loop(
    e: Emit,
    step: Callable[[Value, Values], tuple[Value | None, Sequence[Value], Sequence[Value]]],
    carries: Sequence[Value],
    *,
    trips: Any = None,
    condition: Value | None = None,
) -> tuple[Values, Values]:
    """A loop that runs a number of times, or while a condition holds, or both.

    Args:
        e: the running trace.
        step: (iteration from 0 as int64, carried values) -> (condition to go on or None, new carried values,
            what is stacked along a new first axis).
        carries: what is carried at first; shapes stay, dtypes are promoted where the step widens them.
        trips: how often at most: an int, a symbolic size or an integer scalar; None without a limit.
        condition: whether to run at all; None for yes.

    Returns:
        The values carried at last, and the stacked results.
    """

    def record(start: Values) -> tuple[Body, Values, Values]:
        with _body(e, [("int64", ()), ("bool", ()), *_specs(start)]) as body:
            number, before, *given = body.inputs
            going, results, outputs = step(number, given)
            results = [_as(e, r, s) for r, s in zip(results, start, strict=True)]
            body.outputs = (before if going is None else truth(e, going), *results, *outputs)
        return body, results, list(outputs)

    start, body, _, outputs = _settled(e, carries, record)
    limit = trips if trips is None else e.reshape(e.tensor(trips, "int64"), ())
    made = e.nodes(
        "Loop",
        limit,
        e.scalar(True, "bool") if condition is None else truth(e, condition),
        *start,
        outputs=[*_specs(start), *((x.dtype, None) for x in outputs)],
        bodies={"body": body},
    )
    stacked = list(made[len(start) :])
    for result, output in zip(stacked, outputs, strict=True):
        known = isinstance(trips, int) and body.outputs[0] is body.inputs[1]
        count = trips if known else e.unknown("iterations", stacked[0])
        result.shape = (count, *output.dims)
    if stacked:
        e.witness(stacked[0])
    return list(made[: len(start)]), stacked


def truth(e: Emit, x: Value) -> Value:
    """A condition as ONNX wants it: a bool of rank 0."""
    return e.reshape(e.cast(x, "bool"), ())


def branch(
    e: Emit,
    condition: Value,
    then: Callable[[], Sequence[Value]],
    otherwise: Callable[[], Sequence[Value]],
) -> Values:
    """The values of one of two branches; both must give the same dtypes and shapes.

    Args:
        e: the running trace.
        condition: a bool scalar.
        then: gives the values where the condition holds.
        otherwise: gives the values where it does not.
    """
    bodies: dict[str, Body] = {}
    for name, function in (("then_branch", then), ("else_branch", otherwise)):
        with _body(e, []) as body:
            body.outputs = tuple(function())
        bodies[name] = body
    left, right = (body.outputs for body in bodies.values())
    _check_branches(left, right)
    if not left:
        return []
    return list(e.nodes("If", truth(e, condition), outputs=_specs(left), bodies=bodies))


def _check_branches(left: Sequence[Value], right: Sequence[Value]) -> None:
    for a, b in zip(left, right, strict=True):
        if a.dtype != b.dtype or a.rank != b.rank:
            raise CaptureError(
                f"the branches of a condition return {a.dtype}{a.dims} and {b.dtype}{b.dims}; they must agree"
            )
        _agreed(a, b)
