"""What Keras knows about its objects: layers, variables, dtypes, names. Nothing here changes anything."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import keras
from keras.src import tree as keras_tree
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.pooling.base_pooling import BasePooling
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils.naming import to_snake_case

from interop.capture.keras.compat.values import backend
from interop.capture.keras.standin import StandIn


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
    if isinstance(layer, StandIn):
        return bool(layer.how["keeps_names"])
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
    stem = automatic_stem(owner)
    match = re.fullmatch(rf"{re.escape(stem)}(?:_(\d+))?", owner.name)
    return (stem, int(match[1] or 0)) if match else None


def automatic_stem(owner: Any) -> str:
    """The name that Keras gives, with a number, to objects of a class that have none."""
    cls = owner.original["class_name"] if isinstance(owner, StandIn) else type(owner).__name__
    return snake_case(cls)


def optimized_variables(optimizer: Any) -> list[Any]:
    """The model variables an optimizer was built for, in the order of its slot lists."""
    return list(optimizer._trainable_variables)


def slot_name(variable: Any, reference: Any, attribute: str) -> str:
    """``momentum`` for a slot Keras named ``dense_kernel_momentum``; else the attribute that holds it."""
    prefix = reference.path.replace("/", "_") + "_"
    name: str = getattr(variable, "name", "")
    return name.removeprefix(prefix) if name.startswith(prefix) else attribute


def automatic_jit_compile(model: Any) -> bool:
    """What ``compile(jit_compile="auto")`` means for a model on this backend."""
    return bool(model._resolve_auto_jit_compile())


def loaded_keras_class(module: str, name: str) -> type | None:
    """A class of Keras that has no public name (``Functional``, operations); nothing is imported for it."""
    if not module.startswith("keras.src."):
        return None
    found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return found if isinstance(found, type) and issubclass(found, KerasSaveable) else None


def unexported_class(name: str) -> type | None:
    """A layer that ``keras.layers`` does not have under its class' name.

    It is there under another (``GroupedQueryAttention``), or only a model of ``keras.applications`` uses it
    (``LayerScale`` of ConvNeXt).
    """
    for exported in vars(keras.layers).values():
        if isinstance(exported, type) and exported.__name__ == name and issubclass(exported, keras.Layer):
            return exported
    for module in (m for m in sorted(sys.modules) if m.startswith("keras.src.applications.")):
        found = vars(sys.modules[module]).get(name)
        if isinstance(found, type) and issubclass(found, keras.Layer) and found.__module__ == module:
            return found
    return None


def snake_case(name: str) -> str:
    """``Conv2DTranspose`` -> ``conv2d_transpose``, as Keras names groups in its files."""
    return str(to_snake_case(name))


def operation_module(name: str) -> str | None:
    """The module of the operation class by that name (``Add`` of ``keras.ops.add``); None if there is none."""
    for module in (m for m in sorted(sys.modules) if m.startswith("keras.src.ops.")):
        found = vars(sys.modules[module]).get(name)
        if isinstance(found, type) and issubclass(found, keras.Operation) and found.__module__ == module:
            return module
    return None


def compiles_its_own_way(model: Any) -> bool:
    """Whether ``compile`` or ``compile_from_config`` are a class' own, so that only the class knows how."""
    cls = type(model)
    return (
        cls.compile is not keras.Model.compile
        or cls.compile_from_config is not keras.Model.compile_from_config
    )


def computes_in_float64(root: Any) -> bool:
    """Whether a layer, or one below it, has a float64 policy."""
    return any(layer.compute_dtype == "float64" for layer in all_layers(root))


def all_layers(root: Any) -> list[Any]:
    """A layer and every layer below it, each before those it owns."""
    return list(root._flatten_layers(include_self=True))


def layers_with_paths(root: Any, known: Mapping[int, str]) -> list[tuple[Any, str]]:
    """(layer, path) for every layer that has a path."""
    return [(layer, known[id(layer)]) for layer in all_layers(root) if id(layer) in known]


def is_keras_class(cls: type) -> bool:
    """Whether a class is Keras' own, so that its ``call`` ends in backend code."""
    return cls.__module__.startswith("keras.src.")


_OTHERS_CODE = ("keras.src.utils.", "keras.src.export.")
"""Modules whose layers run code of a framework: JaxLayer, FlaxLayer, TorchModuleWrapper, TFSMLayer."""


def runs_only_keras_code(model: Any) -> bool:
    """Whether every layer and operation of a model is Keras' own, and so is every function that one of them holds.

    Models hold functions too, which train and predict; they compute with layers alone.
    """
    operations = {id(layer): layer for layer in all_layers(model)}
    for layer in list(operations.values()):
        if isinstance(layer, Functional):
            operations.update((id(operation), operation) for operation in layer.operations)
    return all(
        _is_keras_code(type(operation))
        and (isinstance(operation, keras.Model) or _holds_only_keras_code(operation))
        for operation in operations.values()
    )


def _holds_only_keras_code(operation: Any) -> bool:
    return all(_is_keras_code(value) for value in vars(operation).values() if callable(value))


def _is_keras_code(value: Any) -> bool:
    """Of a class, a function or an object that can be called."""
    module = getattr(value, "__module__", None) or ""
    return module.startswith("keras.src.") and not module.startswith(_OTHERS_CODE)


def takes_name(cls: Any) -> bool:
    """Whether a layer class is made from its config by its constructor, and that takes a name."""
    if getattr(cls.from_config, "__func__", None) is not keras.Layer.from_config.__func__:
        return False
    kinds = inspect.signature(cls.__init__).parameters
    return "name" in kinds or any(each.kind is inspect.Parameter.VAR_KEYWORD for each in kinds.values())


def unlisted_arguments(described: Any) -> dict[str, Any]:
    """Constructor arguments that an object of Keras holds and its `get_config()` leaves out, or gives wrongly.

    Keras 3.15 forgets ``Huber(delta=...)``, the ``axis`` of two losses and a metric, and the ``gain`` of
    ``Identity``: what is loaded has the default, and computes something else. The factors of ``RandomShear`` it
    writes as ranges around zero, of which its constructor says that they must not be negative. An activation that is
    ``keras.ops.gelu``, the approximation by default, it names as ``keras.activations.gelu``, which is exact.
    """
    cls = type(described)
    if isinstance(described, keras.layers.RandomShear):
        factors = {name: getattr(described, name) for name in ("x_factor", "y_factor")}
        return {name: high for name, (low, high) in factors.items() if low == -high}
    if isinstance(described, keras.Layer) and is_keras_class(cls):
        functions = {name: getattr(described, name, None) for name in ("activation", "recurrent_activation")}
        return {name: _named(item) for name, item in functions.items() if _is_misnamed(item)}
    if not is_keras_class(cls) or not isinstance(described, _FORGETFUL):
        return {}
    held = {**vars(described), **vars(described).get("_fn_kwargs", {})}
    listed = described.get_config()
    return {
        name: held[name]
        for name in _parameters(cls.__init__)
        if name in held and name not in listed and isinstance(held[name], bool | int | float | str)
    }


def _is_misnamed(activation: Any) -> bool:
    """Whether a function of ``keras.ops`` bears the name of another one of ``keras.activations``."""
    name = getattr(activation, "__name__", None)
    other = getattr(keras.activations, name, None) if isinstance(name, str) else None
    return other is not None and other is not activation and getattr(keras.ops, str(name), None) is activation


def _named(operation: Any) -> dict[str, str]:
    name = operation.__name__
    return {"module": "keras.ops", "class_name": "function", "config": name, "registered_name": name}


@cache
def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of what a function takes."""
    return tuple(inspect.signature(function).parameters)


_FORGETFUL = (keras.losses.Loss, keras.metrics.Metric, keras.initializers.Initializer)


def states(layers: Iterable[tuple[Any, str]]) -> dict[str, Any]:
    """The variables in which stateful layers keep their state from call to call; Keras does not track them.

    Args:
        layers: (layer, path).
    """
    return {
        f"{path}/states/{index}": variable
        for layer, path in layers
        if getattr(layer, "stateful", False)
        for index, variable in enumerate(keras_tree.flatten(getattr(layer, "states", None)))
        if isinstance(variable, keras.Variable)
    }


# Layers for which TensorFlow has a kernel of its own for each order of the axes.
_OF_KERNELS = (
    *(BaseConv, BaseConvTranspose, BaseDepthwiseConv, BaseSeparableConv, BasePooling),
    keras.layers.STFTSpectrogram,
)


def departure(layer: Any) -> str | None:
    """What a layer of Keras' own cannot do on the running backend though it can be captured there; None if nothing.

    As of Keras 3.15.
    """
    here, kind = backend(), type(layer).__name__
    if here == "tensorflow" and isinstance(layer, _OF_KERNELS):
        if layer.data_format == "channels_first":
            return "TensorFlow takes channels first on GPUs only"
        if isinstance(layer, BaseConvTranspose) and set(layer.dilation_rate) != {1}:
            return "TensorFlow's transposed convolutions are dilated on GPUs only"
    if (
        here == "jax"
        and isinstance(layer, keras.layers.MultiHeadAttention)
        and layer._value_dim != layer._key_dim
    ):
        return "on JAX Keras takes values for as long as keys"
    if here == "torch":
        if "lanczos" in str(getattr(layer, "interpolation", "")):
            return "PyTorch has no Lanczos interpolation"
        if kind == "ContrastLimitedAdaptiveHistogramEqualization":
            return "on PyTorch Keras counts in integers, and cuts what it redistributes"
        if isinstance(layer, keras.layers.LayerNormalization) and layer.built:
            axes = list(layer.axis) if isinstance(layer.axis, list | tuple) else [layer.axis]
            rank = len(layer._build_shapes_dict["input_shape"])
            if sorted(axis % rank for axis in axes) != list(range(rank - len(axes), rank)):
                return "on PyTorch Keras normalises the last axes only"
    return None


def recorded_shapes(model: Any) -> dict[str, Any] | None:
    """Shapes of the first call's arguments, by argument name, as Keras recorded them."""
    return getattr(model, "_build_shapes_dict", None)


def is_functional(model: Any) -> bool:
    """Whether a model has a fixed graph of its own (Functional, or a built Sequential)."""
    inner = getattr(model, "_functional", None) or model
    return isinstance(inner, keras.Model) and getattr(inner, "_inputs_struct", None) is not None


def functional_structure(model: Any) -> tuple[Any, Any]:
    """Input and output structures (of KerasTensors) of a functional model."""
    inner = getattr(model, "_functional", None) or model
    return inner._inputs_struct, inner._outputs_struct


def module_of(layer: Any) -> ModuleType | None:
    """The module that defines a layer's class, if it is loaded."""
    return sys.modules.get(type(layer).__module__)


def layers_of(model: Any, paths: Any) -> list[tuple[Any, str]]:
    """(layer, path) for every known layer, the root first, then by path."""
    found = {id(layer): layer for layer in model._flatten_layers()}
    known = [(found[identity], path) for identity, path in paths.items() if identity in found]
    return sorted(known, key=lambda item: item[1])


def class_identity(layer: Any) -> tuple[str, str, str | None]:
    """(module, class name, registered name) as Keras' own serialisation writes them."""
    if isinstance(layer, StandIn):
        of = layer.original
        return of.get("module") or "", of["class_name"], of.get("registered_name")
    cls = type(layer)
    registered = keras.saving.get_registered_name(cls)
    module = "keras.layers" if is_keras_class(cls) else cls.__module__
    return module, cls.__name__, None if registered == cls.__name__ else registered


def output_names(model: Any) -> list[str]:
    """Keras' names of a functional model's outputs (the layers that make them); empty for others."""
    inner = getattr(model, "_functional", None) or model
    return list(getattr(inner, "output_names", None) or [])


def activation_name(function: Any) -> str | None:
    """Keras' name of one of its own activation functions; None for any other, whatever that is called."""
    if function is None:
        return "linear"
    name = getattr(function, "__name__", None)
    known = isinstance(name, str) and getattr(keras.activations, name, None) is function
    return name if known else None


def is_sequential(model: Any) -> bool:
    """Whether a model is a plain stack of layers."""
    return isinstance(model, keras.Sequential)


def keras_version() -> str:
    """The running Keras' version."""
    return str(keras.__version__)


def takes_mask(layer: Any) -> bool:
    """Whether a layer's ``call`` has a mask argument."""
    return bool(layer._call_has_mask_arg)


# Layers of Keras that read across examples (decibels are relative to the loudest value of the batch), or run
# the user's code.
_ACROSS_EXAMPLES = {"MelSpectrogram", "CutMix", "MixUp", "Lambda"}


def treats_examples_alone(layer: Any) -> bool:
    """Whether a layer surely computes each example of a batch by itself.

    Only Keras' own layers are known to, with an axis other than the batch's, and models made of nothing else.
    """
    if isinstance(layer, keras.Model):
        inner = layer if isinstance(layer, Functional) else vars(layer).get("_functional")
        inner = inner or vars(layer).get("_modules", {}).get("_functional")
        steps = (
            inner._operations
            if inner is not None and isinstance(layer, keras.Sequential | Functional)
            else [None]
        )
        return all(isinstance(step, keras.Layer) and treats_examples_alone(step) for step in steps)
    if not is_keras_class(type(layer)) or type(layer).__name__ in _ACROSS_EXAMPLES:
        return False
    axis = getattr(layer, "axis", None)
    if 0 in (axis if isinstance(axis, list | tuple) else [axis]) or getattr(layer, "stateful", False):
        return False
    functions = (getattr(layer, name, None) for name in ("activation", "recurrent_activation"))
    known = all(f is None or getattr(f, "__module__", "").startswith("keras.src.") for f in functions)
    return known and all(treats_examples_alone(child) for child in sublayers(layer))
