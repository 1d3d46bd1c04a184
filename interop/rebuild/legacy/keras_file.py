"""``.keras`` files of Keras 2.12 and later: their config is one of Keras 2, their weights lie by attributes.

Enters: a path. Leaves: the model. In the HDF5 inside, an object's variables are ``vars/0``, ``vars/1``, ... and what
it holds lies below the attribute's name; what is in a list, and the layers of a model, by their classes, counted.
Attributes are visited in reverse order, and each object once: of a model of the user, those after ``layers`` lie
below their own names, the others below ``layers``.

Spec: tf_keras ``saving/saving_lib.py``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from interop.capture.keras import compat
from interop.errors import FormatError
from interop.formats.keras_zip import GARBAGE, open_member
from interop.rebuild.from_config import Rebuilt
from interop.rebuild.legacy import learned
from interop.rebuild.legacy.assembly import Description, assemble
from interop.rebuild.legacy.compilation import Tensors, slots_by_order
from interop.rebuild.legacy.graph import Builder
from interop.rebuild.legacy.h5_file import open_stream
from interop.rebuild.legacy.migration import class_name, new_name
from interop.rebuild.legacy.plan import Part
from interop.rebuild.legacy.variables import Pairs, Stored, held

_LAYERS = "layers"
_MOST_BYTES = 1 << 30
_OLD_LAYERS = "_layer_checkpoint_dependencies"
"""What 2.12 called the layers of a model."""
_APART = ("optimizer/", "metrics/")


def load_old_keras(
    path: Path, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None, compile: bool
) -> Rebuilt:
    """The model in a ``.keras`` file of Keras 2.

    Raises:
        FormatError: the file is damaged.
        RebuildError, WeightsError: as `assemble` says.
    """
    build = config.get("build_config")
    shape = build.get("input_shape") if isinstance(build, dict) else None
    inputs = None if shape is None else [_symbolic(shape)]
    with open_member(path) as stream, open_stream(stream, str(path)) as file:
        source = _Weights(file.tensors(), config, _vocabularies(path))
        config, training = learned.with_words(config, source.words), config.get("compile_config")
        described = Description(config, training, source, call_inputs=inputs)
        return assemble(described, custom_objects=custom_objects, compile=compile)


def _symbolic(shape: Any) -> Any:
    """Symbolic inputs of a shape, or of a structure of shapes."""
    if isinstance(shape, list) and all(size is None or isinstance(size, int) for size in shape):
        return keras.KerasTensor([None, *shape[1:]])
    if isinstance(shape, dict):
        return {key: _symbolic(item) for key, item in shape.items()}
    return [_symbolic(item) for item in shape] if isinstance(shape, list) else shape


def _vocabularies(path: Path) -> dict[str, str]:
    """The words of lookup layers, a line each, by the group that the layer has in the HDF5 file."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.startswith("assets/") and info.filename.endswith("/vocabulary.txt"):
                    group = info.filename.removeprefix("assets/").removesuffix("vocabulary.txt")
                    if info.file_size > _MOST_BYTES:
                        raise FormatError(f"{path}: {info.filename} inflates to {info.file_size} bytes")
                    found[group.replace(_OLD_LAYERS, _LAYERS)] = archive.read(info).decode()
    except FormatError:
        raise
    except GARBAGE as error:
        raise FormatError(f"{path}: not a .keras file: {error}") from error
    return found


class _Weights:
    """The tensors of the HDF5 file inside, and the words beside it."""

    def __init__(
        self, tensors: dict[str, Stored], config: Mapping[str, Any], vocabularies: Mapping[str, str]
    ) -> None:
        self._tensors = {path.replace(_OLD_LAYERS, _LAYERS): stored for path, stored in tensors.items()}
        self._config = config
        self._vocabularies = vocabularies
        self._taken: set[str] = set()

    def words(self, way: tuple[str, ...], name: str, config: Mapping[str, Any]) -> learned.Words | None:
        """What a lookup layer had learned, by the names of the layers that lead to it."""
        group, inner = "", self._config
        for step in way:
            layers = _named(inner)
            keys = _counted([cls for cls, _, _ in layers])
            place = next((i for i, (_, called, _) in enumerate(layers) if called == step), None)
            if place is None:
                return None
            group, inner = f"{group}{_LAYERS}/{keys[place]}/", layers[place][2]
        return self._words(group, name, config)

    def _words(self, group: str, name: str, config: Mapping[str, Any]) -> learned.Words | None:
        if group not in self._vocabularies:
            return None
        groups = [group, *(f"{group}{inner}/" for inner in learned.INNER)]
        weights = {
            key: self._tensors[key] for g in groups if (key := f"{g}vars/idf_weights") in self._tensors
        }
        values = [stored.read().tolist() for stored in weights.values()]
        found = learned.listed_words(name, config, self._vocabularies[group], values[0] if values else ())
        self._taken |= weights.keys() if found is not None else set()
        return found

    def prepare(self, model: Any) -> None:
        """Give layers that the model makes itself what they had learned."""
        for layer, group in self._groups(model, "", self._config):
            summary = self._tensors.get(f"{group}vars/0")
            if isinstance(layer, keras.layers.Discretization) and summary is not None:
                self._taken.add(f"{group}vars/0")
                compat.set_summary(layer, summary.read())
            elif compat.lacks_vocabulary(layer):
                words = self._words(group, type(layer).__name__, layer.get_config())
                if words is not None:
                    compat.set_learned_vocabulary(layer, words.config())

    def pair(self, model: Any, plan: Part, builder: Builder) -> tuple[Pairs, list[Stored]]:
        """By the groups in which the objects lie."""
        pairs = [
            (variable, stored)
            for layer, group in self._groups(model, "", self._config)
            for index, variable in enumerate(compat.own_variables(layer))
            if (stored := self._tensors.get(f"{group}vars/{index}")) is not None
        ]
        used = {id(stored) for _, stored in pairs}
        left = [
            stored
            for path, stored in self._tensors.items()
            if id(stored) not in used and path not in self._taken and not path.startswith(_APART)
        ]
        return pairs, left

    def slots(self, model: Any, plan: Part, builder: Builder, pairs: Pairs) -> tuple[Tensors, list[Stored]]:
        """By their order, for which the trainable variables stand in that of the file."""
        stored: list[Stored] = []
        while (path := f"optimizer/vars/{len(stored)}") in self._tensors:
            stored.append(self._tensors[path])
        return slots_by_order(model, stored, [variable for variable, _ in pairs if variable.trainable])

    def _groups(self, layer: Any, group: str, config: Any) -> Iterator[tuple[Any, str]]:
        """A layer and those in it, each with its group."""
        yield layer, group
        if compat.named_layers(layer):
            by_name = {child.name: child for child in compat.named_layers(layer)}
            named = _named(config) or [(type(c).__name__, c.name, None) for c in by_name.values()]
            keys = _counted([cls for cls, _, _ in named])
            for key, (_, name, inner) in zip(keys, named, strict=True):
                child = None if name is None else by_name.get(new_name(name))
                if child is not None:
                    yield from self._groups(child, f"{group}{_LAYERS}/{key}/", inner)
            return
        for child, path, inner in _children(layer, config):
            yield from self._groups(child, f"{group}{path}/", inner)


def _named(config: Any) -> list[tuple[str, str | None, Any]]:
    """(class, name, config) of each layer of a model, as its config lists them."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    found: list[tuple[str, str | None, Any]] = []
    for layer in layers if isinstance(layers, list) else ():
        settings = layer.get("config") if isinstance(layer, dict) else None
        name = settings.get("name") if isinstance(settings, dict) else None
        found.append((class_name(layer)[0].split(">")[-1], name, layer))
    return found


def _children(layer: Any, config: Any) -> Iterator[tuple[Any, str, Any]]:
    """What a layer holds, each with its group and its config, if the config has it."""
    children = compat.sublayers(layer)
    attributes = held(layer, children)
    settings = config.get("config") if isinstance(config, dict) else None
    settings = settings if isinstance(settings, dict) else {}
    listed: dict[str, list[Any]] = {}
    for child in children:
        steps = attributes.get(id(child), ())
        through_layers = isinstance(layer, keras.Model) and (not steps or steps[0] < _LAYERS)
        if through_layers or len(steps) > 1:
            listed.setdefault(_LAYERS if through_layers else "/".join(steps[:-1]), []).append(child)
        elif steps:
            yield child, steps[0], settings.get(steps[0])
    for group, members in listed.items():
        for child, key in zip(members, _counted([type(child).__name__ for child in members]), strict=True):
            yield child, f"{group}/{key}", None


def _counted(classes: Sequence[str]) -> list[str]:
    """``Dense, Dense`` -> ``dense, dense_1``."""
    counts: dict[str, int] = {}
    keys: list[str] = []
    for name in map(compat.snake_case, classes):
        keys.append(f"{name}_{counts[name]}" if name in counts else name)
        counts[name] = counts.get(name, 0) + 1
    return keys
