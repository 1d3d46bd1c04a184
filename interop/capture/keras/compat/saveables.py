"""How Keras stores weights and when it makes them: the walk of its ``.weights.h5`` files, values, and builds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.saving import saving_lib
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils.naming import to_snake_case

from interop.capture.keras.compat.facts import own_variables
from interop.capture.keras.compat.values import stored_dtype, to_numpy


class StoredObject(NamedTuple):
    """An object that Keras gives a group in a ``.weights.h5`` file.

    Attributes:
        path: of the group, ``""`` for the root.
        saveable: the object.
        numbered: whether the path has only a number to tell it from others that its owner holds in attributes.
        values: key to variable (or, of layers that compute what they store, to array).
    """

    path: str
    saveable: Any
    numbered: bool
    values: dict[str, Any]


def stored_objects(root: Any) -> Iterator[StoredObject]:
    """What Keras stores of a model, in its order and under its names (``saving_lib._save_state``)."""
    yield from _objects(root, "", False, set())


def _objects(saveable: Any, path: str, numbered: bool, seen: set[int]) -> Iterator[StoredObject]:
    if id(saveable) in seen:
        return
    seen.add(id(saveable))
    values: dict[str, Any] = {}
    if isinstance(saveable, keras.optimizers.Optimizer):  # its own method would copy every value
        values |= {str(index): variable for index, variable in enumerate(saveable.variables)}
    elif hasattr(saveable, "save_own_variables"):
        saveable.save_own_variables(values)
    yield StoredObject(path, saveable, numbered, values)
    for name, child in saving_lib._walk_saveable(saveable):
        where = f"{path}/{name}".lstrip("/")
        if isinstance(child, KerasSaveable):
            yield from _objects(child, where, numbered, seen)
        elif isinstance(child, list | dict | tuple):
            by_number = name == "layers" and saveable._obj_type() not in ("Sequential", "Functional")
            by_number = by_number and "layers" not in vars(saveable)
            yield from _contained(child, where, numbered or by_number, seen, set())


def merged_variables(stored: StoredObject) -> dict[str, Any]:
    """The variables that Keras stores the values of with LoRA's factors added, by key; they hold what is loaded.

    Told by their shapes and dtypes, where these are not those of another one of the layer.
    """
    if not getattr(stored.saveable, "lora_enabled", False):
        return {}
    kept = {id(value) for value in stored.values.values()} | {id(v) for v in adapters(stored.saveable)}
    left = [v for v in own_variables(stored.saveable) if id(v) not in kept]
    found: dict[str, Any] = {}
    for key, value in stored.values.items():
        if not is_variable(value):
            fitting = [v for v in left if tuple(v.shape) == tuple(value.shape)]
            found |= {key: fitting[0]} if len(fitting) == 1 else {}
    return found


def adapters(layer: Any) -> list[Any]:
    """The factors of LoRA that a layer has."""
    return [v for v in own_variables(layer) if v.name.startswith("lora_")]


def _contained(
    container: Any, path: str, numbered: bool, seen: set[int], inside: set[int]
) -> Iterator[StoredObject]:
    if id(container) in inside:
        return
    inside.add(id(container))
    used: dict[str, int] = {}
    for item in list(container.values()) if isinstance(container, dict) else container:
        if isinstance(item, KerasSaveable):
            name = _counted(to_snake_case(type(item).__name__), used)
            yield from _objects(item, f"{path}/{name}", numbered, seen)
        elif isinstance(item, list | dict | tuple):
            yield from _contained(item, f"{path}/{_counted('container', used)}", numbered, seen, inside)


def _counted(name: str, used: dict[str, int]) -> str:
    """``dense``, ``dense_1``, ..."""
    count = used.get(name, 0)
    used[name] = count + 1
    return f"{name}_{count}" if count else name


def is_variable(value: Any) -> bool:
    """Whether an object holds a value that can be stored and restored: Keras' variables, and TensorFlow's own."""
    if isinstance(value, keras.Variable):
        return True
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(value, tensorflow.Variable)


def variable_dtype(variable: Any) -> str:
    """The dtype a variable is stored in."""
    return stored_dtype(variable) if isinstance(variable, keras.Variable) else str(variable.dtype.name)


def variable_value(variable: Any) -> np.ndarray[Any, Any]:
    """A variable's value as an array, only to be read."""
    return to_numpy(variable) if isinstance(variable, keras.Variable) else np.asarray(variable.numpy())


def after_build(owner: Any, react: Callable[[], None]) -> None:
    """Call `react` once, right after a layer or optimizer that is not built yet is built."""
    if isinstance(owner, keras.optimizers.Optimizer):
        build = owner.build

        def build_and_react(variables: list[Any]) -> None:
            vars(owner).pop("build", None)
            build(variables)
            react()

        vars(owner)["build"] = build_and_react
        return
    layer, original = owner, owner._post_build

    def post_build() -> None:
        vars(layer).pop("_post_build", None)
        original()
        react()

    vars(layer)["_post_build"] = post_build  # past Keras' and PyTorch's trackers of attributes


def unbuilt(root: Any) -> list[Any]:
    """What is not built: of a layer itself and those under it, of an optimizer itself."""
    owners = root._flatten_layers(include_self=True) if isinstance(root, keras.Layer) else [root]
    return [owner for owner in owners if not owner.built]


def set_value(variable: Any, array: np.ndarray[Any, Any]) -> None:
    """Give a variable its value, wherever that happens: also where Keras only plays a model through.

    There, a variable has its initializer only, and runs it later.
    """
    if not isinstance(variable, keras.Variable):
        variable.assign(array)
        return
    dtype = stored_dtype(variable)
    if variable._value is None:
        variable._initializer = lambda shape, dtype=dtype: variable._convert_to_tensor(array, dtype=dtype)
        return
    with _outside_of_graphs():
        if in_stateless_scope():
            variable._direct_assign(variable._convert_to_tensor(array, dtype=dtype))
        else:
            variable.assign(array)


def _outside_of_graphs() -> AbstractContextManager[Any]:
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    import tensorflow

    scope: AbstractContextManager[Any] = tensorflow.init_scope()
    return scope


def graph_of(model: Any) -> Any:
    """The Functional inside a built Sequential; of others None."""
    if not isinstance(model, keras.Sequential):
        return None
    return vars(model).get("_functional") or vars(model).get("_modules", {}).get("_functional")


def operations(model: Any) -> list[Any]:
    """Layers and operations of a Functional, in its order."""
    return list(model._operations)


def optimizer_of(model: Any) -> Any:
    """The optimizer a model was compiled with, or None."""
    return getattr(model, "optimizer", None) if isinstance(model, keras.Model) else None
