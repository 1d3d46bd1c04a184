"""What must hold of an ONNX graph before anything is made of it.

Enters: a ModelProto as it was read. Leaves: nothing, or a ``GraphError`` that names the node. Checked are names
(defined once, defined at all, no cycle), sizes, opsets and external files; not the operators, which have a schema
(``element_types``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx

from interop.errors import GraphError

_NEWEST_OPSETS = {
    domain: max(version for known, version in onnx.helper.OP_SET_ID_VERSION_MAP if known == domain)
    for domain, _ in onnx.helper.OP_SET_ID_VERSION_MAP
}
_ELEMENT_TYPES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}


def label(node: onnx.NodeProto) -> str:
    """A node as a message names it."""
    name = node.name or (node.output[0] if node.output else "")
    return f"node {name!r} ({f'{node.domain}::' if node.domain else ''}{node.op_type})"


def check_model(model: onnx.ModelProto, folder: Path | None) -> None:
    """Raise GraphError for a broken graph; `folder` is where external data lies."""
    if not model.HasField("graph"):
        raise GraphError("the ONNX model has no graph: it is empty or truncated")
    _check_texts(model)
    imported = _imported(model.opset_import, "the model")
    own = {function.domain for function in model.functions}
    _check_graph(model.graph, set(), "the graph", imported | own)
    for function in model.functions:
        where = f"function {function.domain}::{function.name}"
        domains = _imported(function.opset_import, where)
        _check_nodes(
            function.node, set(function.input), list(function.output), where, domains | imported | own
        )
    for tensor in _tensors(model.graph):
        _check_tensor(tensor, folder)


def _check_texts(model: onnx.ModelProto) -> None:
    """protobuf hands names that are not UTF-8 on as bytes, which nothing else takes."""
    scopes: list[Any] = [model.graph, *model.functions]
    texts: list[Any] = [model.producer_name, model.producer_version, model.domain, model.graph.name]
    while scopes:
        scope = scopes.pop()
        if isinstance(scope, onnx.GraphProto):
            for named in (*scope.input, *scope.output, *scope.value_info):
                texts += [named.name, *(dim.dim_param for dim in named.type.tensor_type.shape.dim)]
            texts += [tensor.name for tensor in scope.initializer]
        else:
            texts += [scope.name, scope.domain, *scope.input, *scope.output, *scope.attribute]
        for node in scope.node:
            texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
            for attribute in node.attribute:
                texts += [attribute.name, attribute.ref_attr_name]
                scopes += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    for text in texts:
        if not isinstance(text, str):
            raise GraphError(f"a name in the graph is not UTF-8: {text!r:.80}. The file is damaged")


def _imported(entries: Iterable[onnx.OperatorSetIdProto], where: str) -> set[str]:
    """The domains whose opsets are imported, of which each has one version that onnx knows."""
    versions: dict[str, int] = {}
    for entry in entries:
        domain = entry.domain or "ai.onnx"
        newest = _NEWEST_OPSETS.get(domain, entry.version)
        if not 1 <= entry.version <= max(newest, 1):
            raise GraphError(
                f"{where} imports opset {entry.version} of {domain!r}; onnx {onnx.__version__} knows 1 to {newest}. "
                "Install a newer onnx, or export the model with one of those"
            )
        if versions.setdefault(domain, entry.version) != entry.version:
            raise GraphError(
                f"{where} imports two opsets of {domain!r}, {versions[domain]} and {entry.version}; expected one"
            )
    return {"" if domain == "ai.onnx" else domain for domain in versions}


def _check_graph(graph: onnx.GraphProto, outer: set[str], where: str, domains: set[str]) -> None:
    defined: set[str] = set()
    for kind, values in (("input", graph.input), ("output", graph.output), ("value", graph.value_info)):
        for value in values:
            if not value.name:
                raise GraphError(f"an {kind} of {where} has no name")
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if dim.HasField("dim_value") and dim.dim_value < 0:
                    raise GraphError(
                        f"{kind} {value.name!r} of {where} has the size {dim.dim_value} at axis {axis}; expected a "
                        "number that is not negative, or a name"
                    )
    for value in graph.input:
        if value.name in defined:
            raise GraphError(f"two inputs of {where} are named {value.name!r}")
        defined.add(value.name)
    initializers = [tensor.name for tensor in graph.initializer]
    initializers += [tensor.values.name for tensor in graph.sparse_initializer]
    for name in _repeated(initializers):
        raise GraphError(f"two initializers of {where} are named {name!r}")
    defined.update(initializers)
    _check_defaults(graph, where)
    _check_nodes(graph.node, defined, [value.name for value in graph.output], where, domains, outer)


def _check_defaults(graph: onnx.GraphProto, where: str) -> None:
    """An input that has a default is what the default is."""
    defaults = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in defaults or not value.type.tensor_type.HasField("shape"):
            continue
        dims = [
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        ]
        sizes = defaults[value.name]
        if len(dims) != len(sizes) or any(a not in (None, b) for a, b in zip(dims, sizes, strict=True)):
            raise GraphError(
                f"input {value.name!r} of {where} has the shape {_shown(dims)}, and its initializer {_shown(sizes)}"
            )


def _shown(sizes: Iterable[int | None]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in sizes)})"


def _check_nodes(
    nodes: Iterable[onnx.NodeProto],
    defined: set[str],
    outputs: list[str],
    where: str,
    domains: set[str],
    outer: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:
    nodes = list(nodes)
    makers: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        if not node.op_type:
            raise GraphError(f"node {node.name!r} in {where} has no operator")
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in domains:
            raise GraphError(
                f"{label(node)} in {where} is of domain {node.domain!r}, whose opset is not imported"
            )
        for name in node.output:
            if name and (name in defined or name in makers):
                by = f"{label(makers[name])} too" if name in makers else "an input or initializer too"
                raise GraphError(f"{label(node)} in {where} makes {name!r}, which is made by {by}")
            if name:
                makers[name] = node
    visible = defined | set(makers) | outer
    for node in nodes:
        for name in node.input:
            if name and name not in visible:
                raise GraphError(f"{label(node)} in {where} takes {name!r}, which nothing makes")
        for attribute in node.attribute:
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                _check_graph(graph, visible, f"{attribute.name} of {label(node)}", domains)
    if not outputs:
        raise GraphError(f"{where} has no outputs, so nothing of it is needed")
    for name in outputs:
        if name not in visible:
            raise GraphError(f"output {name!r} of {where} is made by no node")
    _check_order(nodes, makers, where)


def _check_order(nodes: list[onnx.NodeProto], makers: dict[str, onnx.NodeProto], where: str) -> None:
    """No node may need itself, through whatever others."""
    index = {id(node): position for position, node in enumerate(nodes)}
    needs = [{index[id(makers[name])] for name in _taken(node) if name in makers} for node in nodes]
    if all(position > max(wanted, default=-1) for position, wanted in enumerate(needs)):
        return
    users: list[list[int]] = [[] for _ in nodes]
    for position, wanted in enumerate(needs):
        for before in wanted:
            users[before].append(position)
    left = [len(wanted) for wanted in needs]
    ready = [position for position, count in enumerate(left) if not count]
    while ready:
        for user in users[ready.pop()]:
            left[user] -= 1
            if not left[user]:
                ready.append(user)
    if any(left):
        raise GraphError(f"{where} is cyclic: {label(nodes[_on_cycle(left, needs)])} needs its own result")


def _on_cycle(left: list[int], needs: list[set[int]]) -> int:
    """A node of a cycle: walk back through nodes that were never ready until one comes again."""
    position, seen = next(i for i, count in enumerate(left) if count), set[int]()
    while position not in seen:
        seen.add(position)
        position = next(before for before in needs[position] if left[before])
    return position


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    """Names a node needs, those its subgraphs capture included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            yield from (name for inner in graph.node for name in _taken(inner) if name not in own)
            yield from (value.name for value in graph.output if value.name not in own)


def _repeated(names: list[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _tensors(inner)


def _check_tensor(tensor: onnx.TensorProto, folder: Path | None) -> None:
    if any(size < 0 for size in tensor.dims):
        raise GraphError(
            f"initializer {tensor.name!r} has the shape {tuple(tensor.dims)}: a size is negative"
        )
    if tensor.data_type not in _ELEMENT_TYPES:
        raise GraphError(
            f"initializer {tensor.name!r} has the element type {tensor.data_type}, which ONNX {onnx.__version__} does "
            "not know"
        )
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise GraphError(
            f"initializer {tensor.name!r} lies in the file {location!r}, and a model in memory says not where that "
            "is. Pass the path of the .onnx file, or load it with its external data"
        )
    path = folder / location
    if not path.resolve().is_relative_to(folder.resolve()):
        raise GraphError(f"initializer {tensor.name!r} points out of the model's folder, to {location!r}")
    if not path.is_file():
        raise GraphError(
            f"initializer {tensor.name!r} lies in the file {location!r}, which is not beside the model"
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError as error:
        raise GraphError(f"initializer {tensor.name!r} has an offset that is no number: {error}") from error
    if offset < 0 or length < 0 or offset + length > path.stat().st_size:
        raise GraphError(
            f"initializer {tensor.name!r} is bytes {offset} to {offset + length} of {location!r}, which has "
            f"{path.stat().st_size}"
        )
