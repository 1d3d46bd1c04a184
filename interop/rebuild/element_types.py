"""Whether the inputs, element types and attributes of a graph's nodes are those that their operators take.

Enters: an ``ir.Model`` without functions. Leaves: nothing, or a ``GraphError`` that names the node. Types are followed
from inputs and weights through the schemas of the operators (https://onnx.ai/onnx/operators/); where a schema does not
say what comes out (Constant, other domains), what the graph declares is taken. Nothing is computed and no weight
is read, so it costs a visit to each node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import onnx
import onnx_ir as ir

from interop.errors import GraphError
from interop.rebuild.registry import canonical
from interop.rebuild.source import name_of

_Types = dict[Any, str]
_MANY = 2**31 - 1  # how schemas say that there is no limit
_KINDS = {int(kind): f"tensor({kind.name.lower()})" for kind in ir.DataType if kind}


def check_types(model: Any) -> Any:
    """Raise GraphError for the first node that is given what it cannot take; returns the model."""
    opsets = {canonical(domain): version for domain, version in model.opset_imports.items()}
    _check_graph(model.graph, opsets, {})
    return model


def _check_graph(graph: Any, opsets: Mapping[str, int], types: _Types) -> None:
    for value in (*graph.inputs, *graph.initializers.values()):
        found = _declared(value)
        if found:
            types[value] = found
    for node in graph:
        schema = _schema(canonical(node.domain), node.op_type, opsets.get(canonical(node.domain), 1))
        if schema is not None:
            _check_counts(node, schema)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                _check_graph(attribute.value, opsets, types)
            elif schema is not None:
                _check_attribute(node, attribute, schema)
        made = {} if schema is None else _check_node(node, schema, types)
        for value in node.outputs:
            declared = _declared(value)
            found = made.get(value, "")
            if found and declared and found != declared:
                raise GraphError(
                    f"{_label(node)} makes {value.name!r} as {_plain(found)}; the graph says {_plain(declared)}"
                )
            if found or declared:
                types[value] = found or declared


def _check_node(node: Any, schema: Any, types: _Types) -> _Types:
    """The types of a node's outputs, as far as its schema tells."""
    allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
    bound: dict[str, tuple[str, str]] = {}
    for value, parameter in _paired(node.inputs, schema.inputs):
        found = "" if value is None else types.get(value, "")
        if not found:
            continue
        label = parameter.type_str
        if found not in allowed.get(label, {label}):
            expected = ", ".join(sorted(map(_plain, allowed.get(label, {label}))))
            raise GraphError(
                f"{_label(node)} takes {value.name!r} as its input {parameter.name!r}, which is {_plain(found)}; "
                f"expected {expected}"
            )
        if label in allowed and _is_alike(parameter):
            before, name = bound.setdefault(label, (found, str(value.name)))
            if before != found:
                raise GraphError(
                    f"{_label(node)} takes {name!r}, which is {_plain(before)}, and {value.name!r}, which is "
                    f"{_plain(found)}; expected the same element type. Cast one of them"
                )
    made = {}
    for value, parameter in _paired(node.outputs, schema.outputs):
        label = parameter.type_str
        if label in bound and _is_alike(parameter):
            made[value] = bound[label][0]
        elif label.startswith("tensor("):
            made[value] = label
        elif (code := node.attributes.get("to") or node.attributes.get("dtype")) and not code.is_ref():
            if code.value and code.value not in _KINDS:
                raise GraphError(
                    f"{_label(node)} makes the element type {code.value}, which ONNX {onnx.__version__} does not know"
                )
            made[value] = _KINDS.get(code.value, "")
    return made


def _check_counts(node: Any, schema: Any) -> None:
    """As many inputs and outputs as the operator has, none left out that it needs."""
    for what, values, least, most in (
        ("inputs", node.inputs, schema.min_input, schema.max_input),
        ("outputs", node.outputs, schema.min_output, schema.max_output),
    ):
        if not least <= len(values) <= most:
            expected = (
                str(least) if least == most else f"{least} to {most}" if most < _MANY else f"{least} or more"
            )
            raise GraphError(f"{_label(node)} has {len(values)} {what}; expected {expected}")
    for value, parameter in zip(node.inputs, schema.inputs, strict=False):
        if value is None and parameter.option == onnx.defs.OpSchema.FormalParameterOption.Single:
            raise GraphError(
                f"{_label(node)} is given nothing as its input {parameter.name!r}, which it needs"
            )


def _check_attribute(node: Any, attribute: Any, schema: Any) -> None:
    known = schema.attributes.get(attribute.name)
    if known is None:
        raise GraphError(
            f"{_label(node)} has the attribute {attribute.name!r}, which {node.op_type} has not since opset "
            f"{schema.since_version}; it has {', '.join(sorted(schema.attributes)) or 'none'}"
        )
    if attribute.is_ref():
        return
    expected = known.type.name
    if attribute.type.name != expected:
        raise GraphError(
            f"{_label(node)} has the attribute {attribute.name!r} of the type {attribute.type.name}; expected "
            f"{expected}"
        )


def _paired(values: Any, parameters: Any) -> Iterator[tuple[Any, Any]]:
    """Values with the formal parameters they are for; the last one may take any number."""
    for position, value in enumerate(values):
        if position < len(parameters):
            yield value, parameters[position]
        elif parameters and parameters[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic:
            yield value, parameters[-1]


def _is_alike(parameter: Any) -> bool:
    """Whether all values of a parameter are of one type: not so what a Loop carries."""
    variadic = parameter.option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return bool(parameter.is_homogeneous or not variadic)


@cache
def _schema(domain: str, op_type: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _declared(value: Any) -> str:
    """ "tensor(float)" and the like; "" for what is no tensor, or not said."""
    if not isinstance(value.type, ir.TensorType) or value.dtype is None or not value.dtype.value:
        return ""
    return _KINDS[value.dtype.value]


def _plain(kind: str) -> str:
    return kind.removeprefix("tensor(").removesuffix(")")


def _label(node: Any) -> str:
    return f"node {name_of(node)!r} ({node.op_type})"
