"""Loops over bags of rows, as torch.onnx writes ``EmbeddingBag``, become operators that need no loop.

Enters: an ``ir.Model`` with shapes. Leaves: the same model, changed in place: the sum, mean or maximum of the rows of
each bag is computed at once. Exporters write these loops in several ways (a Loop that slices, or one that fills a
sequence), so that they compute bags is proved with numbers. A bag is a row of a matrix of indices, or what lies between
two offsets; an empty one gives zeros, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from keras import ops
from onnx_ir import convenience

from interop.errors import InteropError
from interop.rebuild.interpreter import Interpreter, Scope
from interop.rebuild.lifting import values_of
from interop.rebuild.source import name_of
from interop.rebuild.values import Array

_OLDEST_OPSET = 13
_MOST_NODES = 100  # of one loop and what it is given
_KINDS = ("Sum", "Mean", "Max")


def without_bag_loops(model: Any) -> bool:
    """Rewrite the loops of a model; returns whether there were any."""
    opset = model.opset_imports.get("", 0)
    if opset < _OLDEST_OPSET:
        return False
    found = False
    for loop in [node for node in model.graph if node.op_type == "Loop" and not node.domain]:
        bags = _Bags.of(model.graph, loop)
        kind = None if bags is None else bags.kind()
        if bags is not None and kind is not None:
            bags.rewrite(kind, opset)
            found = True
    return found


class _Bags:
    """What may be a loop over bags.

    Attributes:
        result: the rows that it gives.
        rows: a table of weights that is looked up, or the rows that were.
        indices: a graph's input or other value, of one axis or two.
        offsets: where bags begin; None if each row of the indices is one.
    """

    def __init__(self, graph: Any, result: Any, rows: Any, indices: Any, offsets: Any) -> None:
        self._graph = graph
        self.result, self.rows, self.indices, self.offsets = result, rows, indices, offsets

    @classmethod
    def of(cls, graph: Any, loop: Any) -> _Bags | None:
        """The parts, by their types and ranks."""
        outside = [value for value in values_of(loop) if _is_of(value, graph)]
        rows = {
            value
            for value in outside
            if value.dtype is not None and value.dtype.is_floating_point() and _rank(value) == 2
        }
        if len(rows) != 1:
            return None
        result = loop.outputs[0]
        for value in loop.outputs:
            for user, _ in value.uses():
                if user.op_type == "ConcatFromSequence":
                    result = user.outputs[0]
        table = rows.pop()
        leaves = _leaves(result, table, graph)
        if leaves is None or not all(
            value.dtype is not None and value.dtype.is_integer() for value in leaves
        ):
            return None
        if len(leaves) == 1 and _rank(leaves[0]) == 2:
            return cls(graph, result, table, leaves[0], None)
        if len(leaves) == 2 and all(_rank(value) == 1 for value in leaves):
            starts = [value for value in leaves if any(user.op_type == "Concat" for user, _ in value.uses())]
            if len(starts) == 1:
                indices = next(value for value in leaves if value is not starts[0])
                return cls(graph, result, table, indices, starts[0])
        return None

    def kind(self) -> str | None:
        """What is made of each bag; None if that is something else."""
        kinds = set(_KINDS)
        for trial in (0, 1):
            rng = np.random.default_rng(trial)
            if self.offsets is None:
                width = self.indices.shape[1] if isinstance(self.indices.shape[1], int) else 3 + trial
                shape: tuple[int, ...] = (3 + trial, width)
                begin = np.arange(shape[0]) * width
            else:
                shape, begin = (7 + trial,), np.array([0, 2, 3, 6 - trial])
            indices, features = rng.integers(0, 5, shape), int(self.rows.shape[1] or 1)
            count = 5 if self.rows.is_initializer() else indices.size
            rows = rng.standard_normal((count, features)).astype("float32")
            looked_up = rows[indices.reshape(-1)] if self.rows.is_initializer() else rows
            made = self._computed({self.rows: rows, self.indices: indices, self.offsets: begin})
            if made is None:
                return None
            parts = np.split(looked_up, begin[1:])
            for kind in list(kinds):
                wanted = np.stack([getattr(np, kind.lower())(part, axis=0) for part in parts])
                if made.shape != wanted.shape or not np.allclose(made, wanted, 1e-4, 1e-5):
                    kinds.discard(kind)
        return kinds.pop() if len(kinds) == 1 else None

    def _computed(self, given: dict[Any, Array]) -> Array | None:
        interpreter = Interpreter(self._graph.opset_imports, fold=True)
        scope = Scope()
        for value, array in given.items():
            if value is not None:
                kind = value.dtype.numpy()
                scope[value] = interpreter.value(ops.convert_to_tensor(array.astype(kind)))
        needed = _needed(self.result, set(given), self._graph)
        try:
            for node in self._graph:
                if node in needed:
                    for value in values_of(node):
                        if value.is_initializer() and value not in given and value.graph is self._graph:
                            scope[value] = interpreter.initializer(value)
                    interpreter.run_node(node, scope)
            return np.asarray(ops.convert_to_numpy(scope[self.result].tensor()))
        except (InteropError, ValueError, TypeError):
            return None

    def rewrite(self, kind: str, opset: int) -> None:
        """Put operators in the place of the loop."""
        write = _Writer(self._graph, self.result.producer(), opset)
        table = self.rows.is_initializer()
        if self.offsets is None:
            rows = self.rows
            if table:
                rows = write.node("Gather", rows, self.indices)
            else:
                shape = write.node("Concat", write.node("Shape", self.indices), write.ints([-1]), axis=0)
                rows = write.node("Reshape", rows, shape)
            made = write.reduced(kind, rows, 1)
        else:
            rows = write.node("Gather", self.rows, self.indices) if table else self.rows
            made = self._of_offsets(write, kind, rows)
        made.name = f"{self.result.name}.bags"
        convenience.replace_all_uses_with(
            self.result, made, replace_graph_outputs=self.result.is_graph_output()
        )

    def _of_offsets(self, write: _Writer, kind: str, rows: Any) -> Any:
        starts = write.node("Cast", self.offsets, to=ir.DataType.INT64.value)
        size = write.node("Size", self.indices)
        places = write.node("Range", write.ints(0), size, write.ints(1))
        later = write.node("Slice", starts, write.ints([1]), write.ints([2**62]), write.ints([0]))
        ends = write.node("Concat", later, write.node("Reshape", size, write.ints([1])), axis=0)
        column = write.ints([-1, 1])
        before = write.node("Less", places, write.node("Reshape", starts, column))
        within = write.node("Less", places, write.node("Reshape", ends, column))
        member = write.node("And", write.node("Not", before), within)  # bags, places
        weights = write.node("Cast", member, to=self.rows.dtype.value)
        if kind == "Sum":
            return write.node("MatMul", weights, rows)
        kind_of_rows = self.rows.dtype.numpy()
        count = write.reduced("Sum", weights, 1, keepdims=1)
        if kind == "Mean":
            at_least_one = write.node("Max", count, write.constant(np.array(1, kind_of_rows)))
            return write.node("Div", write.node("MatMul", weights, rows), at_least_one)
        lowest = write.constant(np.array(np.finfo(kind_of_rows).min, kind_of_rows))
        masked = write.node(
            "Where",
            write.node("Unsqueeze", member, write.ints([2])),
            write.node("Unsqueeze", rows, write.ints([0])),
            lowest,
        )
        zero = write.constant(np.array(0, kind_of_rows))
        return write.node("Where", write.node("Greater", count, zero), write.reduced("Max", masked, 1), zero)


class _Writer:
    """Makes nodes before another one."""

    def __init__(self, graph: Any, place: Any, opset: int) -> None:
        self._graph, self._place, self._opset, self._count = graph, place, opset, 0
        self._name = name_of(place)

    def node(self, op_type: str, *inputs: Any, **attributes: Any) -> Any:
        """The output of a new node."""
        made = ir.node(op_type, list(inputs), attributes)
        made.name = made.outputs[0].name = f"{self._name}.bags.{self._count}"
        self._count += 1
        self._graph.insert_before(self._place, made)
        return made.outputs[0]

    def constant(self, array: Array) -> Any:
        """The output of a Constant."""
        return self.node("Constant", value=ir.tensor(array))

    def ints(self, numbers: int | Sequence[int]) -> Any:
        """A constant of integers."""
        return self.constant(np.array(numbers, "int64"))

    def reduced(self, kind: str, x: Any, axis: int, *, keepdims: int = 0) -> Any:
        """A reduction, whose axes are an attribute or an input."""
        if self._opset >= (13 if kind == "Sum" else 18):
            return self.node(f"Reduce{kind}", x, self.ints([axis]), keepdims=keepdims)
        return self.node(f"Reduce{kind}", x, axes=[axis], keepdims=keepdims)


def _is_of(value: Any, graph: Any) -> bool:
    """Whether a value is one of a graph itself, not of a body in it."""
    producer = value.producer()
    return (value if producer is None else producer).graph is graph


def _rank(value: Any) -> int | None:
    return None if value.shape is None else len(value.shape)


def _leaves(result: Any, rows: Any, graph: Any) -> list[Any] | None:
    """What a value depends on beside rows, initializers apart; None if that is much."""
    found: dict[Any, None] = {}
    waiting, seen = [result], set()
    while waiting:
        value = waiting.pop()
        if value is rows or value in seen:
            continue
        seen.add(value)
        producer = value.producer()
        if producer is None:
            if not value.is_initializer() and value.graph is graph:
                found[value] = None
        elif producer.graph is graph:
            waiting.extend(values_of(producer))
        if len(seen) > 4 * _MOST_NODES:
            return None
    return list(found)


def _needed(result: Any, given: set[Any], graph: Any) -> set[Any]:
    """The nodes of the graph between values and a result."""
    found: set[Any] = set()
    waiting = [result]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value in given or node is None or node.graph is not graph or node in found:
            continue
        found.add(node)
        waiting.extend(values_of(node))
    return found
