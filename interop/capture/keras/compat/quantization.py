"""Quantised layers of Keras: what a layer was quantised to, and doing the same to a layer made anew.

Keras keeps the quantisation of a layer in that layer's config; that of a layer which another layer makes for itself
(the projections in MultiHeadAttention) is in no config.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from interop.capture.keras.compat.building import initialize, is_uninitialized, replaced
from interop.capture.keras.compat.facts import all_layers, own_variables
from interop.capture.keras.compat.values import stored_dtype

#: Modes whose kernel is found by calibration -> the attribute that says it has been.
_CALIBRATED = {"gptq": "is_gptq_calibrated", "awq": "is_awq_calibrated"}


def quantization_mode(layer: Any) -> str | None:
    """``"int8"``, ``"int4"``, ``"float8"``, ``"gptq"`` or ``"awq"``; None for a layer that is not quantised."""
    mode: str | None = getattr(layer, "quantization_mode", None)
    return mode


def quantization_config(layer: Any) -> Any:
    """The configuration a layer was quantised with, or None for its mode's own."""
    return getattr(layer, "quantization_config", None)


def rounds_activations_to(layer: Any) -> str | None:
    """The element type that a layer rounds its inputs to before it multiplies; None if it does not."""
    mode = quantization_mode(layer)
    if mode == "float8":
        return "float8_e4m3fn"
    quantizer = getattr(layer, "inputs_quantizer", None) if mode in ("int8", "int4") else None
    return None if quantizer is None else str(quantizer.output_dtype)


@contextmanager
def without_calibration() -> Iterator[None]:
    """Inside, the config of a calibrated quantisation leaves out the layers it was calibrated on.

    Keras 3.15 describes them as part of each layer's own config, which never ends.
    """
    with ExitStack() as restore:
        for name in ("GPTQConfig", "AWQConfig"):
            cls = getattr(keras.quantizers, name, None)
            if cls is not None:
                restore.enter_context(replaced(cls, "get_config", _bare(cls.get_config)))
        yield


def _bare(original: Any) -> Any:
    def get_config(self: Any) -> dict[str, Any]:
        return {**original(self), "quantization_layer_structure": None}

    return get_config


def has_four_bits(model: Any) -> bool:
    """Whether a layer of the model keeps its weights in four bits."""
    return any(
        quantization_mode(layer) in ("int4", "awq")
        or (quantization_mode(layer) == "gptq" and layer.dtype_policy.weight_bits == 4)
        for layer in all_layers(model)
    )


def quantize_as(layer: Any, mode: str, config: Any) -> None:
    """Give a built layer the variables it has once it is quantised; their values are to be set."""
    if quantization_mode(layer) is None:
        for variable in own_variables(layer):
            if is_uninitialized(variable):
                initialize(variable, np.zeros(tuple(variable.shape), stored_dtype(variable)))
        layer.quantize(mode, type_check=False, config=config)
        if mode in _CALIBRATED:
            del layer._kernel
    if mode in _CALIBRATED:
        setattr(layer, _CALIBRATED[mode], True)
