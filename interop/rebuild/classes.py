"""Every class and function that a config names, found before anything is built.

Enters: a model's JSON and the caller's custom objects. Leaves: the JSON made ready for Keras and the names it
needs to know. Found are, in this order: the caller's objects, those of the active
``keras.saving.CustomObjectScope`` and Keras' registry, and Keras' own public classes and functions.

Invariants: no module is imported because a file names it; no Python code from a file is run; what cannot be
found is reported all at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from interop.capture.keras import compat
from interop.capture.keras.describe import LAMBDA, NONFINITE
from interop.errors import MissingClassError, RebuildError
from interop.status import Change, Revived

if TYPE_CHECKING:
    from interop.rebuild.revival import Reviver

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


# Arguments a layer with its weights does without: what becomes of one, and whether something is lost by it.
_DISPENSABLE = {
    "initializer": ("the weights are stored, so it is not needed", False),
    "regularizer": ("there is none", True),
    "constraint": ("there is none", True),
}


class Mark(NamedTuple):
    """A place in what a resolver has found so far."""

    notes: int
    revived: int
    changes: int


class Findings:
    """What a resolver has found out.

    Attributes:
        notes: (name, where) of what is missing.
        revived: layers that were made without their class.
        changes: what the model is without.
    """

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []
        self.revived: list[Revived] = []
        self.changes: list[Change] = []

    def mark(self) -> Mark:
        """Where it stands."""
        return Mark(len(self.notes), len(self.revived), len(self.changes))

    def names_since(self, mark: Mark) -> tuple[str, ...]:
        """Names that are missing since then."""
        return tuple(dict.fromkeys(name for name, _ in self.notes[mark.notes :]))

    def reset(self, mark: Mark) -> None:
        """Forget everything since then."""
        self.forget(mark, self.mark())

    def forget(self, start: Mark, end: Mark) -> None:
        """Forget what lies between."""
        del self.notes[start.notes : end.notes]
        del self.revived[start.revived : end.revived]
        del self.changes[start.changes : end.changes]

    def missing(self) -> dict[str, str]:
        """Missing name to where it is needed first."""
        return dict(reversed(self.notes))


class Resolver:
    """Looks up names, remembers what is missing and what Keras must be told."""

    def __init__(
        self,
        custom_objects: Mapping[str, Any] | None = None,
        reviver: Callable[[], Reviver] | None = None,
        *,
        stock: bool = False,
    ) -> None:
        """A resolver.

        Args:
            custom_objects: name to class or function.
            reviver: gives what makes layers without their class, once one is missing; None: that is an error.
            stock: whether only what is Keras' own counts as found.
        """
        self.known: dict[str, Any] = dict(custom_objects or {})
        self.found = Findings()
        self._reviver = reviver
        self._stock = stock
        self._owners: dict[str, str] = {}

    def prepare(self, config: Any, where: str = "the model", *, alone: bool = False) -> Any:
        """A copy of a config in which every reference can be resolved; the rest is noted as missing.

        Args:
            config: the config.
            where: what it is of, for messages.
            alone: whether whoever owns the object does no more than call it, so that another may take its place.
        """
        if isinstance(config, list):
            return [self.prepare(item, where) for item in config]
        if not isinstance(config, dict):
            return config
        name = config.get("class_name")
        if name is None or "config" not in config:
            return {key: self.prepare(item, where) for key, item in config.items()}
        if name == NONFINITE:
            return _nonfinite(config["config"])
        mark = self.found.mark()
        prepared = self._prepare_object(config, str(name), where)
        path = config.get("path")
        if isinstance(path, str) and isinstance(prepared, dict):
            prepared.pop("path", None)
            if alone and self._reviver is not None and (lost := self.found.names_since(mark)):
                return self._revived(config, path, lost, mark) or prepared
        return prepared

    def _prepare_object(self, config: dict[str, Any], name: str, where: str) -> Any:
        if name == LAMBDA:
            return self._lambda(config, where)
        if name == "function":
            self._function(config, where)
        elif name not in _VALUES:
            self._class(config, where)
        inner = config["config"]
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            where = f"{name} {inner['name']!r}"
            self._owners[where] = inner["name"]
        prepared = {key: self.prepare(item, where) for key, item in config.items() if key != "config"}
        prepared["config"] = self._inner(inner, where)
        return prepared

    def _inner(self, inner: Any, where: str) -> Any:
        """The constructor's arguments; a model only calls its ``layers``."""
        if not isinstance(inner, dict) or "class_name" in inner:
            return self.prepare(inner, where)
        prepared: dict[str, Any] = {}
        for key, item in inner.items():
            mark = self.found.mark()
            if key == "layers" and isinstance(item, list):
                prepared[key] = [self.prepare(layer, where, alone=True) for layer in item]
            else:
                prepared[key] = self.prepare(item, where)
            kind = key.rpartition("_")[2]
            if self._reviver is not None and kind in _DISPENSABLE and (lost := self.found.names_since(mark)):
                self.found.reset(mark)
                became, is_lost = _DISPENSABLE[kind]
                prepared[key] = {"class_name": "Zeros", "config": {}, "module": "keras.initializers"}
                if is_lost:
                    prepared[key] = None
                self.found.changes.append(Change(where, f"{key}={', '.join(lost)}", became, is_lost))
        return prepared

    def _revived(self, config: dict[str, Any], path: str, lost: tuple[str, ...], mark: Mark) -> Any:
        """A layer from its function, where that is possible; what is missing is then missing no more."""
        assert self._reviver is not None
        before = self.found.mark()

        def prepare(inner: Mapping[str, Any]) -> Any:
            start = self.found.mark()
            made = self.prepare(dict(inner), alone=True)
            if self.found.names_since(start):
                self.found.reset(start)
                return None
            return made

        made = self._reviver().revive(config, path, lost, prepare)
        if made is None:
            self.found.reset(before)
            return None
        self.found.forget(mark, before)
        self.found.revived.append(made[1])
        return made[0]

    def check(self) -> None:
        """Raise MissingClassError if anything was not found."""
        missing = self.found.missing()
        if not missing:
            return
        listed = "; ".join(f"{name} ({where})" for name, where in sorted(missing.items()))
        example = ", ".join(f"{name!r}: ..." for name in sorted(missing))
        problems = self._reviver().problems if self._reviver is not None else {}
        why = "".join(f" {path or 'the model'}: {problem}." for path, problem in problems.items())
        raise MissingClassError(
            f"{len(missing)} custom classes or functions were not found: {listed}. Pass them: "
            f"load_model(path, custom_objects={{{example}}}), or import the module that registers them with "
            "keras.saving.register_keras_serializable first. The graph and the tensors need none of them: "
            "interop.load_graph(path) and interop.load_tensors(path)"
            + (f". What they do could not be taken from the graph:{why}" if why else "")
        )

    def _note(self, name: str, where: str) -> None:
        self.found.notes.append((name, where))

    def _custom(self, *names: Any) -> Any:
        for name in () if self._stock else names:
            if isinstance(name, str):
                found = keras.saving.get_registered_object(name, custom_objects=self.known)
                if found is not None:
                    return found
        return None

    def _lambda(self, config: dict[str, Any], where: str) -> dict[str, Any] | None:
        inner = config["config"]
        name = inner.get("name") if isinstance(inner, dict) else None
        owner = self._owners.get(where)
        if name is None and owner is not None and self._custom(owner) is not None:
            name = owner
        if not isinstance(name, str):
            if owner is None:
                raise RebuildError(f"the config holds Python code (in {where}), which is never run")
            raise MissingClassError(
                f"the config holds Python code (in {where}), which is never run. Pass the function: "
                f"custom_objects={{{owner!r}: ...}}"
            )
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
            if found is not None and module.startswith("keras.") and not module.startswith("keras.src."):
                return  # Keras finds it there, where another module has another function by its name
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
        if self._stock and registered not in (None, name):
            self._note(str(registered), f"a registered class, in {where}")
            return
        found = self._custom(registered, name) if registered else None
        if found is not None and registered is not None:
            self.known.setdefault(registered, found)
        elif _public_class(module, name) is None and compat.loaded_keras_class(module, name) is None:
            found = self._custom(name)
            if found is None:
                self._note(name, f"a class{_from(module)}, in {where}")
                return
        if config["config"] is None and "path" in config:
            self._note(name, f"a class{_from(module)} without get_config(), in {where}")


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
