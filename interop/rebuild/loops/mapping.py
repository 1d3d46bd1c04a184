"""Loops over an open dimension that carry nothing, as Keras' own ``TimeDistributed`` of their body.

As in ``recurrence.py``, all that is read and collected lies in the columns of one tensor. Its other axes are time and
the open dimensions of what is read, one or more: (first, time, others, columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
from keras import ops

from interop.capture.keras import compat
from interop.capture.keras.symint import SymInt
from interop.rebuild.context import Context
from interop.rebuild.loops.columns import Slot, joined, spans_of
from interop.rebuild.loops.recurrence import Recurrence, Recurring
from interop.rebuild.sizes import Dims, Sizes, polynomial
from interop.status import LiftedLayer


class Mapped(Recurring):
    """One loop on its way to a layer."""

    _frame: tuple[int, ...]

    def _batch_of(self, tensors: Sequence[Dims], elements: Sequence[Dims]) -> int:
        found = {polynomial(s): s for dims in (*elements, *tensors) for s in dims if isinstance(s, SymInt)}
        self._frame = tuple(found.values()) or (1,)
        return self._frame[0]

    def _slot(self, dims: Dims, dtype: str) -> Slot:
        self._check_type(dtype)
        slot = Slot(dims, None, dtype, self._cell_dtype)
        sizes = [polynomial(size) for size in dims if isinstance(size, SymInt)]
        if len(set(sizes)) < len(sizes) or not set(sizes) <= set(map(polynomial, self._frame)):
            self._context.fail(
                f"runs over the open dimension {self._loop.time} with a tensor of {self._context.text(dims)}, which "
                "has an open dimension twice, or one of its own. Import the model with that dimension fixed"
            )
        return slot

    def _layout_of(self, slot: Slot) -> tuple[Any, ...]:
        return (slot.columns, slot.dtype, *self._places(slot), len(self._frame))

    def _places(self, slot: Slot) -> list[int | None]:
        """Where a tensor has each axis of the frame."""
        sizes = [polynomial(size) if isinstance(size, SymInt) else None for size in slot.dims]
        return [sizes.index(key) if (key := polynomial(x)) in sizes else None for x in self._frame]

    def run(self) -> None:
        """Make the layer, call it, and hand out what it returns."""
        context, loop, builder, time = self._context, self._loop, self._builder, self._loop.time
        found = self._shared(0, list(range(len(loop.collected))))
        builder.account.lifted.append(LiftedLayer(found.layer.name, "TimeDistributed", (self._name,)))
        lines = []
        for x, slot in zip(self._kept.values(), self._carried, strict=True):
            one = context.reshape(x, (1, *slot.dims))
            lines.append(self._packed(context, one, slot, time))
        for line, slot in zip(loop.read, self._read, strict=True):
            dims = context.dims(line.whole)
            moved = ops.moveaxis(line.whole, line.axis, 0) if line.axis else line.whole
            context.declare(moved, (dims[line.axis], *slot.dims))
            lines.append(self._packed(context, ops.flip(moved, 0) if line.backwards else moved, slot, time))
        y = found.layer(ops.moveaxis(builder.symbolic(joined(lines)), 0, 1))
        y = context.declare(ops.moveaxis(y, 1, 0), (time, *self._frame, found.units))
        new = {polynomial(a): b for a, b in zip(found.frame, self._frame, strict=True)}
        for collected, slot, span in zip(loop.collected, found.results, spans_of(found.results), strict=True):
            dims = tuple(new.get(polynomial(x), x) if isinstance(x, SymInt) else x for x in slot.dims)
            part = context.declare(y[..., span], (time, *self._frame, slot.columns))
            made = self._unpacked(context, part, replace(slot, dims=dims), time)
            at = context.axis(collected.axis, len(dims) + 1)
            if collected.backwards:
                made = ops.flip(made, 0)
            made = ops.moveaxis(made, 0, at) if at else made
            self._scope[collected.whole] = builder.interpreter.value(
                context.declare(made, (*dims[:at], time, *dims[at:]))
            )

    def _made(self, carried: int, fresh: list[int]) -> Recurrence:
        inner, results = self._body()
        names, slots = self._builder.account.names, (*self._carried, *self._read)
        context = Context(self._context.node, self._context.opset, Sizes(), self._context.body)
        width = sum(slot.columns for slot in slots)
        open_or_one = [None if isinstance(size, SymInt) else size for size in self._frame]
        packed = keras.Input(
            batch_shape=(*open_or_one, width), dtype=self._cell_dtype, name=names.take("element")
        )
        context.declare(packed, (*self._frame, width))
        parts = []
        for slot, span in zip(slots, spans_of(slots), strict=True):
            part = context.declare(packed[..., span], (*self._frame, slot.columns))
            made = self._unpacked(context, part, slot)
            parts.append(made if slot.dims else ops.reshape(made, (1,)))
        outputs = inner(parts)
        outputs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        columns = []
        for tensor, slot in zip(outputs, results, strict=True):
            context.declare(tensor, slot.dims)
            columns.append(self._packed(context, tensor, slot))
        step = compat.functional(packed, joined(columns), names.take(f"{self._name}_step"))
        layer = keras.layers.TimeDistributed(step, name=names.take(self._name), dtype=self._cell_dtype)
        units = sum(slot.columns for slot in results)
        return Recurrence(layer, units, results, self._name, self._frame)

    def _packed(self, context: Context, x: Any, slot: Slot, time: int | None = None) -> Any:
        """(frame, columns) of a tensor, time before them if it has it."""
        lead, dims = ([] if time is None else [0]), context.dims(x)
        places = self._places(slot)
        order = [*lead, *(place + len(lead) for place in places if place is not None)]
        order += [axis for axis in range(len(dims)) if axis not in order]
        if order != list(range(len(dims))):
            x = context.declare(ops.transpose(x, order), [dims[axis] for axis in order])
        sizes = [dims[axis] for axis in lead]
        sizes += [1 if place is None else size for size, place in zip(self._frame, places, strict=True)]
        x = context.reshape(x, (*sizes, slot.elements))
        x = context.declare(slot.encoded(x), (*sizes, slot.columns))
        return context.expand(x, (*([] if time is None else [time]), *self._frame, slot.columns))

    def _unpacked(self, context: Context, x: Any, slot: Slot, time: int | None = None) -> Any:
        """A tensor of (frame, columns); both with time before them, or neither."""
        lead = [] if time is None else [time]
        places = self._places(slot)
        x = context.declare(slot.decoded(x), (*lead, *self._frame, slot.elements))
        index = [slice(None)] * len(lead) + [slice(0, 1) if p is None else slice(None) for p in places]
        if None in places:
            x = x[tuple(index)]
        there = [size for size, place in zip(self._frame, places, strict=True) if place is not None]
        ones = [1 if place is None else size for size, place in zip(self._frame, places, strict=True)]
        context.declare(x, (*lead, *ones, slot.elements))
        x = context.reshape(x, (*lead, *there, *slot.rest))
        have = [place for place in places if place is not None]
        have += [axis for axis in range(len(slot.dims)) if axis not in have]
        order = [have.index(axis) for axis in range(len(slot.dims))]
        if order != list(range(len(order))):
            x = ops.transpose(x, [*range(len(lead)), *(place + len(lead) for place in order)])
        return context.declare(x, (*lead, *slot.dims))
