"""Checks of a graph before anything is mapped, inlined or built: format.md, "Loading is safe".

What enters: a parsed ``ModelProto`` and the entries of the weights file. What leaves: nothing, or an error
that says which rule is broken and where. Nothing is expanded to be measured: functions are counted bottom-up,
so that a graph that would unfold into billions of nodes is refused as fast as any other.

Invariants: sizes are Python integers, which cannot wrap around; the walk is iterative and bounded, so that no
nesting can exhaust the stack.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interop.artifact.files import WEIGHTS
from interop.artifact.outline import Key, Outline, Step, graphs_of, key_of, outline_of, shown, steps
from interop.artifact.schema import ExternalTensors, is_external
from interop.errors import ArtifactError, UnsafeFileError
from interop.formats.dtypes import BY_ONNX, size_bytes
from interop.formats.safetensors import Entry

MAX_NODES = 1 << 18
"""Nodes a graph may have after its functions are inlined, unless that many are written out in the file."""

MAX_EXPANDED_BYTES = 1 << 30
"""Bytes its nodes may take after inlining, unless that many are in the file."""

MAX_DEPTH = 64
"""Functions that call functions, and graphs within graphs, one inside the other."""

_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# What ONNX has no operator for and every ONNX Runtime has one.
_RUNTIME_OPERATORS = frozenset({("com.microsoft", "Tokenizer")})
_FUNCTION_DOMAIN = "interop"
_STRING = 8
_KEYS = frozenset({"location", "offset", "length"})
_EXTERNAL = 1
_NATURAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_PAYLOADS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_VALUES = frozenset({"raw_data", "string_data", *_PAYLOADS})


class _Body:
    """One graph or function body, with the graphs inside its nodes: what it holds, and what it calls."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.nodes = self.size_bytes = self.nesting = 0
        self.calls: dict[Key, int] = {}
        self.call_nesting: dict[Key, int] = {}
        self.tensors: list[tuple[str, Any]] = []
        self.sparse: list[str] = []
        self.operators: set[tuple[str, str]] = set()


class _Expanded(NamedTuple):
    """What a body becomes when every call in it is inlined (saturated just over the limits)."""

    nodes: int
    size_bytes: int
    depth: int


def check_artifact_graph(model: Any, entries: Mapping[str, Entry], start: int = 0) -> Outline:
    """Check the graph of an artifact against the entries of its weights file.

    Args:
        model: the parsed graph.
        entries: key to entry, counted from the start of the file they lie in.
        start: where the weights file begins there: 0 unless that is a zip.

    Returns:
        The nodes of the graph, for whoever goes on with it.

    Raises:
        UnsafeFileError: a rule that protects the reader is broken.
        ArtifactError: the graph and the weights do not belong together.
    """
    outline, bodies = _check_expansion(model)
    _check_domains(bodies)
    for body in bodies.values():
        for where in body.sparse:
            raise UnsafeFileError(f"model.onnx: {where} is sparse; an artifact has none")
        for where, tensor in body.tensors:
            if is_external(tensor):
                raise UnsafeFileError(
                    f"model.onnx: {where} has external data; only initializers of the main graph may"
                )
            _check_embedded(tensor, f"model.onnx: {where}")
    if len(model.training_info):
        raise UnsafeFileError("model.onnx: it has training information; an artifact has none")
    if len(model.graph.sparse_initializer):
        raise UnsafeFileError("model.onnx: it has sparse initializers; an artifact has none")
    _check_initializers(model.graph.initializer, entries, start)
    return outline


def check_variables(variables: Iterable[Any], entries: Mapping[str, Entry]) -> None:
    """Check that config.json and the weights file list the same variables, of the same dtype and shape.

    Raises:
        ArtifactError: they differ; the message names the first difference.
    """
    listed = {variable["key"]: variable for variable in variables}
    for key in sorted(listed.keys() ^ entries.keys()):
        holder, other = ("config.json", WEIGHTS) if key in listed else (WEIGHTS, "config.json")
        raise ArtifactError(f"{holder} has the variable {key!r} but {other} has not")
    for key, variable in listed.items():
        entry = entries[key]
        if (variable["dtype"], variable["shape"]) != (entry.dtype, list(entry.shape)):
            raise ArtifactError(
                f"the variable {key!r} is {variable['dtype']}{variable['shape']} in config.json "
                f"but {entry.dtype}{list(entry.shape)} in {WEIGHTS}"
            )


def check_plain_graph(model: Any, folder: Path) -> Outline:
    """Check the graph of a plain ``.onnx`` file: its expansion, and that external data stays in `folder`.

    Returns:
        The nodes of the graph, for whoever goes on with it.

    Raises:
        UnsafeFileError: it would explode when inlined, or reads files outside its folder.
    """
    outline, bodies = _check_expansion(model)
    root = os.path.realpath(folder)
    for where, tensor in _all_tensors(model, bodies):
        if is_external(tensor):
            _check_contained(tensor, where, root)
    return outline


def _check_expansion(model: Any) -> tuple[Outline, dict[Key | None, _Body]]:
    """Rule 2: cycles, depth, unique names, and the count of nodes, without expanding anything.

    Returns:
        The nodes, and the bodies by function; None is the main graph.
    """
    functions = {key_of(function): function for function in model.functions}
    if len(functions) != len(model.functions):
        twice = next(key for key, n in Counter(map(key_of, model.functions)).items() if n > 1)
        raise UnsafeFileError(f"model.onnx: the function {shown(twice)} is defined more than once")
    outline = outline_of(model)
    bodies: dict[Key | None, _Body] = {
        None: _survey(model.graph, outline.graph, "the graph", functions.keys())
    }
    for key, function in functions.items():
        bodies[key] = _survey(function, outline.functions[key], f"function {shown(key)}", functions.keys())
    _check_unique_names(model.graph, outline.graph)

    expanded: dict[Key, _Expanded] = {}
    for key in _callees_first(bodies):
        expanded[key] = _expand(bodies[key], expanded)
    whole = _expand(bodies[None], expanded)
    written = sum(body.nodes for body in bodies.values())
    written_bytes = sum(body.size_bytes for body in bodies.values())
    if whole.depth > MAX_DEPTH or any(each.depth > MAX_DEPTH for each in expanded.values()):
        raise UnsafeFileError(f"model.onnx: its functions and subgraphs nest deeper than {MAX_DEPTH} levels")
    if whole.nodes > max(MAX_NODES, written):
        raise UnsafeFileError(
            f"model.onnx: its {written} nodes become more than {MAX_NODES} when the functions are inlined"
        )
    if whole.size_bytes > max(MAX_EXPANDED_BYTES, written_bytes):
        raise UnsafeFileError(
            f"model.onnx: its {written_bytes} bytes become more than {MAX_EXPANDED_BYTES} "
            "when the functions are inlined"
        )
    return outline, bodies


def _survey(scope: Any, nodes: list[Step], where: str, functions: Collection[Key]) -> _Body:
    """Walk a graph or a function and the graphs inside its nodes, iteratively."""
    body = _Body(where)
    body.size_bytes = scope.ByteSize()
    pending = [(nodes, 0)]
    if scope.DESCRIPTOR.name == "FunctionProto":
        for attribute in scope.attribute_proto:
            pending += _survey_attribute(attribute, scope, body, 0)
    while pending:
        nodes, nesting = pending.pop()
        body.nesting = max(body.nesting, nesting)
        body.nodes += len(nodes)
        for key, times in Counter([step.key for step in nodes]).items():
            if key in functions:
                body.calls[key] = body.calls.get(key, 0) + times
                body.call_nesting[key] = max(body.call_nesting.get(key, 0), nesting)
            else:
                body.operators.add(key[:2])
        for step in nodes:
            for attribute in step.attributes:
                pending += _survey_attribute(attribute, step.node, body, nesting)
    return body


def _survey_attribute(attribute: Any, owner: Any, body: _Body, nesting: int) -> list[tuple[list[Step], int]]:
    """Note the tensors that an attribute holds; the nodes of the graphs that it holds, and how deep they lie."""
    tensors = [attribute.t] if attribute.HasField("t") else []
    tensors += attribute.tensors
    if tensors:
        where = f"attribute {attribute.name!r} of {owner.name!r} in {body.where}"
        body.tensors += [(where, tensor) for tensor in tensors]
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for tensor in [*sparse, *attribute.sparse_tensors]:
        where = f"attribute {attribute.name!r} of {owner.name!r} in {body.where}"
        body.sparse.append(where)
        body.tensors += [(where, tensor.values), (where, tensor.indices)]
    found = []
    for graph in graphs_of(attribute):
        if nesting == MAX_DEPTH:
            raise UnsafeFileError(
                f"model.onnx: {body.where} has graphs nested deeper than {MAX_DEPTH} levels"
            )
        where = f"of a subgraph of {body.where}"
        body.tensors += [(f"initializer {tensor.name!r} {where}", tensor) for tensor in graph.initializer]
        body.sparse += [f"an initializer {where}" for _ in graph.sparse_initializer]
        found.append((steps(graph), nesting + 1))
    return found


def _callees_first(bodies: Mapping[Key | None, _Body]) -> Iterator[Key]:
    """Functions in an order in which each comes after those it calls; raises at a cycle."""
    done: set[Key] = set()
    for root in bodies:
        if root is None or root in done:
            continue
        active: dict[Key, Iterator[Key]] = {root: iter(bodies[root].calls)}
        while active:
            current, rest = next(reversed(active.items()))
            callee = next((key for key in rest if key not in done), None)
            if callee is None:
                del active[current]
                done.add(current)
                yield current
            elif callee in active:
                circle = [*[*active][[*active].index(callee) :], callee]
                path = " -> ".join(map(shown, circle))
                raise UnsafeFileError(f"model.onnx: its functions call each other in a circle: {path}")
            else:
                active[callee] = iter(bodies[callee].calls)


def _expand(body: _Body, expanded: Mapping[Key, _Expanded]) -> _Expanded:
    """Measure a body whose callees are measured."""
    nodes, size, depth = body.nodes, body.size_bytes, body.nesting
    for key, times in body.calls.items():
        callee = expanded[key]
        nodes += times * callee.nodes
        size += times * callee.size_bytes
        depth = max(depth, body.call_nesting[key] + 1 + callee.depth)
    # Saturated: a million functions that double would else be sums of million-bit integers.
    return _Expanded(min(nodes, 1 << 62), min(size, 1 << 62), depth)


def _check_unique_names(graph: Any, nodes: list[Step]) -> None:
    """Initializers, nodes and values of the main graph: a name may be defined once."""
    for what, names in (
        ("initializers", [tensor.name for tensor in graph.initializer]),
        ("inputs", [value.name for value in graph.input]),
        ("nodes", [step.name for step in nodes if step.name]),
        ("values", [name for step in nodes for name in step.outputs if name]),
    ):
        if len(set(names)) != len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise ArtifactError(f"model.onnx: two {what} are called {twice!r}")


def _check_domains(bodies: Mapping[Key | None, _Body]) -> None:
    """Rule 5: functions live in our domain, and every other operator is ONNX's own."""
    for key in bodies:
        if key is not None and key[0].partition(".")[0] != _FUNCTION_DOMAIN:
            raise UnsafeFileError(
                f"model.onnx: the function {shown(key)} is in the domain {key[0]!r}; "
                f"an artifact's functions are in {_FUNCTION_DOMAIN!r}"
            )
    for body in bodies.values():
        for domain, name in sorted(body.operators):
            if domain not in _STANDARD_DOMAINS and (domain, name) not in _RUNTIME_OPERATORS:
                raise UnsafeFileError(
                    f"model.onnx: {body.where} uses {domain}::{name}; "
                    "an artifact uses the operators of ONNX and its own functions only"
                )


def _check_initializers(initializers: Any, entries: Mapping[str, Entry], start: int) -> None:
    """Rule 3: external, exactly one location, offset and length, and those of the entry of that name."""
    expected = ExternalTensors(WEIGHTS)
    for tensor in initializers:
        name = tensor.name
        entry = entries.get(name)
        if entry is None or tensor != expected.make(name, entry, start):
            _check_initializer(tensor, entries, start)


def _check_initializer(tensor: Any, entries: Mapping[str, Entry], start: int) -> None:
    """The same of one that is not, or not as we write it, and with the error that says what is wrong with it."""
    name = tensor.name
    where = f"model.onnx: initializer {name!r}"
    pairs = [(entry.key, entry.value) for entry in tensor.external_data]
    if tensor.data_location != _EXTERNAL:
        raise UnsafeFileError(f"{where} is embedded; every initializer of an artifact is external")
    if any(len(getattr(tensor, value)) for value in _VALUES):
        raise UnsafeFileError(f"{where} is external and has embedded values as well")
    found = dict(pairs)
    if len(pairs) != len(_KEYS) or found.keys() != _KEYS:
        keys = ", ".join(sorted(key for key, _ in pairs))
        raise UnsafeFileError(
            f"{where} has external data with {keys or 'nothing'}; expected exactly one each of "
            f"{', '.join(sorted(_KEYS))}"
        )
    if found["location"] != WEIGHTS:
        raise UnsafeFileError(f"{where} lies in {found['location']!r}; weights lie in {WEIGHTS} only")
    offset, length = (_natural(found[key], f"{where} has the {key}") for key in ("offset", "length"))
    entry = entries.get(name)
    if entry is None:
        raise ArtifactError(f"{where} has no tensor of that name in {WEIGHTS}")
    shape = _shape(tensor, where)
    row = BY_ONNX.get(tensor.data_type)
    dtype = row.name if row is not None else f"type {tensor.data_type}"
    if dtype != entry.dtype or shape != entry.shape:
        raise ArtifactError(
            f"{where} is {dtype}{list(shape)} but {entry.dtype}{list(entry.shape)} in {WEIGHTS}"
        )
    if offset != entry.begin - start or length != entry.end - entry.begin:
        raise UnsafeFileError(
            f"{where} points to bytes {offset} to {offset + length}; "
            f"the tensor of that name is at {entry.begin - start} to {entry.end - start}"
        )


def _check_embedded(tensor: Any, where: str) -> None:
    """Rule 1: an embedded tensor holds as many values as its dims say."""
    shape = _shape(tensor, where)
    if tensor.data_type not in BY_ONNX or any(len(getattr(tensor, payload)) for payload in _PAYLOADS):
        return  # ONNX Runtime compares the count of typed values with the dims before it allocates
    expected = size_bytes(BY_ONNX[tensor.data_type].name, shape)
    if len(tensor.raw_data) != expected:
        raise UnsafeFileError(f"{where} claims shape {list(shape)} but holds {len(tensor.raw_data)} bytes")


def _check_contained(tensor: Any, where: str, root: str) -> None:
    """Rule 8: external data of a plain file lies in its folder, within the file it names."""
    found = {entry.key: entry.value for entry in tensor.external_data}
    location = found.get("location", "")
    path = os.path.realpath(os.path.join(root, location))
    if not location or os.path.isabs(location) or os.path.commonpath([root, path]) != root:
        raise UnsafeFileError(f"{where} has its data in {location!r}, outside the folder of the model")
    if not os.path.isfile(path):
        raise ArtifactError(f"{where} has its data in {location!r}, which is no file beside the model")
    offset = _natural(found.get("offset", "0"), f"{where} has the offset")
    shape = _shape(tensor, where)
    needed = size_bytes(BY_ONNX[tensor.data_type].name, shape) if tensor.data_type in BY_ONNX else 0
    length = _natural(found.get("length", str(needed)), f"{where} has the length")
    if offset + max(length, needed) > os.path.getsize(path):
        raise UnsafeFileError(
            f"{where} needs bytes {offset} to {offset + max(length, needed)} of {location!r}, "
            f"which has {os.path.getsize(path)}"
        )


def _all_tensors(model: Any, bodies: Mapping[Key | None, _Body]) -> Iterator[tuple[str, Any]]:
    for tensor in model.graph.initializer:
        yield f"initializer {tensor.name!r}", tensor
    for sparse in model.graph.sparse_initializer:
        yield f"sparse initializer {sparse.values.name!r}", sparse.values
        yield f"sparse initializer {sparse.values.name!r}", sparse.indices
    for body in bodies.values():
        yield from body.tensors


def _shape(tensor: Any, where: str) -> tuple[int, ...]:
    shape = tuple(tensor.dims)
    if shape and min(shape) < 0:
        raise UnsafeFileError(f"{where} has a negative dim in its shape {list(shape)}")
    return shape


def _natural(text: str, where: str) -> int:
    if not _NATURAL.fullmatch(text):
        raise UnsafeFileError(f"{where} {text!r:.40}; expected a plain decimal number")
    return int(text)
