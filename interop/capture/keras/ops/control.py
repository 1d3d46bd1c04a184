"""Loops and branches whose bodies are Python functions: traced once, into Scan, Loop and If.

A condition or index that is no traced tensor chooses its branch while tracing, as Python would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import tree

from interop.capture.keras.emit import Emit, to_numpy
from interop.capture.keras.ops.creation import counting
from interop.capture.keras.ops.elementwise import choose
from interop.capture.keras.registry import op
from interop.capture.keras.subgraphs import branch, loop, scan, traced
from interop.capture.keras.symint import is_symbolic
from interop.errors import CaptureError
from interop.graph.record import Value

Function = Callable[..., Any]

# Element types that ONNX Runtime's Where takes.
_SELECTABLE = ("float32", "float64", "int32", "int64")


def _as_traced(operation: Any, *args: Any, **kwargs: Any) -> None:
    """The results say for themselves what they are; Keras would call the functions on something else."""


def _split(e: Emit, structure: Any) -> tuple[list[Value], Callable[[Sequence[Any]], Any]]:
    """The tensors of a structure, Nones left out, and how to put such tensors back."""
    leaves = tree.flatten(structure)
    places = [place for place, leaf in enumerate(leaves) if leaf is not None]

    def packed(values: Sequence[Any]) -> Any:
        whole: list[Any] = [None] * len(leaves)
        for place, value in zip(places, values, strict=True):
            whole[place] = value
        return tree.pack_sequence_as(structure, whole)

    return [e.tensor(leaves[place]) for place in places], packed


def _same_structure(a: Any, b: Any) -> None:
    try:
        tree.assert_same_structure(a, b)
    except (ValueError, TypeError) as error:
        raise CaptureError(
            f"a loop or branch returns different structures at different times: {error}"
        ) from error


@op("Cond", since=16, spec=_as_traced)
def cond(e: Emit, pred: Any, true_fn: Function, false_fn: Function) -> Any:
    if not isinstance(pred, Value):
        return traced(e, true_fn if bool(to_numpy(pred)) else false_fn)()
    return _either(e, pred, traced(e, true_fn), traced(e, false_fn))


def _either(e: Emit, condition: Value, then: Function, otherwise: Function) -> Any:
    """One of two functions without arguments, whatever structure they return."""
    structures: list[Any] = []
    packers: list[Any] = []

    def body(function: Function) -> Callable[[], list[Value]]:
        def run() -> list[Value]:
            result = function()
            values, packed = _split(e, result)
            structures.append(result)
            packers.append(packed)
            return values

        return run

    def check_and_run() -> list[Value]:
        values = body(otherwise)()
        _same_structure(*structures)
        return values

    return (
        packers[0](results) if (results := branch(e, condition, body(then), check_and_run)) else structures[0]
    )


@op("Switch", since=16, spec=_as_traced)
def switch(e: Emit, index: Any, branches: Sequence[Function], *operands: Any) -> Any:
    """Nested branches; an index out of range takes the first or the last."""
    if not isinstance(index, Value):
        chosen = int(np.clip(to_numpy(index), 0, len(branches) - 1))
        return traced(e, branches[chosen])(*operands)

    def from_(first: int) -> Any:
        function = traced(e, branches[first])
        if first == len(branches) - 1:
            return function(*operands)
        taken = e.binary("LessOrEqual", number, e.scalar(first, "int64"), dtype="bool")
        return _either(e, taken, lambda: function(*operands), lambda: from_(first + 1))

    number = e.reshape(e.cast(index, "int64"), ())
    return from_(0)


@op("WhileLoop", since=16, spec=_as_traced)
def while_loop(e: Emit, loop_vars: Any, *, cond: Any, body: Any, maximum_iterations: Any) -> Any:
    several = isinstance(loop_vars, list | tuple)
    start, packed = _split(e, loop_vars)
    holds, advance = traced(e, cond), traced(e, body)

    def call(function: Function, values: Sequence[Value]) -> Any:
        structure = packed(values)
        return function(*structure) if several else function(structure)

    def step(number: Value, values: list[Value]) -> tuple[Value, list[Value], list[Value]]:
        after = call(advance, values)
        if several and not isinstance(after, list | tuple):
            after = (after,)
        new, _ = _split(e, after)
        return call(holds, new), new, []

    final, _ = loop(e, step, start, trips=maximum_iterations, condition=call(holds, start))
    return packed(final)


@op("ForiLoop", since=16, spec=_as_traced)
def fori_loop(e: Emit, init_val: Any, *, lower: Any, upper: Any, body_fun: Any) -> Any:
    start, packed = _split(e, init_val)
    advance = traced(e, body_fun)
    first = _count(e, lower)
    whole = isinstance(lower, int) and isinstance(upper, int)
    trips = upper - lower if whole else e.binary("Sub", _count(e, upper), first)

    def step(number: Value, values: list[Value]) -> tuple[None, list[Value], list[Value]]:
        position = e.cast(e.binary("Add", number, first), "int32")
        new, _ = _split(e, advance(position, packed(values)))
        return None, new, []

    return packed(loop(e, step, start, trips=trips)[0])


def _count(e: Emit, x: Any) -> Value:
    return e.reshape(e.size(x), ()) if is_symbolic(x) else e.reshape(e.tensor(x, "int64"), ())


@op("Scan", since=16, spec=_as_traced)
def scan_(e: Emit, f: Function, init: Any, xs: Any = None, *, length: Any, reverse: bool, unroll: Any) -> Any:
    """A scan; without sequences, a counted loop."""
    start, packed = _split(e, init)
    advance = traced(e, f)
    shape: list[Callable[[Sequence[Any]], Any]] = []

    def step(values: list[Value], given: Any) -> tuple[list[Value], list[Value]]:
        carry, y = advance(packed(values), given)
        new, _ = _split(e, carry)
        outputs, pack = _split(e, y)
        shape.append(pack)
        return new, outputs

    sequences, unpacked = _split(e, xs)
    if sequences:
        if length is not None:
            sequences = [_first(e, x, length) for x in sequences]
        final, stacked = scan(e, lambda c, s: step(c, unpacked(s)), start, sequences, reverse=reverse)
    else:
        final, stacked = loop(e, lambda _, c: (None, *step(c, None)), start, trips=length)
        stacked = [e.flip(y, 0) for y in stacked] if reverse else stacked
    return packed(final), shape[-1](stacked)


def _first(e: Emit, x: Value, length: Any) -> Value:
    """The first ``length`` slices."""
    if not is_symbolic(x.dims[0]) and not is_symbolic(length) and x.dims[0] == length:
        return x
    result = e.slice(x, 0, 0, length)
    result.shape = (length, *x.dims[1:])
    return result


@op("Map", since=16, spec=_as_traced)
def map_(e: Emit, f: Function, xs: Any) -> Any:
    return _each(e, f, xs)


@op("VectorizedMap", since=16, spec=_as_traced)
def vectorized_map(e: Emit, elements: Any, *, function: Any) -> Any:
    return _each(e, function, elements)


def _each(e: Emit, function: Function, xs: Any) -> Any:
    """A function of every slice along the first axis."""
    sequences, packed = _split(e, xs)
    apply = traced(e, function)
    shape: list[Callable[[Sequence[Any]], Any]] = []

    def step(_: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
        outputs, pack = _split(e, apply(packed(slices)))
        shape.append(pack)
        return [], outputs

    stacked = scan(e, step, [], sequences)[1]
    return shape[-1](stacked)


@op("AssociativeScan", since=16, spec=_as_traced)
def associative_scan(e: Emit, f: Function, elems: Any, *, reverse: bool, axis: int) -> Any:
    """Combine each place with the one 1, 2, 4, ... before it, until every place has all before it."""
    start, packed = _split(e, elems)
    axis = axis % start[0].rank
    size = start[0].dims[axis]
    combine = traced(e, f)

    def together(left: Sequence[Value], right: Sequence[Value]) -> list[Value]:
        return _split(e, combine(packed(left), packed(right)))[0]

    values = [e.flip(x, axis) for x in start] if reverse else start
    if is_symbolic(size):
        values = _doubled(e, together, values, axis)
    else:
        shift = 1
        while shift < size:
            heads = [_part(e, x, axis, 0, shift) for x in values]
            early = [_part(e, x, axis, 0, size - shift) for x in values]
            late = [_part(e, x, axis, shift, size) for x in values]
            joined = together(early, late)
            values = [
                e.concat([e.cast(head, rest.dtype), rest], axis)
                for head, rest in zip(heads, joined, strict=True)
            ]
            shift *= 2
    return packed([e.flip(x, axis) for x in values] if reverse else values)


def _part(e: Emit, x: Value, axis: int, start: int, stop: int) -> Value:
    result = e.slice(x, axis, start, stop)
    result.shape = (*x.dims[:axis], stop - start, *x.dims[axis + 1 :])
    return result


def _doubled(e: Emit, together: Function, start: list[Value], axis: int) -> list[Value]:
    """The same for a size that is not known: whole arrays, with the places before the first left as they are."""
    size = e.reshape(e.size(start[0].dims[axis]), ())
    places = counting(e, start[0].dims[axis])

    def step(number: Value, state: list[Value]) -> tuple[Value, list[Value], list[Value]]:
        shift, *values = state
        before = e.binary("Max", e.binary("Sub", places, shift), e.scalar(0, "int64"))
        early = [e.node("Gather", x, before, shape=x.shape, axis=axis) for x in values]
        reached = e.binary("GreaterOrEqual", places, shift, dtype="bool")
        new = []
        for x, joined in zip(values, together(early, values), strict=True):
            along = e.unsqueeze(reached, list(range(1, x.rank - axis)))
            a, b = (e.widened(item, *_SELECTABLE) for item in (joined, e.cast(x, joined.dtype)))
            new.append(e.cast(choose(e, along, a, b), joined.dtype))
        shift = e.binary("Add", shift, shift)
        return e.binary("Less", shift, size, dtype="bool"), [shift, *new], []

    one = e.scalar(1, "int64")
    final, _ = loop(e, step, [one, *start], condition=e.binary("Less", one, size, dtype="bool"))
    return final[1:]
