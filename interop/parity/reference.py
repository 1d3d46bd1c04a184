"""Float64 graphs that ONNX Runtime has no kernels for, run by the reference evaluator of ONNX.

Enters: the path of an artifact or an ``.onnx`` file. Leaves: a side of a comparison, slow and exact; or None where
ONNX Runtime runs the graph. Which operators need it: ``interop.graph.kernels.WITHOUT_FLOAT64``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interop.artifact.bundle import open_bundle
from interop.artifact.files import is_zip
from interop.artifact.signature import Signature, TensorSpec
from interop.errors import ParityError
from interop.graph.kernels import float64_gaps
from interop.graph.passes import inlined
from interop.graph.typecodes import dtype_name

Array = np.ndarray[Any, Any]


class ReferenceSide:
    """A graph on ``onnx.reference``."""

    adopts = False
    computed_in: frozenset[str] = frozenset({"float64"})
    rounded_to: frozenset[str] = frozenset()

    def __init__(self, path: Path, model: Any, signature: Signature | None, gaps: Sequence[str]) -> None:
        """Take a flat ``ir.Model`` with its weights in memory."""
        import onnx_ir as ir
        from onnx.reference import ReferenceEvaluator

        self.label = (
            f"graph of {path} (by onnx.reference: ONNX Runtime has no float64 kernel of {', '.join(gaps)})"
        )
        self.signature = signature
        self._own = signature or _signature_of(model)
        self._evaluator = ReferenceEvaluator(ir.serde.serialize_model(model))

    def derive_signature(self) -> Signature:
        return self._own

    def run(self, values: Sequence[Array], signature: Signature) -> list[Array]:
        feed = {spec.name: value for spec, value in zip(signature.inputs, values, strict=True)}
        found = self._evaluator.run([spec.name for spec in self._own.outputs], feed)
        return [np.asarray(array) for array in found]

    def layer_outputs(self, values: Sequence[Array], signature: Signature) -> dict[str, list[Array]]:
        return {}


def reference_side(path: Path) -> ReferenceSide | None:
    """The graph on ``onnx.reference`` if ONNX Runtime lacks a float64 kernel for it.

    Raises:
        ParityError: neither of them can run it.
    """
    import onnx
    import onnx_ir as ir

    from interop.graph.serialized import deserialized

    if path.is_file() and not is_zip(path):
        model, signature = ir.from_proto(onnx.load(path)), None
    else:
        with open_bundle(path, verify_digest=True) as bundle:
            model, signature = (
                deserialized(bundle.graph_bytes()),
                bundle.signature,
            )
            for name, value in model.graph.initializers.items():
                value.const_value = ir.tensor(np.array(bundle.weights[name]), name=name)
    model = inlined(model)
    gaps = float64_gaps(model)
    if gaps and (reason := passed_over(model)):
        raise ParityError(
            f"{path} cannot be run: ONNX Runtime has no float64 kernel of {', '.join(gaps)}, and onnx.reference "
            f"{reason}. Go without a comparison: verify=False"
        )
    return ReferenceSide(path, model, signature, gaps) if gaps else None


def passed_over(model: Any) -> str:
    """What of a flat ``ir.Model`` the reference evaluator of ONNX 1.23 does not do, if anything."""
    for node in model.graph.all_nodes():
        if node.op_type in ("GRU", "LSTM", "RNN"):
            if len(node.inputs) > 4 and node.inputs[4] is not None:
                return f"ignores the sequence_lens of {node.op_type}"
            if "activations" in node.attributes:
                return f"does not know all activations of {node.op_type}"
        if node.op_type == "Scan" and "scan_input_axes" in node.attributes:
            return "has no Scan over other axes than the first"
    return ""


def _signature_of(model: Any) -> Signature:
    inputs, outputs = (
        [_spec(value) for value in values] for values in (model.graph.inputs, model.graph.outputs)
    )
    return Signature(tuple(inputs), tuple(outputs), _structure(len(inputs)), _structure(len(outputs)))


def _structure(count: int) -> Any:
    return 0 if count == 1 else {"tuple": list(range(count))}


def _spec(value: Any) -> TensorSpec:
    dims = [getattr(dim, "value", dim) for dim in value.shape]
    named = tuple(dim if dim is not None else f"{value.name}.{axis}" for axis, dim in enumerate(dims))
    return TensorSpec(value.name, dtype_name(int(value.dtype)), named)
