"""Whether two graphs are the same one, up to the names inside and the values of their initializers.

Enters: two ``ir.Model``. Leaves: which initializers correspond, or the first thing that differs.

Compared are, in order: opsets, inputs and outputs (names, types, shapes), nodes (operator, attributes, operands,
bodies), functions. Names of nodes and inner values mean nothing; a constant inside the graph is compared by its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir


class Different(Exception):
    """The graphs are not the same; says where."""


def corresponding(ours: Any, theirs: Any) -> dict[str, Any]:
    """Name of an initializer of ours -> the ``ir.Value`` of theirs, for all that are used, in bodies too.

    Raises:
        Different: the graphs are not the same.
    """
    if dict(ours.opset_imports) != dict(theirs.opset_imports):
        raise Different(f"it has the opsets {_opsets(theirs)}, not {_opsets(ours)}")
    if sorted(map(str, ours.functions)) != sorted(map(str, theirs.functions)):
        raise Different("it has other functions")
    for key, function in ours.functions.items():
        _Comparison(f" in function {function.name}").function(function, theirs.functions[key])
    comparison = _Comparison("")
    comparison.graph(ours.graph, theirs.graph)
    return comparison.initializers


def _opsets(model: Any) -> str:
    return ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in model.opset_imports.items())


class _Comparison:
    """One graph or function, and the bodies in it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._known: dict[Any, Any] = {}
        self._taken: set[Any] = set()
        self.initializers: dict[str, Any] = {}

    def graph(self, ours: Any, theirs: Any) -> None:
        for kind in ("inputs", "outputs"):
            one, other = ([_described(value) for value in getattr(each, kind)] for each in (ours, theirs))
            if one != other:
                raise Different(f"it has the {kind} {', '.join(other)}, not {', '.join(one)}")
        self._nodes(ours, theirs)

    def function(self, ours: Any, theirs: Any) -> None:
        self._nodes(ours, theirs)

    def _nodes(self, ours: Any, theirs: Any) -> None:
        self._bind(ours.inputs, theirs.inputs, "input")
        nodes, others = list(ours), list(theirs)
        for node, other in zip(nodes, others, strict=False):
            self._node(node, other)
        if len(nodes) != len(others):
            raise Different(f"it has {len(others)} nodes{self._where}, not {len(nodes)}")
        self._operands(ours.outputs, theirs.outputs, "the outputs")

    def _node(self, ours: Any, theirs: Any) -> None:
        where = f"node {theirs.name or theirs.op_type!r}{self._where}"
        if ours.op_identifier() != theirs.op_identifier():
            raise Different(f"{where} is {theirs.op_type}, not {ours.op_type}")
        self._operands(ours.inputs, theirs.inputs, where)
        attributes, others = dict(ours.attributes), dict(theirs.attributes)
        if attributes.keys() != others.keys():
            raise Different(f"{where} has the attributes {sorted(others)}, not {sorted(attributes)}")
        for name, attribute in attributes.items():
            if not self._same(attribute, others[name]):
                raise Different(f"{where} has another {name}")
        self._bind(ours.outputs, theirs.outputs, where)

    def _operands(self, ours: Iterable[Any], theirs: Iterable[Any], where: str) -> None:
        ours, theirs = _without_last_none(ours), _without_last_none(theirs)
        if len(ours) != len(theirs):
            raise Different(f"{where} takes {len(theirs)} values, not {len(ours)}")
        for value, other in zip(ours, theirs, strict=True):
            if value is not None and other is not None and value not in self._known:
                self._initializer(value, other, where)
            if (value is None) != (other is None) or (value is not None and self._known[value] is not other):
                raise Different(
                    f"{where} takes {None if other is None else other.name!r} in place of another value"
                )

    def _initializer(self, ours: Any, theirs: Any, where: str) -> None:
        if not (ours.is_initializer() and theirs.is_initializer()) or theirs in self._taken:
            raise Different(f"{where} takes {theirs.name!r} in place of another value")
        one, other = (_type_of(each) for each in (ours, theirs))
        if one != other:
            raise Different(f"{theirs.name!r} is {other}, not {one}")
        self._bind([ours], [theirs], where)
        self.initializers[ours.name] = theirs

    def _bind(self, ours: Any, theirs: Any, where: str) -> None:
        if len(ours) != len(theirs):
            raise Different(f"{where} makes {len(theirs)} values, not {len(ours)}")
        self._known.update(zip(ours, theirs, strict=True))
        self._taken.update(theirs)

    def _same(self, ours: Any, theirs: Any) -> bool:
        if ours.type != theirs.type:
            return False
        kinds = ir.AttributeType
        if ours.type in (kinds.GRAPH, kinds.GRAPHS):
            graphs = (
                (ours.value, theirs.value) if ours.type == kinds.GRAPHS else ([ours.value], [theirs.value])
            )
            for graph, other in zip(*graphs, strict=True):
                self._nodes(graph, other)
            return True
        if ours.type == kinds.TENSOR:
            return _same_tensor(ours.value, theirs.value)
        if ours.type in (kinds.FLOAT, kinds.FLOATS):
            return np.array_equal(np.float32(ours.value), np.float32(theirs.value), equal_nan=True)
        if ours.type in (kinds.INTS, kinds.STRINGS):
            return list(ours.value) == list(theirs.value)
        return ours.type in (kinds.INT, kinds.STRING) and bool(ours.value == theirs.value)


def _without_last_none(values: Iterable[Any]) -> list[Any]:
    """Operands; those left out at the end need not be there."""
    listed = list(values)
    while listed and listed[-1] is None:
        listed.pop()
    return listed


def _type_of(initializer: Any) -> str:
    """Type and shape, of one without contents too."""
    known = initializer if initializer.const_value is None else initializer.const_value
    return f"{known.dtype.name}{list(known.shape)}"


def _described(value: Any) -> str:
    shape = "?" if value.shape is None else ", ".join(str(getattr(dim, "value", dim)) for dim in value.shape)
    return f"{value.name}: {value.dtype.name if value.dtype is not None else '?'}[{shape}]"


def _same_tensor(ours: Any, theirs: Any) -> bool:
    if ours.dtype != theirs.dtype or list(ours.shape) != list(theirs.shape):
        return False
    if ours.dtype == ir.DataType.STRING:
        return list(ours.numpy().ravel()) == list(theirs.numpy().ravel())
    return bool(ours.tobytes() == theirs.tobytes())
