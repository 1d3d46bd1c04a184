"""One row a use of an ONNX operator, in a file a family; ``tests/test_importer.py`` runs them all.

A row is a small graph: its inputs with their open dimensions named, or arrays that become initializers. Every row is
imported as a Keras model and run at two sizes of every open dimension, and once more on the ONNX backend.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from cases.ops import Input
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class OnnxCase:
    """One use of an operator.

    Attributes:
        op: the operator.
        inputs: an ``Input`` is an input of the graph, an array an initializer, None an input left out.
        attributes: of the node.
        variant: tells rows of one operator apart.
        opset: of ONNX' own domain.
        outputs: how many outputs the node has.
        rtol: relative tolerance of float outputs.
        atol: absolute tolerance of float outputs.
        lifted: class of the layer that it must become, "" if it is an operation.
        constant: the outputs do not depend on the inputs' values.
    """

    op: str
    inputs: tuple[Input | np.ndarray | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    opset: int = 20
    outputs: int = 1
    rtol: float = 1e-4
    atol: float = 1e-5
    lifted: str = ""
    constant: bool = False

    @property
    def id(self) -> str:
        return f"{self.op}-{self.variant}" if self.variant else self.op

    def model(self) -> onnx.ModelProto:
        """The graph of one node."""
        names = ["" if x is None else f"x{i}" for i, x in enumerate(self.inputs)]
        graph_inputs, initializers = [], []
        for name, given in zip(names, self.inputs, strict=True):
            if isinstance(given, Input):
                code = helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype))
                graph_inputs.append(helper.make_tensor_value_info(name, code, given.shape))
            elif given is not None:
                initializers.append(numpy_helper.from_array(given, name))
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, "node", **self.attributes)
        graph = helper.make_graph(
            [node], "row", graph_inputs, [onnx.ValueInfoProto(name=name) for name in outputs], initializers
        )
        imports = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=9)
        return onnx.shape_inference.infer_shapes(model)

    def arrays(self, size: int) -> dict[str, np.ndarray]:
        """Values of the graph's inputs at size 0 or 1 of every open dimension."""
        rng = np.random.default_rng(size)
        return {f"x{i}": x.array(rng, size) for i, x in enumerate(self.inputs) if isinstance(x, Input)}


def normal(*shape: int, scale: float = 1.0, dtype: str = "float32") -> np.ndarray:
    """Weights, the same at every call."""
    return (np.random.default_rng(len(shape)).standard_normal(shape) * scale).astype(dtype)


def ints(*values: int) -> np.ndarray:
    """A vector of numbers."""
    return np.asarray(values, "int64")


def all_cases() -> list[OnnxCase]:
    """Every row of every family, and none twice."""
    cases = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        cases += importlib.import_module(f"{__name__}.{module.name}").CASES
    return cases
