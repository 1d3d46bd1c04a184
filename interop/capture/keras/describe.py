"""A Keras model becomes JSON: what is needed to make its objects again, without any values.

Enters: a model. Leaves: a ``Description``, whose ``config`` is the ``model`` part of ``config.json`` but for
the layers, which the captured graph lists.

Invariants:

- the same model gives the same JSON in every process: objects that Keras numbers by memory address are
  numbered in the order of their appearance, and nothing says where or when it was made;
- no Python code: a lambda is replaced by the name under which a loader expects the function;
- settings that Keras resolved for this machine (``jit_compile="auto"``) are written unresolved.

Metrics given to ``compile`` are described; their running values are not kept, for Keras resets them when
an epoch begins.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from interop.capture.keras import compat, paths
from interop.capture.keras.assets import stored_assets
from interop.capture.keras.order import out_of_order
from interop.capture.keras.standin import StandIn
from interop.errors import CaptureError

LAMBDA = "__lambda__"
"""Class name in a config of a function whose code is not stored; its config is ``{"name": ...}``."""

NONFINITE = "__nonfinite__"
"""Class name in a config of a float that JSON lacks; its config is ``"inf"``, ``"-inf"`` or ``"nan"``."""

_BACKEND_CLASSES = ("keras.src.backend.torch.optimizers", "keras.src.backend.tensorflow.optimizer")
_SIMPLE = frozenset({str, int, bool})  # what JSON holds as it is


@dataclass(frozen=True)
class Description:
    """The objects of a model as JSON, and what a reader of it has to know.

    Attributes:
        config: the ``model`` part of ``config.json``, without its layers.
        warnings: what a reader should know.
        revivable: whether a loader may lack a class or function that the model needs.
        layers: descriptions, by path, of the layers that belong to layers of such classes.
    """

    config: dict[str, Any]
    warnings: tuple[str, ...]
    revivable: bool = False
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)


def describe(
    model: Any, known: Mapping[int, str] | None = None, *, include_optimizer: bool = True
) -> Description:
    """Describe a built Keras model.

    Args:
        model: any ``keras.Model``, or a layer.
        known: path by identity of a layer, if they are known.
        include_optimizer: whether the state of the optimizer will be stored; how the model was compiled is
            described either way.

    Raises:
        CaptureError: an object in the model has no config, or one that JSON cannot hold.
    """
    serializer = _Serializer(model, known)
    config, compiled = _described(model, serializer)
    if (
        compiled
        and "jit_compile" in compiled
        and compiled["jit_compile"] == compat.automatic_jit_compile(model)
    ):
        compiled["jit_compile"] = "auto"
    config["compile"] = compiled
    main = getattr(model, "optimizer", None) if compiled and include_optimizer else None
    config["optimizer"] = None if main is None else _optimizer(main, paths.object_paths(model))
    if include_optimizer and (held := _held_optimizers(model, serializer)):
        config["optimizers"] = held
    if order := out_of_order(model, serializer.paths):
        config["layer_order"] = order
    names = dict.fromkeys(_lambda_names(config) if serializer.revivable else ())
    notes = [
        f"the Python code of lambda {name!r} is not stored: load_model takes what it does from the graph, "
        f"unless it is passed: custom_objects={{{name!r}: ...}}"
        for name in names
    ]
    layers = serializer.layers()
    notes += [
        f"{name} has no get_config(): load_model makes layers of it from the graph, even where the class is known"
        for name in serializer.undescribed
    ]
    return Description(config, tuple(notes), serializer.revivable, layers)


def architecture(model: Any, known: Mapping[int, str]) -> dict[str, Any]:
    """The ``model`` part of ``config.json`` without how the model was compiled.

    Args:
        model: as for `describe`.
        known: path by identity of a layer.

    Raises:
        CaptureError: an object in the model has no config, or one that JSON cannot hold.
    """
    return _described(model, _Serializer(model, known))[0]


def _described(model: Any, serializer: _Serializer) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The objects of a model, and how it was compiled."""
    described = serializer.serialize(model, model.name)
    compiled = described.pop("compile_config", None) or None
    config = {"name": model.name, "object": described, "build": described.pop("build_config", None)}
    if assets := stored_assets(model, serializer.paths):
        config["assets"] = assets
    if quantized := _quantization(model, serializer.paths):
        config["quantization"] = quantized
    return config, compiled


def _optimizer(optimizer: Any, keys: Mapping[int, str]) -> dict[str, Any]:
    """Class of an optimizer, whether it has slots, and for which variables, in its own order."""
    optimized = [keys[id(v)] for v in compat.optimized_variables(optimizer) if id(v) in keys]
    return {
        "class": type(optimizer).__name__,
        "built": bool(optimizer.built),
        "variables": optimized if optimizer.built else [],
    }


def _held_optimizers(model: Any, serializer: _Serializer) -> dict[str, Any]:
    """Those that the model or its layers hold themselves, by path."""
    found = paths.held_optimizers(model, serializer.paths)
    keys = paths.object_paths(model) if found else {}
    return {
        path: {
            **_optimizer(held.optimizer, keys),
            "owner": held.owner,
            "attribute": held.attribute,
            "object": serializer.serialize(held.optimizer, path),
        }
        for path, held in sorted(found.items())
    }


def _quantization(model: Any, known: Mapping[int, str]) -> dict[str, Any]:
    """How each quantised layer came to be so, by path: configs do not say it of layers that layers make."""
    return {
        path: {
            "mode": compat.quantization_mode(layer),
            "config": None if config is None else _Serializer(model, known).serialize(config, path),
        }
        for layer, path in compat.layers_with_paths(model, known)
        if compat.quantization_mode(layer) is not None
        for config in [compat.quantization_config(layer)]
    }


class _Serializer:
    """Keras' own description of a model's objects, as plain JSON, shared objects numbered from 0.

    Where a class or function is not Keras' own, layers have their ``path`` with them, and those that layers of
    such classes own are described too: a loader without the class makes them for it.

    Attributes:
        paths: of the layers, by identity.
        revivable: whether there is such a class or function.
        undescribed: names of the classes whose objects have no config.
    """

    def __init__(self, model: Any, known: Mapping[int, str] | None = None) -> None:
        self._model = model
        self.paths = paths.layer_paths(model) if known is None else known
        self.revivable = any(not compat.is_keras_class(type(layer)) for layer in compat.all_layers(model))
        self.undescribed: dict[str, None] = {}
        self._plain = _Plain()

    def serialize(self, described: Any, name: str) -> dict[str, Any]:
        """An object's config."""
        config = self._config(described, name)
        if not self.revivable and self._plain.names_functions:
            self.revivable, self._plain = True, _Plain()
            config = self._config(described, name)
        return config

    def layers(self) -> dict[str, dict[str, Any]]:
        """Configs, by path, of the layers that layers of custom classes own; without those that have none."""
        found: dict[str, dict[str, Any]] = {}
        for owner in compat.all_layers(self._model):
            if compat.is_keras_class(type(owner)):
                continue
            for layer in compat.sublayers(owner):
                path = self.paths.get(id(layer))
                if path is not None and path not in found and (config := self._config_or_none(layer, path)):
                    found[path] = config
        return dict(sorted(found.items()))

    def _config_or_none(self, layer: Any, path: str) -> dict[str, Any] | None:
        """A class that cannot describe itself is made by its owner alone, and revived from the graph without it."""
        try:
            return self._config(layer, path)
        except CaptureError:
            return None

    def _config(self, described: Any, name: str) -> dict[str, Any]:
        without: list[Any] = []
        with (
            compat.sharing_scope(self._label),
            compat.configs_optional(without),
            compat.without_calibration(),
            compat.tensorflow_unasked(),
            compat.plain_once(),
            warnings.catch_warnings(),
        ):
            # Keras warns about lambdas; `describe` does so itself, and stores no code.
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            try:
                config = keras.saving.serialize_keras_object(described)
            except (TypeError, ValueError, NotImplementedError, OSError) as error:
                raise CaptureError(
                    f"the config of {name!r} cannot be made: {error}. Every custom class needs a `get_config()` "
                    "that returns its constructor's arguments, and every function a name (`def`, not `lambda`)"
                ) from error
        self.undescribed.update({type(layer).__name__: None for layer in without})
        return self._plain.convert(config, (name,))  # type: ignore[no-any-return]

    def _label(self, described: Any, config: dict[str, Any]) -> None:
        """Put what a stand-in stands for in its place, add what Keras forgets, say where in the model a layer is."""
        if isinstance(described, StandIn):
            kept = {
                key: item for key, item in config.items() if key in ("compile_config", "shared_object_id")
            }
            config.clear()
            config.update({**described.original, **kept})
        elif isinstance(config.get("config"), dict):
            config["config"].update(compat.unlisted_arguments(described))
            if isinstance(described, keras.Layer) and "name" not in config["config"]:
                config["name"] = described.name  # by hand: a config without it gets a new automatic name
                if compat.takes_name(type(described)):
                    config["config"]["name"] = described.name
        if self.revivable and id(described) in self.paths:
            config["path"] = self.paths[id(described)]


class _Plain:
    """Converts a described object into plain JSON, renumbering what is shared."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.names_functions = False

    def convert(self, value: Any, where: tuple[str, ...]) -> Any:
        """`where` holds the names of the enclosing objects and the last key."""
        if isinstance(value, dict):
            return self._convert_dict(value, where)
        if isinstance(value, list | tuple):
            return [self.convert(item, where) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"class_name": NONFINITE, "config": repr(value)}
        if value is None or isinstance(value, str | int | float):
            return value
        raise CaptureError(
            f"the config of {'.'.join(where)} holds {value!r:.80}, a {type(value).__name__}, which JSON "
            "lacks. `get_config()` must return plain values, lists and dicts, or Keras objects"
        )

    def _convert_dict(self, value: dict[Any, Any], where: tuple[str, ...]) -> dict[str, Any]:
        kind, is_code = value.get("class_name"), _is_bare_code(value)
        self.names_functions |= is_code or kind in ("function", LAMBDA)
        if is_code or kind == LAMBDA:
            owner, argument = where[-2:] if len(where) > 1 else (where[-1], "function")
            return {"class_name": LAMBDA, "config": {"name": _lambda_name(owner, argument)}}
        inner = value.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        if "class_name" in value and isinstance(name, str):
            where = (*where[:-1], name)
        converted = {}
        for key, item in value.items():
            if item is None or type(item) in _SIMPLE:
                converted[str(key)] = item
                continue
            step = where if key in {"config", "class_name"} else (*where, str(key))
            converted[str(key)] = self.convert(item, step)
        if str(converted.get("module")).startswith(_BACKEND_CLASSES):
            # PyTorch's Keras makes a `TorchAdam` of every Adam and serialises that.
            converted.update(module="keras.optimizers", registered_name=None)
        if "path" in converted and "class_name" in converted:  # the same layer, wherever it is described
            number = ("layer", converted["path"])
            converted["shared_object_id"] = self.numbers.setdefault(number, len(self.numbers))
        elif "shared_object_id" in converted:
            number = converted["shared_object_id"]
            converted["shared_object_id"] = self.numbers.setdefault(number, len(self.numbers))
        return converted


def _is_bare_code(value: dict[Any, Any]) -> bool:
    """Keras strips the class name off a lambda given as an activation: ``{"value": [code, None, None]}``."""
    if value.keys() != {"value"}:
        return False
    code = value["value"]
    return isinstance(code, list | tuple) and len(code) == 3 and isinstance(code[0], str)


def _lambda_name(owner: str, argument: str) -> str:
    """``double`` for the function of the Lambda layer of that name, ``dense.activation`` elsewhere."""
    return owner if argument == "function" else f"{owner}.{argument}"


def _lambda_names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("class_name") == LAMBDA:
            yield value["config"]["name"]
        else:
            for item in value.values():
                yield from _lambda_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _lambda_names(item)


def canonical(config: dict[str, Any]) -> str:
    """The JSON text by which two descriptions are compared."""
    return json.dumps(config, sort_keys=True, ensure_ascii=False)
