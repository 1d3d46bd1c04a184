"""Building objects from configs: what Keras may run, and variables that wait for their values."""

from __future__ import annotations

import copy
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras.src import backend, tree
from keras.src.backend.config import is_nnx_enabled
from keras.src.layers import layer as layer_module
from keras.src.legacy.saving import serialization as legacy_serialization
from keras.src.models import functional, sequential
from keras.src.ops import operation
from keras.src.saving import serialization_lib
from numpy.typing import NDArray

from interop.capture.keras.compat.facts import is_keras_class, unlisted_arguments
from interop.capture.keras.compat.values import mapping_plainly, stored_dtype, telling_at_once


@contextmanager
def sharing_scope(describe: Callable[[Any, dict[str, Any]], None] | None = None) -> Iterator[None]:
    """Inside, an object met twice by a serializer gets one ``shared_object_id``, and one object back.

    ``describe`` is called with each object and its config when that is made, and may change the config.
    """
    record = serialization_lib.record_object_after_serialization

    def recorded(obj: Any, config: dict[str, Any]) -> None:
        record(obj, config)
        if describe is not None and threading.get_ident() == thread:
            describe(obj, config)

    thread = threading.get_ident()
    with ExitStack() as stack:
        stack.enter_context(serialization_lib.ObjectSharingScope())
        if describe is not None:
            stack.enter_context(_DEFERRING)
            stack.enter_context(replaced(serialization_lib, "record_object_after_serialization", recorded))
        yield


@contextmanager
def complete_configs() -> Iterator[None]:
    """Inside, Keras' serializers, that of HDF5 files too, write what they leave out of its own objects' configs."""
    original = legacy_serialization.serialize_keras_object

    def complete(obj: Any, config: Any) -> None:
        if isinstance(config, dict) and isinstance(config.get("config"), dict):
            config["config"].update(unlisted_arguments(obj))

    def serialize(obj: Any) -> Any:
        config = original(obj)
        complete(obj, config)
        return config

    with sharing_scope(complete), replaced(legacy_serialization, "serialize_keras_object", serialize):
        yield


@contextmanager
def configs_optional(without: list[Any]) -> Iterator[None]:
    """Inside, a layer of a custom class that has no `get_config()` of its own is serialized with the config None.

    Such layers are appended to the list.
    """
    original, thread = serialization_lib._get_class_or_fn_config, threading.get_ident()

    def config_of(obj: Any) -> Any:
        try:
            return original(obj)
        except NotImplementedError:
            if threading.get_ident() != thread or not isinstance(obj, keras.Layer):
                raise
            if is_keras_class(type(obj)):
                raise
            without.append(obj)
            return None

    with _DEFERRING, replaced(serialization_lib, "_get_class_or_fn_config", config_of):
        yield


def tensorflow_unasked() -> AbstractContextManager[Any]:
    """Inside, the serializer does not import TensorFlow to ask whether an object is TensorFlow's.

    None can be where it was not imported; Keras 3.15 takes two seconds to find that out on the other backends.
    """
    if "tensorflow" in sys.modules:
        return nullcontext()
    return replaced(serialization_lib, "tf", SimpleNamespace(available=False))


@contextmanager
def plain_once() -> Iterator[None]:
    """Inside, the serializer leaves an object's config as it is when it meets it in another's; that must be copied.

    Keras 3.15 copies the configs of all layers, and goes through them again, for each model around them. Arguments of
    layers are mapped plainly, in a namespace of its own: a trace in another thread may do the same to Keras'.
    """
    as_it_is = SimpleNamespace(deepcopy=lambda config: config)
    mapping = SimpleNamespace(**{**vars(tree), "map_structure": mapping_plainly(tree.map_structure)})
    telling = SimpleNamespace(**{**vars(backend), "is_tensor": telling_at_once(backend.is_tensor)})
    done: dict[int, Any] = {}
    original, recorded = serialization_lib.serialize_dict, serialization_lib.record_object_after_serialization

    def serialize_dict(obj: Any) -> Any:
        return obj if id(obj) in done else original(obj)

    def record(obj: Any, config: Any) -> Any:
        done[id(config)] = config
        return recorded(obj, config)

    with (
        _DEFERRING,
        replaced(serialization_lib, "serialize_dict", serialize_dict),
        replaced(serialization_lib, "record_object_after_serialization", record),
        replaced(functional, "copy", as_it_is),
        replaced(sequential, "copy", as_it_is),
        replaced(functional, "tree", mapping),
        replaced(serialization_lib, "backend", telling),
    ):
        yield


def safe_scope() -> AbstractContextManager[Any]:
    """Inside, no deserializer runs Python code from a config.

    Overrules ``keras.config.enable_unsafe_deserialization()``, which overrules the ``safe_mode`` argument.
    """
    return serialization_lib.SafeModeScope(True)


_DEFERRING = threading.RLock()
_TENSORFLOW_ALIGNMENT = 64
_MADE_TRAINABLE = "_made_trainable"


@contextmanager
def deferred_variables() -> Iterator[list[Any]]:
    """Variables made inside keep their initializer instead of running it.

    Yields the list of those variables, in the state that Keras calls uninitialized; the caller gives each a
    value with ``initialize``. Only this thread is affected. Under NNX variables are made as ever.
    """
    cls, made, thread = keras.Variable, list[Any](), threading.get_ident()
    with_initializer, deferred = cls._initialize_with_initializer, cls._deferred_initialize
    post_build, assign = keras.Layer._post_build, cls._direct_assign

    def hold(variable: Any, initializer: Any) -> None:
        if threading.get_ident() != thread:
            with_initializer(variable, initializer)
            return
        variable._value, variable._initializer = None, initializer
        remember(variable)

    def hold_stateless(variable: Any) -> None:
        if threading.get_ident() != thread:
            deferred(variable)
        else:
            remember(variable)

    def remember(variable: Any) -> None:
        setattr(variable, _MADE_TRAINABLE, variable.trainable)
        made.append(variable)

    def assign_first(variable: Any, value: Any) -> None:
        """A layer sets a variable it has just made; TensorFlow has nothing to assign to yet."""
        if threading.get_ident() == thread and variable._initializer and is_uninitialized(variable):
            variable._initializer = None  # JAX initializes by assignment, which comes here again
            initialize(variable, value)
        else:
            assign(variable, value)

    def track_later(layer: Any) -> None:
        """PyTorch would read the values to make its parameters; `finish_layers` does so later."""
        if threading.get_ident() != thread:
            post_build(layer)

    if is_nnx_enabled():
        yield made
        return
    with _DEFERRING, ExitStack() as restore:
        restore.enter_context(replaced(cls, "_initialize_with_initializer", hold))
        restore.enter_context(replaced(cls, "_deferred_initialize", hold_stateless))
        restore.enter_context(replaced(cls, "_direct_assign", assign_first))
        restore.enter_context(replaced(keras.Layer, "_post_build", track_later))
        yield made


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of a class replaced for a block."""
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


def initialize(variable: Any, value: Any = None) -> None:
    """Give an uninitialized variable its first value: what its initializer says, a tensor, or an array.

    An array is given away: its memory may become the variable's.
    """
    with _flag_as_made(variable):
        if value is None:
            variable._deferred_initialize()
            return
        if isinstance(value, np.ndarray):
            value = _given_away(value)
        variable._initialize(variable._convert_to_tensor(value, dtype=stored_dtype(variable)))
    variable._initializer = None


@contextmanager
def _flag_as_made(variable: Any) -> Iterator[None]:
    """Inside, a variable has the flag it was made with, although its layer may be frozen by now.

    TensorFlow's variable keeps the flag of its first value: no gradient of it is ever taken if that says frozen.
    """
    flag = variable.trainable
    if keras.backend.backend() != "tensorflow":
        yield
        return
    variable.trainable = getattr(variable, _MADE_TRAINABLE, flag)
    try:
        yield
    finally:
        variable.trainable = flag


def _given_away(array: NDArray[Any]) -> Any:
    """The array, or a tensor in its memory where Keras would copy it. JAX takes an array's memory as it is."""
    if not (array.size and array.dtype.kind in "fiu" and array.flags.writeable and array.flags.c_contiguous):
        return array
    if keras.backend.backend() == "torch":
        import torch

        return torch.from_numpy(array)
    if keras.backend.backend() == "tensorflow" and array.ctypes.data % _TENSORFLOW_ALIGNMENT == 0:
        import tensorflow

        return tensorflow.experimental.dlpack.from_dlpack(array.__dlpack__())
    return array


def finish_layers(root: Any) -> None:
    """What a backend does when a layer is built, left out while its variables had no values."""
    for layer in root._flatten_layers(include_self=True):
        if layer.built:
            layer._post_build()


@contextmanager
def counting_calls_anew() -> Iterator[None]:
    """Inside, the calls of a layer are counted for each Functional model alone, as configs count them.

    Keras 3.15 counts those of the models made before too, so that a layer in two models is wired wrongly.
    """
    from_config, read_node, thread = (
        functional.functional_from_config,
        functional.deserialize_node,
        threading.get_ident(),
    )
    outputs: list[Any] = []  # those of the models that are being made, from the outer to the inner
    earlier: dict[int, dict[str, int]] = {}  # calls there were when all layers of a model were made

    def make(cls: Any, config: Any, custom_objects: Any = None) -> Any:
        if threading.get_ident() != thread:
            return from_config(cls, config, custom_objects=custom_objects)
        config = {**config, "output_layers": copy.deepcopy(config["output_layers"])}
        outputs.append(config["output_layers"])
        known = set(earlier)
        try:
            return from_config(cls, config, custom_objects=custom_objects)
        finally:
            outputs.pop()
            for made in set(earlier) - known:
                del earlier[made]

    def read(node: Any, layers: Any) -> Any:
        if threading.get_ident() != thread:
            return read_node(node, layers)
        if id(layers) not in earlier:
            counts = {name: len(layer._inbound_nodes) for name, layer in layers.items()}
            counts = {
                n: k for n, k in counts.items() if k and not isinstance(layers[n], keras.layers.InputLayer)
            }
            earlier[id(layers)] = counts
            _count_on(outputs[-1], counts)
        own = {
            name: SimpleNamespace(_inbound_nodes=layers[name]._inbound_nodes[count:])
            for name, count in earlier[id(layers)].items()
        }
        return read_node(node, {**layers, **own} if own else layers)

    with (
        _DEFERRING,
        replaced(functional, "functional_from_config", make),
        replaced(functional, "deserialize_node", read),
    ):
        yield


def _count_on(references: Any, counts: Mapping[str, int]) -> None:
    """Add to the numbers of calls in a structure of ``[layer, call, output]``."""
    if isinstance(references, dict):
        references = list(references.values())
    if len(references) == _REFERENCE and isinstance(references[0], str):
        references[1] += counts.get(references[0], 0)
        return
    for item in references:
        _count_on(item, counts)


_REFERENCE = 3


@contextmanager
def keeping_names() -> Iterator[None]:
    """Inside, a layer is called what the entry of its container says, also if its own config has no name.

    A class without a `get_config()`, or one whose config leaves the name out, would get a new automatic one.
    """
    original, thread = serialization_lib.deserialize_keras_object, threading.get_ident()

    def deserialize(config: Any, *args: Any, **options: Any) -> Any:
        made = original(config, *args, **options)
        if threading.get_ident() == thread and isinstance(made, keras.Layer) and isinstance(config, dict):
            name = config.get("name")
            if isinstance(name, str) and made.name != name:
                made.name = name
        return made

    with _DEFERRING, replaced(serialization_lib, "deserialize_keras_object", deserialize):
        yield


@contextmanager
def signatures_once() -> Iterator[None]:
    """Inside, Keras asks for the signature of a class' methods once, not again for each object of it."""
    of_function, arguments = cache(inspect.signature), cache(inspect.getfullargspec)
    of_method = cache(lambda function: inspect.signature(MethodType(function, object())))

    def signature(asked: Any) -> inspect.Signature:
        if isinstance(asked, FunctionType):
            return of_function(asked)
        if isinstance(asked, MethodType) and isinstance(asked.__func__, FunctionType):
            return of_method(asked.__func__)
        return inspect.signature(asked)

    asking = SimpleNamespace(**{**vars(inspect), "signature": signature, "getfullargspec": arguments})
    with _DEFERRING, replaced(operation, "inspect", asking), replaced(layer_module, "inspect", asking):
        yield


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
                serialization_lib.deserialize_keras_object(layer, custom_objects=custom_objects),
                rebuild=False,
            )
        if model._layers:
            model._maybe_rebuild()
        if not model._functional and isinstance(config.get("build_input_shape"), list | tuple):
            model.build(config["build_input_shape"])
        return model

    with _DEFERRING, replaced(keras.Sequential, "from_config", classmethod(from_config)):
        yield


def name_inputs(model: Any, names: Mapping[str, Any]) -> None:
    """Give the inputs of a functional model new names, where no layer has them.

    Args:
        model: the model.
        names: its symbolic inputs, by name.
    """
    taken = {layer.name for layer in model.layers}
    for name, tensor in names.items():
        layer = tensor._keras_history.operation
        if layer.name != name and name not in taken:
            layer.name = tensor.name = name


def name_operations(outputs: list[Any], name: str, named: set[int]) -> None:
    """Name the operations that made some symbolic tensors, as far back as none is among `named` yet.

    Keras numbers operations by itself, and its names may be those of layers. The last is called `name`.
    """
    found: list[Any] = []
    pending = list(outputs)
    while pending:
        history = getattr(pending.pop(0), "_keras_history", None)
        if history is None or isinstance(history.operation, keras.Layer) or id(history.operation) in named:
            continue
        operation = history.operation
        named.add(id(operation))
        found.append(operation)
        pending += operation._inbound_nodes[history.node_index].input_tensors
    for index, operation in enumerate(found):
        operation.name = f"{name}_{index}" if index else name
