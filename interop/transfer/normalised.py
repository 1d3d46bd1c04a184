"""Parameters that are a direction and a length for each unit, as the one tensor that the graph computes of them.

Enters: a graph and its model. Leaves: both with ``length * direction / norm(direction)`` in place of the two. The way
back is defined: the tensor is its own direction, and its norm the length.

Invariant: how the graph writes it is not looked at; it is computed for drawn numbers.
Source: Salimans and Kingma 2016, https://arxiv.org/abs/1602.07868.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from interop.errors import WeightsError
from interop.formats.source import ArraySource, TensorSource
from interop.transfer.models import Model
from interop.transfer.named import Named
from interop.transfer.nodes import computed
from interop.transfer.values import Constant

Array = NDArray[Any]


@dataclass(frozen=True)
class Normalised:
    """A tensor in two parts.

    Attributes:
        name: of the tensor.
        direction: name of the parameter of its shape.
        length: name of the parameter with its norms.
        axis: along which the norms differ; None if there is one.
    """

    name: str
    direction: str
    length: str
    axis: int | None

    def whole(self, direction: Array, length: Array) -> Array:
        """The tensor."""
        norm = self._norm(direction)
        return np.asarray(direction * (length.reshape(norm.shape) / norm), direction.dtype)

    def lengths(self, whole: Array, shape: Sequence[int]) -> Array:
        """The norms of a tensor, in the shape that the model has them."""
        return self._norm(whole).reshape(tuple(shape)).astype(whole.dtype)

    def _norm(self, array: Array) -> Array:
        over = tuple(axis for axis in range(array.ndim) if axis != self.axis)
        return np.asarray(np.sqrt(np.sum(np.square(array, dtype=np.float64), axis=over, keepdims=True)))

    def to_json(self) -> list[Any]:
        """Plain values."""
        return [self.name, self.direction, self.length, self.axis]

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what ``to_json`` gave; a TypeError or ValueError if it is something else."""
        name, direction, length, axis = value
        if not all(isinstance(one, str) for one in (name, direction, length)):
            raise TypeError(f"{value!r:.80} names no parameters")
        return cls(name, direction, length, None if axis is None else int(axis))


def in_one(model: Model, found: Sequence[Normalised]) -> Model:
    """The model with each of these tensors in the place of its two parts.

    Raises:
        WeightsError: the model has no such parts.
    """
    if not found:
        return model
    parts = {part: one for one in found for part in (one.direction, one.length)}
    if lost := [part for part in parts if part not in model.tensors]:
        raise WeightsError(
            f"{model.label} has no parameter {lost[0]!r}, of which the plan makes {parts[lost[0]].name!r}"
        )
    tensors = {
        parts[name].name if name in parts else name: spec
        for name, spec in model.tensors.items()
        if name not in parts or parts[name].direction == name
    }
    by_name = {one.name: one for one in found}

    def read(name: str) -> Array:
        one = by_name.get(name)
        return (
            model.read(name) if one is None else one.whole(model.read(one.direction), model.read(one.length))
        )

    def write(values: Mapping[str, TensorSource]) -> Any:
        made: dict[str, TensorSource] = {}
        for name, value in values.items():
            if (one := by_name.get(name)) is None:
                made[name] = value
                continue
            whole = value.read()
            made[one.direction] = ArraySource(whole)
            made[one.length] = ArraySource(one.lengths(whole, model.tensors[one.length].shape))
        return model.assign(made)

    return replace(model, tensors=tensors, reader=read, writer=None if model.writer is None else write)


def collected(tensors: Mapping[str, Named], held: Mapping[str, Array], into: dict[str, Array]) -> Model:
    """What tensors are written to when they go to no model: a dictionary."""

    def write(values: Mapping[str, TensorSource]) -> None:
        into.update({name: np.array(value.read()) for name, value in values.items()})

    return Model("the result", "arrays", dict(tensors), held.__getitem__, write)


def apart(tensors: Mapping[str, Named], found: Sequence[Normalised]) -> dict[str, Named]:
    """The tensors by name, with the two parts of each of these."""
    by_name = {one.name: one for one in found}
    made: dict[str, Named] = {}
    for name, spec in tensors.items():
        if (one := by_name.get(name)) is None:
            made[name] = spec
        else:
            made[one.direction] = spec
            sizes = [size if axis == one.axis else 1 for axis, size in enumerate(spec.shape)]
            made[one.length] = Named(spec.dtype, tuple(sizes))
    return made


def find_normalised(
    model: Any, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Array]
) -> list[Normalised]:
    """Put one initializer in the place of each tensor that is a direction and a length; the graph is changed.

    Args:
        model: a flat ``ir.Model``.
        shapes: of the initializers that are parameters, by name.
        read: reads a parameter.
    """
    import onnx_ir as ir

    graph = model.graph
    nodes: dict[Any, list[Any]] = {}
    owners: dict[Any, frozenset[str]] = {
        value: frozenset([name] if name in shapes else []) for name, value in graph.initializers.items()
    }
    found: list[Normalised] = []
    for node in list(graph):
        given = [value for value in node.inputs if value is not None]
        if len(node.outputs) != 1 or any(value not in owners for value in given):
            continue
        (made,) = node.outputs
        owners[made] = frozenset().union(*(owners[value] for value in given))
        nodes[made] = list(dict.fromkeys([*(n for value in given for n in nodes.get(value, ())), node]))
        if len(owners[made]) == 2 and (one := _read_as(made, nodes[made], owners[made], shapes)) is not None:
            array = one.whole(np.asarray(read(one.direction)), np.asarray(read(one.length)))
            value = ir.Value(name=one.name, const_value=ir.tensor(array, name=one.name))
            value.shape, value.dtype = ir.Shape(array.shape), made.dtype or value.const_value.dtype
            graph.register_initializer(value)
            made.replace_all_uses_with(value)
            found.append(one)
    for node in reversed(graph):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    for one in found:
        for name in (one.direction, one.length):
            if not graph.initializers[name].uses():
                del graph.initializers[name]
    return [one for one in found if one.direction not in graph.initializers]


def _read_as(
    made: Any, nodes: Sequence[Any], names: frozenset[str], shapes: Mapping[str, tuple[int, ...]]
) -> Normalised | None:
    """How a value is a direction and a length; None if it is something else."""
    if made.shape is None or not made.shape.is_static():
        return None
    shape = tuple(made.shape.numpy())
    rng = np.random.default_rng(0)
    drawn = {name: rng.uniform(0.5, 1.5, shapes[name]).astype("float32") for name in sorted(names)}
    for direction in sorted(name for name in names if shapes[name] == shape and len(shape) > 1):
        (length,) = names - {direction}
        axes = [axis for axis, size in enumerate(shape) if size == drawn[length].size]
        options = [*axes, *([None] if drawn[length].size == 1 else [])]
        if not options:
            continue
        result = _computed(made, nodes, drawn)
        for axis in options:
            one = Normalised(f"{direction} normalised", direction, length, axis)
            if np.allclose(result, one.whole(drawn[direction], drawn[length]), rtol=1e-5, atol=1e-6):
                return one
    return None


def _computed(made: Any, nodes: Sequence[Any], drawn: Mapping[str, Array]) -> Array:
    known: dict[Any, Array] = {}

    def read(value: Any) -> Constant | None:
        if value is None:
            return None
        return Constant(known[value] if value in known else drawn.get(value.name, _held(value)))

    for node in nodes:
        known.update(zip(node.outputs, computed(node, [read(value) for value in node.inputs]), strict=False))
    return known[made]


def _held(value: Any) -> Any:
    return None if value.const_value is None else value.const_value.numpy()
