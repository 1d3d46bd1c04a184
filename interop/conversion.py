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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interop.artifact.bundle import ArraySource, Bundle, open_bundle, write_bundle
from interop.artifact.files import is_zip
from interop.artifact.signature import Signature
from interop.backend import choose_backend
from interop.capture.dispatch import capture_any, framework_of, is_tensorflow_path, runnable
from interop.capture.records import Capture
from interop.errors import InteropError
from interop.formats import TensorMapping
from interop.garbage import uncollected
from interop.graph.file import write_file
from interop.graph.kernels import float64_gaps
from interop.graph.passes import inlined, optimized
from interop.graph.passes.precision import converted
from interop.parity import ParityReport, ParityRow
from interop.parity import verify as compare
from interop.parity.precision import verify_precision
from interop.parity.sides import ForeignSide, KerasSide
from interop.status import ExportSummary

Kind = Literal["artifact", "onnx", "keras", "tensorflow"]

_FACTORY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")

#: Weights up to this size go into the ``.onnx`` file, larger ones beside it: protobuf ends at 2 GiB.
EMBED_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    Attributes:
        source: what was converted.
        destination: what was written.
        size_bytes: bytes written.
        seconds: time taken, without the comparison.
        parity: the comparison of the two; None if it was not asked for.
    """

    source: Path
    destination: Path
    size_bytes: int
    seconds: float
    parity: ParityReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "source": str(self.source),
            "destination": str(self.destination),
            "size_bytes": self.size_bytes,
            "seconds": self.seconds,
            "parity": None if self.parity is None else self.parity.to_json(),
        }

    def __str__(self) -> str:
        lines = [f"wrote {self.destination}: {self.size_bytes / 1e6:.1f} MB in {self.seconds:.1f} s"]
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
    overwrite: bool = True,
    verify: bool = True,
    inputs: Any = None,
    progress: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert a model file into another form.

    ======================  =============================================================
    from                    to
    ======================  =============================================================
    ``.keras``, ``.h5``     artifact, ``.onnx``, ``.keras``
    artifact                ``.keras``, ``.onnx``, artifact (directory to zip and back)
    SavedModel, ``.tflite`` artifact, ``.onnx``
    ``package.module:name`` artifact, ``.onnx``; ``.keras`` if it makes a Keras model
    ======================  =============================================================

    Args:
        src: the file, or an artifact in either form. ``package.module:name`` is imported and called: it returns
            a model of any framework, or a pair of a model and its ``input_signature``.
        dst: a path ending in ``.onnx``, ``.keras`` or ``.interop``; any other path is a directory.
        opset: ONNX opset, 17 to 23, where a graph is made.
        dtype: float type of an ``.onnx`` file, as in ``export_onnx``.
        io_dtype: of its inputs and outputs, as in ``export_onnx``.
        include_optimizer: keep the optimizer's state in an artifact.
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
    if not src.exists() and not factory:
        raise FileNotFoundError(f"{src} does not exist")
    if dst.exists() and not overwrite:
        raise FileExistsError(f"{dst} exists already and overwrite is off")
    if dst.exists() and src.exists() and dst.samefile(src):
        raise InteropError(f"{src} and {dst} are the same file; choose another destination")
    precision = _precision(dtype, io_dtype)
    if precision is not None and _kind(dst) != "onnx":
        raise InteropError(f"dtype is for .onnx files. Received: dtype={dtype!r} with {dst}")
    source_kind = "factory" if factory and not src.exists() else _kind(src)
    started = time.perf_counter()
    written = _Written(src)
    if source_kind == "artifact":
        written = _convert_artifact(src, dst, opset, precision, include_optimizer, say)
    elif source_kind == "onnx":
        raise InteropError(
            f"{src} is a plain ONNX graph: there is no way from it to {_kind(dst)}. It opens as it is with "
            "interop.load_graph; convert the model it was made from"
        )
    else:
        say(f"loading {src}")
        model, signature = _call(factory) if source_kind == "factory" and factory else (_opened(src), None)
        say(f"writing {dst}")
        written = _convert_model(model, signature, dst, opset, precision, include_optimizer)
    seconds = time.perf_counter() - started
    parity = None
    if verify:
        say(f"comparing {dst} with {src}")
        parity = _compared(written, dst, precision, inputs)
    return Conversion(src, dst, _size_bytes(dst), seconds, parity)


def _kind(path: Path) -> Kind:
    if path.suffix in (".keras", ".h5"):
        return "keras"
    if is_tensorflow_path(path):
        return "tensorflow"
    return "onnx" if path.suffix == ".onnx" else "artifact"


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


def _opened(src: Path) -> Any:
    """The model a framework's file holds; a path that TensorFlow opens stays one."""
    if _kind(src) == "tensorflow":
        return src
    choose_backend()
    import keras

    return keras.saving.load_model(src)


def _convert_model(
    model: Any,
    signature: Any,
    dst: Path,
    opset: int | None,
    precision: _Precision | None,
    include_optimizer: bool,
) -> _Written:
    kind = _kind(dst)
    if kind == "onnx":
        with _staged(dst) as folder:
            return _export(model, folder / dst.name, signature, opset, precision)[1]
    if kind == "artifact":
        from interop.saving import save_model

        save_model(model, dst, input_signature=signature, opset=opset, include_optimizer=include_optimizer)
    elif framework_of(model) == "keras":
        _write_keras(model, dst)
    else:
        raise InteropError(
            f"{model!r:.80} is no Keras model, so there is no {dst.suffix} of it; choose .interop or .onnx"
        )
    return _Written(_reference(model, None))


def _reference(model: Any, signature: Signature | None) -> Any:
    """What to compare the file with that was made from a live model."""
    foreign = runnable(model)
    return KerasSide(model, signature) if foreign is None else ForeignSide(foreign, signature)


def _convert_artifact(
    src: Path,
    dst: Path,
    opset: int | None,
    precision: _Precision | None,
    include_optimizer: bool,
    say: Callable[[str], None],
) -> _Written:
    kind = _kind(dst)
    if kind == "keras":
        from interop.loading import load_model

        say(f"loading {src}")
        model = load_model(src)
        say(f"writing {dst}")
        _write_keras(model, dst)
        return _Written(src)
    say(f"writing {dst}")
    with open_bundle(src, verify_digest=True) as bundle:
        if opset not in (None, bundle.config["opset"]):
            has = bundle.config["opset"]
            raise InteropError(
                f"{src} has opset {has}; for opset {opset}, convert the model it was made from"
            )
        if kind == "onnx":
            return _Written(src, _write_flat(bundle, dst, precision), bundle.signature)
        _repack(bundle, dst, include_optimizer)
    return _Written(src)


def _write_keras(model: Any, dst: Path) -> None:
    if dst.suffix != ".keras":
        raise InteropError(f"{dst} ends in {dst.suffix!r}; Keras models are written as .keras")
    with _staged(dst) as folder:
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


def _write_flat(bundle: Bundle, dst: Path, precision: _Precision | None) -> Any:
    """Write the artifact's graph as a plain one, with weights of its own; returns what ``_write`` does."""
    import onnx
    import onnx_ir as ir

    model = inlined(ir.from_proto(onnx.load_model_from_string(bundle.graph_bytes())))
    for name, value in model.graph.initializers.items():
        value.const_value = ir.tensor(bundle.weights[name], name=name)
    with _staged(dst) as folder:
        return _write(optimized(model), folder / dst.name, precision)


def export_onnx(
    model: Any,
    path: str | os.PathLike[str],
    *,
    input_signature: Any = None,
    opset: int | None = None,
    dtype: str | None = None,
    io_dtype: str | None = None,
    flat: bool = True,
    fallback: Literal["layer", "error"] = "layer",
    verify: bool = True,
) -> ExportSummary:
    """Write a model of any framework as one plain ``.onnx`` file, for any ONNX runtime.

    Args:
        model: a built Keras model, or the path of a ``.keras`` or ``.h5`` file; a PyTorch module or
            ``torch.export`` program; a ``tf.function``, a concrete function, a loaded SavedModel, or the path of one
            or of a ``.tflite`` file; a JAX function, ``functools.partial(function, params)``, or a Flax module
            (linen: bound to its variables).
        path: where; weights over 1 GiB go beside it, into ``<path>.data``.
        input_signature: shapes, specs or example arrays in the structure of the model's first argument; default:
            its own. PyTorch modules and JAX functions have none of their own and need it.
        opset: ONNX opset, 17 to 23; default 20, or 21 for a model with weights of four bits: these become INT4
            tensors, dequantised at every call. Below 21 they stay two in a byte, which ONNX Runtime unpacks once.
        dtype: ``"float16"``, ``"bfloat16"`` or ``"float32"``: the weights and what computes with them become that;
            what could leave the range of 16 bits stays float32. None keeps the model's own dtypes.
        io_dtype: of the float inputs and outputs where `dtype` is given: by default the same, or ``"float32"``.
        flat: True inlines the layers and folds weights into the layout the operators take; False keeps one local
            function per layer and the weights as they are.
        fallback: what to do with a Keras layer that is written in the backend's own code: ``"layer"`` sends that
            layer through the backend's exporter (tf2onnx, jax2onnx, torch.onnx) and names it in the summary's
            ``fallback_layers``; ``"error"`` forbids it.
        verify: compare the file with the model on inputs made from the signature. An output that does not vary
            over them is told in the summary's ``warnings``. With a `dtype`, the graph in the model's own dtypes is
            compared with the model, and the file with that graph, its weights rounded to `dtype`.

    Returns:
        What was written.

    Raises:
        CaptureError: the model cannot be captured; UnsupportedOp and SpecializationError say more.
        ParityError: the file does not compute what the model does; nothing was written.
        InteropError: an argument is not supported.
    """
    precision = _precision(dtype, io_dtype)
    if precision is not None and not flat:
        raise InteropError(f"only a flat graph changes its dtype. Received: dtype={dtype!r} with flat=False")
    if fallback not in ("layer", "error"):
        raise InteropError(f"fallback is 'layer' or 'error'. Received: fallback={fallback!r}")
    started = time.perf_counter()
    path = Path(path)
    if isinstance(model, str | os.PathLike):
        model = _opened(Path(model)) if _kind(Path(model)) == "keras" else model
    with _staged(path) as folder:
        captured, written = _export(
            model, folder / path.name, input_signature, opset, precision, flat=flat, fallback=fallback
        )
        seconds = time.perf_counter() - started
        warnings: tuple[str, ...] = ()
        if verify:
            report = _compared(written, folder / path.name, precision)
            if report.disagrees:
                report.raise_if_failed()
            warnings = tuple(dict.fromkeys(_unproven(row) for row in report.rows if row.verdict == "vacuous"))
        if written.gaps:
            warnings += (f"ONNX Runtime cannot run the file: it has no float64 {', '.join(written.gaps)}",)
    return ExportSummary(
        path=path,
        opset=captured.opset,
        ir_version=captured.ir_version,
        parameters=captured.parameters,
        size_bytes=_size_bytes(path),
        files={path.name: _size_bytes(path)},
        warnings=warnings,
        fallback_layers=captured.fallback_layers,
        seconds=seconds,
    )


def _unproven(row: ParityRow) -> str:
    return f"the comparison proves nothing about output {row.output!r}: it is {row.reason}"


def _export(
    model: Any,
    path: Path,
    input_signature: Any,
    opset: int | None,
    precision: _Precision | None,
    *,
    flat: bool = True,
    fallback: str = "layer",
) -> tuple[Capture, _Written]:
    """Capture a model and write its graph."""
    if opset is None and flat and framework_of(model) == "keras":
        opset = _needed_opset(model)
    with uncollected():
        captured = capture_any(model, input_signature=input_signature, opset=opset, fallback=fallback)
        graph = optimized(captured.flat()) if flat else captured.with_functions()
        gaps = float64_gaps(graph) if precision is None else ()
        own = _write(graph, path, precision)
    return captured, _Written(_reference(model, captured.signature), own, captured.signature, gaps)


@dataclass(frozen=True, slots=True)
class _Precision:
    """The float types that a graph is to have."""

    dtype: str
    io_dtype: str


def _precision(dtype: str | None, io_dtype: str | None) -> _Precision | None:
    """The two arguments, checked; None for the model's own."""
    if dtype is None:
        if io_dtype is not None:
            raise InteropError(f"io_dtype goes with dtype. Received: io_dtype={io_dtype!r} without dtype")
        return None
    if dtype not in ("float16", "bfloat16", "float32"):
        raise InteropError(f"dtype is None, 'float16', 'bfloat16' or 'float32'. Received: dtype={dtype!r}")
    if io_dtype not in (None, dtype, "float32"):
        raise InteropError(f"io_dtype is None, {dtype!r} or 'float32'. Received: io_dtype={io_dtype!r}")
    return _Precision(dtype, io_dtype or dtype)


@dataclass(frozen=True, slots=True)
class _Written:
    """What a file was made from.

    Attributes:
        reference: the model, to compare with.
        graph: its graph in its own dtypes, where it was written in another.
        signature: of the model, where it is known.
        gaps: operators in the file that ONNX Runtime lacks in float64.
    """

    reference: Any
    graph: Any = None
    signature: Signature | None = None
    gaps: tuple[str, ...] = ()


def _compared(
    written: _Written, path: Path, precision: _Precision | None, inputs: Any = None
) -> ParityReport:
    if precision is None or written.signature is None:
        return compare(written.reference, path, inputs)
    return verify_precision(
        written.reference,
        written.graph,
        path,
        signature=written.signature,
        dtype=precision.dtype,
        io_dtype=precision.io_dtype,
        save=_save_graph,
        inputs=inputs,
    )


def _write(graph: Any, path: Path, precision: _Precision | None) -> Any:
    """Write a graph; returns it as it was if it was written in other dtypes."""
    if precision is None:
        _save_graph(graph, path)
        return None
    _save_graph(converted(graph.clone(), precision.dtype, io_dtype=precision.io_dtype), path)
    return graph


def _needed_opset(model: Any) -> int | None:
    """The opset of a Keras model whose weights take four bits: that of INT4; None for the default."""
    from interop.capture.keras import compat
    from interop.graph.passes.int4 import INT4_OPSET

    return INT4_OPSET if compat.has_four_bits(model) else None


def _save_graph(graph: Any, path: Path) -> None:
    """Write an ``ir.Model`` with its weights inside, or beside it when they are large."""
    import onnx_ir as ir

    size = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    if size > EMBED_BYTES:
        ir.save(graph, path, external_data=f"{path.name}.data")
    else:
        write_file(graph, path)


@contextmanager
def _staged(dst: Path) -> Iterator[Path]:
    """A folder beside `dst`; what was written into it moves there when the block ends well, `dst` last."""
    if dst.is_dir():
        raise FileExistsError(f"{dst} is a directory; choose another name or remove it")
    with tempfile.TemporaryDirectory(dir=dst.parent, prefix=f".{dst.name}.") as folder:
        yield Path(folder)
        for written in sorted(Path(folder).iterdir(), key=lambda path: path.name == dst.name):
            os.replace(written, dst.parent / written.name)


def _size_bytes(path: Path) -> int:
    if path.is_file():
        beside = path.with_name(f"{path.name}.data")
        return path.stat().st_size + (beside.stat().st_size if beside.is_file() and not is_zip(path) else 0)
    return sum(file.stat().st_size for file in path.iterdir())
