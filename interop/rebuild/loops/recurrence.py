"""Loops over an open dimension, as Keras' own ``RNN`` around a Functional model of their body.

Enters: a ``Scan``, or a ``Loop`` that runs as often as an open dimension is long. Leaves: its outputs, of a layer that
saves and loads without this toolkit, runs at any length and trains.

The cells of ``RNN`` are classes, and a saved model can name none but Keras' own. But a ``SimpleRNNCell`` computes

    state = activation(element @ kernel + state @ recurrent_kernel)

and its activation may be any callable that Keras saves: a Functional model. With kernels of zeros and ones, which do
not train, it is given the state and the element side by side, and what it returns is the next state and the result. So
all that is carried, read and collected lies in the columns of one matrix, whose rows are the batch.

Invariants: what is carried by the cell goes through a product with ones. Finite numbers stay what they are, up to the
precision of the device's products (TensorFlow on a GPU: 10 bits, as for all of its products); integers are carried as
digits that stay exact there. Infinite ones are kept where a graph has them as constants, or a body takes logarithms;
else they would be NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from interop.capture.keras import compat
from interop.capture.keras.symint import SymInt
from interop.rebuild.broadcast import add
from interop.rebuild.context import Context
from interop.rebuild.interpreter import Override, Scope
from interop.rebuild.lifting import Plan, plan, values_of
from interop.rebuild.loops.columns import Slot, joined, spans_of
from interop.rebuild.loops.form import Collected, Loop, Read, form_of, has_infinite_constants
from interop.rebuild.sizes import Dims, polynomial
from interop.rebuild.source import name_of
from interop.rebuild.values import Value
from interop.status import LiftedLayer

if TYPE_CHECKING:
    from interop.rebuild.building import Builder

_MOST_COLUMNS = 4096  # of the cell's state; its kernel has as many rows and columns


@dataclass(frozen=True)
class Recurrence:
    """A layer that loops with equal bodies share.

    Attributes:
        layer: the ``RNN``.
        units: of its cell.
        results: how what is collected lies in columns.
        name: of the node that it was made for.
        frame: the open sizes of the loop that it was made for.
    """

    layer: Any
    units: int
    results: list[Slot]
    name: str
    frame: tuple[int, ...]


class Recurring:
    """One loop on its way to a layer."""

    def __init__(self, builder: Builder, context: Context, loop: Loop, scope: Scope) -> None:
        self._builder, self._context, self._loop, self._scope = builder, context, loop, scope
        self._name = name_of(context.node)
        self._form = form_of(loop.body)
        self._inside = {
            node
            for other in builder.loops
            if other is context.node or form_of(other.attributes["body"].value) == self._form
            for node in other.attributes["body"].value.all_nodes()
        }
        self._plan: Plan = plan(loop.body, builder.layout, self._is_used_elsewhere)
        self._own: dict[Any, Value] = {}  # weights of the body alone, and numbers
        self._kept: dict[Any, Any] = {}  # tensors from around it
        self._split_captured()
        if loop.position is not None:
            line = ops.cast(builder.sizes.arange(loop.time), context.dtype_of_code(7))
            loop.read.append(Read(context.declare(line, (loop.time,)), loop.position, 0))
        tensors = [*(x.first for x in loop.carried), *self._kept.values()]
        elements = [self._element(x) for x in loop.read]
        self._batch = self._batch_of([context.dims(x) for x in tensors], elements)
        types = [context.dtype(x) for x in (*tensors, *(x.whole for x in loop.read))]
        self._cell_dtype = "float64" if "float64" in types else "float32"
        self._infinite = has_infinite_constants(builder.graph) or any(
            node.op_type == "Log" for node in loop.body.all_nodes()
        )
        self._carried = [self._slot(context.dims(x), context.dtype(x)) for x in tensors]
        self._read = [
            self._slot(dims, context.dtype(x.whole)) for dims, x in zip(elements, loop.read, strict=True)
        ]

    # What the body sees from around it

    def _split_captured(self) -> None:
        loop = self._loop
        looked_up = {x.node for x in loop.read if x.node is not None}
        made = {value for node in loop.body.all_nodes() for value in node.outputs}
        for graph in (loop.body, *loop.body.subgraphs()):
            made |= {*graph.inputs, *graph.initializers.values()}
        layers, skipped = self._plan.lifted, self._plan.skipped | looked_up
        used = dict.fromkeys(
            value
            for node in loop.body
            if node in layers or node not in skipped
            for value in (layers[node].inputs if node in layers else values_of(node))
        )
        used |= dict.fromkeys(loop.body.outputs)
        values = {value: self._scope[value] for value in used if value not in made}
        values |= {value: given for value, given in loop.given.items() if value in used}
        for value, found in values.items():
            if found.is_known or (found.array is not None and not self._is_used_elsewhere(value)):
                self._own[value] = found
            elif found.rank is None:
                self._context.fail(
                    f"its body takes {value.name!r}, a sequence or optional, from around it, and runs over the open "
                    f"dimension {loop.time}; import the model with that dimension fixed"
                )
            else:
                self._kept[value] = found.tensor()

    def _is_used_elsewhere(self, value: Any) -> bool:
        """Whether anything but the body, and those that are like it, depends on a value."""
        if value.is_graph_output():
            return True
        outer = {user for user, _ in value.uses() if user not in self._inside}
        return any(
            user in self._builder.loops or any(self._is_used_elsewhere(made) for made in user.outputs)
            for user in outer
        )

    # Columns

    def _element(self, line: Read) -> Dims:
        dims = self._context.dims(line.whole)
        return (*dims[: line.axis], *dims[line.axis + 1 :])

    def _batch_of(self, tensors: Sequence[Dims], elements: Sequence[Dims]) -> int:
        """The size of the axis that becomes rows: the one that is open, or else the first of all that is carried."""
        found = {polynomial(s): s for dims in (*tensors, *elements) for s in dims if isinstance(s, SymInt)}
        if len(found) > 1:
            self._context.fail(
                f"runs over the open dimension {self._loop.time}, and what it computes with has the open dimensions "
                f"{', '.join(map(str, found.values()))}; a recurrent layer of Keras has one, the batch. Import the "
                "model with the others fixed"
            )
        if found:
            return next(iter(found.values()))
        first = {dims[0] if dims else 1 for dims in (*tensors, *elements)}
        return first.pop() if len(first) == 1 else 1

    def _slot(self, dims: Dims, dtype: str) -> Slot:
        axes = [axis for axis, size in enumerate(dims) if isinstance(size, SymInt)]
        fixed = not isinstance(self._batch, SymInt)
        if fixed and dims and self._batch != 1 and dims[0] == self._batch:
            axes = [0]
        self._check_type(dtype)
        if len(axes) > 1:
            self._context.fail(f"carries a tensor of {self._context.text(dims)}, which has its batch twice")
        return Slot(dims, axes[0] if axes else None, dtype, self._cell_dtype, self._infinite)

    def _check_type(self, dtype: str) -> None:
        if not any(kind in dtype for kind in ("int", "float", "bool")):
            self._context.fail(f"runs over the open dimension {self._loop.time} in {dtype}")

    def _layout_of(self, slot: Slot) -> tuple[Any, ...]:
        """What a layer that is shared must have alike."""
        return (slot.columns, slot.axis, slot.dtype)

    def _rows(self, x: Any, slot: Slot) -> Any:
        """A tensor outside, as the columns of every row."""
        return self._context.expand(slot.packed(x), (self._batch, slot.columns))

    def _sequence(self, line: Read, slot: Slot) -> Any:
        """(batch, time, columns) of a sequence."""
        context, x = self._context, line.whole
        dims = context.dims(x)
        time, order = dims[line.axis], [line.axis]
        if slot.axis is not None:
            order.insert(0, slot.axis + (slot.axis >= line.axis))
        order += [axis for axis in range(len(dims)) if axis not in order]
        if order != list(range(len(dims))):
            x = context.declare(ops.transpose(x, order), [dims[axis] for axis in order])
        rows = 1 if slot.axis is None else self._batch
        x = context.reshape(x, (rows, time, slot.elements))
        x = context.declare(slot.encoded(x), (rows, time, slot.columns))
        x = context.expand(x, (self._batch, time, slot.columns))
        return ops.flip(x, 1) if line.backwards else x

    # The layer

    def run(self) -> None:
        """Make the layer, call it, and hand out what it returns."""
        context, loop, builder = self._context, self._loop, self._builder
        carried = sum(slot.columns for slot in self._carried)
        # What is carried already is not collected once more.
        places = {x.becomes: i for i, x in enumerate(loop.carried)}
        fresh = [i for i, x in enumerate(loop.collected) if x.inside not in places]
        found = self._shared(carried, fresh)
        layer, units = found.layer, found.units
        results = [slot.of_batch(self._batch) for slot in found.results]
        builder.account.lifted.append(LiftedLayer(layer.name, "RNN", (self._name,)))
        tensors = [*(x.first for x in loop.carried), *self._kept.values()]
        start = [self._rows(x, slot) for x, slot in zip(tensors, self._carried, strict=True)]
        start.append(np.zeros((1, units - carried), self._cell_dtype))
        start[-1] = context.expand(start[-1], (self._batch, units - carried))
        lines = [self._sequence(line, slot) for line, slot in zip(loop.read, self._read, strict=True)]
        sequence, last = layer(
            builder.symbolic(joined(lines)), initial_state=[builder.symbolic(joined(start))]
        )
        context.declare(sequence, (self._batch, loop.time, units))
        context.declare(last, (self._batch, units))
        spans = spans_of(self._carried)
        for x, slot, span in zip(loop.carried, self._carried, spans, strict=False):
            made = context.declare(slot.unpacked(last[:, span]), slot.dims)
            self._scope[x.last] = builder.interpreter.value(made)
        new = dict(zip(fresh, spans_of([results[i] for i in fresh], carried), strict=True))
        for i, collected in enumerate(loop.collected):
            span = new[i] if i in new else spans[places[collected.inside]]
            made = self._collect(sequence[:, :, span], results[i], collected)
            self._scope[collected.whole] = builder.interpreter.value(made)

    def _shared(self, carried: int, fresh: list[int]) -> Recurrence:
        """The layer, made once for loops that are alike."""
        known = self._builder.recurrences
        numbers = tuple(
            (value.array.shape, str(value.array.dtype), repr(value.array.tolist()))
            for value in self._own.values()
            if value.is_known and value.array is not None
        )
        slots = tuple(self._layout_of(slot) for slot in (*self._carried, *self._read))
        key = (len(self._carried), slots, numbers)
        if self._form not in known:
            known[self._form] = key, self._made(carried, fresh)
        there, made = known[self._form]
        if there == key:
            return made
        weights = [value for value in self._own.values() if not value.is_known]
        if weights or any(lifted.weights for lifted in self._plan.lifted.values()):
            self._context.fail(
                f"runs over the open dimension {self._loop.time} with the weights of node {made.name!r}, on tensors "
                "of other sizes; import the model with that dimension fixed"
            )
        return self._made(carried, fresh)

    def _made(self, carried: int, fresh: list[int]) -> Recurrence:
        inner, results = self._body()
        read = sum(slot.columns for slot in self._read)
        units = carried + max(read, sum(results[i].columns for i in fresh))
        if units > _MOST_COLUMNS:
            self._context.fail(
                f"runs over the open dimension {self._loop.time} with {units} numbers of each example; as a recurrent "
                f"layer of Keras it can have {_MOST_COLUMNS}. Import the model with that dimension fixed"
            )
        step = self._step(inner, units, carried, [results[i] for i in fresh], fresh)
        return Recurrence(self._layer(step, units, carried, read), units, results, self._name, (self._batch,))

    def _collect(self, x: Any, slot: Slot, collected: Collected) -> Any:
        """A sequence outside, of (batch, time, columns)."""
        context, time = self._context, self._loop.time
        x = slot.decoded(x)
        if slot.axis is None:
            sizes: tuple[int, ...] = (time, *slot.rest)
            x = context.declare(x[0], (time, slot.elements))
        else:
            sizes = (self._batch, time, *slot.rest)
            context.declare(x, (self._batch, time, slot.elements))
        x = context.reshape(x, sizes)
        rank = len(slot.dims) + 1
        at = context.axis(collected.axis, rank)
        named = [axis for axis in range(rank) if axis != at]  # of the result, by the axes of an element
        have = [at, *(named[axis] for axis in range(rank - 1) if axis != slot.axis)]
        if slot.axis is not None:
            have.insert(0, named[slot.axis])
        if collected.backwards:
            x = ops.flip(x, have.index(at))
        order = [have.index(axis) for axis in range(rank)]
        if order != list(range(rank)):
            x = ops.transpose(x, order)
        return context.declare(x, [sizes[place] for place in order])

    def _body(self) -> tuple[Any, list[Slot]]:
        """A Functional model of one step, and how what it collects lies in columns."""
        loop, outer = self._loop, self._builder
        builder = outer.inside(loop.body, self._plan)
        insides = [*(x.inside for x in loop.carried), *self._kept, *(x.inside for x in loop.read)]
        scope, inputs, values = Scope(), [], {}
        for value, slot in zip(insides, (*self._carried, *self._read), strict=True):
            shape = tuple(None if isinstance(size, SymInt) else size for size in slot.dims)
            name = outer.account.names.take(f"{self._name}_{value.name}")
            tensor = keras.Input(batch_shape=shape or (1,), dtype=slot.dtype, name=name)
            inputs.append(tensor)
            builder.sizes.declare(tensor, slot.dims or (1,))
            values[value] = builder.interpreter.value(tensor if shape else ops.reshape(tensor, ()))
        builder.zero = builder.zero_of(inputs[0])
        for value, found in self._own.items():
            array = found.array
            if array is not None:
                parameter = None if found.is_known else builder.parameter(value, array)
                values[value] = Value(builder.sizes, array=array, parameter=parameter)
        for value, given in loop.given.items():
            values.setdefault(value, Value(builder.sizes, array=given.array))
        for value, given in values.items():
            scope[value] = given
        for line in loop.read:
            if line.node is not None:
                builder.interpreter.overrides[line.node] = _looked_up(line, values[line.inside])
        made = builder.interpreter.run(loop.body, [scope[value] for value in loop.body.inputs], scope)
        becomes = dict(zip(loop.body.outputs, made, strict=True))
        outputs = [builder.symbolic(becomes[x.becomes].tensor()) for x in loop.carried]
        for state, slot, tensor in zip(loop.carried, self._carried, outputs, strict=False):
            sizes = builder.sizes.of(tensor)
            if not _alike(sizes, slot.dims):
                self._context.fail(
                    f"carries {state.inside.name!r} of {self._context.text(slot.dims)}, which becomes "
                    f"{self._context.text(sizes)}; what is carried over an open dimension keeps its shape"
                )
        slots = []
        for x in loop.collected:
            tensor = builder.symbolic(becomes[x.inside].tensor())
            slots.append(self._slot(builder.sizes.of(tensor), self._context.dtype(tensor)))
            outputs.append(tensor)
        name = outer.account.names.take(f"{self._name}_body")
        return compat.functional(inputs, outputs, name), slots

    def _step(self, inner: Any, units: int, carried: int, results: list[Slot], fresh: list[int]) -> Any:
        """The activation of the cell: columns apart, the body, columns together."""
        rows = None if isinstance(self._batch, SymInt) else self._batch
        packed = keras.Input(
            batch_shape=(rows, units), dtype=self._cell_dtype, name=self._builder.account.names.take("state")
        )
        slots = (*self._carried, *self._read)
        parts = [slot.unpacked(packed[:, span]) for slot, span in zip(slots, spans_of(slots), strict=True)]
        parts = [ops.reshape(x, (1,)) if not slot.dims else x for x, slot in zip(parts, slots, strict=True)]
        made = inner(parts)
        made = list(made) if isinstance(made, list | tuple) else [made]
        count = len(self._loop.carried)
        before = spans_of(self._carried)[count].start if len(self._carried) > count else carried
        given = [
            *zip(made[:count], self._carried, strict=False),
            *((made[count + i], slot) for i, slot in zip(fresh, results, strict=True)),
        ]
        columns = []
        for x, slot in given:
            rows_of = slot.packed(x)
            if slot.axis is None and self._batch != 1:
                rows_of = add(ops.zeros_like(packed[:, : slot.columns]), rows_of)
            columns.append(rows_of)
        if before < carried:
            columns.insert(count, packed[:, before:carried])
        rest = units - carried - sum(slot.columns for slot in results)
        if rest:
            columns.append(ops.zeros_like(packed[:, :rest]))
        return compat.functional(
            packed, joined(columns), self._builder.account.names.take(f"{self._name}_step")
        )

    def _layer(self, step: Any, units: int, carried: int, read: int) -> Any:
        names, name = self._builder.account.names, self._name
        cell = keras.layers.SimpleRNNCell(
            units,
            activation=step,
            use_bias=False,
            kernel_initializer="zeros",
            recurrent_initializer="zeros",
            trainable=False,
            name=names.take(f"{name}_cell"),
            dtype=self._cell_dtype,
        )
        layer = keras.layers.RNN(
            cell, return_sequences=True, return_state=True, name=names.take(name), dtype=self._cell_dtype
        )
        kernel = np.zeros((read, units), self._cell_dtype)
        kernel[:, carried : carried + read] = np.eye(read)
        recurrent = np.zeros((units, units), self._cell_dtype)
        recurrent[:carried, :carried] = np.eye(carried)
        with compat.deferred_variables():
            layer.build((None, None, read))
            compat.initialize(cell.kernel, kernel)
            compat.initialize(cell.recurrent_kernel, recurrent)
        compat.finish_layers(layer)
        return layer


def _alike(sizes: Dims, others: Dims) -> bool:
    """Whether sizes that are known are the same."""
    return len(sizes) == len(others) and all(
        isinstance(a, SymInt) == isinstance(b, SymInt) and (isinstance(a, SymInt) or a == b)
        for a, b in zip(sizes, others, strict=True)
    )


def _looked_up(line: Read, element: Value) -> Override:
    """Computes a Gather of the element that is at hand, with as many axes as it was asked for."""

    def compute(scope: Scope) -> None:
        position = scope[line.node.inputs[1]]
        tensor = element.tensor()
        for _ in range(position.rank or 0):
            tensor = ops.expand_dims(tensor, line.axis)
        scope[line.node.outputs[0]] = Value(element.sizes, tensor=tensor)

    return compute
