"""What ``tf2onnx`` makes of a graph, with forms of ours where it has none, or a wrong one.

Enters: a graph of TensorFlow, or a TFLite file. Leaves: an ``ir.Model``. What tf2onnx has no form of stands in its
model as it did in TensorFlow; each becomes a local function, made by the emitters of Keras' operations.

A complex tensor is one of floats with a last axis of two, real and imaginary. Only the operations here know that, so
any other that would be given one is refused.
The forms are in ``tf_forms/``, a family a file.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import numpy as np

from interop.backend import choose_backend
from interop.capture.keras.emit import Emit
from interop.capture.keras.symint import SymInt
from interop.capture.tf_forms import gelu
from interop.capture.tf_forms.registry import (
    COMPLEX,
    COMPLEX_FORMS,
    ELEMENTWISE,
    FORMS,
    Form,
    Operation,
    dtype_of,
)
from interop.errors import UnsupportedOp
from interop.graph.assemble import assemble_flat
from interop.graph.record import Recorder, Value

_DOMAIN = "interop.tensorflow"

_EXPORTER_OPSET = 18
"""The newest opset tf2onnx writes; newer ones are converted from it."""


class _Inline(Emit):
    """Writes every constant where it is used: a function has no initializers."""

    def constant(self, array: Any, dtype: str | None = None) -> Value:
        array = np.asarray(array, dtype)
        return Value("constant", array.dtype.name, array.shape, array=np.asarray(array, order="C"))


def processed(graph: Any, **options: Any) -> Any:
    """The ``ir.Model`` that tf2onnx makes of a graph, with our forms of what it leaves as it was.

    Args:
        graph: of TensorFlow; None for a TFLite file.
        options: of ``tf2onnx.tfonnx.process_tf_graph``.

    Raises:
        UnsupportedOp: some of that has no form.
    """
    import onnx_ir as ir
    from tf2onnx import optimizer, utils
    from tf2onnx.tfonnx import process_tf_graph

    utils.INTERNAL_NAME = 0  # names are counted anew, so that the same function gives the same bytes
    handlers: dict[str, Any] = {name: (_left, []) for name in FORMS}
    made = process_tf_graph(
        graph, opset=_EXPORTER_OPSET, continue_on_error=True, custom_op_handlers=handlers, **options
    )
    made = optimizer.optimize_graph(made)
    model = ir.from_proto(made.make_model("model"))
    _describe(model, made)
    _with_own_forms(model, _EXPORTER_OPSET)
    for node in model.graph.all_nodes():
        if node.domain == "com.microsoft" and node.op_type == "Range" and len(node.inputs) == 3:
            node.domain = ""  # the standard one does the same
    known = ("", "ai.onnx", "ai.onnx.ml")
    unknown = {
        node.op_type
        for node in model.graph.all_nodes()
        if (node.domain not in known and node.op_identifier() not in model.functions)
        or (node.domain == "" and not _known(node.op_type))
    }
    if unknown:
        raise UnsupportedOp(
            f"TensorFlow operations without an ONNX form: {', '.join(sorted(unknown))}. Write that part with other "
            "operations"
        )
    return model


@functools.cache
def _known(op_type: str) -> bool:
    import onnx

    return bool(onnx.defs.has(op_type))


def _left(ctx: Any, node: Any, name: str, args: Any) -> None:
    """For tf2onnx: the operation stays as it is."""


def _describe(model: Any, graph: Any) -> None:
    """Note dtypes and shapes of inner values, which a model of tf2onnx does not carry and its graph knows."""
    import onnx_ir as ir

    graphs, known = [graph], {}
    while graphs:
        one = graphs.pop()
        for node in one.get_nodes():
            graphs += (node.get_body_graphs() or {}).values()
            for name in (*node.input, *node.output):
                if name and name not in known and one.get_dtype(name):
                    known[name] = one.get_dtype(name), one.get_shape(name)
    for node in model.graph.all_nodes():
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.name in known:
                dtype, shape = known[value.name]
                value.type = ir.TensorType(ir.DataType(dtype))
                value.shape = (
                    None if shape is None else ir.Shape([dim if dim >= 0 else None for dim in shape])
                )


def _with_own_forms(model: Any, opset: int) -> None:
    """Give every operation that is known here a function.

    Args:
        model: an ``ir.Model`` of tf2onnx, its values described; it is changed.
        opset: of the model.

    Raises:
        UnsupportedOp: complex numbers reach an operation that is not known here, or a rank is not known.
    """
    import onnx_ir as ir

    nodes = list(model.graph.all_nodes())
    parts = _complex_values(model, nodes)
    for number, node in enumerate(nodes):
        gelu.note(node)
        if node.domain == "" and (form := _form_of(node, parts)) is not None:
            name = f"{node.op_type}_{number}"
            graph = _graph(node, form, opset, parts)
            model.functions[(_DOMAIN, name, "")] = ir.Function(_DOMAIN, name, graph=graph, attributes=[])
            node.domain, node.op_type = _DOMAIN, name
            node.attributes.clear()
            model.opset_imports[_DOMAIN] = 1
    for node in nodes:  # again as tf2onnx writes them: some shapes are those before it moved channels
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = value.shape = None


def _form_of(node: Any, parts: set[Any]) -> Form | None:
    if node.op_type in FORMS:
        return FORMS[node.op_type]
    return COMPLEX_FORMS.get(node.op_type) if parts & {*node.inputs, *node.outputs} else None


def _complex_values(model: Any, nodes: Collection[Any]) -> set[Any]:
    """All complex tensors.

    Raises:
        UnsupportedOp: an operation that is not known here makes or takes one, or one is an input or output.
    """
    found = set()
    for node in nodes:
        touched = {v for v in (*node.inputs, *node.outputs) if v is not None and dtype_of(v) in COMPLEX}
        if touched and node.op_type not in (*FORMS, *COMPLEX_FORMS, "Identity"):
            raise UnsupportedOp(
                f"the TensorFlow operation {node.op_type} on complex numbers has no ONNX form. Write it with the real "
                "and the imaginary part: tf.math.real, tf.math.imag, tf.complex"
            )
        found |= touched
    if found & {*model.graph.inputs, *model.graph.outputs}:
        raise UnsupportedOp(
            "ONNX Runtime takes and returns no complex numbers. Let the function take and return real and imaginary "
            "parts: tf.math.real, tf.math.imag"
        )
    return found


def _graph(node: Any, form: Form, opset: int, parts: set[Any]) -> Any:
    """The ``ir.Graph`` of an operation, with the inputs and outputs of its node."""
    choose_backend()
    recorder = Recorder(opset)
    e = _Inline(recorder)
    operation = Operation(node)
    values = [
        _value(recorder, index, value, node.op_type, value in parts)
        for index, value in enumerate(node.inputs)
        if value is not None
    ]
    specs = [
        SimpleNamespace(dtype=dtype, shape=_dims(value, node.op_type, f"output_{index}"))
        for index, (dtype, value) in enumerate(zip(operation.dtypes, node.outputs, strict=True))
    ]
    e.spec = specs[0] if len(specs) == 1 else specs
    e.arguments = [value for value in values if value.kind == "input"]
    made = form(e, operation, *values)
    made = list(made) if isinstance(made, list | tuple) else [made]
    outputs = [
        (f"output_{index}", e.node("Identity", e.cast(value, dtype), shape=()))
        for index, (value, dtype) in enumerate(zip(made, operation.dtypes, strict=True))
    ]
    graph = assemble_flat(recorder.finish(outputs), lambda value: None).graph
    graph.opset_imports[""] = opset
    for value in graph.outputs:
        value.shape = None
    return graph


def _value(recorder: Recorder, index: int, value: Any, operation: str, is_complex: bool) -> Value:
    """An input of the function; what is known is a constant for the form."""
    dtype = COMPLEX.get(dtype_of(value), dtype_of(value))
    if value.shape is None and operation not in ELEMENTWISE:
        raise UnsupportedOp(f"the rank of an input of the TensorFlow operation {operation} is not known")
    dims = _dims(value, operation, f"input_{index}") or ()
    made = recorder.input(f"input_{index}", dtype, (*dims, 2) if is_complex else dims)
    if value.const_value is None:
        return made
    array = value.const_value.numpy()
    if is_complex:
        array = np.stack([array.real, array.imag], axis=-1)
    return Value("constant", dtype, array.shape, array=array)


def _dims(value: Any, operation: str, label: str) -> tuple[Any, ...] | None:
    """The shape of a value, where the rank is known; a size that is not known is a symbol.

    Of an elementwise operation the sizes of one axis from the right are one, else those of the first axis.
    """
    if value.shape is None:
        return None
    rank = len(value.shape)
    names = [
        f"right_{rank - axis}" if operation in ELEMENTWISE else f"{label}_{axis}" for axis in range(rank)
    ]
    if operation not in ELEMENTWISE:
        names[:1] = ["first"] * len(names[:1])
    return tuple(
        dim if isinstance(dim, int) and dim >= 0 else SymInt.symbol(name, 5 + 2 * axis)
        for axis, (name, dim) in enumerate(zip(names, value.shape, strict=True))
    )
