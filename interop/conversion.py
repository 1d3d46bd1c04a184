"""A model file in one form becomes one in another: ``convert``.

Enters: the path of a model's file or an artifact, or what makes a model. Leaves: an artifact, an ``.onnx``
or a ``.keras`` file, and a ``Conversion`` that says whether it still computes the same.

Invariants: the destination appears complete or not at all; what can be done without Keras (an artifact
to ``.onnx`` or to its other form) is done without.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interop.artifact.bundle import Bundle, open_bundle
from interop.artifact.writing import write_bundle
from interop.capture.dispatch import framework_of
from interop.errors import InteropError
from interop.exporting import (
    Precision,
    Written,
    compared,
    kind_of,
    opened,
    precision_of,
    reference_of,
    size_bytes,
    staged,
    write_graph,
    write_model,
)
from interop.formats import TensorMapping, find_prefix, npz, safetensors
from interop.formats.source import ArraySource, MappedSource
from interop.formats.tensorbundle.elements import STRING
from interop.formats.tensorbundle.objects import VALUE_SUFFIX
from interop.graph.passes import inlined, optimized
from interop.parity import ParityReport
from interop.status import ImportReport

_FACTORY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


_TENSOR_WRITERS = {".safetensors": safetensors.write, ".npz": npz.write}
_TEXTS = frozenset({STRING, "object"})
_WEIGHTS = (".weights.h5", ".ckpt")


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    Attributes:
        source: what was converted.
        destination: what was written.
        size_bytes: bytes written.
        seconds: time taken, without the comparison.
        parity: the comparison of the two; None if it was not asked for.
        imported: what became of the nodes of an ONNX graph.
    """

    source: Path
    destination: Path
    size_bytes: int
    seconds: float
    parity: ParityReport | None = None
    imported: ImportReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "source": str(self.source),
            "destination": str(self.destination),
            "size_bytes": self.size_bytes,
            "seconds": self.seconds,
            "parity": None if self.parity is None else self.parity.to_json(),
            "imported": None if self.imported is None else asdict(self.imported),
        }

    def __str__(self) -> str:
        lines = [f"wrote {self.destination}: {self.size_bytes / 1e6:.1f} MB in {self.seconds:.1f} s"]
        if self.imported is not None:
            lines += self.imported.lines()
        if self.parity is not None:
            lines.append(str(self.parity))
            if self.parity.vacuous:
                lines.append(
                    "the comparison proves nothing: give real inputs to compare on, or do without it"
                )
        return "\n".join(lines)


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    opset: int | None = None,
    dtype: str | None = None,
    io_dtype: str | None = None,
    include_optimizer: bool = True,
    config: bool = True,
    overwrite: bool = True,
    verify: bool = True,
    inputs: Any = None,
    progress: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert a model file into another form.

    ======================  =============================================================
    from                    to
    ======================  =============================================================
    ``.keras``, ``.h5``     artifact, ``.onnx``, ``.keras``, ``.h5``
    SavedModel of Keras 2   artifact, ``.onnx``, ``.keras``, ``.h5``
    artifact                ``.keras``, ``.h5``, ``.onnx``, artifact (directory to zip and back)
    other SavedModels       artifact, ``.onnx``, ``.keras``, ``.h5``: stock layers, through TensorFlow and tf2onnx
    ``.tflite``             artifact, ``.onnx``, ``.keras``, ``.h5``: stock layers
    ``.onnx``               ``.keras``, ``.h5``, artifact: stock layers that train, as from ``import_onnx``
    ``package.module:name`` artifact, ``.onnx``, ``.keras``, ``.h5``: of a model of Keras its own layers, of one of
                            PyTorch, JAX or TensorFlow stock layers that train
    any file of tensors     ``.safetensors``, ``.npz``: its tensors by name, no framework needed
    any model, graph        ``.weights.h5``, ``.ckpt``: the weights of its layers, as from ``save_weights``
    ======================  =============================================================

    Args:
        src: the file, an artifact in either form, or the prefix of a TensorFlow checkpoint.
            ``package.module:name`` is imported and called: it returns a model of any framework, or a pair of a
            model and its ``input_signature``.
        dst: a path ending in ``.onnx``, ``.keras``, ``.h5``, ``.interop``, ``.safetensors``, ``.npz``,
            ``.weights.h5`` or ``.ckpt`` (a TensorFlow checkpoint); any other path is a directory.
        opset: ONNX opset, 17 to 23, where a graph is made.
        dtype: float type of an ``.onnx`` file, as in ``export_onnx``.
        io_dtype: of its inputs and outputs, as in ``export_onnx``.
        include_optimizer: keep the optimizer's state in an artifact.
        config: keep a Keras model's config in an ``.onnx`` file, as in ``export_onnx``.
        overwrite: replace what is at `dst`.
        verify: compare the result with the source.
        inputs: inputs to compare on; made from the signature when None.
        progress: told what is being done.

    Returns:
        What was written; its ``parity`` is to be looked at, as a difference does not raise.

    Raises:
        InteropError: there is no way from one form to the other, or a step failed.
        FileNotFoundError: nothing is at `src`.
        FileExistsError: something is at `dst` and `overwrite` is false, or it holds foreign files.
    """
    factory = _FACTORY.fullmatch(os.fspath(src))
    src, dst = Path(src), Path(dst)
    say = progress or (lambda what: None)
    prefix = find_prefix(src)
    if not src.exists() and not factory and prefix is None:
        raise FileNotFoundError(f"{src} does not exist")
    if dst.exists() and not overwrite:
        raise FileExistsError(f"{dst} exists already and overwrite is off")
    if dst.exists() and src.exists() and dst.samefile(src):
        raise InteropError(f"{src} and {dst} are the same file; choose another destination")
    precision = precision_of(dtype, io_dtype)
    if precision is not None and kind_of(dst) != "onnx":
        raise InteropError(f"dtype is for .onnx files. Received: dtype={dtype!r} with {dst}")
    if dst.suffix in _TENSOR_WRITERS and (src.exists() or prefix is not None):
        return _convert_tensors(src, dst, say, verify=verify)
    if dst.name.endswith(_WEIGHTS) and src.exists():
        return _convert_weights(src, dst, say, verify=verify)
    if not src.exists() and prefix is not None:
        raise InteropError(
            f"{src} is a checkpoint: it has tensors, but no model. It becomes .safetensors or .npz, or is loaded into "
            "a model by interop.load_weights"
        )
    source_kind = "factory" if factory and not src.exists() else kind_of(src)
    started = time.perf_counter()
    written, imported = Written(src), None
    if source_kind == "artifact":
        written = _convert_artifact(src, dst, opset, precision, include_optimizer, say)
    elif source_kind == "onnx":
        imported = _convert_graph(src, dst, say)
    else:
        say(f"loading {src}")
        model, signature = _call(factory) if source_kind == "factory" and factory else (opened(src), None)
        if not _is_direct(model, dst):
            return _convert_through_artifact(
                model, signature, src, dst, opset, say, started, inputs, verify=verify
            )
        say(f"writing {dst}")
        written = _convert_model(model, signature, dst, opset, precision, include_optimizer, config)
    seconds = time.perf_counter() - started
    parity = None
    if verify:
        say(f"comparing {dst} with {src}")
        parity = compared(written, dst, precision, inputs)
    return Conversion(src, dst, size_bytes(dst), seconds, parity, imported)


def _convert_tensors(src: Path, dst: Path, say: Callable[[str], None], *, verify: bool) -> Conversion:
    """Write the tensors of a file under their names; texts, such as a checkpoint's object graph, are left out."""
    from interop.artifact.publish import stage_file
    from interop.loading import load_tensors

    started = time.perf_counter()
    with load_tensors(src) as tensors, stage_file(dst) as staging:
        names = {key.removesuffix(VALUE_SUFFIX): key for key in tensors if tensors.dtypes[key] not in _TEXTS}
        if len(names) < sum(dtype not in _TEXTS for dtype in tensors.dtypes.values()):
            raise InteropError(f"{src} has two tensors of one name")
        say(f"writing {dst}")
        with os.fdopen(os.dup(staging.descriptor), "wb") as file:
            _TENSOR_WRITERS[dst.suffix](
                file, {name: MappedSource(tensors, key) for name, key in names.items()}
            )
        staging.publish()
    seconds = time.perf_counter() - started
    if verify:
        say(f"comparing {dst} with {src}")
        with load_tensors(src) as tensors, load_tensors(dst) as written:
            for name, key in names.items():
                if written[name].tobytes() != tensors[key].tobytes():
                    raise InteropError(f"{dst}: {name!r} is not what {src} has")
    return Conversion(src, dst, size_bytes(dst), seconds)


def _convert_weights(src: Path, dst: Path, say: Callable[[str], None], *, verify: bool) -> Conversion:
    """Write the weights of a file's Keras model, in a format of Keras or TensorFlow."""
    from interop.capture.keras import compat
    from interop.importing import import_onnx
    from interop.loading import load_model
    from interop.weights import load_weights, save_weights

    started = time.perf_counter()
    say(f"loading {src}")
    graph = kind_of(src) == "onnx"
    model = import_onnx(src) if graph else load_model(src, inline=_is_foreign(src))
    say(f"writing {dst}")
    save_weights(model, dst)
    seconds = time.perf_counter() - started
    if verify:
        say(f"comparing {dst} with {src}")
        before = [compat.to_numpy(variable).copy() for variable in model.weights]
        load_weights(model, dst).assert_consumed()
        for variable, value in zip(model.weights, before, strict=True):
            if compat.to_numpy(variable).tobytes() != value.tobytes():
                raise InteropError(f"{dst}: {variable.path!r} is not what {src} has")
    written = [dst] if dst.is_file() else sorted(dst.parent.glob(f"{dst.name}.*"))
    return Conversion(src, dst, sum(file.stat().st_size for file in written), seconds)


def _convert_graph(src: Path, dst: Path, say: Callable[[str], None]) -> ImportReport:
    """Write the layers that a plain ONNX graph becomes."""
    if (kind := kind_of(dst)) not in ("keras", "artifact"):
        raise InteropError(
            f"{src} is a plain ONNX graph: there is no way from it to {kind}. Its layers are written as .keras, .h5 "
            "or an artifact; it opens as it is with interop.load_graph"
        )
    from interop.importing import import_onnx
    from interop.saving import save_model

    reports: list[ImportReport] = []
    say(f"loading {src}")
    model = import_onnx(src, report=reports)
    say(f"writing {dst}")
    if kind == "keras":
        _write_keras(model, dst)
    else:
        save_model(model, dst)
    return reports[0]


def _call(factory: re.Match[str]) -> tuple[Any, Any]:
    """The model that ``package.module:factory`` makes, and its input signature if it returns a pair."""
    module, name = factory.groups()
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InteropError(
            f"{module}:{name} was not found: {error}. It names a module that Python can import from here, and a "
            "function in it that takes no arguments and returns a model, or a model and its input_signature"
        ) from error
    made = found()
    return made if isinstance(made, tuple) and len(made) == 2 else (made, None)


def _convert_model(
    model: Any,
    signature: Any,
    dst: Path,
    opset: int | None,
    precision: Precision | None,
    include_optimizer: bool,
    config: bool,
) -> Written:
    kind = kind_of(dst)
    if kind == "onnx":
        with staged(dst) as folder:
            return write_model(model, folder / dst.name, signature, opset, precision, config=config)[1]
    if kind == "artifact":
        from interop.saving import save_model

        save_model(model, dst, input_signature=signature, opset=opset, include_optimizer=include_optimizer)
    elif framework_of(model) == "keras":
        _write_keras(model, dst)
    elif isinstance(model, Path) and model.is_dir():  # a SavedModel, whose function becomes layers
        from interop.loading import load_model

        _write_keras(load_model(model), dst)
    return Written(reference_of(model, None))


def _is_direct(model: Any, dst: Path) -> bool:
    """Whether a model has a form of its own at `dst`."""
    if dst.suffix in _TENSOR_WRITERS or dst.name.endswith(_WEIGHTS):
        return False
    is_keras = framework_of(model) == "keras" or (isinstance(model, Path) and model.is_dir())
    return is_keras or kind_of(dst) != "keras"


def _convert_through_artifact(
    model: Any,
    signature: Any,
    src: Path,
    dst: Path,
    opset: int | None,
    say: Callable[[str], None],
    started: float,
    inputs: Any,
    *,
    verify: bool,
) -> Conversion:
    """Write the tensors of a model, or the layers that its graph becomes: what an artifact of it has."""
    from interop.saving import save_model

    with tempfile.TemporaryDirectory(prefix="interop-") as folder:
        artifact = Path(folder) / "model.interop"
        say(f"capturing {src}")
        save_model(model, artifact, input_signature=signature, opset=opset)
        holds_values = dst.suffix in _TENSOR_WRITERS or dst.name.endswith(_WEIGHTS)
        made = convert(artifact, dst, verify=verify and holds_values, progress=say)
        with open_bundle(artifact, verify_digest=False) as bundle:
            captured = bundle.signature
    seconds = time.perf_counter() - started
    parity = None
    if verify and not holds_values:
        say(f"comparing {dst} with {src}")
        parity = compared(Written(reference_of(model, captured)), dst, None, inputs)
    return Conversion(src, dst, made.size_bytes, seconds, parity, made.imported)


def _convert_artifact(
    src: Path,
    dst: Path,
    opset: int | None,
    precision: Precision | None,
    include_optimizer: bool,
    say: Callable[[str], None],
) -> Written:
    kind = kind_of(dst)
    if kind == "keras":
        from interop.loading import load_model

        say(f"loading {src}")
        model = load_model(src, inline=_is_foreign(src))
        say(f"writing {dst}")
        _write_keras(model, dst)
        return Written(src)
    say(f"writing {dst}")
    with open_bundle(src, verify_digest=True) as bundle:
        if opset not in (None, bundle.config["opset"]):
            has = bundle.config["opset"]
            raise InteropError(
                f"{src} has opset {has}; for opset {opset}, convert the model it was made from"
            )
        if kind == "onnx":
            return Written(src, _write_flat(bundle, dst, precision), bundle.signature)
        _repack(bundle, dst, include_optimizer)
    return Written(src)


def _is_foreign(src: Path) -> bool:
    """Whether a path is an artifact without layers of Keras, as of a model of PyTorch."""
    if kind_of(src) != "artifact":
        return False
    with open_bundle(src, verify_digest=False) as bundle:
        return bundle.framework != "keras"


def _write_keras(model: Any, dst: Path) -> None:
    from interop.capture.keras import compat

    if dst.suffix not in (".keras", ".h5", ".hdf5"):
        raise InteropError(f"{dst} has no ending of a Keras file; choose .keras or .h5")
    if dst.suffix != ".keras" and not (compat.is_sequential(model) or compat.is_functional(model)):
        raise InteropError(
            f"{dst}: HDF5 holds Sequential and Functional models, and {type(model).__name__} is neither; "
            "choose .keras or .interop"
        )
    with staged(dst) as folder, compat.complete_configs():
        model.save(folder / dst.name)


def _repack(bundle: Bundle, dst: Path, include_optimizer: bool) -> None:
    """Write the same artifact in the form that `dst` asks for."""
    optimizer = bundle.optimizer if include_optimizer else None
    config = {key: value for key, value in bundle.config.items() if key not in ("files", "digest")}
    write_bundle(
        dst,
        config=config,
        graph=lambda placements: bundle.graph_bytes(),  # the layout of weights depends on nothing else
        weights=_sources(bundle.weights),
        optimizer=None if optimizer is None else _sources(optimizer),
    )


def _sources(tensors: TensorMapping) -> dict[str, ArraySource]:
    return {name: ArraySource(array) for name, array in tensors.items()}


def _write_flat(bundle: Bundle, dst: Path, precision: Precision | None) -> Any:
    """Write the artifact's graph as a plain one, with weights of its own; returns what ``write_graph`` does."""
    import onnx_ir as ir

    from interop.graph.serialized import deserialized

    model = inlined(deserialized(bundle.graph_bytes()))
    for name, value in model.graph.initializers.items():
        value.const_value = ir.tensor(bundle.weights[name], name=name)
    with staged(dst) as folder:
        return write_graph(optimized(model), folder / dst.name, precision)
