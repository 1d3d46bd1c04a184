"""A Keras model becomes JSON: what is needed to make its objects again, without any values.

Enters: a model. Leaves: a ``Description``, whose ``config`` is the ``model`` part of ``config.json`` but for
the layers, which the captured graph lists.

Invariants:

- the same model gives the same JSON in every process: objects that Keras numbers by memory address are
  numbered in the order of their appearance, and nothing says where or when it was made;
- no Python code: a lambda is replaced by the name under which a loader expects the function;
- settings that Keras resolved for this machine (``jit_compile="auto"``) are written unresolved.

Metrics given to ``compile`` are described; their running values are not kept, for Keras resets them when
an epoch begins.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from interop.capture.keras import compat, paths
from interop.capture.keras.assets import stored_assets
from interop.errors import CaptureError

LAMBDA = "__lambda__"
"""Class name in a config of a function whose code is not stored; its config is ``{"name": ...}``."""

NONFINITE = "__nonfinite__"
"""Class name in a config of a float that JSON lacks; its config is ``"inf"``, ``"-inf"`` or ``"nan"``."""

_BACKEND_CLASSES = ("keras.src.backend.torch.optimizers", "keras.src.backend.tensorflow.optimizer")


@dataclass(frozen=True)
class Description:
    """The objects of a model as JSON, and what a reader of it has to know."""

    config: dict[str, Any]
    warnings: tuple[str, ...]


def describe(model: Any, *, include_optimizer: bool = True) -> Description:
    """Describe a built Keras model.

    Args:
        model: any ``keras.Model``, or a layer.
        include_optimizer: whether the state of the optimizer will be stored; how the model was compiled is
            described either way.

    Raises:
        CaptureError: an object in the model has no config, or one that JSON cannot hold.
    """
    described = _serialize(model, model.name)
    compiled = described.pop("compile_config", None) or None
    build = described.pop("build_config", None)
    if (
        compiled
        and "jit_compile" in compiled
        and compiled["jit_compile"] == compat.automatic_jit_compile(model)
    ):
        compiled["jit_compile"] = "auto"
    config = {
        "name": model.name,
        "object": described,
        "build": build,
        "compile": compiled,
        "optimizer": _optimizer(model) if compiled and include_optimizer else None,
    }
    if assets := stored_assets(model):
        config["assets"] = assets
    if quantized := _quantization(model):
        config["quantization"] = quantized
    names = dict.fromkeys(_lambda_names(config))
    notes = [
        f"the Python code of lambda {name!r} is not stored: to load the layers, pass "
        f"custom_objects={{{name!r}: ...}}"
        for name in names
    ]
    return Description(config, tuple(notes))


def _optimizer(model: Any) -> dict[str, Any] | None:
    """Class of the optimizer, whether it has slots, and for which variables, in its own order."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None
    keys = paths.object_paths(model)
    optimized = [keys[id(v)] for v in compat.optimized_variables(optimizer) if id(v) in keys]
    return {
        "class": type(optimizer).__name__,
        "built": bool(optimizer.built),
        "variables": optimized if optimizer.built else [],
    }


def _quantization(model: Any) -> dict[str, Any]:
    """How each quantised layer came to be so, by path: configs do not say it of layers that layers make."""
    return {
        path: {
            "mode": compat.quantization_mode(layer),
            "config": None if config is None else _serialize(config, path),
        }
        for layer, path in compat.layers_with_paths(model, paths.layer_paths(model))
        if compat.quantization_mode(layer) is not None
        for config in [compat.quantization_config(layer)]
    }


def _serialize(model: Any, name: str) -> dict[str, Any]:
    """Keras' own description, as plain JSON, shared objects numbered from 0."""
    with compat.sharing_scope(), compat.without_calibration(), warnings.catch_warnings():
        # Keras warns about lambdas; `describe` does so itself, and stores no code.
        warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
        try:
            described = keras.saving.serialize_keras_object(model)
        except (TypeError, ValueError, NotImplementedError, OSError) as error:
            raise CaptureError(
                f"the config of {name!r} cannot be made: {error}. Every custom class needs a `get_config()` "
                "that returns its constructor's arguments, and every function a name (`def`, not `lambda`)"
            ) from error
    return _Plain().convert(described, (name,))  # type: ignore[no-any-return]


class _Plain:
    """Converts a described object into plain JSON, renumbering what is shared."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def convert(self, value: Any, where: tuple[str, ...]) -> Any:
        """`where` holds the names of the enclosing objects and the last key."""
        if isinstance(value, dict):
            return self._convert_dict(value, where)
        if isinstance(value, list | tuple):
            return [self.convert(item, where) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"class_name": NONFINITE, "config": repr(value)}
        if value is None or isinstance(value, str | int | float):
            return value
        raise CaptureError(
            f"the config of {'.'.join(where)} holds {value!r:.80}, a {type(value).__name__}, which JSON "
            "lacks. `get_config()` must return plain values, lists and dicts, or Keras objects"
        )

    def _convert_dict(self, value: dict[Any, Any], where: tuple[str, ...]) -> dict[str, Any]:
        if value.get("class_name") == LAMBDA or _is_bare_code(value):
            owner, argument = where[-2:] if len(where) > 1 else (where[-1], "function")
            return {"class_name": LAMBDA, "config": {"name": _lambda_name(owner, argument)}}
        inner = value.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        if "class_name" in value and isinstance(name, str):
            where = (*where[:-1], name)
        converted = {}
        for key, item in value.items():
            step = where if key in {"config", "class_name"} else (*where, str(key))
            converted[str(key)] = self.convert(item, step)
        if str(converted.get("module")).startswith(_BACKEND_CLASSES):
            # PyTorch's Keras makes a `TorchAdam` of every Adam and serialises that.
            converted.update(module="keras.optimizers", registered_name=None)
        if "shared_object_id" in converted:
            number = converted["shared_object_id"]
            converted["shared_object_id"] = self.numbers.setdefault(number, len(self.numbers))
        return converted


def _is_bare_code(value: dict[Any, Any]) -> bool:
    """Keras strips the class name off a lambda given as an activation: ``{"value": [code, None, None]}``."""
    code = value.get("value")
    return (
        set(value) == {"value"}
        and isinstance(code, list | tuple)
        and len(code) == 3
        and isinstance(code[0], str)
    )


def _lambda_name(owner: str, argument: str) -> str:
    """``double`` for the function of the Lambda layer of that name, ``dense.activation`` elsewhere."""
    return owner if argument == "function" else f"{owner}.{argument}"


def _lambda_names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("class_name") == LAMBDA:
            yield value["config"]["name"]
        else:
            for item in value.values():
                yield from _lambda_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _lambda_names(item)


def canonical(config: dict[str, Any]) -> str:
    """The JSON text by which two descriptions are compared."""
    return json.dumps(config, sort_keys=True, ensure_ascii=False)
