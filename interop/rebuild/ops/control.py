"""If, Loop and Scan. Source: https://onnx.ai/onnx/operators/onnx__Loop.html and its kind.

Where numbers can be read (arrays, or conditions and counts that are known when the graph is read) the chosen branch
runs, and loops are walked in Python, one iteration after the other. Keras' ``cond`` and ``while_loop`` do not build or
save in a graph of layers (Keras 3.15), so there an open condition is refused, by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.registry import Tensor, op
from interop.rebuild.sizes import has_open_sizes

_FOREVER = 2**62


def _truth(ctx: Context, condition: Tensor, what: str) -> bool:
    array = ctx.known(condition)
    if array is None or any(isinstance(item, SymInt) for item in array.flat):
        ctx.fail(
            f"its {what} depends on the values of the model's inputs, which Keras cannot build and save. Export the "
            "model without that branch, or run the graph with interop.load_graph"
        )
    return bool(array.reshape(-1)[0])


@op("If", since=1)
def choose(ctx: Context, condition: Tensor, *, then_branch: Any, else_branch: Any) -> tuple[Tensor, ...]:
    chosen = then_branch if _truth(ctx, condition, "condition") else else_branch
    return tuple(ctx.body(chosen)())


@op("Loop", since=1)
def loop(
    ctx: Context, limit: Tensor = None, condition: Tensor = None, *carried: Tensor, body: Any
) -> tuple[Tensor, ...]:
    """The last values of what is carried, and what every iteration gave, stacked."""
    times = _FOREVER if limit is None else ctx.ints(limit)[0]
    going = condition is None or _truth(ctx, condition, "condition")
    run = ctx.body(body)
    state, collected = list(carried), [[] for _ in run.outputs[1 + len(carried) :]]  # type: list[Tensor], list[list[Tensor]]
    iteration = 0
    while going and iteration < times:
        more, *made = run(np.asarray(iteration, "int64"), np.asarray(True), *state)
        state = made[: len(carried)]
        for line, item in zip(collected, made[len(carried) :], strict=True):
            line.append(item)
        iteration += 1
        if iteration < times:
            going = _truth(ctx, more, "condition")
    return (
        *state,
        *(_stacked(ctx, line, body.outputs[1 + len(carried) + i], 0) for i, line in enumerate(collected)),
    )


def _stacked(ctx: Context, items: list[Tensor], value: Any, axis: int) -> Tensor:
    """What iterations gave, along a new axis; of no iterations, an empty tensor as the body says it is."""
    if items:
        return ops.stack(items, axis=axis)
    shape = [] if value.shape is None else [size if isinstance(size, int) else 0 for size in value.shape]
    shape.insert(axis, 0)
    return ops.zeros(shape, dtype="float32" if value.dtype is None else ctx.dtype_of_code(int(value.dtype)))


def _scanned(run: Any, state: list[Tensor], lines: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """A loop over the first axes, which a compiled function or a trace knows no number for.

    TensorFlow wants something to be carried.
    """
    count = len(state)

    def step(carried: Any, slices: Any) -> Any:
        made = [ops.convert_to_tensor(x) for x in run(*carried[:count], *slices)]
        return (*made[:count], *carried[count:]), tuple(made[count:])

    last, stacked = ops.scan(step, (*state, *([] if state else [ops.zeros(())])), tuple(lines))
    return list(last)[:count], list(stacked)


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
