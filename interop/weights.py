"""The weights of a Keras model on disk: ``save_weights`` and ``load_weights``.

Enters: a model and a path. Leaves: a file that appears whole or not at all; or a model with the file's values, and a
`LoadStatus` that accounts for every tensor and every variable.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from interop.errors import FormatError, WeightsError

if TYPE_CHECKING:
    from interop.formats.source import TensorSource
    from interop.rebuild.weights.object_graph import StoredGraph
    from interop.status import LoadStatus

WeightsFormat = Literal["tf", "h5", "safetensors", "npz", "interop"]
Only = str | re.Pattern[str] | Callable[[str, Any], bool]

_ENDINGS = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".h5": "h5",
    ".hdf5": "h5",
    ".keras": "keras",
    ".interop": "interop",
    ".index": "tf",
}
_FOREIGN = frozenset(
    {".onnx", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".json", ".msgpack", ".tflite", ".pb"}
)

_HDF5_HEADER_BYTES = 4096
"""More than HDF5 writes beside the values of a dataset, with its attributes and its place in a group."""


def save_weights(
    model: Any,
    path: str | os.PathLike[str],
    *,
    format: WeightsFormat | None = None,
    only: Only | None = None,
    include_optimizer: bool = False,
) -> Path:
    """Save the weights of a built Keras model, and its optimizer's state if that is asked for.

    ========================  ================================================================================
    ``.safetensors``          by object path; mapped in place when read
    ``.npz``                  by object path; NumPy alone reads it
    ``.weights.h5``           in Keras 3's layout, which ``model.load_weights`` reads, with object paths besides
    ``.h5``, ``.hdf5``        in Keras 2's layout, by layer name
    ``.interop``              the whole artifact, as ``save_model`` writes it
    anything else             a TensorFlow checkpoint of that prefix: TensorFlow and Keras 2 restore it
    ========================  ================================================================================

    Args:
        model: any built ``keras.Model`` or layer.
        path: where; what is there is replaced in one step.
        format: ``"tf"``, ``"h5"``, ``"safetensors"``, ``"npz"`` or ``"interop"``, where the ending is not to say.
        only: which variables: ``"trainable"``, a regular expression that is searched for in the object path, or a
            function of the path and the variable. An artifact always holds all.
        include_optimizer: also save what the optimizer keeps for those variables, its step and its learning rate, so
            that training goes on where it stopped. Every format holds it: a checkpoint and a ``.weights.h5`` as Keras
            has it, others under ``optimizer:<object path>/<slot>``.

    Returns:
        The path; of a checkpoint, its prefix.

    Raises:
        WeightsError: the model has no variables yet, or none is wanted; or it is not compiled, and the state of its
            optimizer is.
        FormatError: the format cannot hold a dtype of the model, or the ending belongs to another kind of file.
        OSError: the disk is full or fails; what stood there is intact.
    """
    from interop.backend import choose_backend

    choose_backend()
    _check(model)
    path = Path(path)
    kind = _format(path, format)
    if kind == "keras":
        raise FormatError(f"{path}: a .keras file holds a whole model: use model.save, or another ending")
    if kind == "keras_shards":
        raise FormatError(
            f"{path}: weights are not saved in shards here: use .weights.h5, or model.save_weights"
        )
    from interop.capture.keras import compat, paths

    if include_optimizer and compat.optimizer_of(model) is None:
        raise WeightsError(
            f"{model.name!r} is not compiled, so it has no optimizer whose state could be saved"
        )
    if kind == "interop":
        return _save_artifact(model, path, only, include_optimizer=include_optimizer)
    wanted = _selection(only)
    named = {key: v for key, v in paths.named_variables(model).items() if wanted(key, v)}
    if not named:
        raise WeightsError(
            f"{model.name!r} has no variables to save"
            + ("; call or build it first" if only is None else f" that only={only!r} selects")
        )
    if include_optimizer:
        named |= _state(model, named)
    if kind == "tf":
        _save_checkpoint(
            model,
            path.with_name(path.name.removesuffix(".index")),
            named,
            skip=None if include_optimizer else compat.optimizer_of(model),
        )
        return path
    from interop.artifact.publish import stage_file
    from interop.formats import npz, safetensors
    from interop.rebuild.weights.layer_order import metadata

    with stage_file(path) as staging:
        if kind == "h5":
            _make_room(staging.descriptor, [Source(variable) for variable in named.values()])
        if kind == "h5" and path.name.endswith(".weights.h5"):
            from interop.rebuild.weights.keras_layout import write_keras_layout

            write_keras_layout(model, staging.path, named)
        elif kind == "h5":
            from interop.rebuild.weights.legacy_layout import write_legacy_layout

            write_legacy_layout(model, staging.path, named)
        else:
            write: Any = safetensors.write if kind == "safetensors" else npz.write
            with os.fdopen(os.dup(staging.descriptor), "wb") as file:
                write(file, {key: Source(v) for key, v in named.items()}, metadata(model))
        staging.publish()
    return path


def load_weights(
    model: Any,
    path: str | os.PathLike[str],
    *,
    format: WeightsFormat | Literal["keras", "keras_shards"] | None = None,
    skip_mismatch: bool = False,
    by_order: bool = False,
) -> LoadStatus:
    """Load the weights of a Keras model, by name.

    Values find their variables by object path, or by the object graph of a checkpoint, not by their order alone.
    Floats are cast to the variable's dtype. What a file has for layers that are not built yet is assigned when
    they are (``status.deferred``). Seeds that a file leaves out are not missing.

    The state of an optimizer is restored into a compiled model, whose optimizer is built for it if the model is; where
    a file has none, the optimizer stays as it is. A model that is not compiled has nothing that could take it: it is
    unexpected then, but for that of an artifact, which lies in a file of its own.

    Args:
        model: any ``keras.Model`` or layer, built or not.
        path: a file of ``save_weights``; a checkpoint or SavedModel of TensorFlow; a ``.weights.h5``, ``.keras``,
            weights ``.h5`` or ``.weights.json`` file (an index of shards) of Keras.
        format: as in ``save_weights``, where the ending does not tell.
        skip_mismatch: leave out, instead of raising, what has another shape, or what the file does not tell apart.
        by_order: in a ``.weights.h5`` or ``.keras`` file of Keras, take layers of one class and shape by their numbers,
            where those are all that Keras stores of them (layers in attributes that sort after ``layers``). That is
            right if their class makes them in the order that it had when the file was saved: if ``q`` and ``v`` have
            changed places since, they get each other's values. In any file that says in which order its layers come:
            take layers that have names by Keras by this order, where the names say something else.

    Returns:
        What became of every tensor and variable. What is missing or unexpected is only listed:
        ``.assert_consumed()`` raises for it.

    Raises:
        WeightsError: a shape differs, tensors are ambiguous, or nothing in the file belongs to the model. Nothing
            was assigned then.
        FormatError: the file is damaged or of another format; DigestError: an artifact was changed.
        FileNotFoundError: nothing is at `path`.
    """
    from interop.backend import choose_backend

    choose_backend()
    _check(model)
    from interop.capture.keras import compat
    from interop.formats import require
    from interop.formats.keras_zip import is_unzipped
    from interop.rebuild.weights.loading import load
    from interop.rebuild.weights.stored import open_stored

    path = Path(path)
    required = require(path)
    prefix = required if format in (None, "tf") else None
    folder = format is None and path.is_dir()
    in_folder = "keras" if folder and is_unzipped(path) else "interop"
    kind = "tf" if prefix else in_folder if folder else _format(path, format)
    stored = open_stored(model, prefix or path, kind, by_order=by_order)
    optimizer = compat.optimizer_of(model)
    try:
        if stored.has_state and not optimizer.built and not compat.unbuilt(model):
            optimizer.build(model.trainable_variables)
        roots = [model, optimizer] if stored.has_state else [model]
        return load(stored.tensors, stored.match, roots, skip_mismatch=skip_mismatch)
    except BaseException:
        stored.tensors.close()
        raise


@dataclass(frozen=True)
class Source:
    """A variable, read when it is written, in its own dtype or another."""

    variable: Any
    written: str | None = None

    @property
    def dtype(self) -> str:
        from interop.capture.keras import compat

        return self.written or compat.variable_dtype(self.variable)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(dim) for dim in self.variable.shape)

    def read(self) -> NDArray[Any]:
        from interop.capture.keras import compat

        value = compat.variable_value(self.variable)
        return value if self.written is None else value.astype(self.written)


def _make_room(descriptor: int, sources: Sequence[Source]) -> None:
    """Raise OSError where a disk has no room: HDF5's library may crash the process when a write of its own fails."""
    from interop.formats.dtypes import size_bytes

    if not hasattr(os, "posix_fallocate"):
        return
    needed = sum(size_bytes(source.dtype, source.shape) + _HDF5_HEADER_BYTES for source in sources)
    try:
        os.posix_fallocate(descriptor, 0, needed + _HDF5_HEADER_BYTES)
    except OSError as error:
        if error.errno not in (
            errno.EOPNOTSUPP,
            errno.EINVAL,
            errno.ENOSYS,
        ):  # a file system that cannot tell
            raise
    os.ftruncate(descriptor, 0)


def graph_sources(stored: StoredGraph) -> dict[str, TensorSource]:
    """What is written of a graph: its variables and itself."""
    from interop.rebuild.weights.object_graph import graph_source

    sources: dict[str, TensorSource] = {
        key: Source(variable, "int64" if key in stored.counters else None)
        for key, variable in stored.variables.items()
    }
    return sources | graph_source(stored.graph)


def _check(model: Any) -> None:
    import keras

    if not isinstance(model, keras.Layer):
        raise WeightsError(
            "weights are those of a keras.Model or a layer; other objects are saved with interop.Checkpoint. "
            f"Received: {type(model).__name__}"
        )


def _format(path: Path, format: str | None) -> str:
    if format is not None:
        known = {"tf", "h5", "safetensors", "npz", "interop", "keras", "keras_shards"}
        if format not in known:
            raise FormatError(f"format is one of {', '.join(sorted(known))}. Received: format={format!r}")
        return format
    if path.name.lower().endswith(".weights.json"):
        return "keras_shards"
    ending = path.suffix.lower()
    if ending in _FOREIGN:
        raise FormatError(
            f"{path}: weights are not saved as {ending}; choose another ending or give format=..."
        )
    return _ENDINGS.get(ending, "tf")


def _selection(only: Only | None) -> Callable[[str, Any], bool]:
    if only is None:
        return lambda key, variable: True
    if only == "trainable":
        return lambda key, variable: bool(variable.trainable)
    if isinstance(only, str | re.Pattern):
        try:
            pattern = re.compile(only)
        except re.error as error:
            raise WeightsError(f"only={only!r} is no regular expression: {error}") from error
        return lambda key, variable: pattern.search(key) is not None
    if not callable(only):
        raise WeightsError(
            f"only is 'trainable', a regular expression or a function of path and variable. Received: only={only!r}"
        )
    return only


def _state(model: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a model's optimizer by the keys they have beside weights: those for `named`, and scalars."""
    from interop.capture.keras import paths
    from interop.rebuild.from_config import OPTIMIZER_PREFIX

    left = paths.named_variables(model).keys() - named.keys()
    return {
        OPTIMIZER_PREFIX + key: variable
        for key, variable in paths.optimizer_variables(model).items()
        if key.rpartition("/")[0] not in left
    }


def _save_artifact(model: Any, path: Path, only: Only | None, *, include_optimizer: bool) -> Path:
    if only is not None:
        raise WeightsError(f"an artifact holds all weights of a model. Received: only={only!r} with {path}")
    from interop.saving import save_model

    return save_model(model, path, include_optimizer=include_optimizer).path


def _save_checkpoint(model: Any, prefix: Path, named: Mapping[str, Any], *, skip: Any) -> None:
    from interop.artifact.checkpoints import write_checkpoint
    from interop.rebuild.weights.object_graph import graph_of

    wanted = {id(variable) for variable in named.values()}
    stored = graph_of(model, lambda variable: id(variable) in wanted, skip=skip)
    write_checkpoint(prefix, graph_sources(stored))
