"""ONNX graphs run on the Keras backend, through the standard interface ``onnx.backend.base.Backend``.

Enters: a ModelProto or NodeProto and NumPy arrays. Leaves: NumPy arrays. Every node is computed eagerly with the
handlers of ``interop/rebuild/ops``, the same that import a graph as Keras layers, so that ONNX' own backend tests
(``onnx.backend.test``) prove those. For running graphs fast there is ``interop.load_graph``.

    import interop.onnx_backend as backend
    outputs = backend.prepare(model).run(inputs)

JAX computes in 64 bits only with ``JAX_ENABLE_X64=1``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep

from interop.backend import choose_backend
from interop.errors import SignatureError


class KerasRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, model: Any) -> None:
        """Take a checked ``ir.Model``."""
        self._graph = model.graph
        self._opsets = dict(model.graph.opset_imports)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Compute the outputs.

        Args:
            inputs: NumPy arrays in the order of the graph's inputs, or by name; an input that is an initializer too
                may be left out.

        Raises:
            SignatureError: the number or the names of inputs are not the graph's.
            GraphError: a node could not be computed.
        """
        from interop.rebuild.interpreter import Interpreter
        from interop.rebuild.tensors import from_numpy, to_numpy

        interpreter = Interpreter(self._opsets, parameter=lambda name, array: lambda: from_numpy(array))
        given = [interpreter.value(from_numpy(array)) for array in self._ordered(inputs)]
        return tuple(to_numpy(value.tensor()) for value in interpreter.run(self._graph, given))

    def _ordered(self, inputs: Any) -> list[Any]:
        names = [value.name for value in self._graph.inputs]
        required = [name for name in names if name not in self._graph.initializers]
        if isinstance(inputs, Mapping):
            if set(inputs) not in (set(names), set(required)):
                raise SignatureError(f"the graph's inputs are {names}. Received: {sorted(inputs)}")
            return [inputs[name] for name in names if name in inputs]
        arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if len(arrays) not in (len(names), len(required)):
            raise SignatureError(f"the graph has {len(required)} inputs, {required}. Received: {len(arrays)}")
        return arrays


class KerasBackend(Backend):
    """See the module."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> KerasRep:
        """Read and check a model.

        Raises:
            GraphError: it is broken.
            UnsupportedNodes: it has nodes without a handler.
        """
        choose_backend()
        from interop.rebuild.element_types import check_types
        from interop.rebuild.source import check_supported, inlined, read_model

        read = check_types(inlined(read_model(model)))
        check_supported(read)
        return KerasRep(read)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Compute one node, of the opset ``opset_version`` (the newest by default)."""
        arrays = [np.asarray(array) for array in inputs]
        names = [name for name in node.input if name]
        if len(arrays) != len(names):
            raise SignatureError(f"the node takes {len(names)} inputs. Received: {len(arrays)}")
        typed = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        opset = int(kwargs.get("opset_version") or onnx.defs.onnx_opset_version())
        imports = [helper.make_opsetid("", opset)]
        if node.domain:
            imports.append(helper.make_opsetid(node.domain, 1))
        graph = helper.make_graph([node], "node", typed, outputs)
        return cls.prepare(helper.make_model(graph, opset_imports=imports), device).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Keras computes where its backend does; the CPU is always there."""
        return device.split(":", maxsplit=1)[0] == "CPU"


is_compatible = KerasBackend.is_compatible
prepare = KerasBackend.prepare
run_model = KerasBackend.run_model
run_node = KerasBackend.run_node
supports_device = KerasBackend.supports_device
