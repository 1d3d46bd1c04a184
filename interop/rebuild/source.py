"""An ONNX file or ModelProto, read, checked and made plain for the importer.

Enters: a path or a ModelProto, of any size, with its weights inside or beside it. Leaves: an ``onnx_ir.Model``
whose weights stay where they are until they are asked for. Invariants: the caller's proto is not changed; every
problem is a ``GraphError`` that names the node, and all operators without a handler are told at once.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from interop.errors import GraphError, UnsupportedNodes
from interop.rebuild.checking import check_model
from interop.rebuild.expansion import expanded
from interop.rebuild.registry import NOT_OF_ONNX, canonical, problem

_OLDEST_OPSET = 7  # before it, operators broadcast by attributes
_OPSET = 13  # what older graphs are converted to


@dataclass(frozen=True)
class Source:
    """A checked model.

    Attributes:
        proto: the model.
        folder: where its external data lies; None for a model in memory.
    """

    proto: onnx.ModelProto
    folder: Path | None

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says about itself."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    def as_it_is(self) -> Any:
        """The ``ir.Model``, functions and all."""
        return _deserialized(self.proto, self.folder)

    def plain(self) -> Any:
        """The ``ir.Model`` in operators that have handlers, as far as ONNX defines the others by them."""
        proto = _converted(self.proto) if opset_of(self.proto) < _OLDEST_OPSET else self.proto
        return _deserialized(expanded(proto), self.folder)


def read_source(source: str | os.PathLike[str] | onnx.ModelProto) -> Source:
    """Read and check a model.

    Raises:
        GraphError: it is broken; the message names the node.
        FileNotFoundError: nothing is at the path.
    """
    folder = None
    if isinstance(source, onnx.ModelProto):
        proto = source
    else:
        path = Path(source)
        folder = path.parent
        try:
            proto = onnx.load(os.fspath(path), load_external_data=False)
        except DecodeError as error:
            raise GraphError(f"{path} is not an ONNX file, or it is truncated: {error}") from error
    check_model(proto, folder)
    return Source(proto, folder)


def read_model(source: str | os.PathLike[str] | onnx.ModelProto) -> Any:
    """The ``ir.Model`` of ``read_source(source).plain()``."""
    return read_source(source).plain()


def _deserialized(proto: onnx.ModelProto, folder: Path | None) -> Any:
    try:
        model = ir.serde.deserialize_model(proto)
    except (ValueError, TypeError, KeyError, ir.serde.SerdeError) as error:
        raise GraphError(f"the ONNX model cannot be read: {error}") from error
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, folder)
    model.graph.sort()
    return model


def inlined(model: Any) -> Any:
    """The model with every local function put in the place of its calls."""
    from onnx_ir.passes.common import InlinePass

    if not model.functions:
        return model
    try:
        return InlinePass()(model).model
    except (ValueError, RuntimeError, ir.passes.PassError, ir.passes.InvariantError) as error:
        raise GraphError(f"a local function cannot be put in the place of its call: {error}") from error


def opset_of(proto: onnx.ModelProto) -> int:
    """The opset of ONNX' own domain; a graph of other domains alone gets the newest handlers."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 10**6)


def _converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import version_converter

    try:
        return version_converter.convert_version(proto, _OPSET)
    except (RuntimeError, ValueError) as error:
        raise GraphError(
            f"the graph has opset {opset_of(proto)}, and onnx cannot convert it to {_OPSET}: {error}. Export the "
            "model again with a newer opset"
        ) from error


def check_supported(model: Any, computed: Collection[Any] = ()) -> None:
    """Raise UnsupportedNodes with every node that nothing computes; functions of the model count as known.

    Args:
        model: an ``ir.Model``.
        computed: nodes that need no handler, as layers compute them.
    """
    nodes: dict[str, list[str]] = defaultdict(list)
    for graph in (model.graph, *model.functions.values()):
        imported = {**model.opset_imports, **graph.opset_imports}
        opsets = {canonical(domain): version for domain, version in imported.items()}
        for node in graph.all_nodes():
            if node.op_identifier() in model.functions or node in computed:
                continue
            domain = canonical(node.domain)
            found = problem(domain, node.op_type, opsets.get(domain, 1), list(node.attributes))
            if found:
                nodes[found].append(name_of(node))
    if not nodes:
        return
    listed = "; ".join(f"{found}: {_some(names)}" for found, names in sorted(nodes.items()))
    count = sum(len(names) for names in nodes.values())
    left = [found for found in nodes if found.endswith(NOT_OF_ONNX)]
    way_out = (
        "An exporter left what it could not convert; export the model with operators that ONNX has"
        if left
        else "The graph runs as it is with interop.load_graph"
    )
    raise UnsupportedNodes(
        f"{count} node{'s' if count > 1 else ''} of the graph cannot become Keras operations. {listed}. {way_out}"
    )


def name_of(node: Any) -> str:
    """The name of a node, or of its first output where it has none."""
    return str(node.name or node.outputs[0].name)


def _some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + more
