"""Every reader of files that others may have made, with what makes a good file for it.

A reader opens what lies in a folder and gives the values that it read.
"""

from __future__ import annotations

import importlib
import json
import random
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import interop

TESTS = Path(__file__).parent.parent.parent / "tests"
FIXTURES = TESTS / "fixtures" / "legacy"
SEED = 11
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        make: writes good files into an empty folder.
        read: reads them.
        checked: whether every byte of the files that matters is under a checksum.
        hdf5: whether the files are read by the library of HDF5, which may crash the process on damaged bytes.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Values]
    checked: bool = False
    hdf5: bool = False


def model_of(seed: int) -> Any:
    """A small compiled model with weights, a seed generator, statistics and slots of an optimizer."""
    from interop.backend import choose_backend

    choose_backend()
    import keras

    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Dense(4, name="dense"),
        keras.layers.Dropout(0.5, name="dropout"),
        keras.layers.BatchNormalization(name="norm"),
    ]
    head = keras.layers.Dense(2, name="head")
    model = keras.Sequential([keras.Input((3,), name="x"), *layers, head], name="fuzzed")
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def values_of(model: Any) -> Values:
    """Everything a model holds."""
    import keras

    from interop.capture.keras import paths

    state = {f"optimizer:{key}": v for key, v in paths.optimizer_variables(model).items()}
    named = {**paths.named_variables(model), **state}
    return {key: np.array(keras.ops.convert_to_numpy(variable.value)) for key, variable in named.items()}


def same_values(a: Any, b: Any) -> bool:
    """Whether two models hold the same."""
    return same(values_of(a), values_of(b))


def same(a: Values, b: Values) -> bool:
    """Whether the same was read."""
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def _weights(name: str, **options: Any) -> Reader:
    def make(folder: Path) -> None:
        interop.save_weights(model_of(SEED), folder / name, include_optimizer=True)

    def read(folder: Path) -> Values:
        model = model_of(SEED + 1)
        interop.load_weights(model, folder / name).assert_consumed()
        return values_of(model)

    return Reader(make, read, **options)


def _of_keras(name: str, read: Callable[[Path], Values]) -> Reader:
    """What Keras itself writes."""

    def make(folder: Path) -> None:
        model = model_of(SEED)
        model.save_weights(folder / name) if name.endswith(".weights.h5") else model.save(folder / name)

    return Reader(make, lambda folder: read(folder / name), hdf5=True)


def _into_model(path: Path) -> Values:
    model = model_of(SEED + 1)
    interop.load_weights(model, path)
    return values_of(model)


def _as_model(path: Path) -> Values:
    return values_of(interop.load_model(path, report=[]))


def _as_inline(path: Path) -> Values:
    return values_of(interop.load_model(path, inline=True, report=[]))


def _as_graph(path: Path) -> Values:
    graph = interop.load_graph(path, verify_digest=True)
    graph(np.ones((2, 3), "float32"))
    with interop.load_tensors(path) as tensors:
        return {name: np.array(tensors[name]) for name in tensors}


def _as_tensors(path: Path) -> Values:
    with interop.load_tensors(path) as tensors:
        read = {name: np.array(tensors[name]) for name in tensors if tensors.dtypes[name] != "object"}
    interop.inspect(path)
    return read


def _as_imported(path: Path) -> Values:
    return values_of(interop.import_onnx(path))


def _artifact(name: str, read: Callable[[Path], Values], **options: Any) -> Reader:
    return Reader(
        lambda folder: _ignore(interop.save_model(model_of(SEED), folder / name)),
        lambda folder: read(folder / name),
        **options,
    )


def _ignore(_: Any) -> None:
    """Makes an expression of what is called for its effect."""


def _fixtures(pattern: str, read: Callable[[Path], Values], **options: Any) -> Reader:
    """Any of the files of old Keras."""

    def make(folder: Path) -> None:
        found = sorted(FIXTURES.glob(pattern))
        chosen = random.Random(str(folder)).choice(found)
        chosen = chosen.parent if chosen.name == "saved_model.pb" else chosen
        (shutil.copytree if chosen.is_dir() else shutil.copy)(chosen, folder / f"m{chosen.suffix}")

    def read_all(folder: Path) -> Values:
        if str(TESTS) not in sys.path:
            sys.path.append(str(TESTS))
        importlib.import_module("legacy_classes")  # registers the classes of the fixtures
        return read(next(iter(folder.iterdir())))

    return Reader(make, read_all, **options)


def _tensors_of(seed: int = SEED) -> Values:
    return {key: value for key, value in values_of(model_of(seed)).items() if "seed" not in key}


def _torch(name: str, **options: Any) -> Reader:
    def make(folder: Path) -> None:
        import torch

        tensors = {name: torch.as_tensor(value) for name, value in _tensors_of().items()}
        torch.save({"model": tensors, "epoch": 3, "path": None}, folder / name, **options)

    return Reader(make, lambda folder: _as_tensors(folder / name), checked=not options)


def _make_shards(folder: Path) -> None:
    from safetensors.numpy import save_file

    tensors = dict(_tensors_of())
    halves = [list(tensors)[::2], list(tensors)[1::2]]
    for index, names in enumerate(halves):
        save_file({name: tensors[name] for name in names}, folder / f"m-{index}.safetensors")
    where = {name: f"m-{index}.safetensors" for index, names in enumerate(halves) for name in names}
    (folder / "m.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _make_keras_shards(folder: Path) -> None:
    model_of(SEED).save_weights(folder / "m.weights.json", max_shard_size=2e-7)


def _make_orbax(folder: Path) -> None:
    import orbax.checkpoint  # type: ignore[import-untyped]

    tree: dict[str, Any] = {}
    for name, value in _tensors_of().items():
        tree.setdefault(name.partition("/")[0], {})[name.partition("/")[2] or "value"] = np.atleast_1d(value)
    orbax.checkpoint.PyTreeCheckpointer().save(folder / "orbax", tree)


def _make_plan(folder: Path) -> None:
    interop.match(model_of(SEED), model_of(SEED + 1)).save(folder / "plan.json")


def _read_plan(folder: Path) -> Values:
    plan = interop.Plan.load(folder / "plan.json")
    str(plan)
    return {"": plan.to_json()}


def _make_record(folder: Path) -> None:
    model = model_of(SEED)
    saver = interop.ModelCheckpoint(folder / "w.npz", "loss", save_best_only=True, save_weights_only=True)
    saver.set_model(model)
    saver.on_epoch_end(0, {"loss": 1.0})
    (folder / "w.npz").unlink()


def _read_record(folder: Path) -> Values:
    saver = interop.ModelCheckpoint(folder / "w.npz", "loss", save_best_only=True, save_weights_only=True)
    return {"": (saver.epoch, saver.best, str(saver.latest))}


def _make_json(folder: Path) -> None:
    (folder / "m.json").write_text(model_of(SEED).to_json())


def _read_json(folder: Path) -> Values:
    return {name: value.shape for name, value in _as_model(folder / "m.json").items()}


def _make_onnx(folder: Path) -> None:
    interop.export_onnx(model_of(SEED), folder / "m.onnx")


READERS: dict[str, Reader] = {
    "checkpoint": _weights("ckpt", checked=True),
    "safetensors": _weights("w.safetensors"),
    "npz": _weights("w.npz", checked=True),
    "weights of .interop": _weights("w.interop", checked=True),
    "weights.h5": _weights("w.weights.h5", hdf5=True),
    "h5": _weights("w.h5", hdf5=True),
    "weights.h5 of Keras": _of_keras("w.weights.h5", _into_model),
    ".keras of Keras": _of_keras("m.keras", _into_model),
    ".keras": _of_keras("m.keras", _as_model),
    ".h5 of Keras": _of_keras("m.h5", _as_model),
    ".json": Reader(_make_json, _read_json),
    "artifact": _artifact("m", _as_model, checked=True),
    ".interop": _artifact("m.interop", _as_model, checked=True),
    "artifact inline": _artifact("m", _as_inline, checked=True),
    "graph": _artifact("m", _as_graph, checked=True),
    "tensors of .keras": _of_keras("m.keras", _as_tensors),
    "tensors of .h5": _of_keras("m.h5", _as_tensors),
    "torch": _torch("w.pt"),
    "torch before 1.6": _torch("w.pth", _use_new_zipfile_serialization=False),
    "shards of Keras": Reader(
        _make_keras_shards, lambda folder: _into_model(folder / "m.weights.json"), hdf5=True
    ),
    "shards": Reader(_make_shards, lambda folder: _as_tensors(folder / "m.safetensors.index.json")),
    "orbax": Reader(_make_orbax, lambda folder: _as_tensors(folder / "orbax")),
    ".onnx": Reader(_make_onnx, lambda folder: _as_imported(folder / "m.onnx")),
    "graph of .onnx": Reader(_make_onnx, lambda folder: _run(folder / "m.onnx")),
    "HDF5 of Keras 2": _fixtures("h5/*.h5", _as_model, hdf5=True),
    "HDF5 of older Keras": _fixtures("old/*/*.h5", _as_model, hdf5=True),
    "SavedModel": _fixtures("saved_model/*/saved_model.pb", _as_model),
    ".keras of Keras 2": _fixtures("keras/*.keras", _as_model, hdf5=True),
    ".json of Keras 2": _fixtures("json/*.json", _as_model),
    "plan": Reader(_make_plan, _read_plan),
    "record": Reader(_make_record, _read_record),
}


def _run(path: Path) -> Values:
    graph = interop.load_graph(path)
    graph(np.ones((2, 3), "float32"))
    return {}
