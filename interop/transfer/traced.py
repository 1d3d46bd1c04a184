"""SavedModels of traced functions as sides of a transfer.

Enters: a path. Leaves: a ``Model``: the graph that TensorFlow tells and the values of the checkpoint inside. Where
variables are constants of that graph, as those of recurrent layers are, which tf2onnx rearranges, it is the Keras model
that is made of it.

Invariant: a variable is written only where it is known which one it is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from interop.artifact.signature import Structure
from interop.capture import tensorflow
from interop.errors import WeightsError
from interop.formats.source import ArraySource, TensorSource
from interop.rebuild.legacy.traced import open_traced
from interop.transfer.files import graph_model, keras_model, tensors_of
from interop.transfer.models import Model
from interop.transfer.named import some


def open_traced_model(path: Path) -> Model:
    """Take a SavedModel without layers.

    Raises:
        CaptureError, RebuildError: TensorFlow cannot open it, or no graph can be made of its function.
        FormatError: its checkpoint is damaged.
    """
    traced = open_traced(path)
    graph, keys = traced.capture.flat(), traced.keys
    if constants := [name for name in keys if name not in graph.graph.initializers]:
        model = keras_model(path)
        return replace(model, writer=lambda values: _written(path, model, values, keys, constants))
    stored = tensors_of(path)
    structure: Structure = traced.capture.signature.input_structure
    made = graph_model(
        path,
        graph,
        list(keys),
        lambda values: stored.assign({keys[name]: value for name, value in values.items()}),
    )
    return replace(
        made,
        label=f"the SavedModel {path}",
        reader=lambda name: stored.read(keys[name]),
        runs=lambda arrays: tensorflow.run(traced.function, structure, arrays),
    )


def _written(
    path: Path,
    model: Model,
    values: Mapping[str, TensorSource],
    keys: Mapping[str, str],
    constants: list[str],
) -> Path:
    """Write a model's values where the checkpoint has them, all or nothing."""
    found = _keys_by_value(path, model, list(keys.values()))
    lost = [name for name in values if name not in found]
    if lost:
        raise WeightsError(
            f"the SavedModel {path} is not written: {some(constants)} are constants of the graph that TensorFlow "
            f"tells, so it does not show where {some(lost)} of {model.label} are stored. Transfer into the model that "
            "interop.load_model makes of it, and save that"
        )
    tensors_of(path).assign({found[name]: value for name, value in values.items()})
    return path


def _keys_by_value(path: Path, model: Model, keys: list[str]) -> dict[str, str]:
    """Where variables of the Keras model are stored: a copy, whose values are drawn, shows it.

    The layers of the copy have other names, but the same order. Only those variables are in the result that a layer has
    as they are stored, there and here.
    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copytree(path, copy)
        stored = tensors_of(copy)
        specs = {key: stored.tensors[key] for key in keys if "float" in stored.tensors[key].dtype}
        drawn = {key: rng.uniform(0.5, 1.5, spec.shape).astype(spec.dtype) for key, spec in specs.items()}
        stored.assign({key: ArraySource(array) for key, array in drawn.items()})
        made = keras_model(copy)
        places = {(array.shape, array.tobytes()): key for key, array in drawn.items()}
        order = [places.get(_exactly(made, name)) for name in made.tensors]
    stored = tensors_of(path)
    if len(order) != len(model.tensors):
        return {}
    return {
        name: key
        for name, key in zip(model.tensors, order, strict=True)
        if key is not None and _exactly(model, name) == _exactly(stored, key)
    }


def _exactly(model: Model, name: str) -> tuple[tuple[int, ...], bytes]:
    array = np.asarray(model.read(name))
    return array.shape, array.tobytes()
