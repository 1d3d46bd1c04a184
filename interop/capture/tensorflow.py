"""A TensorFlow function, SavedModel or TFLite file becomes a graph, through ``tf2onnx``.

Enters: a ``tf.function``, a concrete function, a loaded SavedModel or the path of one, or the path of a
``.tflite`` file. Leaves: a ``ForeignCapture`` whose initializers are named as TensorFlow names its variables
(``dense/kernel``); ``tflite.py`` has what a TFLite file needs.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interop.artifact.signature import Structure, pack
from interop.capture.foreign import ForeignCapture, NamedInput, Parameter, lift_inputs, quiet, structure_of
from interop.capture.specs import legal_name, named_dims, structured
from interop.capture.tf_operations import processed
from interop.errors import BackendError, CaptureError
from interop.graph.opsets import check_opset


@dataclass(frozen=True)
class _Variable:
    """A variable a function captures: the name it gets, its value, and the placeholder inside the graph."""

    name: str
    value: Any
    trainable: bool
    placeholder: str


def capture(
    model: Any,
    *,
    input_signature: Any = None,
    opset: int | None = None,
    names: Mapping[int, str] | None = None,
) -> ForeignCapture:
    """Capture what TensorFlow can run.

    Args:
        model: see the module's docstring. A SavedModel is captured through its ``serving_default`` signature, or
            its only one.
        input_signature: shapes, specs or example arrays, for a ``tf.function`` that has no signature of its own.
        opset: ONNX opset, 17 to 23; default 20.
        names: identity of a variable's handle to the name it gets, where that is not TensorFlow's.

    Raises:
        CaptureError: the signature is missing or does not fit, or the converter failed.
        UnsupportedOp: an operation has no ONNX form.
        BackendError: TensorFlow or tf2onnx is not installed; names the extra.
    """
    opset = check_opset(opset)
    _import()
    if isinstance(model, Path) and model.suffix == ".tflite":
        from interop.capture.tflite import capture_tflite

        return capture_tflite(model, opset)
    return _capture_function(concrete_function(model, input_signature), opset, names_of=names)


def capture_function(
    run: Callable[..., Any], inputs: Sequence[NamedInput], variables: Sequence[tuple[str, Any]], opset: int
) -> ForeignCapture:
    """Capture a function of tensors that reads Keras variables.

    Args:
        run: tensors to a tuple of tensors.
        inputs: specs of the tensors.
        variables: (key, Keras variable): the names of the initializers.
        opset: of the result.
    """
    import tensorflow as tf

    _import()
    specs = [
        tf.TensorSpec([dim if isinstance(dim, int) else None for dim in spec.shape], spec.dtype)
        for spec in inputs
    ]
    with reported():
        function = tf.function(run, autograph=False).get_concrete_function(*specs)
    names = {id(variable.value.handle): key for key, variable in variables}
    return _capture_function(function, opset, inputs, names)


def run(
    model: Any, structure: Structure, arrays: Sequence[np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]]:
    """The model's outputs, flat, for inputs in the order of ``structure``."""
    import tensorflow as tf

    if isinstance(model, Path) and model.suffix == ".tflite":
        from interop.capture.tflite import run_tflite

        return run_tflite(model, arrays)
    signature = pack(structure, [tf.TensorSpec(a.shape, a.dtype) for a in arrays])
    function = model if isinstance(model, tf.types.experimental.ConcreteFunction) else None
    function = function or concrete_function(model, signature)
    tensors = [tf.constant(array) for array in arrays]
    _, leaves, _ = structure_of(_in_order(function, _structured_call(function, tensors)))
    return [_decoded(np.asarray(leaf)) for leaf in leaves]


def _decoded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array; TensorFlow's texts are bytes."""
    if array.dtype.kind not in "OS":
        return array
    texts = [
        item.decode(errors="surrogateescape") if isinstance(item, bytes) else item for item in array.ravel()
    ]
    return np.asarray(texts, object).reshape(array.shape)


def load_saved_model(path: Path) -> Any:
    """What TensorFlow makes of a SavedModel.

    Raises:
        CaptureError: TensorFlow does not open it.
        BackendError: TensorFlow or tf2onnx is not installed; names the extra.
    """
    _import()
    import tensorflow as tf

    try:
        with quiet(), _without_slots(path) as loadable:
            return tf.saved_model.load(str(loadable))
    except Exception as error:
        raise CaptureError(
            f"TensorFlow cannot open the SavedModel {path}: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _without_slots(path: Path) -> Iterator[Path]:
    """A SavedModel that says of no optimizer which slots it has.

    The first optimizers of Keras 2 said so, and TensorFlow opens that with their classes only; no function needs it.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except (OSError, DecodeError):  # which TensorFlow tells better
        yield path
        return
    nodes = [node for graph in saved.meta_graphs for node in graph.object_graph_def.nodes]
    if not any(node.slot_variables for node in nodes):
        yield path
        return
    for node in nodes:
        node.ClearField("slot_variables")
    with tempfile.TemporaryDirectory() as folder:
        for entry in path.resolve().iterdir():
            if entry.name != "saved_model.pb":
                (Path(folder) / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
        (Path(folder) / "saved_model.pb").write_bytes(saved.SerializeToString())
        yield Path(folder)


def object_children(loaded: Any) -> Mapping[str, Any]:
    """What an object of a SavedModel holds, by the names it is stored under."""
    import tensorflow as tf

    return dict(tf.train.TrackableView.children(loaded))


def concrete_function(model: Any, input_signature: Any = None) -> Any:
    """The one function of a model that is exported.

    Raises:
        CaptureError: there is none, or it needs a signature.
    """
    import tensorflow as tf

    if isinstance(model, Path):
        model = load_saved_model(model)
    if isinstance(model, tf.types.experimental.ConcreteFunction):
        return model
    if getattr(model, "signatures", None):
        names = list(model.signatures)
        if len(names) > 1 and "serving_default" not in names:
            raise CaptureError(
                f"the SavedModel has the signatures {', '.join(names)} and none is called serving_default. Load it "
                "with tf.saved_model.load and pass one: loaded.signatures[name]"
            )
        function = model.signatures["serving_default" if "serving_default" in names else names[0]]
        function._interop_owner = model  # variables live as long as the object that was loaded
        return function
    if input_signature is None and (restored := _restored_functions(model)):
        return _without_signature(model, restored)
    found: Any = model if hasattr(model, "get_concrete_function") else getattr(model, "__call__", None)  # noqa: B004
    if not hasattr(found, "get_concrete_function"):
        if type(model).__name__ == "_UserObject":
            raise CaptureError(
                "the SavedModel has no functions: it was saved with save_traces=False, or holds variables only"
            )
        raise CaptureError(
            f"a {type(model).__name__} has no tf.function to export. Decorate its __call__ with @tf.function, "
            "or pass the function itself"
        )
    try:
        if input_signature is None:
            return found.get_concrete_function()
        args, kwargs = _tensor_specs(input_signature)
        return found.get_concrete_function(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise CaptureError(
            f"the function cannot be traced on these inputs: {error}. Pass input_signature, such as "
            'input_signature=[{"shape": (None, 32), "dtype": "float32"}]'
        ) from error


def _restored_functions(model: Any) -> dict[str, Any]:
    """The functions of what was loaded from a SavedModel, by name; of other objects none."""
    import tensorflow as tf

    if not isinstance(model, tf.Module | tf.__internal__.tracking.AutoTrackable):
        return {}
    return {name: f for name, f in object_children(model).items() if getattr(f, "concrete_functions", None)}


def _without_signature(model: Any, restored: Mapping[str, Any]) -> Any:
    """The function of a SavedModel without signatures: its ``__call__``, or the only one, as it predicts."""
    import tensorflow as tf

    if "__call__" not in restored and len(restored) > 1:
        raise CaptureError(
            f"the SavedModel has no signatures, but the functions {', '.join(sorted(restored))}. Load it with "
            "tf.saved_model.load and pass one: loaded.name.concrete_functions[0]"
        )
    traces = restored.get("__call__", next(iter(restored.values()))).concrete_functions

    def rank(trace: Any) -> tuple[bool, int]:
        """Those of training last, those for any size first."""
        leaves = tf.nest.flatten(trace.structured_input_signature)
        specs = [leaf for leaf in leaves if isinstance(leaf, tf.TensorSpec)]
        known = sum(1 if s.shape.rank is None else sum(dim is not None for dim in s.shape) for s in specs)
        return any(leaf is True for leaf in leaves), known

    function = min(traces, key=rank)
    function._interop_owner = model
    return function


def _tensor_specs(input_signature: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import tensorflow as tf

    def spec(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: spec(child) for key, child in item.items()}
        if isinstance(item, list | tuple):
            return type(item)(spec(child) for child in item)
        shape = [dim if isinstance(dim, int) else None for dim in item.shape]
        return tf.TensorSpec(shape, item.dtype or "float32", name=item.name)

    made = spec(structured(input_signature))
    if isinstance(made, list | tuple):
        return tuple(made), {}
    return (made,), {}


def _import() -> None:
    try:
        import tensorflow  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise BackendError(
            "TensorFlow models are exported through tf2onnx: pip install 'interop[tensorflow]'"
        ) from error


def _capture_function(
    function: Any, opset: int, named: Sequence[NamedInput] = (), names_of: Mapping[int, str] | None = None
) -> ForeignCapture:
    variables = list(_variables(function, names_of or {}))
    structure, order, keys = structure_of(_numbered(_call_structure(function)))
    given = [tensor for tensor in function.inputs if tensor.dtype.name != "resource"]
    given = [given[position] for position in order]
    output_structure, order, names = structure_of(_numbered(_in_order(function, function.structured_outputs)))
    model = _converted(function, variables, given, [function.outputs[position] for position in order])
    lift_inputs(model, {variable.name: variable.value.numpy() for variable in variables})
    inputs = []
    for index, (tensor, key) in enumerate(zip(given, keys, strict=True)):
        name = legal_name(key or _bare(tensor) or f"input_{index}")
        if tensor.shape.rank is None:
            raise CaptureError(f"input {name!r} has no rank; pass input_signature with its shape")
        dtype = tensor.dtype.name.replace("half", "float16")
        inputs.append(NamedInput(name, dtype, named_dims(name, tuple(tensor.shape))))
    inputs = list(named) or inputs
    import tensorflow as tf

    return ForeignCapture(
        model,
        source={"framework": "tensorflow", "version": tf.__version__},
        opset=opset,
        inputs=inputs,
        input_structure=structure,
        output_names=names,
        output_structure=output_structure,
        parameters=[
            Parameter(variable.name, variable.value.numpy, variable.trainable) for variable in variables
        ],
    )


def _in_order(function: Any, nested: Any) -> Any:
    """The names of a SavedModel's signature in one order: TensorFlow's is another whenever it is loaded."""
    if isinstance(nested, Mapping) and hasattr(function, "_interop_owner"):
        return dict(sorted(nested.items()))
    return nested


def _numbered(nested: Any) -> Any:
    """A structure with its leaves numbered in TensorFlow's order, which sorts the keys of a dict."""
    import tensorflow as tf

    return tf.nest.pack_sequence_as(nested, list(range(len(tf.nest.flatten(nested)))))


def _call_structure(function: Any) -> Any:
    """The specs of a concrete function's inputs in the structure a caller passes."""
    import tensorflow as tf

    args, kwargs = function.structured_input_signature
    keep = functools.partial(_only_specs, tf.TensorSpec)
    positional, named = keep(args), _in_order(function, keep(kwargs))
    if named and positional:
        names = [spec.name for spec in positional if isinstance(spec, tf.TensorSpec)]
        if len(names) == len(positional) and all(names):
            return {**dict(zip(names, positional, strict=True)), **named}
    if named:
        return named
    return positional[0] if len(positional) == 1 else positional


def _only_specs(kind: type, nested: Any) -> Any:
    """A structure without what is no tensor."""
    if isinstance(nested, Mapping):
        return {key: _only_specs(kind, child) for key, child in nested.items()}
    if isinstance(nested, list | tuple):
        kept = [_only_specs(kind, child) for child in nested]
        return tuple(child for child in kept if child is not None)
    return nested if isinstance(nested, kind) else None


def _structured_call(function: Any, tensors: Sequence[Any]) -> Any:
    structure, _, _ = structure_of(_call_structure(function))
    nested = pack(structure, list(tensors))
    args, kwargs = function.structured_input_signature
    if kwargs and not args:
        return function(**nested)
    if isinstance(nested, tuple) and len(_only_specs(object, args)) > 1:
        return function(*nested)
    return function(nested)


def _variables(function: Any, names: Mapping[int, str]) -> Iterator[_Variable]:
    """The variables a function reads, each under a name of its own."""
    by_handle = {id(variable.handle): variable for variable in function.variables}
    taken: set[str] = set()
    for outer, inner in function.graph.captures:
        variable = by_handle.get(id(outer))
        if variable is None:
            continue
        name = base = names.get(id(outer)) or legal_name(variable.name.removesuffix(":0"))
        number = 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        yield _Variable(name, variable, bool(variable.trainable), inner.name.removesuffix(":0"))


def _converted(
    function: Any, variables: Sequence[_Variable], inputs: Sequence[Any], outputs: Sequence[Any]
) -> Any:
    """The ``ir.Model``; variables are inputs of it.

    But for those of recurrent layers: tf2onnx makes LSTM and GRU nodes of a loop only if its weights are
    constants, which it then rearranges.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    with reported():
        frozen = convert_variables_to_constants_v2(
            function, lower_control_flow=False, aggressive_inlining=True
        ).graph.as_graph_def(add_shapes=True)
        looped = _read_in_loops(frozen)
        lifted = [variable for variable in variables if variable.placeholder not in looped]
        graph_def = _with_placeholders(frozen, lifted)
        return _tf2onnx(graph_def, [*(v.name for v in lifted), *map(_bare, inputs)], outputs)


def _bare(tensor: Any) -> str:
    return str(tensor.name).removesuffix(":0")


@contextmanager
def reported() -> Iterator[None]:
    """A block in which tf2onnx works: what it fails with is told as ours."""
    try:
        with quiet():
            yield
    except (CaptureError, BackendError):
        raise
    except Exception as error:
        raise CaptureError(f"tf2onnx cannot export the function: {type(error).__name__}: {error}") from error


def _read_in_loops(frozen: Any) -> set[str]:
    """Constants that a loop takes, directly or through Identity."""
    inputs = {node.name: [name.partition(":")[0] for name in node.input] for node in frozen.node}
    kinds = {node.name: node.op for node in frozen.node}
    found: set[str] = set()
    pending = [name for name, op in kinds.items() if op in ("While", "StatelessWhile")]
    while pending:
        for name in inputs[pending.pop()]:
            if kinds.get(name) == "Identity":
                pending.append(name)
            elif kinds.get(name) == "Const":
                found.add(name)
    return found


def _with_placeholders(frozen: Any, variables: Sequence[_Variable]) -> Any:
    """The frozen graph with each variable's constant turned into a placeholder of the variable's name."""
    from tensorflow.core.framework import graph_pb2

    by_node = {variable.placeholder: variable for variable in variables}
    graph = graph_pb2.GraphDef(versions=frozen.versions, library=frozen.library)
    for node in frozen.node:
        variable = by_node.get(node.name)
        if variable is None or node.op != "Const":
            added = graph.node.add()
            added.CopyFrom(node)
            added.input[:] = [by_node[i].name if i in by_node else i for i in node.input]
            continue
        placeholder = graph.node.add(op="Placeholder", name=variable.name)
        placeholder.attr["dtype"].CopyFrom(node.attr["dtype"])
        for dim in variable.value.shape:
            placeholder.attr["shape"].shape.dim.add(size=int(dim))
    return graph


def _tf2onnx(graph_def: Any, inputs: Sequence[str], outputs: Sequence[Any]) -> Any:
    import tensorflow as tf
    from tf2onnx import tf_loader

    input_names = [f"{name}:0" for name in inputs]
    output_names = list(dict.fromkeys(str(tensor.name) for tensor in outputs))
    with tf.Graph().as_default():
        tf.import_graph_def(graph_def, name="")
        graph_def = tf_loader.tf_optimize(input_names, output_names, graph_def)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        return processed(
            graph,
            input_names=input_names,
            output_names=output_names,
            tensors_to_rename={f"{name}:0": name for name in inputs},
        )
