"""Image networks of timm and of keras.applications; most do something differently, which the report must name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import keras
import pytest
from cases.architectures.vision import _timm
from cases.transfers import Pair


def _pair(application: str, name: str, **options: Any) -> Callable[[Any], tuple[Any, Any]]:
    def make(_: Any) -> tuple[Any, Any]:
        if importlib.util.find_spec("timm") is None:
            pytest.skip("timm is not installed, which no extra brings")
        shape = {"weights": None, "input_shape": (64, 64, 3), "classes": 10, "classifier_activation": None}
        model = getattr(keras.applications, application)(**shape, **options)
        return _without_preprocessing(model), _timm(name)

    return make


def _without_preprocessing(model: Any) -> Any:
    """The model from where inputs are already scaled, which timm leaves to whoever loads the images."""
    kinds = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
    first = next(layer for layer in model.layers if not isinstance(layer, kinds))
    return keras.Model(first.input, model.output)


PAIRS = [
    Pair("timm MobileNetV2", _pair("MobileNetV2", "mobilenetv2_100"), first=True, differs=("padding", "epsilon")),
    Pair("timm EfficientNet", _pair("EfficientNetB0", "efficientnet_b0"), first=True, differs=("padding", "epsilon")),
    Pair("timm ConvNeXt", _pair("ConvNeXtTiny", "convnext_tiny"), first=True),
    Pair("timm ResNet", _pair("ResNet50", "resnet50"), first=True, differs=("strides", "epsilon")),
]  # fmt: skip
