"""A model of any framework becomes one plain ``.onnx`` file: ``export_onnx``, and the steps ``convert`` shares.

Enters: a live model, or the path of one. Leaves: the file, and what it has to be compared with.

Invariant: the file appears complete or not at all, after the comparison if there is one.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interop.artifact.files import is_zip
from interop.artifact.publish import check_parent
from interop.artifact.signature import Signature
from interop.backend import choose_backend
from interop.capture.dispatch import capture_any, framework_of, is_tensorflow_path, runnable
from interop.capture.records import Capture
from interop.errors import ArtifactError, CaptureError, InteropError, RebuildError
from interop.formats.keras_zip import is_unzipped
from interop.garbage import uncollected
from interop.graph.file import write_file
from interop.graph.kernels import float64_gaps
from interop.graph.passes import optimized
from interop.graph.passes.precision import converted
from interop.parity import ParityReport, ParityRow
from interop.parity import verify as compare
from interop.parity.precision import verify_precision
from interop.parity.sides import ForeignSide, KerasSide
from interop.status import ExportSummary

if TYPE_CHECKING:
    from interop.graph.passes.convolution import Fold

Kind = Literal["artifact", "onnx", "keras", "tensorflow"]

#: Weights up to this size go into the ``.onnx`` file, larger ones beside it: protobuf ends at 2 GiB.
EMBED_BYTES = 1 << 30


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
    config: bool = True,
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
        config: keep the config of a model of Keras' own layers in the file's metadata, as ``"interop.config"``, with
            what the graph does not have of its state: ``import_onnx`` makes the same layers of it again. Runtimes do
            not read it; False leaves it out. A model with other classes, or in another `dtype`, has none.
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
    precision = precision_of(dtype, io_dtype)
    if precision is not None and not flat:
        raise InteropError(f"only a flat graph changes its dtype. Received: dtype={dtype!r} with flat=False")
    if fallback not in ("layer", "error"):
        raise InteropError(f"fallback is 'layer' or 'error'. Received: fallback={fallback!r}")
    started = time.perf_counter()
    path = Path(path)
    if isinstance(model, str | os.PathLike):
        model = opened(Path(model)) if kind_of(Path(model)) == "keras" else model
    with staged(path) as folder:
        captured, written = write_model(
            model,
            folder / path.name,
            input_signature,
            opset,
            precision,
            flat=flat,
            fallback=fallback,
            config=config,
        )
        seconds = time.perf_counter() - started
        notes: tuple[str, ...] = ()
        if verify:
            report = compared(written, folder / path.name, precision)
            if report.disagrees:
                report.raise_if_failed()
            notes = tuple(dict.fromkeys(_unproven(row) for row in report.rows if row.verdict == "vacuous"))
        if written.gaps:
            notes += (f"ONNX Runtime cannot run the file: it has no float64 {', '.join(written.gaps)}",)
    return ExportSummary(
        path=path,
        opset=captured.opset,
        ir_version=captured.ir_version,
        parameters=captured.parameters,
        size_bytes=size_bytes(path),
        files={path.name: size_bytes(path)},
        warnings=notes,
        fallback_layers=captured.fallback_layers,
        seconds=seconds,
    )


def _unproven(row: ParityRow) -> str:
    return f"the comparison proves nothing about output {row.output!r}: it is {row.reason}"


def kind_of(path: Path) -> Kind:
    if path.suffix in (".keras", ".h5", ".hdf5") or (path / "keras_metadata.pb").is_file():
        return "keras"
    if is_unzipped(path):
        return "keras"
    if is_tensorflow_path(path):
        return "tensorflow"
    return "onnx" if path.suffix == ".onnx" else "artifact"


def opened(src: Path) -> Any:
    """The model a framework's file holds; a path that TensorFlow opens stays one.

    A SavedModel of Keras 2 whose layers cannot be made stays one too, where TensorFlow is installed to run its
    traced functions; a warning says so.
    """
    if kind_of(src) == "tensorflow":
        return src
    choose_backend()
    from interop.rebuild.legacy.files import load
    from interop.rebuild.legacy.kinds import kind_of as keras_kind_of

    kind = keras_kind_of(src)
    if kind is None:
        raise InteropError(f"{src} is no file that Keras wrote")
    try:
        return load(src, kind).complete(src)
    except RebuildError as error:
        if kind != "saved_model" or importlib.util.find_spec("tensorflow") is None:
            raise
        warnings.warn(f"{src}: its layers cannot be made, its traced functions are converted: {error}")
        return src


@dataclass(frozen=True, slots=True)
class Precision:
    """The float types that a graph is to have."""

    dtype: str
    io_dtype: str


def precision_of(dtype: str | None, io_dtype: str | None) -> Precision | None:
    """The two arguments, checked; None for the model's own."""
    if dtype is None:
        if io_dtype is not None:
            raise InteropError(f"io_dtype goes with dtype. Received: io_dtype={io_dtype!r} without dtype")
        return None
    if dtype not in ("float16", "bfloat16", "float32"):
        raise InteropError(f"dtype is None, 'float16', 'bfloat16' or 'float32'. Received: dtype={dtype!r}")
    if io_dtype not in (None, dtype, "float32"):
        raise InteropError(f"io_dtype is None, {dtype!r} or 'float32'. Received: io_dtype={io_dtype!r}")
    return Precision(dtype, io_dtype or dtype)


@dataclass(frozen=True, slots=True)
class Written:
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


def write_model(
    model: Any,
    path: Path,
    input_signature: Any,
    opset: int | None,
    precision: Precision | None,
    *,
    flat: bool = True,
    fallback: str = "layer",
    config: bool = True,
) -> tuple[Capture, Written]:
    """Capture a model and write its graph."""
    if opset is None and flat and framework_of(model) == "keras":
        opset = _needed_opset(model)
    with uncollected():
        captured = capture_any(
            model, input_signature=input_signature, opset=opset, fallback=fallback, trust_keras=True
        )
        folds: list[Fold] = []
        graph = optimized(captured.flat(), folds) if flat else captured.with_functions()
        if config and precision is None and framework_of(model) == "keras":
            _record(graph, model, captured, folds if flat else None)
        gaps = float64_gaps(graph) if precision is None else ()
        own = write_graph(graph, path, precision)
    return captured, Written(reference_of(model, captured.signature), own, captured.signature, gaps)


def _record(graph: Any, model: Any, captured: Any, folds: list[Fold] | None) -> None:
    """Say in an ``ir.Model`` which Keras model it was made of."""
    from interop.artifact.recorded import KEY, encoded
    from interop.rebuild.recording import recorded

    content = recorded(model, captured, folds)
    if content is not None:
        graph.metadata_props[KEY] = encoded(content)


def reference_of(model: Any, signature: Signature | None) -> Any:
    """What to compare the file with that was made from a live model."""
    foreign = runnable(model)
    return KerasSide(model, signature) if foreign is None else ForeignSide(foreign, signature)


def compared(written: Written, path: Path, precision: Precision | None, inputs: Any = None) -> ParityReport:
    if precision is None or written.signature is None:
        try:
            return compare(written.reference, path, inputs)
        except ArtifactError as error:
            if isinstance(written.reference, ForeignSide):
                raise CaptureError(
                    f"the framework's own exporter made a graph that does not run ({error}). Another opset=, or the "
                    "model in float32, may do; verify=False writes the file as it is"
                ) from error
            raise
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


def write_graph(graph: Any, path: Path, precision: Precision | None) -> Any:
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
def staged(dst: Path) -> Iterator[Path]:
    """A folder beside `dst`; what was written into it moves there when the block ends well, `dst` last."""
    if dst.is_dir():
        raise FileExistsError(f"{dst} is a directory; choose another name or remove it")
    check_parent(dst)
    with tempfile.TemporaryDirectory(dir=dst.parent, prefix=f".{dst.name}.") as folder:
        yield Path(folder)
        for written in sorted(Path(folder).iterdir(), key=lambda path: path.name == dst.name):
            os.replace(written, dst.parent / written.name)


def size_bytes(path: Path) -> int:
    if path.is_file():
        beside = path.with_name(f"{path.name}.data")
        return path.stat().st_size + (beside.stat().st_size if beside.is_file() and not is_zip(path) else 0)
    return sum(file.stat().st_size for file in path.iterdir())
