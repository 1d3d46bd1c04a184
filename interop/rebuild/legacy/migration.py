"""Objects of Keras 2, as its configs describe them, become configs of Keras 3: the table, applied.

Enters: a config of a layer, initializer, loss or optimizer, in the form of any Keras before 3. Leaves: a config
as Keras 3 writes it, ready for ``keras.saving.deserialize_keras_object``, and a list of what changed on the way.

Invariants: nothing is built and nothing is imported here; a model inside (of a ``TimeDistributed``) is left to
the caller, whose `container` makes whatever is to stand in its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras

from interop.capture.keras import compat
from interop.errors import RebuildError
from interop.rebuild.legacy import table
from interop.status import Change

CONTAINERS = frozenset({"Functional", "Sequential"})
_FAMILIES = ("layers", "initializers", "regularizers", "constraints", "losses", "metrics", "optimizers")
_SCHEDULES = "optimizers.schedules"
_ADVICE = (
    "Pass a class of your own by that name in custom_objects, or take that part out with the Keras that wrote the "
    "file, or convert the model to ONNX there and open it with interop.load_graph"
)


class Migration:
    """Turns configs of Keras 2 into those of Keras 3, and remembers what changed.

    Args:
        container: what to put in place of a model that a layer holds; given its class name and its config.
        current: whether the configs are those of Keras 3, and only lack the modules of classes.
        own: classes of the user by name, which are not those that Keras 2 calls so.
    """

    def __init__(
        self,
        container: Callable[[str, dict[str, Any]], Any],
        current: bool = False,
        own: Mapping[str, type] = MappingProxyType({}),
    ) -> None:
        self.changes: list[Change] = []
        self._container = container
        self._current = current
        self._own = own

    def object(self, config: Mapping[str, Any], family: str = "layers") -> dict[str, Any]:
        """The config of one object; `family` is the part of Keras in which its class is looked up first.

        Raises:
            RebuildError: Keras 3 has no such class, or no such setting of it.
        """
        name, registered = class_name(config)
        arguments = config["config"] if config.get("config") is not None else {}
        if not isinstance(arguments, dict):
            return dict(config)  # a function, by name
        where = f"{name} {arguments['name']!r}" if isinstance(arguments.get("name"), str) else name
        if self._current:
            inner = {key: self.value(key, value, where) for key, value in arguments.items()}
            return _complete({**config, "config": inner}, name, registered, family)
        if name in self._own:
            migrated = self._arguments("", None, arguments, where, parameters(self._own[name]))
            return {
                "module": None,
                "class_name": name.split(">")[-1],
                "config": migrated,
                "registered_name": registered,
            }
        if name in table.REFUSED_CLASSES:
            raise RebuildError(f"{where}: Keras 3 has no {table.REFUSED_CLASSES[name]}. {_ADVICE}")
        module, cls = _found(table.CLASSES.get(name, name), family)
        migrated = self._arguments(name, cls, {**table.ADDED.get(name, {}), **arguments}, where)
        made = {
            "module": module if cls is not None else None,
            "class_name": name.split(">")[-1] if cls is None else cls.__name__,
            "config": migrated,
            "registered_name": registered if cls is None else None,
        }
        several, meaning = table.SEVERAL.get(name, (None, ""))
        layers = None if several is None else several(migrated)
        if layers is None:
            return made
        self.changes.append(Change(where, name, meaning, lost=False))
        return table.sequence(str(migrated.get("name", name.lower())), *layers)

    def _arguments(
        self,
        name: str,
        cls: type | None,
        arguments: Mapping[str, Any],
        where: str,
        named: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """The arguments of a class; of one of the user, `named` are those that its constructor names."""
        made: dict[str, Any] = {}
        taken = parameters(cls) if cls is not None else named
        for argument, value in arguments.items():
            if argument == "name" and value is None:
                continue
            if argument == "name" and isinstance(value, str) and new_name(value) != value:
                self._note(
                    where, argument, value, f"called {new_name(value)}: Keras 3 has no slashes in names"
                )
                value = new_name(value)
            key, value = argument, self.value(argument, value, where)
            row = becomes(name, key, key in taken)
            if isinstance(row, table.Renamed):
                if row.reported:
                    self._note(where, argument, value, f"renamed {row.name}")
                key = row.name
                row = becomes(name, key, key in taken)
            match row:
                case table.Ignored():
                    continue
                case table.Dropped(neutral, meaning, lost):
                    if value not in neutral:
                        self._note(where, argument, value, f"left out: {meaning}", lost)
                    continue
                case table.Refused(feature, neutral):
                    if value not in neutral:
                        raise RebuildError(
                            f"{where}: {argument}={value!r:.80}: Keras 3 does not have {feature}. {_ADVICE}"
                        )
                    continue
                case table.Only(accepts, feature, convert, note):
                    value = convert(value, arguments)
                    if note(value):
                        self._note(where, argument, value, note(value))
                    if not accepts(value):
                        raise RebuildError(
                            f"{where}: {argument}={value!r:.80}: Keras 3 does not have {feature}. {_ADVICE}"
                        )
                case table.Converted(convert, meaning):
                    converted = convert(value, arguments)
                    if meaning and converted != value:
                        self._note(where, argument, value, meaning)
                    value = converted
                case _:
                    pass
            if key in taken or cls is None:
                made[key] = value
            elif value is not None:
                self._note(where, argument, value, "left out: Keras 3 has no such argument", lost=True)
        return made

    def value(self, argument: str, value: Any, where: str) -> Any:
        """The value of an argument, with the objects in it."""
        if isinstance(value, list):
            return [self.value(argument, item, where) for item in value]
        if not isinstance(value, dict):
            return value if self._current else _by_name(argument, value)
        if "class_name" in value and "config" in value:
            name, _ = class_name(value)
            name = table.CLASSES.get(name, name)
            if name in CONTAINERS and isinstance(value["config"], dict | list):
                return self._container(name, value)
            if name in ("function", "__lambda__", "Policy", "DTypePolicy"):
                return value
            return self.object(value, _family(argument, value))
        return {key: self.value(key, item, where) for key, item in value.items()}

    def _note(self, where: str, argument: str, value: Any, became: str, lost: bool = False) -> None:
        self.changes.append(Change(where, f"{argument}={value!r:.60}", became, lost))


def _complete(config: Mapping[str, Any], name: str, registered: str, family: str) -> dict[str, Any]:
    """A config of Keras 3 with its module; operations have classes of the same names as some layers."""
    module = config.get("module")
    if module is None:
        is_layer = family != "layers" or "trainable" in config["config"] or name == "InputLayer"
        module = None if is_layer else compat.operation_module(name)
        module = module or _found(name, family)[0]
    own = ">" in registered or module is None
    return {
        "module": module,
        "class_name": name.split(">")[-1],
        "config": config["config"],
        "registered_name": registered if own else None,
    }


def new_name(name: str) -> str:
    """A name as Keras 3 takes it: ``conv1/conv`` is ``conv1_conv``."""
    return name.replace("/", "_")


def class_name(config: Mapping[str, Any]) -> tuple[str, str]:
    """The class of a config as its file names it, and its registered name (``package>Class``).

    Raises:
        RebuildError: it is no string.
    """
    name = config.get("class_name")
    registered = config.get("registered_name") or name
    if not isinstance(name, str) or not isinstance(registered, str):
        raise RebuildError(f"the config names a class by {name!r:.80}; expected a string")
    name = name.removeprefix("Custom>")
    return name, registered if ">" in registered else name


def parameters(cls: type) -> frozenset[str]:
    """The arguments that a constructor names, and those of the bases it hands ``**kwargs`` on to."""
    named: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        declared = inspect.signature(vars(base)["__init__"]).parameters.values()
        named |= {p.name for p in declared if p.kind in _NAMED}
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in declared):
            break
    return frozenset(named) - {"self"}


def becomes(name: str, argument: str, taken: bool) -> table.Becomes | None:
    """What becomes of an argument of a class; None: it is kept if the class of Keras 3 takes it, else reported.

    Args:
        name: the class of Keras 2.
        argument: its own name.
        taken: whether the class of Keras 3 takes an argument of this name.
    """
    for owner in (name, table.CLASSES.get(name, name)):
        row = table.ARGUMENTS.get((owner, argument))
        if row is not None:
            return None if taken and isinstance(row, table.Refused | table.Ignored) else row
    row = table.ARGUMENTS.get((table.ANY, argument))
    leaves_out = isinstance(row, table.Dropped | table.Ignored | table.Refused)
    return None if taken and leaves_out else row


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _found(name: str, family: str) -> tuple[str | None, type | None]:
    """The module and class of Keras by that name, the family's first."""
    for module in dict.fromkeys((family, *_FAMILIES, _SCHEDULES)):
        owner: Any = keras
        for part in module.split("."):
            owner = getattr(owner, part)
        found = getattr(owner, name, None)
        if isinstance(found, type):
            return f"keras.{module}", found
    found = compat.unexported_class(name)
    return (None, None) if found is None else (found.__module__, found)


def found_class(name: str, family: str = "layers") -> type | None:
    """The class of Keras 3 by that name, that of a family first; None if there is none."""
    return _found(name, family)[1]


def _family(argument: str, value: Mapping[str, Any]) -> str:
    module = value.get("module") or ""
    for family in (_SCHEDULES, *_FAMILIES):
        if isinstance(module, str) and module.startswith(f"keras.{family}"):
            return family
    for ending, family in (
        ("initializer", "initializers"),
        ("regularizer", "regularizers"),
        ("constraint", "constraints"),
        ("learning_rate", _SCHEDULES),
        ("optimizer", "optimizers"),
    ):
        if argument.endswith(ending):
            return family
    return "layers"


def _by_name(argument: str, value: Any) -> Any:
    """A function of the user, which Keras 2 names by a plain string where Keras 3 has a config."""
    if argument.endswith("activation") and isinstance(value, str) and not hasattr(keras.activations, value):
        return {"module": "builtins", "class_name": "function", "config": value, "registered_name": value}
    return value
