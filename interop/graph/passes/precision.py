"""A flat graph in another float type: ``export_onnx(..., dtype="float16")``.

Enters: a flat ``ir.Model`` with typed values and its weights in memory. Leaves: the same model with its
weights in the wanted type, its products (matrix products, convolutions, recurrent layers, attention) computed
in it, and everything else in it where that is as good.

How a node's type is found, from what reaches it:

- products take the wanted type, and cast down what comes in wider;
- what may leave the range of a half type (reductions, powers, exponentials, squares), where rounding would build
  up (sums of computed values, such as a residual stream), and what ONNX or ONNX Runtime does not have in the
  wanted type, is computed in float32;
- everything else is computed in the widest type that reaches it.

Invariants:
- No value is clamped. A weight that overflows in the wanted type stays float32, and so does a constant that
  overflows or vanishes (a mask's -1e9, an epsilon of 1e-12); what takes it is computed in float32.
- What is computed from integers alone (positions, sizes, masks) stays float32 until a product takes it.
- What a loop or a branch carries is float32, so that its body takes and gives the same type.
- Floats of a type that no input, output or weight has (float64 inside a float32 model) are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from interop.errors import CaptureError
from interop.graph.kernels import has_kernel, moves_batch
from interop.graph.typecodes import dtype_name, onnx_type_code

FLOATS = ("float16", "bfloat16", "float32", "float64")

_PRODUCTS = {
    "Attention",
    "Conv",
    "ConvTranspose",
    "DeformConv",
    "Einsum",
    "GRU",
    "Gemm",
    "LSTM",
    "MatMul",
    "RNN",
}
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Mean", "Prod", "Sum", "SumSquare")
_LEAVES_THE_RANGE = {"CumSum", "DFT", "Det", "Exp", "Pow", "STFT", *(f"Reduce{name}" for name in _REDUCTIONS)}

# Operators with an attribute that says the element type of their output.
_TYPE_ATTRIBUTES = {
    "Cast": "to",
    "EyeLike": "dtype",
    "RandomNormal": "dtype",
    "RandomNormalLike": "dtype",
    "RandomUniform": "dtype",
    "RandomUniformLike": "dtype",
    "Bernoulli": "dtype",
}


def converted(model: Any, dtype: str, *, io_dtype: str | None = None) -> Any:
    """Bring a flat model to another float type, in place.

    Args:
        model: without functions; every value that a node makes has its type.
        dtype: of the weights and of what computes with them.
        io_dtype: of float inputs and outputs; default: `dtype`.

    Returns:
        The model.

    Raises:
        CaptureError: an operator exists in neither the wanted type nor float32.
    """
    _Conversion(model, dtype, io_dtype or dtype).run()
    return model


def own_floats(model: Any) -> frozenset[str]:
    """The float types of a model's inputs, outputs and weights."""
    graph = model.graph
    faces = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    return frozenset(name for value in faces if (name := _float_of(value)))


def rounded(model: Any, dtype: str) -> Any:
    """The model with its weights rounded to a float type but kept in their own, in place."""
    own = own_floats(model)
    for name, value in model.graph.initializers.items():
        if _float_of(value) in own:
            array = value.const_value.numpy()
            if _fits(array, dtype):
                value.const_value = ir.tensor(_cast(array, dtype).astype(array.dtype), name=name)
    return model


class _Conversion:
    """The types that the values of one model have so far."""

    def __init__(self, model: Any, dtype: str, io_dtype: str) -> None:
        self._model = model
        self._wanted = dtype
        self._wide = dtype if dtype in ("float32", "float64") else "float32"
        self._io = io_dtype
        self._opset = int(model.opset_imports.get("", 0))
        self._own = own_floats(model)
        #: What each value that had one of them is in now. A constant is not here: it is in any type.
        self._now: dict[Any, str] = {}
        self._casts: dict[tuple[Any, str], Any] = {}

    def run(self) -> None:
        from onnx_ir.passes import common

        graph = self._model.graph
        _infer_types(graph, self._opset)
        for value in graph.inputs:
            if self._is_own(value):
                self._set(value, self._io)
        self._graph(graph)
        for index, value in enumerate(list(graph.outputs)):
            if value in self._now and self._now[value] != self._io:
                name, value.name = value.name, f"{value.name}#{self._now[value]}"
                made = self._in(value, self._io)
                made.name, made.shape = name, value.shape
                graph.outputs[index] = made
        common.RemoveUnusedNodesPass()(self._model)

    def _is_own(self, value: Any) -> bool:
        return value in self._now or _float_of(value) in self._own

    def _set(self, value: Any, dtype: str) -> None:
        self._now[value] = dtype
        value.type = ir.TensorType(ir.DataType(onnx_type_code(dtype)))

    def _graph(self, graph: Any) -> None:
        """Every node of a graph, in order; the graph's own inputs have their type already."""
        for value in graph.initializers.values():
            if self._is_own(value):
                self._weight(value)
        for node in list(graph):
            self._node(node)

    def _weight(self, value: Any) -> None:
        array = value.const_value.numpy()
        dtype = self._wanted if _fits(array, self._wanted) else self._wide
        if value.const_value.dtype != onnx_type_code(dtype):
            value.const_value = ir.tensor(_cast(array, dtype), name=value.name)
        self._set(value, dtype)

    def _node(self, node: Any) -> None:
        bodies = [attribute.as_graph() for attribute in node.attributes.values() if _is_graph(attribute)]
        if _constant(node) is not None:
            return
        if bodies:
            self._control(node, bodies)
        elif node.op_type == "Cast" and node.domain == "":
            self._cast(node)
        else:
            self._operator(node)

    def _control(self, node: Any, bodies: list[Any]) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and self._is_own(value):
                node.replace_input_with(index, self._in(value, self._wide))
        for body in bodies:
            for value in body.inputs:
                if self._is_own(value):
                    self._set(value, self._wide)
            self._graph(body)
            for index, value in enumerate(list(body.outputs)):
                if self._is_own(value):
                    body.outputs[index] = self._in(value, self._wide)
        for value in node.outputs:
            if self._is_own(value):
                self._set(value, self._wide)

    def _cast(self, node: Any) -> None:
        """Between two types of the model's own there is nothing left to cast."""
        source, result = node.inputs[0], node.outputs[0]
        if not self._is_own(result):
            return
        if self._is_own(source) and _constant(source.producer()) is None:
            if not result.is_graph_output():
                result.replace_all_uses_with(source)
                return
            node.op_type = "Identity"
            node.attributes.clear()
            self._set(result, self._now[source])
        else:
            node.attributes["to"] = ir.AttrInt64("to", onnx_type_code(self._wide))
            self._set(result, self._wide)

    def _operator(self, node: Any) -> None:
        operands = _operands(node, self._opset)
        dtype = self._chosen(node, [parameter for parameter, _, _ in operands])
        for parameter, index, value in operands:
            if value is not None and self._is_own(value):
                fixed = _FIXED.get(parameter or "")
                node.replace_input_with(index, self._in(value, fixed or dtype))
        bound = {parameter for parameter, _, value in operands if value is not None and _float_of(value)}
        for parameter, value in _results(node, self._opset):
            if not self._is_own(value):
                continue
            if parameter in _FIXED or (parameter not in bound and parameter is not None):
                self._give_wide(node, value)
            else:
                self._set(value, dtype)

    def _give_wide(self, node: Any, value: Any) -> None:
        """A result whose type no operand decides: made in the wide type."""
        name = _TYPE_ATTRIBUTES.get(node.op_type)
        if name in node.attributes:
            node.attributes[name] = ir.AttrInt64(name, onnx_type_code(self._wide))
        elif node.op_type == "ConstantOfShape" and "value" in node.attributes:
            filler = node.attributes["value"].as_tensor().numpy()
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(_cast(filler, self._wide)))
        self._set(value, self._wide)

    def _chosen(self, node: Any, parameters: list[str | None]) -> str:
        """The type a node computes in."""
        own = [value for value in node.inputs if value is not None and self._is_own(value)]
        if not self._exists(node, self._wanted):
            if not self._exists(node, self._wide):
                raise CaptureError(
                    f"{node.op_type} (node {node.name!r}) exists neither in {self._wanted} nor in {self._wide} in "
                    f"opset {self._opset}. Pass a newer opset or another dtype"
                )
            return self._wide
        if node.op_type in _LEAVES_THE_RANGE or None in parameters or _is_square(node) or _is_stream(node):
            return self._wide
        constants = [c for value in own if (c := _constant(value.producer())) is not None]
        if not all(_fits(array, self._wanted) for array in constants):
            return self._wide
        others = [value for value in own if _constant(value.producer()) is None]
        if node.op_type in _PRODUCTS:
            weights = [value for value in others if value.is_initializer()]
            return self._wide if any(self._now[v] == self._wide for v in weights) else self._wanted
        return self._wanted if others and all(self._now[v] == self._wanted for v in others) else self._wide

    def _exists(self, node: Any, dtype: str) -> bool:
        """Whether ONNX has the operator in this type; for bfloat16, whether ONNX Runtime has it too."""
        schema = _schema(node, self._opset)
        if schema is None:
            return dtype == self._wide
        if dtype == "bfloat16" and "perm" in node.attributes:
            return not moves_batch(node.attributes["perm"].as_ints())
        allowed = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
        used = {parameter for parameter, _, value in _operands(node, self._opset) if self._takes(value)}
        used |= {parameter for parameter, value in _results(node, self._opset) if self._takes(value)}
        return all(
            parameter in _FIXED
            or (
                _TYPE_STRINGS[dtype] in allowed.get(parameter or "", ())
                and has_kernel(node.op_type, str(parameter), dtype)
            )
            for parameter in used
            if parameter is not None and parameter in allowed
        )

    def _takes(self, value: Any) -> bool:
        return value is not None and self._is_own(value)

    def _in(self, value: Any, dtype: str) -> Any:
        """The value in a type: itself, or a cast that stands where the value is made, so that bodies see it."""
        producer = value.producer()
        array = _constant(producer)
        if (now := self._now.get(value)) == dtype or (array is not None and _float_of(value) == dtype):
            return value
        found = self._casts.get((value, dtype))
        if found is not None:
            return found
        if array is not None:
            tensor = ir.tensor(_cast(array, dtype))
            node = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], name=f"{value.name}#{dtype}")
        else:
            if now is None:
                raise CaptureError(f"value {value.name!r} is used before it is made")
            whole = (
                producer is not None and producer.op_type == "Cast" and not self._is_own(producer.inputs[0])
            )
            source = producer.inputs[0] if whole else value
            to = ir.AttrInt64("to", onnx_type_code(dtype))
            node = ir.Node("", "Cast", [source], [to], name=f"{value.name}#{dtype}")
        made = node.outputs[0]
        made.name, made.shape = f"{value.name}#{dtype}", value.shape
        self._set(made, dtype)
        self._casts[value, dtype] = made
        if producer is not None:
            producer.graph.insert_after(producer, node)
        elif len(value.graph):
            value.graph.insert_before(value.graph[0], node)
        else:
            value.graph.append(node)
        return made


_TYPE_STRINGS = {
    "float16": "tensor(float16)",
    "bfloat16": "tensor(bfloat16)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
}
# Parameters that an operator takes in one type only, such as the scales of Resize.
_FIXED = {text: name for name, text in _TYPE_STRINGS.items()}


def _infer_types(graph: Any, opset: int) -> None:
    """Give a type to results that have none: the one of the operands they share a type parameter with."""
    for node in graph:
        for attribute in node.attributes.values():
            if _is_graph(attribute):
                _infer_types(attribute.as_graph(), opset)
        types = {parameter: v.type for parameter, _, v in _operands(node, opset) if v is not None}
        for parameter, value in _results(node, opset):
            if value.type is None and parameter is not None and parameter in types:
                value.type = types[parameter]


def _float_of(value: Any) -> str | None:
    """The float type of a tensor; None for everything else."""
    if not isinstance(value.type, ir.TensorType):
        return None
    name = dtype_name(int(value.dtype))
    return name if name in FLOATS else None


def _is_graph(attribute: Any) -> bool:
    return bool(attribute.type == ir.AttributeType.GRAPH)


def _constant(node: Any) -> np.ndarray[Any, Any] | None:
    """What a float Constant node holds."""
    if node is None or node.op_type != "Constant" or node.domain != "":
        return None
    for name in ("value", "value_float", "value_floats"):
        if name in node.attributes:
            attribute = node.attributes[name]
            array = attribute.as_tensor().numpy() if name == "value" else np.asarray(attribute.value, "f4")
            return array if array.dtype.name in FLOATS else None
    return None


def _is_square(node: Any) -> bool:
    return node.op_type == "Mul" and node.inputs[0] is node.inputs[1]


def _is_stream(node: Any) -> bool:
    """Whether this adds up computed values: weights and constants have no part in it."""
    if node.op_type not in ("Add", "Sub", "Sum"):
        return False
    return all(v.producer() is not None and _constant(v.producer()) is None for v in node.inputs)


def _cast(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    import ml_dtypes

    with np.errstate(over="ignore", under="ignore"):
        made: np.ndarray[Any, Any] = array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    return made


def _fits(array: np.ndarray[Any, Any], dtype: str) -> bool:
    """Whether nothing overflows in a type and, of a single number, nothing is left of it but zero."""
    made = _cast(array, dtype)
    overflows = np.isinf(made) & np.isfinite(array)
    vanishes = array.size == 1 and bool(((made == 0) & (array != 0)).any())
    return not overflows.any() and not vanishes


def _schema(node: Any, opset: int) -> Any:
    """The operator's schema; None for an operator of another vendor."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if domain not in ("", "ai.onnx.ml") or not onnx.defs.has(node.op_type, domain):
        return None
    return onnx.defs.get_schema(node.op_type, opset if domain == "" else 3, domain)


def _operands(node: Any, opset: int) -> list[tuple[str | None, int, Any]]:
    """Each input as (type parameter, position, value); the parameter of an unknown operator is None."""
    schema = _schema(node, opset)
    names = None if schema is None else [each.type_str for each in schema.inputs]
    return list(_with_parameters(names, node.inputs))


def _results(node: Any, opset: int) -> list[tuple[str | None, Any]]:
    schema = _schema(node, opset)
    names = None if schema is None else [each.type_str for each in schema.outputs]
    return [(name, value) for name, _, value in _with_parameters(names, node.outputs)]


def _with_parameters(names: list[str] | None, values: Any) -> Iterator[tuple[str | None, int, Any]]:
    for index, value in enumerate(values):
        yield None if names is None else names[min(index, len(names) - 1)], index, value
