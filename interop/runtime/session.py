"""A graph that runs: an artifact or any ``.onnx`` file in an ONNX Runtime session.

What enters: a path. What leaves: a `GraphModel`, called with arrays, that checks its inputs before ONNX
Runtime sees them and returns outputs in the model's own structure.

Invariants: only numpy, onnxruntime, protobuf and the standard library are imported; the guard has passed
the files first; weights are mapped from where they lie, never copied by us.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from interop.artifact import guard
from interop.artifact.bundle import open_bundle
from interop.artifact.files import open_regular
from interop.artifact.schema import float_types, parse_model
from interop.artifact.signature import Signature, TensorSpec, pack
from interop.errors import ArtifactError, InteropError, SignatureError
from interop.formats.dtypes import BY_NAME, FROM_ML_DTYPES, numpy_dtype, size_bytes
from interop.runtime import inputs as call_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

Provider = str | tuple[str, dict[str, Any]]

_ATTEMPTS = 5
_MAX_PLAIN_BYTES = (1 << 31) - 1
_ADVICE = {
    ".keras": ". A Keras file becomes a graph with interop.convert(src, dst)",
    ".h5": ". A Keras file becomes a graph with interop.convert(src, dst); weights alone have no graph",
    ".safetensors": ". It holds tensors and no graph: interop.load_tensors(path)",
    ".npz": ". It holds tensors and no graph: interop.load_tensors(path)",
}
_REFUSALS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)


class GraphModel:
    """A model as a bare graph.

    Call it with the inputs in any of these ways::

        graph(x)                    # one input, or the model's own input structure
        graph(image, caption)       # several, in graph order
        graph({"image": image, "caption": caption})

    Outputs come back in the model's own structure for an artifact; for a plain ``.onnx`` file, one output
    is an array and several are a tuple in graph order.

    Attributes:
        path: what it was opened from.
        inputs: name, dtype and shape of each input; a dim is an int or the name of a dynamic dim.
        outputs: the same for the outputs.
        signature: both, with the structures they are nested in.
        session: the ONNX Runtime session.
        float_types: the float types of its weights, and those it casts to.
    """

    def __init__(
        self,
        path: Path,
        session: onnxruntime.InferenceSession,
        signature: Signature,
        float_types: frozenset[str] = frozenset(),
    ) -> None:
        self.path = path
        self.float_types = float_types
        self.session = session
        self.signature = signature
        self._names = [spec.name for spec in self.outputs]
        self._through_values = any(spec.dtype in FROM_ML_DTYPES for spec in self.inputs + self.outputs)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.signature.outputs

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run the graph once.

        Args:
            *args: one array per input, one dict by input name, or one value nested like the model's inputs.
            **named: in place of these, the inputs by name, where a name can be written so.

        Returns:
            The outputs, nested like the model's.

        Raises:
            SignatureError: the inputs do not fit; the message names the input and what was expected.
        """
        if args and named:
            raise SignatureError(
                f"inputs come by place or by name. Received: {len(args)} and {sorted(named)}"
            )
        given = call_inputs.bind(self.signature, (named,) if named else args)
        feed = call_inputs.check(self.inputs, given)
        return pack(self.signature.output_structure, self.run(feed))

    def predict(
        self, x: Any, batch_size: int = 32, progress: bool | Callable[[int, int], None] | None = None
    ) -> Any:
        """Run the graph over many samples, a batch at a time; the last batch may be short.

        Args:
            x: as in a call, with any number of samples along the first axis. A memory-mapped array is
                read a batch at a time.
            batch_size: samples per run.
            progress: True for a progress bar, or a function that gets (samples done, samples in all).

        Returns:
            The outputs of all samples, nested like the model's.

        Raises:
            SignatureError: the inputs do not fit, or an output has no axis of samples.
        """
        from interop.runtime import predict

        given = call_inputs.bind(self.signature, (x,))
        flat = predict.in_batches(self.signature, given, self.run, batch_size, progress)
        return pack(self.signature.output_structure, flat)

    def run(self, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run on checked inputs by name; outputs in graph order.

        Raises:
            SignatureError: ONNX Runtime could not run the graph on these inputs.
        """
        try:
            if self._through_values:
                return _run_through_values(self.session, self.outputs, feed)
            outputs: list[NDArray[Any]] = self.session.run(self._names, dict(feed))
        except _REFUSALS as e:
            shapes = ", ".join(f"{name}: {value.dtype}{list(value.shape)}" for name, value in feed.items())
            raise SignatureError(f"{self.path}: the graph cannot run on {shapes}: {e}") from e
        return outputs

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"<GraphModel {self.path} ({inputs}) -> ({outputs})>"


def open_graph(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[Provider] | None = None,
    low_memory: bool = False,
    verify_digest: bool = False,
) -> GraphModel:
    """Open an artifact, or a plain ``.onnx`` file, as a graph; see `interop.load_graph`."""
    path = Path(path)
    if path.suffix == ".onnx" and not path.exists():
        raise FileNotFoundError(errno.ENOENT, "no graph here", str(path))
    if path.is_file() and not path.name.endswith(".interop"):
        return _open_plain(path, providers, low_memory)
    for _ in range(_ATTEMPTS):
        with open_bundle(path, verify_digest=verify_digest) as bundle:
            source = bundle.session_source()
            session = _session(path, source.model, source.folder, providers, low_memory)
            # ONNX Runtime opens the files by name: they must still be the ones that were checked.
            if bundle.is_current():
                return GraphModel(path, session, bundle.signature, bundle.float_types)
    raise ArtifactError(f"{path}: it was replaced while it was being opened, {_ATTEMPTS} times over")


def _open_plain(path: Path, providers: Sequence[Provider] | None, low_memory: bool) -> GraphModel:
    from interop.artifact.skeleton import without_values  # opening an artifact is faster without it

    real = Path(os.path.realpath(path))
    descriptor = open_regular(real)
    try:
        size = os.fstat(descriptor).st_size
        if size > _MAX_PLAIN_BYTES:
            raise ArtifactError(f"it is {size} bytes; an ONNX file has {_MAX_PLAIN_BYTES} at most")
        if size == 0:
            raise ArtifactError("it is empty")
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
            skeleton = without_values(data)
        model = parse_model(skeleton)
        outline = guard.check_plain_graph(model, real.parent)
    except InteropError as e:
        raise type(e)(f"{path}: {e}{_ADVICE.get(path.suffix, '')}") from e
    finally:
        os.close(descriptor)
    session = _session(path, real, real.parent, providers, low_memory)
    try:
        signature = _signature_of(session)
    except UnicodeDecodeError as e:
        raise ArtifactError(f"{path}: a name or dim of its inputs and outputs is not UTF-8: {e}") from e
    return GraphModel(path, session, signature, float_types(model, outline))


def _session(
    path: Path, model: Path | bytes, folder: Path, providers: Sequence[Provider] | None, low_memory: bool
) -> onnxruntime.InferenceSession:
    """Create the session; what ONNX Runtime refuses becomes an ArtifactError."""
    _check_providers(providers)
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder)):
        raise ArtifactError(
            f"{str(path)!a}: ONNX Runtime opens no file whose path is not UTF-8. Rename the folder, or copy it"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it logs as an error it raises as well
    if low_memory:
        # Both would copy weights: into the kernels' packed layout, and into the blocked layout of Conv.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if isinstance(model, bytes):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            sess_options=options,
            providers=providers,
            enable_fallback=0,  # it prints, and tries once more what was refused
        )
    except _REFUSALS as e:
        raise ArtifactError(f"{path}: ONNX Runtime refuses the graph: {e}") from e


def _check_providers(providers: Sequence[Provider] | None) -> None:
    """Raise InteropError for a provider that this ONNX Runtime has never heard of (it would only warn)."""
    if isinstance(providers, str):
        raise InteropError(f"providers is a list of names. Received: {providers!r}; pass [{providers!r}]")
    known = onnxruntime.get_all_providers()
    for provider in providers or ():
        name = provider if isinstance(provider, str) else provider[0]
        if name not in known:
            raise InteropError(f"{name!r} is no provider of ONNX Runtime; it knows {', '.join(known)}")


def _run_through_values(
    session: onnxruntime.InferenceSession, outputs: Sequence[TensorSpec], feed: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Run with dtypes that NumPy lacks (bfloat16, float8), which ``InferenceSession.run`` does not take."""
    values = {name: _to_value(array) for name, array in feed.items()}
    found = session.run_with_ort_values([spec.name for spec in outputs], values)
    return [_from_value(value, spec) for value, spec in zip(found, outputs, strict=True)]


def _to_value(array: NDArray[Any]) -> onnxruntime.OrtValue:
    if array.dtype.name not in FROM_ML_DTYPES:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    bits = np.ascontiguousarray(array).view(np.uint16 if array.itemsize == 2 else np.uint8)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, BY_NAME[array.dtype.name].onnx)


def _from_value(value: onnxruntime.OrtValue, spec: TensorSpec) -> NDArray[Any]:
    if spec.dtype not in FROM_ML_DTYPES:
        array: NDArray[Any] = value.numpy()
        return array
    shape = tuple(value.shape())
    data = ctypes.string_at(value.data_ptr(), size_bytes(spec.dtype, shape))
    bits: NDArray[Any] = np.frombuffer(bytearray(data), numpy_dtype(spec.dtype))
    return bits.reshape(shape)


def _signature_of(session: onnxruntime.InferenceSession) -> Signature:
    """The signature that a plain graph itself tells: one output alone, several as a tuple."""
    inputs = tuple(_spec(value, index) for index, value in enumerate(session.get_inputs()))
    outputs = tuple(_spec(value, index) for index, value in enumerate(session.get_outputs()))
    return Signature(inputs, outputs, _structure(len(inputs)), _structure(len(outputs)))


def _structure(count: int) -> Any:
    return 0 if count == 1 else {"tuple": list(range(count))}


_ORT_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "string",
    "tensor(float8e4m3fn)": "float8_e4m3fn",
    "tensor(float8e4m3fnuz)": "float8_e4m3fnuz",
    "tensor(float8e5m2)": "float8_e5m2",
    "tensor(float8e5m2fnuz)": "float8_e5m2fnuz",
}


def _spec(value: Any, index: int) -> TensorSpec:
    """A spec from what a session tells; a dim without a name is unlike any other: it gets one of its own."""
    dtype = _ORT_DTYPES.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
    shape = tuple(
        dim if isinstance(dim, int) or (isinstance(dim, str) and dim) else f"{value.name}.{axis}"
        for axis, dim in enumerate(value.shape)
    )
    return TensorSpec(value.name, dtype, shape)
