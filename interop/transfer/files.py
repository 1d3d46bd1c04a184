"""Graphs, models and tensors in files as sides of a transfer.

Enters: a path. Leaves: a ``Model``:

- a graph, where the file has one: an artifact, an ``.onnx`` file;
- a Keras model, where the file describes one: ``.keras``, a whole ``.h5``, a SavedModel;
- of a SavedModel of traced functions the graph that TensorFlow tells, where that is installed;
- else names and shapes only, of any file that `load_tensors` opens.

Invariant: a file that is written is the old one until the new one is complete.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import WeightsError
from interop.formats.source import ArraySource, MappedSource, TensorSource
from interop.formats.tensorbundle.elements import STRING
from interop.graph.typecodes import dtype_name
from interop.transfer.models import Input, Model
from interop.transfer.named import Named, nearest, some
from interop.transfer.plan import Problem

Array = NDArray[Any]
_LAYERS = ("BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul")
_TEXTS = frozenset({STRING, "object"})


def open_file(path: Path) -> Model:
    """Take a path.

    Raises:
        FileNotFoundError: nothing is there.
        FormatError: it is no file that is known.
        RebuildError, MissingClassError: the Keras model in it cannot be made.
    """
    from interop.formats import find_prefix

    if not path.exists() and find_prefix(path) is None:
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix == ".onnx":
        return _graph(path)
    if path.name.endswith(".interop") or (path.is_dir() and (path / "model.onnx").is_file()):
        return _artifact(path)
    if _describes_model(path):
        return keras_model(path)
    if (path / "saved_model.pb").is_file() and find_spec("tensorflow") is not None:
        from interop.transfer.traced import open_traced_model

        return open_traced_model(path)
    return tensors_of(path)


def new_file(target: Any, tensors: Mapping[str, Named]) -> Model | None:
    """A file that is not there yet, to hold these tensors; None if something is there, or it is no path."""
    from interop.formats import find_prefix

    if not isinstance(target, str | os.PathLike) or Path(target).exists() or find_prefix(Path(target)):
        return None
    path = Path(target)

    def write(values: Mapping[str, TensorSource]) -> Path:
        from interop.transfer.writing import write_new

        return write_new(path, values)

    return Model(f"the new file {path}", "file", dict(tensors), _nothing, write, file=(path, ""))


def with_values_of(model: Model, stored: Model) -> Model:
    """A model whose values are those of a file of tensors, which is also where they are written.

    Args:
        model: tells names and graph; it is not changed.
        stored: names and shapes, in the same framework's words.

    Raises:
        WeightsError: the file lacks tensors of the model, or has them in other shapes.
    """
    from interop.transfer.names import paired

    names = dict(paired(stored, model).pairs)
    one_tensor = {model.aliases.get(name, name): key for name, key in names.items()}
    for name in model.tensors:  # a file may have a tensor of several names under one of them
        if name not in names and (key := one_tensor.get(model.aliases.get(name, name))) is not None:
            names[name] = key
    problems = [
        Problem(name, f"{spec}; the file has {stored.tensors[names[name]]}")
        if name in names
        else Problem(name, str(spec), nearest(name, spec, stored.tensors))
        for name, spec in model.tensors.items()
        if name not in names or stored.tensors[names[name]].shape != spec.shape
    ]
    if problems:
        raise WeightsError(
            f"{stored.label} does not have {len(problems)} of {len(model.tensors)} parameters of {model.label}: "
            f"{some(problems)}"
        )
    write: Callable[[Mapping[str, TensorSource]], Any] | None = None
    if (writer := stored.writer) is not None:

        def write(values: Mapping[str, TensorSource]) -> Any:
            return writer({names[name]: value for name, value in values.items()})

    tensors = {
        name: Named(stored.tensors[names[name]].dtype, spec.shape) for name, spec in model.tensors.items()
    }
    return replace(
        model,
        label=f"{model.label} with {stored.label}",
        tensors=tensors,
        reader=lambda name: stored.read(names[name]),
        writer=write,
        elsewhere=True,
    )


def _nothing(name: str) -> Array:
    raise WeightsError(f"the file is new, so it has no {name!r} yet")


def tensors_of(path: Path) -> Model:
    """A file of tensors."""
    from interop.formats import found, open_tensors

    row, real = found(path)
    tensors = open_tensors(path)
    shapes = {
        name: Named(tensors.dtypes[name], tuple(tensors.shapes[name]))
        for name in tensors
        if tensors.dtypes[name] not in _TEXTS
    }

    def read(name: str) -> Array:
        tensors.forget()
        return tensors[name]

    def write(values: Mapping[str, TensorSource]) -> Path:
        from interop.transfer.writing import rewrite

        return rewrite(path, values)

    made = Model(f"the file {path}", "file", shapes, read, write, file=(real, row.name))
    weakref.finalize(made, tensors.close)
    return made


def _describes_model(path: Path) -> bool:
    """Whether Keras layers can be made of a file."""
    from interop.rebuild.legacy.kinds import kind_of

    kind = kind_of(path)
    if kind == "h5":
        from interop.rebuild.legacy.h5_file import open_h5

        with open_h5(path) as file:
            return file.json("model_config") is not None
    if kind == "saved_model":
        from interop.rebuild.legacy.saved_model import holds_layers

        return holds_layers(path)
    return kind == "keras"


def keras_model(path: Path) -> Model:
    """A Keras model as its file has it; what is written goes into the file, all else of which stays."""
    from interop.backend import choose_backend

    choose_backend()
    from interop.rebuild.legacy.files import load
    from interop.rebuild.legacy.kinds import kind_of
    from interop.transfer.models import open_model

    kind = kind_of(path)
    assert kind is not None
    made = open_model(load(path, kind, compile=False).complete(path))

    def write(values: Mapping[str, TensorSource]) -> Any:
        return with_values_of(made, tensors_of(path)).assign(values)

    return replace(made, label=f"the model in {path}", writer=write)


def _graph(path: Path) -> Model:
    from interop.rebuild.source import inlined, read_model

    model = inlined(read_model(path))
    names = [
        name
        for name, value in model.graph.initializers.items()
        if np.issubdtype(value.const_value.numpy().dtype, np.floating)
    ]
    made = graph_model(path, model, names, lambda values: _rewritten_graph(path, values))
    made.doubtful = {
        name: spec
        for name, spec in made.tensors.items()
        if spec.size == 1 and not _is_of_layer(model.graph.initializers[name])
    }
    return made


def _is_of_layer(value: Any) -> bool:
    """Whether a single number is used as only parameters are."""
    return any(node.op_type in _LAYERS and index > 0 for node, index in value.uses())


def _artifact(path: Path) -> Model:
    """An artifact in either form; its weights are read, as its graph names them by the file they lie in."""
    import onnx_ir as ir

    from interop.artifact.bundle import open_bundle
    from interop.graph.serialized import deserialized
    from interop.rebuild.source import inlined

    with open_bundle(path, verify_digest=True) as bundle:
        arrays = {name: np.array(value) for name, value in bundle.weights.items()}
        model = deserialized(bundle.graph_bytes())
    for name, value in model.graph.initializers.items():
        value.const_value = ir.tensor(arrays[name], name=name)
    return graph_model(path, inlined(model), list(arrays), lambda values: _rewritten_artifact(path, values))


def graph_model(
    path: Path, model: Any, names: list[str], write: Callable[[Mapping[str, TensorSource]], Path]
) -> Model:
    """A graph, those of whose initializers are parameters that have one of the names."""
    initializers = model.graph.initializers
    names = [name for name in names if name in initializers]
    shapes = {
        name: Named(
            dtype_name(int(initializers[name].dtype)), tuple(int(d) for d in initializers[name].shape)
        )
        for name in names
    }
    inputs = [
        Input(
            dtype_name(int(value.dtype)),
            tuple(dim if isinstance(dim, int) else None for dim in value.shape),
            value.name,
        )
        for value in model.graph.inputs
    ]

    def graph(sized: list[Input]) -> Any:
        import onnx_ir as ir

        fixed = model.clone()
        for value, size in zip(fixed.graph.inputs, sized, strict=True):
            value.shape = ir.Shape(size.shape)
        for node in fixed.graph.all_nodes():
            for value in node.outputs:
                value.shape = None
        for value in fixed.graph.outputs:
            value.shape = None
        return fixed

    def run(arrays: list[Array]) -> list[Array]:
        from interop.runtime.session import open_graph

        return open_graph(path).run(dict(zip((i.name for i in inputs), arrays, strict=True)))

    return Model(
        f"the graph {path}",
        "onnx",
        shapes,
        lambda name: np.asarray(initializers[name].const_value.numpy()),
        write,
        graph=graph,
        inputs=inputs,
        runs=run,
    )


def _rewritten_artifact(path: Path, values: Mapping[str, TensorSource]) -> Path:
    """Write an artifact anew with other weights; graph, layers and optimizer stay."""
    from interop.artifact.bundle import open_bundle
    from interop.artifact.writing import write_bundle
    from interop.transfer.writing import Cast

    with open_bundle(path, verify_digest=True) as bundle:
        weights: dict[str, TensorSource] = {
            name: Cast(values[name], bundle.weights.dtypes[name])
            if name in values
            else MappedSource(bundle.weights, name)
            for name in bundle.weights
        }
        kept = bundle.optimizer
        write_bundle(
            path,
            config={key: value for key, value in bundle.config.items() if key not in ("files", "digest")},
            graph=lambda placements: bundle.graph_bytes(),  # the layout of weights depends on nothing else
            weights=weights,
            optimizer=None if kept is None else {name: ArraySource(array) for name, array in kept.items()},
        )
    return path


def _rewritten_graph(path: Path, values: Mapping[str, TensorSource]) -> Path:
    """Write an ``.onnx`` file anew with other weights; what lay in files beside it lies in one beside it again."""
    import onnx

    proto = onnx.load(os.fspath(path), load_external_data=False)
    beside = {
        onnx.external_data_helper.ExternalDataInfo(tensor).location
        for tensor in proto.graph.initializer
        if onnx.external_data_helper.uses_external_data(tensor)
    }
    if beside:
        onnx.external_data_helper.load_external_data_for_model(proto, os.fspath(path.parent))
    known = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, value in values.items():
        if name not in known:
            raise WeightsError(f"{path} has no initializer {name!r}")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(known[name].data_type)
        array = np.asarray(value.read(), dtype, order="C")
        known[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    made = path.with_name(f".{path.name}.new")
    if not beside:
        onnx.save(proto, os.fspath(made))
        os.replace(made, path)
        return path
    names = [f"{path.name}.data", f"{path.name}.weights"]
    new, old = names if names[0] not in beside else reversed(names)
    onnx.save(proto, os.fspath(made), save_as_external_data=True, location=new, size_threshold=1024)
    os.replace(made, path)
    if old in beside:
        path.with_name(old).unlink()
    return path
