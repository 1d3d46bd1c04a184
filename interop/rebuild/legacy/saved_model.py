"""SavedModels of Keras 2, without TensorFlow: structure from ``keras_metadata.pb``, values from the checkpoint inside.

Enters: a folder. Leaves: the model. The traced functions in ``saved_model.pb`` are not read: a class of the user
must be known, as it must for every other format. What has no metadata of Keras is left to ``traced``.

Variables are found by walking the checkpoint's object graph along the attributes of the new layers; the layers of
a Functional or Sequential model by the names that the metadata gives their nodes.

Spec: tf_keras ``protobuf/saved_metadata.proto``, ``saving/legacy/saved_model/``; TensorFlow's ``saved_model.proto``,
``meta_graph.proto`` and ``saved_object_graph.proto``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
from google.protobuf.message import DecodeError

from interop.capture.keras import compat, paths
from interop.errors import FormatError, RebuildError
from interop.formats import TensorMapping
from interop.formats.messages import message_classes
from interop.formats.tensorbundle import reader
from interop.formats.tensorbundle.objects import OBJECT_GRAPH, Node, ObjectGraph
from interop.rebuild.from_config import Rebuilt
from interop.rebuild.legacy import learned, table
from interop.rebuild.legacy.assembly import Description, assemble
from interop.rebuild.legacy.compilation import Tensors, slot, slots_by_name
from interop.rebuild.legacy.graph import Builder
from interop.rebuild.legacy.lookup_tables import LookupTables
from interop.rebuild.legacy.migration import new_name
from interop.rebuild.legacy.plan import Part
from interop.rebuild.legacy.variables import Pairs, Stored, pair_tree, walk_tree

_METADATA = "keras_metadata.pb"
_MESSAGES = {
    "SavedMetadata": ("nodes 1 *SavedObject",),
    "SavedObject": ("node_id 2 int32", "node_path 3 string", "identifier 4 string", "metadata 5 string"),
    "SavedModel": ("meta_graphs 2 *MetaGraph",),
    "MetaGraph": ("object_graph_def 7 ObjectGraph",),
    "ObjectGraph": ("nodes 1 *GraphObject",),
    "GraphObject": ("children 1 *Child", "user_object 4 UserObject"),
    "Child": ("node_id 1 int32", "local_name 2 string"),
    "UserObject": ("identifier 1 string", "metadata 3 string"),
}
_LOSS_SCALE = ("loss_scale", "_loss_scale")
# What hangs on a model beside its layers.
_APART = frozenset({"optimizer", "keras_api", "signatures", "_adapt_function", "_random_generator"})


def load_saved_model(path: Path, custom_objects: Mapping[str, Any] | None, compile: bool) -> Rebuilt:
    """The model in a SavedModel of Keras 2.

    Raises:
        FormatError: its files are damaged.
        RebuildError: it has no config; or as `assemble` says, or `load_traced`, where it has no metadata of Keras.
    """
    metadata = _read_metadata(path)
    if not metadata:
        from interop.rebuild.legacy.traced import load_traced  # TensorFlow's, which the rest is without

        return load_traced(path)
    root = metadata[0]
    config = _root_config(path, root)
    with reader.open_file(path / "variables" / "variables") as tensors:
        source = _Checkpoint(tensors, metadata, path)
        config = learned.with_words(config, source.words)
        inputs = _call_inputs(root) if root.identifier == "_tf_keras_model" else None
        described = Description(config, root.metadata.get("training_config"), source, call_inputs=inputs)
        return assemble(described, custom_objects=custom_objects, compile=compile)


def holds_layers(path: Path) -> bool:
    """Whether a SavedModel describes layers of Keras; others have traced functions only."""
    file = path / _METADATA if (path / _METADATA).is_file() else path / "saved_model.pb"
    try:
        return next(_in_metadata(file) if file.name == _METADATA else _in_graph(file), None) is not None
    except (DecodeError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"{file}: not the metadata of a Keras model: {error}") from error


@dataclass(frozen=True)
class _Object:
    """What the metadata says of one object."""

    path: str
    identifier: str
    metadata: dict[str, Any]


def _read_metadata(path: Path) -> list[_Object]:
    """The objects of Keras in a SavedModel, the model first; none where there are only traced functions."""
    file = path / _METADATA if (path / _METADATA).is_file() else path / "saved_model.pb"
    try:
        nodes = list(_in_metadata(file) if file.name == _METADATA else _in_graph(file))
        objects = [_Object(where, identifier, _parsed(text)) for where, identifier, text in nodes]
    except (DecodeError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"{file}: not the metadata of a Keras model: {error}") from error
    objects.sort(key=lambda found: found.path != "root")
    if not objects and file.name != _METADATA:
        return []
    if not objects or objects[0].path != "root":
        raise FormatError(f"{file}: it does not describe the model itself")
    return objects


def _in_metadata(file: Path) -> Iterator[tuple[str, str, str]]:
    """Path, kind and JSON of each object, from the file that TensorFlow 2.5 began to write."""
    message = _classes()["SavedMetadata"]()
    message.ParseFromString(file.read_bytes())
    for node in message.nodes:
        yield node.node_path, node.identifier, node.metadata


def _in_graph(file: Path) -> Iterator[tuple[str, str, str]]:
    """The same from the object graph of the SavedModel itself, where it was before."""
    message = _classes()["SavedModel"]()
    message.ParseFromString(file.read_bytes())
    nodes = message.meta_graphs[0].object_graph_def.nodes if message.meta_graphs else []
    paths_found, pending = {0: "root"}, [0] if nodes else []
    while pending:
        number = pending.pop(0)
        node = nodes[number]
        if node.user_object.identifier.startswith("_tf_keras") and node.user_object.metadata:
            yield paths_found[number], node.user_object.identifier, node.user_object.metadata
        for child in node.children:
            if 0 <= child.node_id < len(nodes) and child.node_id not in paths_found:
                paths_found[child.node_id] = f"{paths_found[number]}.{child.local_name}"
                pending.append(child.node_id)


@cache
def _classes() -> dict[str, Any]:
    return message_classes("interop.saved_metadata", _MESSAGES)


def _parsed(text: str) -> dict[str, Any]:
    found = json.loads(text, object_hook=_plain)
    if not isinstance(found, dict):
        raise ValueError(f"an object is described by {found!r:.80}")
    return found


def _plain(value: dict[str, Any]) -> Any:
    """Tuples and shapes as lists, as they are in the JSON of other files."""
    if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
        return value["items"]
    return value


def _root_config(path: Path, root: _Object) -> dict[str, Any]:
    name, config = root.metadata.get("class_name"), root.metadata.get("config")
    if (
        not isinstance(name, str)
        or not isinstance(config, dict)
        or "layer was saved without config" in config
    ):
        raise RebuildError(
            f"{path}: {name} was saved without a config, for its class has no get_config. Make the model yourself "
            "and give it the values with interop.load_weights, or convert the SavedModel to ONNX"
        )
    if root.identifier == "_tf_keras_model":
        config = {"name": root.metadata.get("name"), **config} if "name" in config else config
    return {"class_name": name, "config": config}


def _call_inputs(root: _Object) -> Any:
    """Symbolic arguments as those with which a subclassed model was called, if they are known."""
    spec = root.metadata.get("full_save_spec")
    if isinstance(spec, list) and spec and isinstance(spec[0], list):
        return [_symbolic(item) for item in spec[0]]
    shape = root.metadata.get("build_input_shape")
    return [keras.KerasTensor([None, *shape[1:]])] if isinstance(shape, list) and shape else None


def _symbolic(spec: Any) -> Any:
    if isinstance(spec, dict) and spec.get("class_name") == "TypeSpec":
        parts = spec.get("serialized")
        if not isinstance(parts, list) or not isinstance(parts[0], list):
            raise RebuildError(f"the model was called with {spec.get('type_spec')}, which is no plain tensor")
        return keras.KerasTensor([None, *parts[0][1:]], dtype=str(parts[1]))
    if isinstance(spec, dict):
        return {key: _symbolic(item) for key, item in spec.items()}
    return [_symbolic(item) for item in spec] if isinstance(spec, list) else spec


class _Checkpoint:
    """The values of a SavedModel by the objects that hold them."""

    def __init__(self, tensors: TensorMapping, metadata: list[_Object], path: Path) -> None:
        if OBJECT_GRAPH not in tensors:
            raise FormatError(f"{path}: its checkpoint has no object graph")
        self.tensors = tensors
        self.graph = ObjectGraph.parse(bytes(tensors[OBJECT_GRAPH].item()), str(path))
        self.names: dict[int, str] = {}
        self._tables = LookupTables(path, tensors)
        self._counts: set[int] = set()
        for found in metadata:
            number = self._walk(found.path)
            if number is not None and isinstance(found.metadata.get("name"), str):
                self.names.setdefault(number, found.metadata["name"])

    def words(self, way: tuple[str, ...], name: str, config: Mapping[str, Any]) -> learned.Words | None:
        """What a lookup layer had learned, by the names of the layers that lead to it."""
        tree: _Tree | None = _Tree(self, 0)
        for step in way:
            tree = None if tree is None else tree.layer(step)
        return None if tree is None else self._words(tree, name, config)

    def _words(self, tree: _Tree, name: str, config: Mapping[str, Any]) -> learned.Words | None:
        counting = tree
        for attribute in learned.INNER if name == "TextVectorization" else ():
            counting = tree.child(learned.COUNTING) or tree.child(attribute) or counting
            tree = tree.child(attribute) or tree
        for attribute in learned.TABLES:
            if (place := tree.child(attribute)) is None:
                continue
            entries = self._tables.read(place.way, place.table)
            weights = next((value for key in learned.WEIGHTS if len(value := counting.value(key))), ())
            listed = np.asarray(weights).ravel().tolist()
            found = None if entries is None else learned.words_of(name, config, entries, listed)
            if found is not None:
                self._counts |= counting.numbers(*learned.WEIGHTS, "num_documents", "num_elements")
                return found
        return None

    def prepare(self, model: Any) -> None:
        """Give layers that the model makes itself what they had learned."""
        for layer, place in walk_tree(model, _Tree(self, 0)):
            if not isinstance(place, _Tree):
                continue
            if isinstance(layer, keras.layers.Discretization):
                self._counts |= place.numbers("summary")
                compat.set_summary(layer, place.value("summary"))
            elif compat.lacks_vocabulary(layer):
                words = self._words(place, type(layer).__name__, layer.get_config())
                if words is not None:
                    compat.set_learned_vocabulary(layer, words.config())

    def _walk(self, path: str) -> int | None:
        """The node at ``root.layer-0.cell``."""
        number, parts = 0, path.split(".")[1:]
        while parts:
            children = self.graph.nodes[number].children
            for size in range(1, len(parts) + 1):  # an attribute may have dots in its name
                if ".".join(parts[:size]) in children:
                    number = children[".".join(parts[:size])]
                    parts = parts[size:]
                    break
            else:
                return None
        return number

    def stored(self, number: int) -> Stored | None:
        """The value of a variable's node."""
        node = self.graph.nodes[number]
        key = node.key
        if key is None or key not in self.tensors:
            return None
        name = next(iter(node.values.values())).full_name or key
        return Stored(name, tuple(self.tensors.shapes[key]), lambda: self.tensors[key])

    def pair(self, model: Any, plan: Part, builder: Builder) -> tuple[Pairs, list[Stored]]:
        """By the attributes that lead to a variable."""
        tree = _Tree(self, 0)
        pairs = pair_tree(model, tree)
        known = tree.used | self._counts
        return pairs, [item for number, item in self._values() if number not in known]

    def _values(self) -> Iterator[tuple[int, Stored]]:
        """Every value that is reached from the model through its layers."""
        seen, pending = {0}, [0]
        while pending:
            for name, child in self.graph.nodes[pending.pop()].children.items():
                if child in seen or name in _APART:
                    continue
                seen.add(child)
                pending.append(child)
                stored = self.stored(child)
                if stored is not None:  # before TensorFlow 2.7 it is called Variable
                    is_state = name == "_state_var" and stored.leaf not in table.STATES
                    yield child, replace(stored, name=f"{stored.name}/StateVar") if is_state else stored

    def slots(self, model: Any, plan: Part, builder: Builder, pairs: Pairs) -> tuple[Tensors, list[Stored]]:
        """By the slot variables of a legacy optimizer, or the names of the newer ones' variables."""
        number = self.graph.nodes[0].children.get("optimizer")
        if number is None:
            return {}, []
        outer = self.graph.nodes[number]
        optimizer = self._inner(outer)
        scale = self._loss_scale(model, outer)
        if optimizer.slots or "iter" in optimizer.children:
            found, left = self._legacy_slots(model, optimizer)
        else:
            names = {stored.name.split(":")[0]: variable for variable, stored in pairs}
            found, left = slots_by_name(model, self._listed(optimizer), names)
        return found | scale, left

    def _loss_scale(self, model: Any, optimizer: Node) -> Tensors:
        """The scale of an optimizer for scaled losses, and the steps since it last changed."""
        own = paths.optimizer_variables(model)
        scale = next((optimizer.children[n] for n in _LOSS_SCALE if n in optimizer.children), None)
        held = {} if scale is None else self.graph.nodes[scale].children
        stored = {slot(name, model.optimizer): self.stored(number) for name, number in held.items()}
        return {key: value for key, value in stored.items() if key in own and value is not None}

    def _inner(self, optimizer: Node) -> Node:
        """The optimizer that one for scaled losses has inside."""
        for name in ("base_optimizer", "_optimizer", "inner_optimizer"):
            if name in optimizer.children:
                return self.graph.nodes[optimizer.children[name]]
        return optimizer

    def _listed(self, optimizer: Node) -> list[Stored]:
        listed = optimizer.children.get("_variables")
        numbers = [] if listed is None else list(self.graph.nodes[listed].children.values())
        numbers += [optimizer.children[name] for name in ("_learning_rate",) if name in optimizer.children]
        return [item for number in numbers if (item := self.stored(number)) is not None]

    def _legacy_slots(self, model: Any, optimizer: Node) -> tuple[Tensors, list[Stored]]:
        keys, own = paths.object_paths(model), paths.optimizer_variables(model)
        variables = _Tree(self, 0)
        pair_tree(model, variables)
        found: Tensors = {}
        left: list[Stored] = []
        for item in optimizer.slots:
            stored, variable = self.stored(item.node), variables.variables.get(item.variable)
            if stored is None:
                continue
            key = f"{keys.get(id(variable))}/{slot(item.name, model.optimizer)}"
            if key in own:
                found[key] = stored
            else:
                left.append(stored)
        for name in ("iter", "momentum_cache", "learning_rate"):
            key = slot(name, model.optimizer)
            if name in optimizer.children and key in own:
                stored = self.stored(optimizer.children[name])
                if stored is not None:
                    found[key] = stored
        return found, left


class _Tree:
    """One node of the object graph, as `pair_tree` walks it; remembers what was used."""

    def __init__(self, checkpoint: _Checkpoint, number: int, above: _Tree | None = None) -> None:
        self._checkpoint = checkpoint
        self._node = checkpoint.graph.nodes[number]
        self.way: tuple[str, ...] = ()
        self.used: set[int] = set() if above is None else above.used
        self.variables: dict[int, Any] = {} if above is None else above.variables

    def child(self, attribute: str) -> _Tree | None:
        """What an attribute holds."""
        names = (attribute, attribute.lstrip("_"))
        return next((self._below(name) for name in names if name in self._node.children), None)

    def layer(self, name: str) -> _Tree | None:
        """The layer of that name."""
        for attribute, number in self._node.children.items():
            if attribute.startswith("layer") and new_name(self._checkpoint.names.get(number, "")) == name:
                return self._below(attribute)
        return None

    def _below(self, attribute: str) -> _Tree:
        below = _Tree(self._checkpoint, self._node.children[attribute], self)
        below.way = (*self.way, attribute)
        return below

    @property
    def table(self) -> str | None:
        """The key in the checkpoint of what is a table there."""
        value = self._node.values.get("table")
        return None if value is None else value.key

    def numbers(self, *attributes: str) -> set[int]:
        """The nodes that attributes hold."""
        return {self._node.children[name] for name in attributes if name in self._node.children}

    def value(self, attribute: str) -> Any:
        """The value of a variable, or nothing."""
        number = self._number(attribute)
        stored = None if number is None else self._checkpoint.stored(number)
        return () if stored is None else stored.read()

    def variable(self, attributes: tuple[str, ...], variable: Any) -> Stored | None:
        """By the attribute, by the name, or by what Keras 2 called it."""
        older = [(old,) for old, new in table.VARIABLES.items() if new == variable.name]
        for steps in (attributes, (variable.name,), *older):
            number = self._walk(steps)
            stored = None if number is None else self._checkpoint.stored(number)
            if number is not None and stored is not None:
                self.used.add(number)
                self.variables[number] = variable
                return stored
        return None

    def _walk(self, steps: tuple[str, ...]) -> int | None:
        node: _Tree | None = self
        for step in steps[:-1]:
            node = None if node is None else node.child(step)
        return None if node is None else node._number(steps[-1])

    def _number(self, attribute: str) -> int | None:
        children = self._node.children
        return children.get(attribute, children.get(attribute.lstrip("_")))
