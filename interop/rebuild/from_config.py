"""A model's JSON and its stored tensors become Keras objects on whatever backend runs.

Enters: the checked ``config.json`` and mappings of key to array. Leaves: a built model with its weights and,
if wanted, compiled with its optimizer's state; and an account of every key.

Invariants: no initializer runs for a variable that has a stored value, so each variable is made once;
arrays of weights are given away: a framework may keep one as a variable's memory;
nothing a file names is imported or run (see ``classes``).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from interop.artifact.signature import Signature, pack
from interop.capture.keras import compat, paths
from interop.capture.keras.assets import restore_assets
from interop.capture.keras.standin import StandIn
from interop.errors import InteropError, RebuildError
from interop.rebuild.classes import Resolver
from interop.rebuild.optimizers import build_optimizer, is_held, prepare_held, restore_held
from interop.status import Change, LoadStatus, Mismatch

if TYPE_CHECKING:
    from interop.rebuild.revival import Reviver

Tensors = Mapping[str, NDArray[Any]]
OPTIMIZER_PREFIX = "optimizer:"


@dataclass(frozen=True)
class Rebuilt:
    """A model and the account of what was loaded into it."""

    model: Any
    status: LoadStatus

    def complete(self, path: Any) -> Any:
        """The model, if everything matched; what is not as the file says is one warning.

        Raises:
            WeightsError: stored tensors and variables do not match.
        """
        self.status.assert_consumed()
        if self.status.revived:
            listed = "; ".join(str(revived) for revived in self.status.revived)
            warnings.warn(
                f"{path}: classes or functions were not found, and what they do was taken from the graph: {listed}. "
                "With them the original comes back: load_model(path, custom_objects={...}). revive=False makes "
                "this an error",
                stacklevel=3,
            )
        if self.status.lost:
            lost = "; ".join(str(change) for change in self.status.lost)
            warnings.warn(f"{path}: not all of it was loaded: {lost}", stacklevel=3)
        return self.model


def rebuild(
    config: Mapping[str, Any],
    weights: Tensors,
    optimizer: Tensors | None = None,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    graph: bytes | None = None,
) -> Rebuilt:
    """Make the model that a config describes and give it its stored values.

    Args:
        config: content of ``config.json``.
        weights: key to array, of ``weights.safetensors``.
        optimizer: the same of ``optimizer.safetensors``; None: the optimizer starts anew.
        custom_objects: name to class or function, for what Keras does not know.
        compile: whether to compile as the saved model was.
        graph: content of ``model.onnx``, from which layers are made whose class is not found; None: not done.

    Raises:
        MissingClassError: classes or functions that were not found and not made from the graph, all of them.
        RebuildError: Keras could not make an object from its config.
        WeightsError: a stored tensor has another shape than its variable.
    """
    described = config["model"]
    resolver = Resolver(custom_objects, None if graph is None else cache(lambda: _reviver(config, graph)))
    prepared = resolver.prepare(described["object"], alone=True)
    quantized = resolver.prepare(described.get("quantization", {}), "its quantisation")
    compiled = _prepare_compile(resolver, described, graph is not None) if compile else None
    held = prepare_held(resolver, described, graph is not None) if compile else {}
    resolver.check()
    stored = {v["key"] for v in config["variables"] if v.get("role") != "constant"}
    with keras.saving.CustomObjectScope(resolver.known), compat.safe_scope():
        with compat.deferred_variables() as made:
            model = staged("made from its config", lambda: make(prepared))
            staged("built", lambda: build(model, config, stored))
        staged("quantised", lambda: quantize(model, quantized))
        objects = paths.walk(model)
        status = fill(dict(sorted(objects.by_key.items())), weights, stored, "")
        initialize_rest(made)
        compat.finish_layers(model)
        restore_assets(model, described.get("assets", {}))
        finalize(model)
        set_trainable(model, config, objects)
        if compiled:
            staged("compiled", lambda: _compile(model, compiled, described.get("optimizer")))
            if optimizer is not None and getattr(model, "optimizer", None) is not None:
                slots = paths.optimizer_variables(model)
                main = {key for key in optimizer if not is_held(key)}
                status += fill(slots, optimizer, main, OPTIMIZER_PREFIX)
            initialize_rest(list(paths.optimizer_variables(model).values()))
        if held:
            staged("given its own optimizers", lambda: restore_held(model, held))
            slots = paths.held_optimizer_variables(model)
            if optimizer is not None:
                status += fill(slots, optimizer, set(filter(is_held, optimizer)), OPTIMIZER_PREFIX)
            initialize_rest(list(slots.values()))
    found = resolver.found
    return Rebuilt(model, status + LoadStatus(changes=tuple(found.changes), revived=tuple(found.revived)))


def _reviver(config: Mapping[str, Any], graph: bytes) -> Reviver:
    """Imported when a class is missing: it takes the whole of onnx."""
    from interop.rebuild.revival import Reviver

    return Reviver(config, graph)


def _prepare_compile(resolver: Resolver, described: Mapping[str, Any], revive: bool) -> Any:
    """How to compile; None where what it needs is missing, and that is no error."""
    mark = resolver.found.mark()
    compiled = resolver.prepare(described.get("compile"), "compile()")
    lost = resolver.found.names_since(mark)
    if revive and lost:
        resolver.found.reset(mark)
    known = set(inspect.signature(keras.Model.compile).parameters)
    if any(not revived.path for revived in resolver.found.revived) and set(compiled or ()) - known:
        lost = ("its own compile()",)
    if revive and lost:
        resolver.found.changes.append(
            Change("compile()", f"uses {', '.join(lost)}", "the model is not compiled", lost=True)
        )
        return None
    return compiled


def staged(what: str, step: Callable[[], Any]) -> Any:
    """Run user and Keras code; wrap what it raises once."""
    try:
        return step()
    except InteropError:
        raise
    except Exception as error:
        raise RebuildError(
            f"the model could not be {what}: {type(error).__name__}: {error}. The graph and the tensors "
            "still open: interop.load_graph(path) and interop.load_tensors(path)"
        ) from error


def make(prepared: Any) -> Any:
    with (
        compat.sharing_scope(),
        compat.keeping_names(),
        compat.counting_calls_anew(),
        compat.linear_sequential(),
        compat.signatures_once(),
        compat.following(prepared),
    ):
        return keras.saving.deserialize_keras_object(prepared, safe_mode=True)


def build(model: Any, config: Mapping[str, Any], stored: set[str]) -> None:
    """Build as Keras would; if variables are still missing, by a symbolic call on the signature."""
    build = config["model"].get("build")
    if build and not model.built:
        with warnings.catch_warnings():
            # Keras warns that the model "cannot be built automatically"; the symbolic call below can.
            warnings.filterwarnings("ignore", message=".*had a build config, but the model")
            model.build_from_config(build)
            model.built = True
    if stored - set(paths.named_variables(model)):
        signature = Signature.from_json(config["signature"])
        inputs = [
            keras.KerasTensor([d if isinstance(d, int) else None for d in spec.shape], dtype=spec.dtype)
            for spec in signature.inputs
        ]
        model(pack(signature.input_structure, inputs))


def quantize(model: Any, quantized: Mapping[str, Any]) -> None:
    """Quantise the layers that the saved model had quantised and that do not come so from their configs."""
    if not quantized:
        return
    found = {path: layer for layer, path in compat.layers_with_paths(model, paths.layer_paths(model))}
    for path in sorted(quantized.keys() & found.keys()):
        if isinstance(found[path], StandIn):
            continue  # its function computes with integers, and its variables are those that were stored
        config = quantized[path]["config"]
        if config is not None:
            config = keras.saving.deserialize_keras_object(config, safe_mode=True)
        compat.quantize_as(found[path], quantized[path]["mode"], config)


def fill(variables: Mapping[str, Any], tensors: Tensors, stored: set[str], prefix: str) -> LoadStatus:
    """Assign by key, in the order of the file, which may still be arriving.

    Variables made without values get theirs directly, others by assignment.
    """
    loaded, mismatched = set(), []
    for key in tensors:
        if key not in variables or key not in stored:
            continue
        variable, array = variables[key], tensors[key]
        fitting = _fitting(array, variable)
        if fitting is None:
            expected = f"{compat.stored_dtype(variable)}{tuple(variable.shape)}"
            mismatched.append(Mismatch(prefix + key, f"{array.dtype.name}{array.shape}", expected))
            continue
        if compat.is_uninitialized(variable):
            compat.initialize(variable, fitting)
        else:
            variable.assign(fitting)
        loaded.add(key)
    filled = tuple(prefix + key for key in variables if key in loaded)
    if mismatched:
        LoadStatus(filled, mismatched=tuple(mismatched)).assert_existing_objects_matched()
    return LoadStatus(
        loaded=filled,
        missing=tuple(prefix + key for key in variables if key not in stored),
        unexpected=tuple(prefix + key for key in sorted(stored - set(variables))),
    )


def _fitting(array: NDArray[Any], variable: Any) -> NDArray[Any] | None:
    """The array in the variable's dtype, or None if it does not fit.

    Integers may change their width: seeds and step counters have another one on each backend. A single number may
    change its kind if it stays the same: Adafactor's unused slots were float32, and are int32 now.
    """
    dtype = np.dtype(_numpy_name(compat.stored_dtype(variable), array))
    if tuple(array.shape) != tuple(variable.shape):
        return None
    if dtype == array.dtype:
        return array
    converts = (dtype.kind in "iu" and array.dtype.kind in "iu") or is_same_number(array, dtype)
    return array.astype(dtype) if converts else None


def is_same_number(array: NDArray[Any], dtype: Any) -> bool:
    """Whether a scalar keeps its value as an integer or float of another type."""
    kinds = "iuf"
    if array.shape != () or array.dtype.kind not in kinds or np.dtype(dtype).kind not in kinds:
        return False
    return bool(np.isfinite(array)) and array.item() == array.astype(dtype).item()


def _numpy_name(name: str, array: NDArray[Any]) -> Any:
    return (
        array.dtype
        if array.dtype.name == name
        else keras.ops.convert_to_numpy(keras.ops.zeros((), name)).dtype
    )


def initialize_rest(variables: list[Any]) -> None:
    """Run the initializers of variables for which nothing was stored.

    Raises:
        RebuildError: one cannot run, for its config is no initializer's.
    """
    for variable in variables:
        if compat.is_uninitialized(variable):
            try:
                compat.initialize(variable)
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as error:
                raise RebuildError(
                    f"nothing is stored for {variable.path!r}, and its initializer cannot run: "
                    f"{type(error).__name__}: {error}. Correct it in the config"
                ) from error


def finalize(model: Any) -> None:
    """Layers that compute with values derived from their variables derive them anew."""
    for layer in compat.all_layers(model):
        is_derived = isinstance(layer, keras.layers.Normalization) and layer.built
        # What Discretization learned is in its config, or else in what was loaded; Keras would forget the first.
        learned = isinstance(layer, keras.layers.Discretization) and layer.summary is not None
        if is_derived or (learned and layer.summary.size):
            layer.finalize_state()


def set_trainable(model: Any, config: Mapping[str, Any], objects: paths.ObjectPaths) -> None:
    """Set the flags of layers from the root down (each sets those below it), then those of variables."""
    layers = config["model"].get("layers", ())
    flags = {layer["path"]: layer["trainable"] for layer in layers if "trainable" in layer}
    found = {path: layer for layer, path in compat.layers_with_paths(model, objects.layers)}
    for path in sorted(flags.keys() & found.keys()):
        if found[path].trainable != flags[path]:
            found[path].trainable = flags[path]
    for record in config["variables"]:
        variable = objects.by_key.get(record["key"])
        flag = record.get("trainable")
        if variable is not None and flag is not None and variable.trainable != flag:
            variable.trainable = flag


def _compile(model: Any, compiled: Any, optimizer: Mapping[str, Any] | None) -> None:
    """Compile, and make the optimizer's variables for the model's variables it had them for."""
    if compat.compiles_its_own_way(model):
        model.compile_from_config(compiled)
    else:
        model.compile(**keras.saving.deserialize_keras_object(compiled, safe_mode=True))
    if optimizer and getattr(model, "optimizer", None) is not None:
        build_optimizer(model.optimizer, optimizer, paths.named_variables(model))
