"""If, Loop and Scan. Source: https://onnx.ai/onnx/operators/onnx__Loop.html and its kind.

Where numbers can be read (arrays, or conditions and counts that are known when the graph is read) the chosen branch
runs, and loops are walked in Python, one iteration after the other. An open condition, one that depends on the values
of the model's inputs, is computed

- inside a function that the backend traces (a revived layer) by Keras' ``cond`` and ``while_loop``;
- in a graph of layers, where those do not build or save (Keras 3.15), without them: both branches are computed and one
  is selected; a loop with a known limit takes all its iterations, and keeps its state from where it has ended. ONNX'
  operators have no effects but their results, so this is the same. What comes out must have one shape; a loop without
  a limit, and one that collects, whose output is as long as it ran, are refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Body, Context
from interop.rebuild.registry import Tensor, op
from interop.rebuild.sizes import has_open_sizes

_FOREVER = 2**62
_UNROLLED = 256  # iterations of a loop in a graph of layers, which has a copy of its body for each
_RUN = "Run the graph with interop.load_graph"


def _truth(ctx: Context, condition: Tensor) -> bool | None:
    """The answer to a condition; None where it is open."""
    array = ctx.known(condition)
    if array is None or any(isinstance(item, SymInt) for item in array.flat):
        return None
    return bool(array.reshape(-1)[0])


def _scalar(x: Tensor) -> Tensor:
    """Conditions and counts may come with one axis of one."""
    return ops.reshape(x, ())


@op("If", since=1)
def choose(ctx: Context, condition: Tensor, *, then_branch: Any, else_branch: Any) -> tuple[Tensor, ...]:
    answer = _truth(ctx, condition)
    if answer is not None:
        return tuple(ctx.body(then_branch if answer else else_branch)())
    yes, no = ctx.body(then_branch), ctx.body(else_branch)
    if not isinstance(condition, KerasTensor):
        made = ops.cond(_scalar(condition), lambda: tuple(yes.traced()), lambda: tuple(no.traced()))
        return tuple(made)
    results = zip(yes.outputs, yes(), no(), strict=True)
    return tuple(_selected(ctx, condition, a, b, f"output {name!r}") for name, a, b in results)


def _selected(ctx: Context, condition: Tensor, a: Tensor, b: Tensor, what: str) -> Tensor:
    """One of two tensors of the same shape and type."""
    if not all(hasattr(x, "shape") for x in (a, b)):
        ctx.fail(
            f"its {what} is a sequence or optional, and its condition depends on the model's inputs. {_RUN}"
        )
    dims, other = ctx.dims(a), ctx.dims(b)
    alike = len(dims) == len(other) and all(ctx.sizes.same(x, y) for x, y in zip(dims, other, strict=True))
    if not alike or ctx.dtype(a) != ctx.dtype(b):
        ctx.fail(
            f"its {what} is {ctx.dtype(a)}{ctx.text(dims)} or {ctx.dtype(b)}{ctx.text(other)}, as the values of the "
            f"model's inputs say; a tensor of Keras has one shape. {_RUN}"
        )
    return a if a is b else ctx.declare(ops.where(_scalar(condition), a, b), dims)


@op("Loop", since=1)
def loop(
    ctx: Context, limit: Tensor = None, condition: Tensor = None, *carried: Tensor, body: Any
) -> tuple[Tensor, ...]:
    """The last values of what is carried, and what every iteration gave, stacked."""
    run = ctx.body(body)
    if len(run.inputs) != 2 + len(carried) or len(run.outputs) < 1 + len(carried):
        ctx.fail(
            f"carries {len(carried)} values, and its body has {len(run.inputs)} inputs and {len(run.outputs)} outputs; "
            f"expected {2 + len(carried)} and at least {1 + len(carried)}"
        )
    count = None if limit is None else ctx.known(limit)
    if count is not None and any(isinstance(item, SymInt) for item in count.flat):
        count = None
    given = [x for x in (limit, condition, *carried) if x is not None]
    traced = not any(isinstance(x, KerasTensor) for x in given)
    if limit is not None and count is None:
        if traced:
            return tuple(_while(ctx, run, limit, condition, carried))
        ctx.fail(
            f"runs as often as the values of the model's inputs say, which Keras cannot build and save. {_RUN}"
        )
    times = _FOREVER if count is None else int(count.reshape(-1)[0])
    going: Any = True if condition is None else condition
    state, collected = list(carried), [[] for _ in run.outputs[1 + len(carried) :]]  # type: list[Tensor], list[list[Tensor]]
    iteration = 0
    while iteration < times:
        answer = going if going is True else _truth(ctx, going)
        if answer is False:
            break
        if answer is None:
            start = (np.asarray(iteration, "int64"), going, state)
            left = None if count is None else np.asarray(times, "int64")
            if collected:
                ctx.fail(
                    "collects what its iterations give, and how many there are depends on the values of the model's "
                    f"inputs; a tensor of Keras has one length. {_RUN}"
                )
            if not isinstance(going, KerasTensor):
                return tuple(_while(ctx, run, left, going, state, iteration))
            return tuple(_unrolled(ctx, run, times, *start))
        more, *made = run(np.asarray(iteration, "int64"), np.asarray(True), *state)
        state = made[: len(carried)]
        for line, item in zip(collected, made[len(carried) :], strict=True):
            line.append(item)
        iteration += 1
        going = more
    return (
        *state,
        *(_stacked(ctx, line, body.outputs[1 + len(carried) + i], 0) for i, line in enumerate(collected)),
    )


def _unrolled(
    ctx: Context, run: Body, times: int, iteration: Tensor, going: Tensor, state: list[Tensor]
) -> list[Tensor]:
    """All iterations there may be, with the state kept once the condition is false."""
    first = int(iteration)
    if times - first > _UNROLLED:
        limit = "without a limit" if times == _FOREVER else f"up to {times} times"
        ctx.fail(
            f"runs {limit} until a condition on the values of the model's inputs is false. In Keras layers that takes "
            f"a limit of at most {_UNROLLED} iterations. {_RUN}"
        )
    going = _scalar(going)
    for place in range(first, times):
        more, *made = run(np.asarray(place, "int64"), np.asarray(True), *state)
        state = [
            _selected(ctx, going, new, old, f"carried {name!r}")
            for name, new, old in zip(run.inputs[2:], made, state, strict=True)
        ]
        going = ops.logical_and(going, _scalar(more))
    return state


def _while(
    ctx: Context, run: Body, limit: Tensor, condition: Tensor, carried: Sequence[Tensor], first: int = 0
) -> list[Tensor]:
    """A loop of the backend, in a function that it traces."""
    if len(run.outputs) > 1 + len(carried):
        ctx.fail(
            "collects what its iterations give, and how many there are depends on values; a compiled function has "
            f"tensors of one length. {_RUN}"
        )
    kind = ctx.dtype_of_code(7)
    state = [ops.convert_to_tensor(x) for x in carried]
    if keras.backend.backend() == "torch":  # only shapes are asked for: tensors without values cannot decide
        return run.traced(np.asarray(first, "int64"), np.asarray(True), *state)[1:]
    going = True if condition is None else ops.cast(_scalar(condition), "bool")
    until = _FOREVER if limit is None else ops.cast(_scalar(limit), kind)

    def goes_on(iteration: Tensor, going: Tensor, *state: Tensor) -> Tensor:
        return going if limit is None else ops.logical_and(going, ops.less(iteration, until))

    def step(iteration: Tensor, going: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        more, *made = run.traced(iteration, going, *state)
        return (ops.add(iteration, ops.ones_like(iteration)), ops.cast(_scalar(more), "bool"), *made)

    begin = (ops.convert_to_tensor(first, kind), ops.convert_to_tensor(going, "bool"), *state)
    return list(ops.while_loop(goes_on, step, begin))[2:]


def _stacked(ctx: Context, items: list[Tensor], value: Any, axis: int) -> Tensor:
    """What iterations gave, along a new axis; of no iterations, an empty tensor as the body says it is."""
    if items:
        return ops.stack(items, axis=axis)
    shape = [] if value.shape is None else [size if isinstance(size, int) else 0 for size in value.shape]
    shape.insert(axis, 0)
    return ops.zeros(shape, dtype="float32" if value.dtype is None else ctx.dtype_of_code(int(value.dtype)))


def _scanned(run: Any, state: list[Tensor], lines: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """A loop over the first axes, which a compiled function or a trace knows no number for.

    On TensorFlow, ``ops.scan`` stacks only what is like what it carries (Keras 3.15): the results are carried too.
    """
    count = len(state)

    def step(carried: Any, slices: Any) -> Any:
        made = [ops.convert_to_tensor(x) for x in run(*carried[:count], *slices)]
        return (tuple(made), tuple(made)) if alike else (tuple(made[:count]), tuple(made[count:]))

    alike = keras.backend.backend() == "tensorflow"
    begin = [ops.convert_to_tensor(x) for x in state]
    if alike:
        empty = (ops.zeros(ops.shape(line)[1:], line.dtype) for line in lines)
        begin += [ops.zeros_like(x) for x in run(*state, *empty)[count:]]
    last, stacked = ops.scan(step, tuple(begin), tuple(lines))
    return list(last)[:count], list(stacked)[count if alike else 0 :]


@op("Scan", since=9)
def scan(
    ctx: Context,
    *inputs: Tensor,
    body: Any,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] = (),
    scan_input_directions: Sequence[int] = (),
    scan_output_axes: Sequence[int] = (),
    scan_output_directions: Sequence[int] = (),
) -> tuple[Tensor, ...]:
    """A body over slices of inputs; a direction of 1 runs from the end, or stacks towards the front."""
    carried = len(inputs) - num_scan_inputs
    if not any(has_open_sizes(x) for x in inputs):
        axes = [
            ctx.axis(axis, ctx.rank(x)) for axis, x in zip(scan_input_axes, inputs[carried:], strict=False)
        ]
        axes = axes or [0] * num_scan_inputs
        if any(isinstance(ctx.dims(x)[a], SymInt) for a, x in zip(axes, inputs[carried:], strict=True)):
            given = [
                ops.flip(ops.moveaxis(x, axis, 0), 0) if turned else ops.moveaxis(x, axis, 0)
                for x, axis, turned in zip(
                    inputs[carried:], axes, scan_input_directions or [0] * num_scan_inputs, strict=True
                )
            ]
            state, stacked = _scanned(ctx.body(body), list(inputs[:carried]), given)
            turns = scan_output_directions or [0] * len(stacked)
            places = scan_output_axes or [0] * len(stacked)
            stacked = [ops.flip(x, 0) if turn else x for x, turn in zip(stacked, turns, strict=True)]
            return (*state, *(ops.moveaxis(x, 0, a) for x, a in zip(stacked, places, strict=True)))
    state, lines = list(inputs[:carried]), []
    for i, x in enumerate(inputs[carried:]):
        axis = ctx.axis(scan_input_axes[i], ctx.rank(x)) if scan_input_axes else 0
        length = ctx.dims(x)[axis]
        if isinstance(length, SymInt):
            ctx.fail(f"runs over the open dimension {length}; import the model with that dimension fixed")
        items = [x[(slice(None),) * axis + (place,)] for place in range(length)]
        lines.append(items[::-1] if scan_input_directions and scan_input_directions[i] else items)
    run = ctx.body(body)
    collected: list[list[Tensor]] = [[] for _ in run.outputs[carried:]]
    for slices in zip(*lines, strict=True):
        made = run(*state, *slices)
        state = made[:carried]
        for line, item in zip(collected, made[carried:], strict=True):
            line.append(item)
    outputs = []
    for i, line in enumerate(collected):
        turned = line[::-1] if scan_output_directions and scan_output_directions[i] else line
        value = body.outputs[carried + i]
        axis = scan_output_axes[i] if scan_output_axes else 0
        if axis < 0:
            axis += 1 + (len(value.shape) if value.shape is not None else ctx.rank(line[0]))
        outputs.append(_stacked(ctx, turned, value, axis))
    return (*state, *outputs)


@op("Scan", since=8)
def scan_of_batches(
    ctx: Context,
    lengths: Tensor,
    *inputs: Tensor,
    body: Any,
    num_scan_inputs: int,
    directions: Sequence[int] = (),
) -> tuple[Tensor, ...]:
    """The first version: every example of a batch by itself, over its axis 1."""
    if lengths is not None:
        ctx.fail("sequence_lens are not supported; convert the model to opset 9 or newer")
    batch = ctx.dims(inputs[0])[0]
    if isinstance(batch, SymInt):
        ctx.fail(f"runs over the open dimension {batch}; import the model with that dimension fixed")
    results = [
        scan(
            ctx,
            *(x[example] for x in inputs),
            body=body,
            num_scan_inputs=num_scan_inputs,
            scan_input_directions=directions,
        )
        for example in range(batch)
    ]
    return tuple(ops.stack(list(outputs)) for outputs in zip(*results, strict=True))
