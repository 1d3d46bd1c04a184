"""Files of Keras 3 itself: ``.keras``, and the JSON of ``model.to_json()``.

Enters: a path. Leaves: a model. Keras' own reader makes it, after every class the file names was found, so
that it never imports a module to look for one. What it leaves at its initial state in silence is reported.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from interop.capture.keras import compat, paths
from interop.capture.keras.describe import LAMBDA
from interop.errors import FormatError, RebuildError
from interop.formats import TensorMapping, open_tensors
from interop.rebuild.classes import Resolver
from interop.rebuild.from_config import OPTIMIZER_PREFIX, Rebuilt, fill, initialize_rest, staged
from interop.rebuild.legacy.compilation import build_optimizer
from interop.rebuild.optimizers import orders
from interop.status import Change, LoadStatus


def load_keras(
    path: Path, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None, compile: bool
) -> Rebuilt:
    """The model in a ``.keras`` file of Keras 3.

    Raises:
        MissingClassError: classes or functions that were not passed, all of them.
        RebuildError: Keras could not read it.
        FormatError: the weights in it are damaged.
    """
    resolver = Resolver(custom_objects)
    prepared = resolver.prepare({key: value for key, value in config.items() if key != "compile_config"})
    compiled = resolver.prepare(_portable(config.get("compile_config")), "compile()") if compile else None
    resolver.check()
    with (
        open_tensors(path, "keras") as tensors,  # checks the whole of it
        keras.saving.CustomObjectScope(resolver.known),
        compat.safe_scope(),
        compat.following(config),
        warnings.catch_warnings(),
        _without_code(path, config, prepared) as readable,
    ):
        warnings.filterwarnings("ignore", message=".*had a build config, but the model")
        model = staged("read", lambda: keras.saving.load_model(readable, compile=False, safe_mode=True))
        roles = paths.variable_roles(model)
        status = LoadStatus(
            loaded=tuple(key for key in paths.named_variables(model) if roles[key] == "weight")
        )
        if compiled:
            staged("compiled", lambda: _compile(model, compiled))
            status += _load_optimizer(model, tensors)
    return Rebuilt(model, status)


@contextmanager
def _without_code(path: Path, config: Any, prepared: Any) -> Iterator[Path]:
    """A file whose lambdas are the functions that were passed by their layers' names; the same one if it has none."""
    if LAMBDA not in json.dumps(config) or not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(written, "w") as new:
            for entry in old.infolist():
                if entry.filename == "config.json":
                    new.writestr(entry, json.dumps(prepared))
                else:
                    with old.open(entry) as source, new.open(entry, "w") as target:
                        shutil.copyfileobj(source, target)
        yield written


def _portable(config: Any) -> Any:
    """A config whose optimizers are not those of one backend."""
    if isinstance(config, list):
        return [_portable(item) for item in config]
    if not isinstance(config, dict):
        return config
    made = {key: _portable(item) for key, item in config.items()}
    module = made.get("module")
    if isinstance(module, str) and module.startswith("keras.src.backend.") and "optimizer" in module:
        made.update(module="keras.optimizers", registered_name=None)
    return made


def _compile(model: Any, compiled: Mapping[str, Any]) -> None:
    if compat.compiles_its_own_way(model):
        model.compile_from_config(compiled)
    else:
        model.compile(**keras.saving.deserialize_keras_object(compiled, safe_mode=True))
    build_optimizer(model)


def _load_optimizer(model: Any, tensors: TensorMapping) -> LoadStatus:
    """The optimizer's variables in their order, with those of an optimizer inside."""
    if model.optimizer is None:
        return LoadStatus()
    own = paths.optimizer_variables(model)
    keys = {id(variable): key for key, variable in own.items()}
    for order in orders(model.optimizer, model.optimizer.variables):
        ordered = {keys[id(v)]: f"optimizer/{i}" for i, v in enumerate(order) if id(v) in keys}
        found = {key: tensors[name] for key, name in ordered.items() if name in tensors}
        fits = all(found[key].shape == tuple(own[key].shape) for key in found)
        if len(found) == len(own) and fits:
            return fill(own, found, set(found), OPTIMIZER_PREFIX)
    initialize_rest(list(own.values()))
    kept = sum(name.startswith("optimizer/") for name in tensors)
    where = f"optimizer {type(model.optimizer).__name__}"
    what = f"its state: {kept} stored tensors for {len(own)} variables"
    return LoadStatus(changes=(Change(where, what, "starts anew", lost=True),))


def load_json(config: Mapping[str, Any], source: str, custom_objects: Mapping[str, Any] | None) -> Rebuilt:
    """The model that a JSON of Keras 3 describes, with new weights.

    Raises:
        FormatError: it describes none.
        MissingClassError, RebuildError: as for `load_keras`.
    """
    if not {"class_name", "config"} <= config.keys():
        raise FormatError(f"{source} has no class name and config; expected what model.to_json() gives")
    resolver = Resolver(custom_objects)
    prepared = resolver.prepare({key: value for key, value in config.items() if key != "compile_config"})
    resolver.check()
    with keras.saving.CustomObjectScope(resolver.known), compat.safe_scope(), compat.following(prepared):
        model = staged(
            "made from its config", lambda: keras.saving.deserialize_keras_object(prepared, safe_mode=True)
        )
    if not isinstance(model, keras.Model):
        raise RebuildError(f"{source} describes a {type(model).__name__}; expected a model")
    return Rebuilt(model, LoadStatus())
