"""Every class and function that a config names, found before anything is built.

Enters: a model's JSON and the caller's custom objects. Leaves: the JSON made ready for Keras and the names it
needs to know. Found are, in this order: the caller's objects, those of the active
``keras.saving.CustomObjectScope`` and Keras' registry, and Keras' own public classes and functions.

Invariants: no module is imported because a file names it; no Python code from a file is run; what cannot be
found is reported all at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras

from interop.capture.keras import compat
from interop.capture.keras.describe import LAMBDA, NONFINITE
from interop.errors import MissingClassError, RebuildError

_VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"})
_FUNCTION_MODULES = (
    "activations",
    "constraints",
    "initializers",
    "losses",
    "metrics",
    "ops",
    "random",
    "regularizers",
)


class Resolver:
    """Looks up names, remembers what is missing and what Keras must be told."""

    def __init__(self, custom_objects: Mapping[str, Any] | None = None) -> None:
        self.known: dict[str, Any] = dict(custom_objects or {})
        self._missing: dict[str, str] = {}

    def prepare(self, config: Any, where: str = "the model") -> Any:
        """A copy of a config in which every reference can be resolved; the rest is noted as missing."""
        if isinstance(config, list):
            return [self.prepare(item, where) for item in config]
        if not isinstance(config, dict):
            return config
        name = config.get("class_name")
        if name is None or "config" not in config:
            return {key: self.prepare(item, where) for key, item in config.items()}
        if name == NONFINITE:
            return _nonfinite(config["config"])
        if name == LAMBDA:
            return self._lambda(config, where)
        if name == "function":
            self._function(config, where)
        elif not isinstance(name, str) or name not in _VALUES:
            self._class(config, where)
        inner = config["config"]
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            where = f"{name} {inner['name']!r}"
        return {key: self.prepare(item, where) for key, item in config.items()}

    def check(self) -> None:
        """Raise MissingClassError if anything was not found."""
        if not self._missing:
            return
        listed = "; ".join(f"{name} ({where})" for name, where in sorted(self._missing.items()))
        example = ", ".join(f"{name!r}: ..." for name in sorted(self._missing))
        raise MissingClassError(
            f"{len(self._missing)} custom classes or functions were not found: {listed}. Pass them: "
            f"load_model(path, custom_objects={{{example}}}), or import the module that registers them with "
            "keras.saving.register_keras_serializable first. The graph and the tensors need none of them: "
            "interop.load_graph(path) and interop.load_tensors(path)"
        )

    def _note(self, name: str, where: str) -> None:
        self._missing.setdefault(name, where)

    def _custom(self, *names: Any) -> Any:
        for name in names:
            if isinstance(name, str):
                found = keras.saving.get_registered_object(name, custom_objects=self.known)
                if found is not None:
                    return found
        return None

    def _lambda(self, config: dict[str, Any], where: str) -> dict[str, Any] | None:
        inner = config["config"]
        name = inner.get("name") if isinstance(inner, dict) else None
        if not isinstance(name, str):
            raise RebuildError(f"the config holds Python code (in {where}), which is never run")
        if self._custom(name) is None:
            self._note(name, f"a lambda in {where}, whose code is not stored")
            return None
        return {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}

    def _function(self, config: dict[str, Any], where: str) -> None:
        name, registered, module = config["config"], config.get("registered_name"), config.get("module") or ""
        if not isinstance(name, str):
            raise RebuildError(f"the config names a function by {name!r:.80} (in {where}); expected a string")
        # Keras looks a function up by `config` only, and registered names of plain functions are "function".
        found = self._custom(name, registered if registered != "function" else None)
        if found is None:
            found = _public_function(module, name)
        if found is None:
            self._note(name, f"a function{_from(module)}, in {where}")
        else:
            self.known.setdefault(name, found)

    def _class(self, config: dict[str, Any], where: str) -> None:
        name, registered, module = (
            config["class_name"],
            config.get("registered_name"),
            config.get("module") or "",
        )
        if not isinstance(name, str) or not isinstance(module, str):
            raise RebuildError(f"the config names a class by {name!r:.80} (in {where}); expected a string")
        found = self._custom(registered, name) if registered else None
        if found is not None and registered is not None:
            self.known.setdefault(registered, found)
        elif _public_class(module, name) is None and compat.loaded_keras_class(module, name) is None:
            found = self._custom(name)
            if found is None:
                self._note(name, f"a class{_from(module)}, in {where}")


def _from(module: str) -> str:
    return f" of {module}" if module and module != "builtins" else ""


def _nonfinite(text: Any) -> float:
    if text not in {"inf", "-inf", "nan"}:
        raise RebuildError(f"the config holds the number {text!r:.80}; expected inf, -inf or nan")
    value = float(text)
    assert not math.isfinite(value)
    return value


def _public(module: str, name: str) -> Any:
    """``keras.layers`` and ``Dense`` -> the class, by attributes of the imported package only."""
    head, *rest = module.split(".")
    if head != "keras" or "src" in rest or name.startswith("_"):
        return None
    found: Any = keras
    for part in [*rest, *name.split(".")]:
        found = getattr(found, part, None)
    return found


def _public_class(module: str, name: str) -> type | None:
    found = _public(module, name)
    return found if isinstance(found, type) else None


def _public_function(module: str, name: str) -> Any:
    """A function of Keras that computes something; loaders, savers and downloads are not among them."""
    for family in _FUNCTION_MODULES:
        path = f"keras.{family}"
        if module == path or module.startswith(f"{path}."):
            return _callable(_public(module, name))
    if module == "builtins" or module.startswith("keras.src."):
        for family in _FUNCTION_MODULES:
            found = _callable(_public(f"keras.{family}", name))
            if found is not None and module in {"builtins", found.__module__}:
                return found
    return None


def _callable(found: Any) -> Any:
    return found if callable(found) and not isinstance(found, type) else None
