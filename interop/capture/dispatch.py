"""Which capture takes an object: Keras, PyTorch, TensorFlow or JAX, told without importing any of them.

A framework whose object this is has been imported already by whoever made it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interop.artifact.signature import Structure
from interop.capture.records import Capture
from interop.errors import CaptureError
from interop.formats.source import TensorSource

_TAKEN = (
    "a Keras model; a PyTorch module or torch.export program; a TensorFlow function, SavedModel or TFLite file; "
    "a JAX function or Flax module"
)


def framework_of(model: Any) -> str | None:
    """``"keras"``, ``"torch"``, ``"tensorflow"`` or ``"jax"``; None if it is a model of none of them."""
    if isinstance(model, str | os.PathLike):
        return "tensorflow" if is_tensorflow_path(Path(model)) else None
    if (keras := sys.modules.get("keras")) is not None and isinstance(model, keras.Layer):
        return "keras"
    if (torch := sys.modules.get("torch")) is not None and isinstance(
        model, torch.nn.Module | torch.export.ExportedProgram
    ):
        return "torch"
    if (tensorflow := sys.modules.get("tensorflow")) is not None and (
        hasattr(model, "get_concrete_function")
        or isinstance(model, tensorflow.Module | tensorflow.types.experimental.ConcreteFunction)
        or hasattr(model, "signatures")
    ):
        return "tensorflow"
    if "jax" in sys.modules and (
        any((flax := sys.modules.get(name)) is not None and isinstance(model, flax.Module) for name in _FLAX)
        or isinstance(model, functools.partial)
        or (callable(model) and not isinstance(model, type))
    ):
        return "jax"
    return None


_FLAX = ("flax.linen", "flax.nnx")


def is_tensorflow_path(path: Path) -> bool:
    """Whether a path is a SavedModel directory or a TFLite file."""
    return path.suffix == ".tflite" or (path / "saved_model.pb").is_file()


def capture_any(
    model: Any,
    *,
    input_signature: Any = None,
    opset: int | None = None,
    fallback: str = "layer",
    trust_keras: bool = False,
    announce: Callable[[Mapping[str, TensorSource], bool], object] | None = None,
) -> Capture:
    """Capture a model of any framework.

    Args:
        model: what ``framework_of`` knows.
        input_signature: of its inputs.
        opset: of the graph.
        fallback: for Keras, what to do with a layer in the backend's own code: ``"layer"`` or ``"error"``.
        trust_keras: whether one trace is enough for a Keras model without code of others.
        announce: called before a Keras model is traced with the sources of its variables, by key (those of the
            capture, unless the graph needs constants beside them), and whether they keep their values meanwhile.

    Raises:
        CaptureError: it is a model of none of them, or its capture failed.
    """
    options = {"input_signature": input_signature, "opset": opset}
    match framework_of(model):
        case "keras":
            from interop.capture.keras import capture as capture_keras

            return capture_keras(
                model, **options, fallback=fallback, trust_keras=trust_keras, announce=announce
            )
        case "torch":
            from interop.capture.torch import capture as capture_torch

            return capture_torch(model, **options)
        case "tensorflow":
            from interop.capture.tensorflow import capture as capture_tensorflow

            return capture_tensorflow(_opened(model), **options)
        case "jax":
            from interop.capture.jax import capture as capture_jax

            return capture_jax(model, **options)
    raise CaptureError(f"expected {_TAKEN}. Received: {model!r:.80}, a {type(model).__name__}")


@dataclass(frozen=True)
class Runnable:
    """A model of a framework other than Keras, to be run on arrays.

    Attributes:
        label: what to call it.
        run: inputs in the order of a structure to flat outputs.
        rounded_to: element types that it rounds what it computes to.
    """

    label: str
    run: Callable[[Structure, Sequence[np.ndarray[Any, Any]]], list[np.ndarray[Any, Any]]]
    rounded_to: frozenset[str] = frozenset()


def runnable(model: Any) -> Runnable | None:
    """The model as something to compare with; None if it is of no framework, or of Keras."""
    match framework_of(model):
        case "torch":
            from interop.capture.torch import run as run_torch

            return Runnable(f"PyTorch {type(model).__name__}", functools.partial(run_torch, model))
        case "tensorflow":
            from interop.capture.tensorflow import run as run_tensorflow

            opened = _opened(model)
            label = str(model) if isinstance(model, str | os.PathLike) else type(model).__name__
            rounded_to: frozenset[str] = frozenset()
            if isinstance(opened, Path):
                from interop.capture.tflite import rounded_to as of_tflite

                rounded_to = of_tflite(opened)
            return Runnable(f"TensorFlow {label}", functools.partial(run_tensorflow, opened), rounded_to)
        case "jax":
            from interop.capture.jax import run as run_jax

            name = getattr(model, "__name__", type(model).__name__)
            return Runnable(f"JAX {name}", functools.partial(run_jax, model))
    return None


def _opened(model: Any) -> Any:
    """A SavedModel that a path names, loaded once; anything else as it is."""
    if not isinstance(model, str | os.PathLike) or Path(model).suffix == ".tflite":
        return Path(model) if isinstance(model, str | os.PathLike) else model
    from interop.capture.tensorflow import load_saved_model

    return load_saved_model(Path(model))
