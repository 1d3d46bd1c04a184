"""What a file holds, without loading a framework: ``inspect``.

Enters: the path of an artifact, an ``.onnx`` file, or a file of named tensors. Leaves: a ``Summary``.

Invariants: no tensor is read, nothing is run and no Keras is imported; digests are the recorded ones, and
those of ``config.json`` and ``model.onnx`` are checked, as whenever an artifact is opened.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from interop.artifact import recorded
from interop.artifact.bundle import Bundle, open_bundle
from interop.artifact.files import CONFIG
from interop.artifact.schema import parse_model
from interop.artifact.signature import TensorSpec
from interop.errors import ArtifactError, FormatError
from interop.formats import find_prefix, found, holds_tensors, open_tensors
from interop.formats.dtypes import BY_NAME, BY_ONNX, HALF_BYTES, size_bytes
from interop.formats.keras_zip import GARBAGE
from interop.formats.tensorbundle.elements import STRING
from interop.formats.tensorbundle.files import files_of
from interop.formats.tensorbundle.objects import OBJECT_GRAPH


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """One named tensor: its element type, shape, size, and in an artifact what it is for."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    role: str | None = None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer of an artifact; the path tells where in the tree.

    Attributes:
        path: object path; the model itself is not listed.
        class_name: its class, with the package it is registered under if it is a custom one.
        parameters: elements of the weights it holds itself, without those of layers inside it.
        dtypes: element types of those weights.
        trainable: its ``trainable`` flag.
        calls: how often the model calls it in the graph.
    """

    path: str
    class_name: str
    parameters: int
    dtypes: tuple[str, ...]
    trainable: bool
    calls: int


@dataclass(frozen=True, slots=True)
class FileSummary:
    """One file of an artifact with the digest ``config.json`` records."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What ``inspect`` found; fields that a kind of file does not have are None or empty.

    Attributes:
        path: what was inspected.
        kind: such as ``"artifact (directory)"``, ``"artifact (zip)"``, ``"onnx"``, ``"safetensors"``.
        size_bytes: bytes on disk.
        parameters: elements of all weights.
        trainable: elements of those that train; None when the file does not say.
        facts: producer, source framework, model, opset, and the like, in order.
        inputs: name, element type, shape and bounds of each input.
        outputs: the same for the outputs.
        layers: in the order of the model.
        operators: how often each operator is used, most used first.
        tensors: every named tensor, in the order of the file.
        files: the files of an artifact.
        digest: the artifact's own digest.
    """

    path: Path
    kind: str
    size_bytes: int
    parameters: int
    trainable: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    layers: tuple[LayerSummary, ...] = ()
    operators: Mapping[str, int] = field(default_factory=dict)
    tensors: tuple[TensorSummary, ...] = ()
    files: tuple[FileSummary, ...] = ()
    digest: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "size_bytes": self.size_bytes,
            "parameters": self.parameters,
            "trainable": self.trainable,
            "facts": dict(self.facts),
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json(with_bounds=False) for spec in self.outputs],
            "layers": [_listed(asdict(layer)) for layer in self.layers],
            "operators": dict(self.operators),
            "tensors": [_listed(asdict(tensor)) for tensor in self.tensors],
            "files": [asdict(file) for file in self.files],
            "digest": self.digest,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.path}: {self.kind}, {_bytes(self.size_bytes)}"
        rows = [(name, value) for name, value in self.facts.items()]
        trains = "" if self.trainable is None else f", {self.trainable:,} of them trainable"
        rows.append(("parameters", f"{self.parameters:,}{trains}"))
        rows += [("input", _described(spec)) for spec in self.inputs]
        rows += [("output", _described(spec)) for spec in self.outputs]
        yield from _table(rows)
        if self.layers:
            yield "layers"
            yield from _table(
                [
                    (
                        "  " * layer.path.count("/") + layer.path.rpartition("/")[2],
                        layer.class_name,
                        f"{layer.parameters:,}" if layer.parameters else "",
                        " ".join(layer.dtypes),
                        "" if layer.trainable else "frozen",
                    )
                    for layer in self.layers
                ]
            )
        if self.operators:
            yield "operators"
            yield "  " + ", ".join(f"{name} {count}" for name, count in self.operators.items())
        if self.tensors:
            yield "tensors"
            yield from _table(
                [
                    (
                        t.name,
                        t.dtype,
                        "x".join(map(str, t.shape)) or "scalar",
                        _bytes(t.size_bytes),
                        t.role or "",
                    )
                    for t in self.tensors
                ]
            )
        if self.files:
            yield "files (SHA-256 as recorded)"
            yield from _table([(f.name, _bytes(f.size_bytes), f.sha256) for f in self.files])
        if self.digest:
            yield f"digest {self.digest}"


def inspect(path: str | os.PathLike[str]) -> Summary:
    """Say what a file or an artifact holds.

    Args:
        path: an artifact (a directory or ``.interop``), an ``.onnx`` file, a ``.keras``, ``.h5``,
            ``.safetensors`` or ``.npz`` file, or any other file or folder that ``load_tensors`` opens, such as a
            TensorFlow checkpoint, by its prefix or its folder.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ArtifactError: it is not what its name says, or was changed.
        FormatError: it is none of these, or cannot be read.
    """
    path = Path(path)
    if (prefix := find_prefix(path)) is not None:
        return _checkpoint(prefix)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir() and holds_tensors(path):
        return _tensor_file(path)
    if path.is_dir() or path.suffix == ".interop":
        with open_bundle(path, verify_digest=False) as bundle:
            return _artifact(bundle)
    if path.suffix == ".onnx":
        return _onnx(path)
    return _tensor_file(path)


def _artifact(bundle: Bundle) -> Summary:
    config = bundle.config
    model = config["model"]
    roles = {variable["key"]: variable.get("role") for variable in config["variables"]}
    trainable = {variable["key"] for variable in config["variables"] if variable.get("trainable")}
    tensors = tuple(_tensors(bundle.weights.dtypes, bundle.weights.shapes, roles))
    weights = {tensor.name: tensor for tensor in tensors if tensor.role in (None, "weight")}
    files = tuple(FileSummary(name, r["size"], r["sha256"]) for name, r in config["files"].items())
    source = config.get("source") or {}
    facts = {
        "model": str(model.get("name")),
        "written by": str(config["producer"]),
        "source": f"{source.get('framework', 'unknown')} {source.get('version', '')}".strip(),
        "format": f"version {config['format_version']}, {_schema_verdict(config)}",
        "opset": f"{config['opset']} (IR version {config['ir_version']})",
        "compiled": "yes" if model.get("compile") else "no",
        "optimizer state": "yes" if bundle.optimizer is not None else "no",
    }
    parts = (
        [bundle.path] if bundle.form == "zip" else [bundle.path / name for name in (CONFIG, *config["files"])]
    )
    return Summary(
        path=bundle.path,
        kind=f"artifact ({bundle.form})",
        size_bytes=sum(part.stat().st_size for part in parts),
        parameters=sum(tensor.elements for tensor in weights.values()),
        trainable=sum(tensor.elements for name, tensor in weights.items() if name in trainable),
        facts=facts,
        inputs=bundle.signature.inputs,
        outputs=bundle.signature.outputs,
        layers=tuple(_layers(model.get("layers", []), weights)),
        operators=_count_operators(parse_model(bundle.graph_bytes())),
        tensors=tensors,
        files=files,
        digest=config["digest"],
    )


def _layers(
    layers: Iterable[Mapping[str, Any]], weights: Mapping[str, TensorSummary]
) -> Iterator[LayerSummary]:
    for layer in layers:
        if not layer["path"]:
            continue
        own = [weights[key] for key in layer["variables"] if key in weights]
        yield LayerSummary(
            path=layer["path"],
            class_name=layer.get("registered_name") or layer["class"],
            parameters=sum(tensor.elements for tensor in own),
            dtypes=tuple(dict.fromkeys(tensor.dtype for tensor in own)),
            trainable=bool(layer.get("trainable", True)),
            calls=len(layer["calls"]),
        )


def _schema_verdict(config: Mapping[str, Any]) -> str:
    """Whether the config follows the published schema, where the validator is installed."""
    from importlib.util import find_spec

    if find_spec("jsonschema") is None:
        return "schema not checked (jsonschema is not installed)"
    import jsonschema

    schema = json.loads((resources.files("interop.artifact") / "config.schema.json").read_text("utf-8"))
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(config))
    if error is None:
        return "follows the schema"
    return f"does not follow the schema: {error.json_path}: {error.message:.120}"


def _onnx(path: Path) -> Summary:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as e:
        raise ArtifactError(f"{path} is not an ONNX model: {e}") from e
    if not model.HasField("graph"):
        raise ArtifactError(f"{path} is not an ONNX model: it holds no graph")
    graph = model.graph
    tensors = tuple(
        _onnx_tensor(tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer
    )
    initialised = {tensor.name for tensor in tensors}
    opsets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    facts = {"opset": f"{opsets} (IR version {model.ir_version})"}
    if model.producer_name:
        facts = {"written by": f"{model.producer_name} {model.producer_version}".strip(), **facts}
    if model.functions:
        facts["local functions"] = str(len(model.functions))
    entry = next((entry.value for entry in model.metadata_props if entry.key == recorded.KEY), None)
    if entry is not None:
        facts["Keras model"] = _recorded_model(entry)
    return Summary(
        path=path,
        kind="onnx",
        size_bytes=path.stat().st_size,
        parameters=sum(tensor.elements for tensor in tensors),
        facts=facts,
        inputs=tuple(_onnx_spec(value) for value in graph.input if value.name not in initialised),
        outputs=tuple(_onnx_spec(value) for value in graph.output),
        operators=_count_operators(model),
        tensors=tensors,
    )


def _recorded_model(entry: str) -> str:
    """What the file says about the Keras model it was made of, which ``import_onnx`` makes again."""
    try:
        content = recorded.decoded(entry)
        model = content["model"]
        return f"{model['name']} ({model['object']['class_name']}), keras {content['keras']}"
    except (ArtifactError, KeyError, TypeError) as error:
        return f"its config cannot be read: {error}"


def _onnx_spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}.{axis}"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, _onnx_dtype(tensor.elem_type), dims)


def _onnx_tensor(name: str, data_type: int, shape: tuple[int, ...]) -> TensorSummary:
    dtype = _onnx_dtype(data_type)
    known = dtype in BY_NAME or dtype in HALF_BYTES
    return TensorSummary(name, dtype, shape, size_bytes(dtype, shape) if known else 0)


def _onnx_dtype(code: int) -> str:
    import onnx

    return BY_ONNX[code].name if code in BY_ONNX else onnx.TensorProto.DataType.Name(code).lower()


def _count_operators(model: Any) -> dict[str, int]:
    """Operators by number of uses, each function counted once, without calls of local functions."""
    local = {(function.domain, function.name) for function in model.functions}
    counts: Counter[str] = Counter()
    pending = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        for node in pending.pop():
            if (node.domain, node.op_type) not in local:
                counts[f"{node.domain}.{node.op_type}".lstrip(".")] += 1
            for attribute in node.attribute:
                pending += [graph.node for graph in (attribute.g, *attribute.graphs) if graph.node]
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _tensor_file(path: Path) -> Summary:
    with open_tensors(path, None) as mapping:
        tensors = tuple(_tensors(mapping.dtypes, mapping.shapes, {}))
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return Summary(
        path=path,
        kind=found(path)[0].name if path.is_dir() else path.suffix.lstrip("."),
        size_bytes=sum(file.stat().st_size for file in files),
        parameters=sum(tensor.elements for tensor in tensors if not tensor.name.startswith("optimizer")),
        facts=_keras_facts(path) if path.suffix == ".keras" else {},
        tensors=tensors,
    )


def _checkpoint(prefix: Path) -> Summary:
    with open_tensors(prefix, "tf") as mapping:
        tensors = tuple(_tensors(mapping.dtypes, mapping.shapes, {}))
        graph = OBJECT_GRAPH in mapping
    return Summary(
        path=prefix,
        kind="TensorFlow checkpoint",
        size_bytes=sum(file.stat().st_size for file in files_of(prefix)),
        parameters=sum(t.elements for t in tensors if "optimizer" not in t.name and t.dtype != STRING),
        facts={"object graph": "yes" if graph else "no"},
        tensors=tensors,
    )


def _keras_facts(path: Path) -> dict[str, str]:
    """Model and version, from the JSON members of a ``.keras`` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json"))
        name = config["config"].get("name")
        return {
            "model": f"{name} ({config['class_name']})" if name else str(config["class_name"]),
            "source": f"keras {metadata['keras_version']}",
            "saved": str(metadata["date_saved"]),
            "compiled": "yes" if config.get("compile_config") else "no",
        }
    except (*GARBAGE, KeyError, TypeError, AttributeError) as e:
        raise FormatError(f"{path} is not a .keras file: {type(e).__name__}: {e}") from e


def _tensors(
    dtypes: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], roles: Mapping[str, str | None]
) -> Iterator[TensorSummary]:
    for name, dtype in dtypes.items():
        shape = tuple(shapes[name])
        size = size_bytes(dtype, shape) if dtype in BY_NAME else 0
        yield TensorSummary(name, dtype, shape, size, roles.get(name))


def _described(spec: TensorSpec) -> str:
    if spec.bounds is None:
        return str(spec)
    return f"{spec} from {spec.bounds[0]} to {spec.bounds[1]}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _bytes(count: int) -> str:
    """A size in bytes as people read it.

    >>> _bytes(999), _bytes(1_500_000)
    ('999 B', '1.5 MB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _listed(value: dict[str, Any]) -> dict[str, Any]:
    return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}
