"""A graph in another float type against the model it was made from.

Enters: the model, its graph in its own types, and the file with the graph in another. Leaves: one ``ParityReport``.

Two comparisons, because one would measure the model and not the file. Rounding weights to float16 moves the
outputs of a deep model by as much as it is sensitive to that, which no conversion can help. So the graph in
the model's own types is held to the model, with the tolerance of those types; and the file is held to that graph
with its weights rounded, with the tolerance of the other type.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interop.artifact.signature import Signature, TensorSpec
from interop.graph.passes.precision import FLOATS, converted, own_floats, rounded
from interop.parity.report import ParityReport
from interop.parity.sides import GraphSide, open_side
from interop.parity.verification import verify
from interop.runtime.session import open_graph


def verify_precision(
    reference: Any,
    graph: Any,
    candidate: Path,
    *,
    signature: Signature,
    dtype: str,
    io_dtype: str,
    save: Callable[[Any, Path], None],
    inputs: Any = None,
) -> ParityReport:
    """Compare a converted file with the model.

    Args:
        reference: the model, in any form that ``verify`` takes.
        graph: its flat ``ir.Model`` in its own types; it is changed.
        candidate: the file.
        signature: of the model.
        dtype: that the file was converted to.
        io_dtype: of its float inputs and outputs.
        save: writes a graph.
        inputs: to compare on; made from the signature when None.

    Returns:
        The rows of both comparisons; those of the second name the type in their case.
    """
    own = max(own_floats(graph), key=FLOATS.index, default="float32")
    with tempfile.TemporaryDirectory() as folder:
        plain, yardstick = Path(folder) / "own.onnx", Path(folder) / "rounded.onnx"
        save(graph, plain)
        first = verify(reference, plain, inputs)
        save(converted(rounded(graph, dtype), own, io_dtype=io_dtype), yardstick)
        rounds = open_side(reference).rounded_to
        side = GraphSide(open_graph(yardstick), _in_type(signature, io_dtype), rounds)
        second = verify(side, candidate, inputs)
    rows = (*first.rows, *(dataclasses.replace(row, case=f"{row.case} in {dtype}") for row in second.rows))
    notes = (
        *first.notes,
        *second.notes,
        f"rows in {dtype} compare {candidate.name} with the model's graph, its weights rounded to {dtype}",
    )
    return ParityReport(first.reference, str(candidate), rows, first.first_departure, notes)


def _in_type(signature: Signature, dtype: str) -> Signature:
    """A signature with its floats in another type."""

    def turned(spec: TensorSpec) -> TensorSpec:
        return spec._replace(dtype=dtype) if spec.dtype in FLOATS else spec

    return signature._replace(
        inputs=tuple(map(turned, signature.inputs)), outputs=tuple(map(turned, signature.outputs))
    )
