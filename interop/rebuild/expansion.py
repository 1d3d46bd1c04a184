"""Operators without a handler that ONNX defines by other operators, written out in those.

Enters: a checked ModelProto. Leaves: the same proto, or a new one in which every such node is its definition
(``onnx.defs``, the function bodies of https://onnx.ai/onnx/operators/). Invariant: what has a handler is left alone,
and so is what has no definition; ``source.check_supported`` names that later.

A node becomes a call of a local function with the definition for its types, and onnx puts that in its place. (Its
inliner can look definitions up by itself, and fails on inputs that are left out: onnx 1.23, ``inliner.cc``.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import inliner, shape_inference

from interop.errors import GraphError
from interop.rebuild.checking import label
from interop.rebuild.registry import canonical, problem

_DEEPEST = 8  # definitions within definitions; ONNX has 3
_DOMAIN = "interop.definition"


def expanded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without operators that have a definition and no handler.

    Raises:
        GraphError: onnx could not write a definition out.
    """
    for _ in range(_DEEPEST):
        if not any(_to_expand(scope) for scope in _scopes(proto)):
            break
        try:
            typed = shape_inference.infer_shapes(proto)
            functions = [
                _as_call(node, scope, f"{node.op_type}_{i}")
                for scope in _scopes(typed)
                for i, node in enumerate(_to_expand(scope))
            ]
            names = {(function.domain, function.name) for function in functions}
            typed.functions.extend(functions)
            if not any(entry.domain == _DOMAIN for entry in typed.opset_import):
                typed.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
            proto = inliner.inline_selected_functions(typed, sorted(names))
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
            raise GraphError(f"onnx cannot write the definition of an operator out: {error}") from error
    return proto


@dataclass(frozen=True)
class _Scope:
    """Nodes of the main graph or of a function, with those of their subgraphs.

    Attributes:
        nodes: all of them.
        opsets: version by domain.
        types: of values, as far as known.
        local: functions of the model, which need no handler.
    """

    nodes: tuple[onnx.NodeProto, ...]
    opsets: Mapping[str, int]
    types: Mapping[str, onnx.TypeProto]
    local: frozenset[tuple[str, str]]


def _scopes(proto: onnx.ModelProto) -> Iterator[_Scope]:
    local = frozenset((function.domain, function.name) for function in proto.functions)
    types: dict[str, onnx.TypeProto] = {}
    nodes = tuple(_all_nodes(proto.graph, types))
    yield _Scope(nodes, _versions(proto.opset_import), types, local)
    for function in proto.functions:
        inside = {value.name: value.type for value in function.value_info}
        nodes = tuple(node for outer in function.node for node in _with_subgraphs(outer, inside))
        yield _Scope(nodes, _versions(function.opset_import or proto.opset_import), inside, local)


def _versions(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {canonical(entry.domain): entry.version for entry in imports}


def _all_nodes(graph: onnx.GraphProto, types: dict[str, onnx.TypeProto]) -> Iterator[onnx.NodeProto]:
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type
    for tensor in graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    for node in graph.node:
        yield from _with_subgraphs(node, types)


def _with_subgraphs(node: onnx.NodeProto, types: dict[str, onnx.TypeProto]) -> Iterator[onnx.NodeProto]:
    yield node
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from _all_nodes(graph, types)


def _to_expand(scope: _Scope) -> list[onnx.NodeProto]:
    found = []
    for node in scope.nodes:
        given = [attribute.name for attribute in node.attribute]
        opset = scope.opsets.get(canonical(node.domain), 1)
        if (
            (node.domain, node.op_type) not in scope.local
            and problem(node.domain, node.op_type, opset, given)
            and (schema := _schema(node, opset)) is not None
            and set(given) <= set(schema.attributes)
        ):
            found.append(node)
    return found


def _schema(node: onnx.NodeProto, opset: int) -> Any:
    """The schema of an operator that has a definition, or None; onnx' own annotations lack half of its members."""
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, canonical(node.domain))
    except onnx.defs.SchemaError:
        return None
    return schema if schema.has_function or schema.has_context_dependent_function else None


def _as_call(node: onnx.NodeProto, scope: _Scope, name: str) -> onnx.FunctionProto:
    """Make a node a call of a function, and return the function."""
    opset = scope.opsets.get(canonical(node.domain), 1)
    schema = _schema(node, opset)
    if schema is None:
        raise GraphError(f"{label(node)} has no definition")
    given = {attribute.name for attribute in node.attribute}
    node.attribute.extend(
        attribute.default_value
        for key, attribute in schema.attributes.items()
        if key not in given and attribute.default_value.type
    )
    versions = schema.function_opset_versions or schema.context_dependent_function_opset_versions
    newest = scope.opsets.get("", 1)
    version = max((v for v in versions if v <= newest), default=min(versions))
    if schema.has_function:
        body = schema.get_function_with_opset_version(version)
    else:
        types = [scope.types.get(key, onnx.TypeProto()).SerializeToString() for key in node.input]
        body = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), types
        )
    function = onnx.FunctionProto.FromString(body)
    function.domain, function.name = _DOMAIN, f"{name}_of_{node.output[0]}"
    del function.opset_import[:]
    function.opset_import.extend(onnx.helper.make_opsetid(key, value) for key, value in scope.opsets.items())
    node.domain, node.op_type = function.domain, function.name
    return function
