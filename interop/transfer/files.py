"""Graphs and tensors in files as sides of a transfer.

Enters: the path of an artifact, an ``.onnx`` file or a file of tensors. Leaves: a ``Model``. Invariant: an
``.onnx`` file that is written is the old one until the new one is complete.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interop.errors import WeightsError
from interop.graph.typecodes import dtype_name
from interop.transfer.models import Input, Model
from interop.transfer.plan import Named

Array = NDArray[Any]


def open_file(path: Path) -> Model:
    """Take a path.

    Raises:
        FileNotFoundError: nothing is there.
        FormatError: it is no file that is known.
    """
    if path.suffix == ".onnx":
        return _graph(path)
    if path.name.endswith(".interop") or (path.is_dir() and (path / "model.onnx").is_file()):
        return _artifact(path)
    from interop.formats import open_tensors

    tensors = open_tensors(path)
    shapes = {name: Named(tensors.dtypes[name], tuple(tensors.shapes[name])) for name in tensors}
    made = Model(f"the file {path}", "file", shapes, tensors.__getitem__)
    weakref.finalize(made, tensors.close)
    return made


def _graph(path: Path) -> Model:
    from interop.rebuild.source import inlined, read_model

    model = inlined(read_model(path))
    arrays = {
        name: value
        for name, value in model.graph.initializers.items()
        if np.issubdtype(value.const_value.numpy().dtype, np.floating) and value.const_value.size > 1
    }
    return _made(path, model, list(arrays))


def _artifact(path: Path) -> Model:
    """An artifact in either form; its weights are read, as its graph names them by the file they lie in."""
    import onnx
    import onnx_ir as ir

    from interop.artifact.bundle import open_bundle
    from interop.rebuild.source import inlined

    with open_bundle(path, verify_digest=True) as bundle:
        arrays = {name: np.array(value) for name, value in bundle.weights.items()}
        model = ir.serde.deserialize_model(onnx.load_model_from_string(bundle.graph_bytes()))
    for name, value in model.graph.initializers.items():
        value.const_value = ir.tensor(arrays[name], name=name)
    return _made(path, inlined(model), list(arrays))


def _made(path: Path, model: Any, names: list[str]) -> Model:
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

    def write(values: Mapping[str, Array]) -> Any:
        return _replaced(path, values)

    return Model(
        f"the graph {path}",
        "onnx",
        shapes,
        lambda name: np.asarray(initializers[name].const_value.numpy()),
        write if path.suffix == ".onnx" else None,
        graph=graph,
        inputs=inputs,
    )


def _replaced(path: Path, values: Mapping[str, Array]) -> Path:
    """Write an ``.onnx`` file anew with other weights."""
    import onnx

    proto = onnx.load(os.fspath(path))
    known = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, value in values.items():
        if name not in known:
            raise WeightsError(f"{path} has no initializer {name!r}")
        known[name].CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
    made = path.with_name(f"{path.name}.new")
    onnx.save(proto, os.fspath(made))
    os.replace(made, path)
    return path
