"""Private Keras names for reading and rebuilding objects; ``compat`` holds those for tracing.

The two files hold every private Keras name and version check of the package, nowhere else. Each
function says what it reads and holds for Keras 3.10 to 3.15.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any

import keras
from keras.src.backend.config import is_nnx_enabled
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.saving import serialization_lib
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils.naming import to_snake_case


def named_layers(owner: Any) -> list[Any]:
    """Layers of a Sequential or Functional model, inputs included; none for any other object.

    A subclass may be initialised as a Functional and have layers in attributes besides.
    """
    if isinstance(owner, keras.Sequential):
        return sublayers(owner)
    return (
        [op for op in owner._operations if isinstance(op, keras.Layer)]
        if isinstance(owner, Functional)
        else []
    )


def config_keeps_layer_names(layer: Any) -> bool:
    """Whether rebuilding a container from its config gives its layers their old names back.

    A subclass with a constructor of its own is rebuilt by running that constructor, which draws
    new automatic names.
    """
    if isinstance(layer, keras.Sequential):
        return True
    return isinstance(layer, Functional) and functional_like_constructor(type(layer))


def sublayers(layer: Any) -> list[Any]:
    """Directly tracked sublayers in the order they were attached (``Layer._layers``)."""
    inner = vars(layer).get("_functional")  # a Sequential's own graph; torch keeps it in _modules
    inner = inner or vars(layer).get("_modules", {}).get("_functional")
    return [child for child in layer._layers if child is not inner]


def own_variables(owner: Any) -> list[Any]:
    """Variables a layer, metric or optimizer tracks itself, without its children's, in creation order."""
    if isinstance(owner, keras.Metric | keras.optimizers.Optimizer):
        return list(owner._variables)
    return [*owner._trainable_variables, *owner._non_trainable_variables]


def own_metrics(owner: Any) -> list[Any]:
    """Metrics a layer or metric tracks as attributes (not those made by ``compile``)."""
    return list(owner._metrics)


def seed_generators(owner: Any) -> list[Any]:
    """Seed generators a layer tracks itself; a metric has none."""
    return [] if isinstance(owner, keras.Metric) else list(owner._seed_generators)


def attributes(owner: Any) -> dict[str, Any]:
    """Attributes a class has set, the same on the three backends.

    The torch backend moves sublayers out of ``__dict__`` into ``_modules``; TensorFlow adds lists of its
    own (``_self_...``). Bookkeeping that every bare layer has and the graph of a Functional are left out.
    """
    own = vars(owner)
    merged = {**own, **own.get("_modules", {})}
    skipped = _bookkeeping()
    return {n: v for n, v in merged.items() if n not in skipped and not n.startswith("_self_")}


_LISTS_OF_TRACKED = frozenset(
    {
        "_layers",
        "_metrics",
        "_seed_generators",
        "_variables",
        "_trainable_variables",
        "_non_trainable_variables",
        "_torch_params",
        "_functional",
        "_operations",
        "_operations_by_depth",
        "_nodes",
        "_nodes_by_depth",
    }
)


@cache
def _bookkeeping() -> frozenset[str]:
    return frozenset(vars(keras.Layer())) | _LISTS_OF_TRACKED


def automatic_name(owner: Any) -> tuple[str, int] | None:
    """Stem and number of a name that Keras would give by itself (``dense_3``), else None.

    Keras does not record whether a name was given, so a given name of that form counts as automatic.
    """
    stem = to_snake_case(type(owner).__name__)
    match = re.fullmatch(rf"{re.escape(stem)}(?:_(\d+))?", owner.name)
    return (stem, int(match[1] or 0)) if match else None


def optimized_variables(optimizer: Any) -> list[Any]:
    """The model variables an optimizer was built for, in the order of its slot lists."""
    return list(optimizer._trainable_variables)


def slot_name(variable: Any, reference: Any, attribute: str) -> str:
    """``momentum`` for a slot Keras named ``dense_kernel_momentum``; else the attribute that holds it."""
    prefix = reference.path.replace("/", "_") + "_"
    name: str = getattr(variable, "name", "")
    return name.removeprefix(prefix) if name.startswith(prefix) else attribute


def sharing_scope() -> AbstractContextManager[Any]:
    """Inside, an object met twice by a serializer gets one ``shared_object_id``, and one object back."""
    return serialization_lib.ObjectSharingScope()  # type: ignore[no-any-return]


def safe_scope() -> AbstractContextManager[Any]:
    """Inside, no deserializer runs Python code from a config.

    Overrules ``keras.config.enable_unsafe_deserialization()``, which overrules the ``safe_mode`` argument.
    """
    return serialization_lib.SafeModeScope(True)  # type: ignore[no-any-return]


def automatic_jit_compile(model: Any) -> bool:
    """What ``compile(jit_compile="auto")`` means for a model on this backend."""
    return bool(model._resolve_auto_jit_compile())


def loaded_keras_class(module: str, name: str) -> type | None:
    """A class of Keras that has no public name (``Functional``, operations); nothing is imported for it."""
    if not module.startswith("keras.src."):
        return None
    found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return found if isinstance(found, type) and issubclass(found, KerasSaveable) else None


def compiles_its_own_way(model: Any) -> bool:
    """Whether ``compile`` or ``compile_from_config`` are a class' own, so that only the class knows how."""
    cls = type(model)
    return (
        cls.compile is not keras.Model.compile
        or cls.compile_from_config is not keras.Model.compile_from_config
    )


_DEFERRING = threading.RLock()


@contextmanager
def deferred_variables() -> Iterator[list[Any]]:
    """Variables made inside keep their initializer instead of running it.

    Yields the list of those variables, in the state that Keras calls uninitialized; the caller gives each a
    value with ``initialize``. Only this thread is affected. Under NNX variables are made as ever.
    """
    cls, made, thread = keras.Variable, list[Any](), threading.get_ident()
    with_initializer, deferred = cls._initialize_with_initializer, cls._deferred_initialize
    post_build = keras.Layer._post_build

    def hold(variable: Any, initializer: Any) -> None:
        if threading.get_ident() != thread:
            with_initializer(variable, initializer)
            return
        variable._value, variable._initializer = None, initializer
        made.append(variable)

    def hold_stateless(variable: Any) -> None:
        if threading.get_ident() != thread:
            deferred(variable)
        else:
            made.append(variable)

    def track_later(layer: Any) -> None:
        """PyTorch would read the values to make its parameters; `finish_layers` does so later."""
        if threading.get_ident() != thread:
            post_build(layer)

    if is_nnx_enabled():
        yield made
        return
    with _DEFERRING, ExitStack() as restore:
        restore.enter_context(_replaced(cls, "_initialize_with_initializer", hold))
        restore.enter_context(_replaced(cls, "_deferred_initialize", hold_stateless))
        restore.enter_context(_replaced(keras.Layer, "_post_build", track_later))
        yield made


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = name in vars(owner)
    before = vars(owner)[name] if own else None
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def is_uninitialized(variable: Any) -> bool:
    """Whether a variable still has its initializer and no value."""
    return variable._value is None


def initialize(variable: Any, array: Any = None) -> None:
    """Give an uninitialized variable its first value: an array, or what its initializer says."""
    if array is None:
        variable._deferred_initialize()
    else:
        variable._initialize(variable._convert_to_tensor(array, dtype=stored_dtype(variable)))
        variable._initializer = None


def stored_dtype(variable: Any) -> str:
    """A variable's own dtype, whatever autocast scope is open."""
    return str(variable._dtype)


def finish_layers(root: Any) -> None:
    """What a backend does when a layer is built, left out while its variables had no values."""
    for layer in root._flatten_layers(include_self=True):
        if layer.built:
            layer._post_build()


def all_layers(root: Any) -> list[Any]:
    """A layer and every layer below it, each before those it owns."""
    return list(root._flatten_layers(include_self=True))


def layers_with_paths(root: Any, known: Mapping[int, str]) -> list[tuple[Any, str]]:
    """(layer, path) for every layer that has a path."""
    return [(layer, known[id(layer)]) for layer in all_layers(root) if id(layer) in known]


@contextmanager
def linear_sequential() -> Iterator[None]:
    """Inside, a Sequential is rebuilt from its config once; Keras does it again after every layer."""
    original = keras.Sequential.from_config.__func__

    def from_config(cls: Any, config: dict[str, Any], custom_objects: Any = None) -> Any:
        if "layers" not in config or not all("module" in layer for layer in config["layers"]):
            return original(cls, config, custom_objects)
        model = cls(name=config["name"])
        for layer in config["layers"]:
            model.add(
                keras.saving.deserialize_keras_object(layer, custom_objects=custom_objects), rebuild=False
            )
        model._maybe_rebuild()
        if not model._functional and isinstance(config.get("build_input_shape"), list | tuple):
            model.build(config["build_input_shape"])
        return model

    with _DEFERRING, _replaced(keras.Sequential, "from_config", classmethod(from_config)):
        yield
