"""How Keras calls layers: signatures, masks, and what a layer says about them."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager
from typing import Any

import keras
from keras.src import backend as keras_backend
from keras.src import tree as keras_tree

from interop.capture.keras.compat.facts import config_keeps_layer_names
from interop.capture.keras.standin import StandIn

_POLICIES = ("float64", "float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
_KINDS = {
    kind.name: kind
    for kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    )
}


def call_signature(layer: Any) -> inspect.Signature:
    """The parameters of a layer's ``call``, as Keras binds arguments to them."""
    found: inspect.Signature = layer._call_signature
    return found


def call_facts(layer: Any) -> dict[str, Any]:
    """What Keras must know to call a layer, as JSON: parameters, masking, dtypes, whose names its config keeps."""
    if isinstance(layer, StandIn):
        return layer.how
    policy = layer.dtype_policy.name
    return {
        "parameters": [_parameter(p) for p in call_signature(layer).parameters.values()],
        "masking": bool(layer.supports_masking),
        "dtype": policy if policy in _POLICIES else layer.variable_dtype,
        "keeps_names": config_keeps_layer_names(layer),
    }


def _parameter(parameter: inspect.Parameter) -> list[Any]:
    described: list[Any] = [parameter.name, parameter.kind.name]
    default = parameter.default
    if default is None or isinstance(default, bool | int | float | str):
        described.append(default)
    elif default is not inspect.Parameter.empty:
        described.append(None)
    return described


def signature_of(facts: Any) -> inspect.Signature:
    """The signature that ``call_facts`` described."""
    return inspect.Signature(
        [
            inspect.Parameter(name, _KINDS[kind], default=default[0] if default else inspect.Parameter.empty)
            for name, kind, *default in facts["parameters"]
        ]
    )


def set_call_signature(layer: Any, signature: inspect.Signature, *, masking: bool) -> None:
    """Have Keras call a layer as if its ``call`` had other parameters: masks and the training flag follow them."""
    names = list(signature.parameters)
    layer._call_signature = signature
    layer.call_signature_parameters = names
    layer._call_has_training_arg = "training" in names
    layer._call_has_mask_arg = "mask" in names
    layer._call_has_context_arg = {name: name in names for name in layer._call_context_args}
    layer._supports_masking = masking
    layer._convert_input_args = True
    layer._allow_non_tensor_positional_args = True


def set_build_shapes(layer: Any, shapes: Any) -> None:
    """Mark a layer as built, for inputs of these shapes by argument name."""
    layer._build_shapes_dict = shapes
    layer.built = True


def mask_of(tensor: Any) -> Any:
    """The mask that Keras keeps with a tensor, or None."""
    return keras_backend.get_keras_mask(tensor)


def set_mask(tensor: Any, mask: Any) -> None:
    """Keep a mask with a tensor, where the framework's tensors can have one."""
    try:
        keras_backend.set_keras_mask(tensor, mask)
    except AttributeError:  # arrays of JAX outside a compiled function; Keras does without it there as well
        return


def masked_like(source: Any, tensor: Any) -> Any:
    """A tensor with the mask of another."""
    if (mask := mask_of(source)) is not None:
        set_mask(tensor, mask)
    return tensor


def filled_output_spec(function: Any, args: Any, kwargs: Any, size: int) -> Any:
    """What a function returns for symbolic arguments, with a number for every open size."""

    def filled(item: Any) -> Any:
        if not isinstance(item, keras.KerasTensor):
            return item
        made = keras.KerasTensor([size if dim is None else dim for dim in item.shape], item.dtype)
        return masked_like(item, made)

    given, named = keras_tree.map_structure(filled, (list(args), dict(kwargs)))
    return keras_backend.compute_output_spec(function, *given, **named)


def without_autocast() -> AbstractContextManager[Any]:
    """Inside, variables are read in their own dtype."""
    return keras_backend.AutocastScope(None)


def is_seed(part: Any) -> bool:
    """Whether something is a seed generator."""
    return isinstance(part, keras.random.SeedGenerator)
