"""``import_onnx``: an ONNX graph as a Keras model that trains."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from interop.backend import choose_backend
from interop.errors import InteropError
from interop.garbage import uncollected
from interop.status import ImportReport

if TYPE_CHECKING:
    import onnx


def import_onnx(
    path_or_proto: str | os.PathLike[str] | onnx.ModelProto,
    *,
    name: str | None = None,
    layout: str = "nhwc",
    report: list[ImportReport] | Callable[[ImportReport], object] | None = None,
) -> Any:
    """Make a Functional Keras model of an ONNX graph, of stock layers and ``keras.ops`` operations.

    Inputs and outputs are those of the graph, in its layout. One input is a tensor, several are a list, which can be
    given by name as a dict; one output is a tensor, several are a dict by name.

    Args:
        path_or_proto: a ``.onnx`` file, whose weights may lie beside it, or a ModelProto.
        name: of the model.
        layout: "nhwc" computes with channels last, whatever the graph does; "keep" with channels first.
        report: a list to append the ``ImportReport`` to, or a function to call with it.

    Returns:
        A ``keras.Model`` with the graph's weights, for the backend that runs.

    Raises:
        GraphError: the graph is broken, or a node cannot be computed; the message names it.
        UnsupportedNodes: nodes that nothing computes, all of them, before anything is built.
        FileNotFoundError: nothing is at the path.
    """
    if layout not in ("nhwc", "keep"):
        raise InteropError(f"layout is 'nhwc' or 'keep'. Received: layout={layout!r}")
    choose_backend()
    from interop.rebuild.importer import imported
    from interop.rebuild.source import inlined, read_model

    with uncollected():
        model, made = imported(inlined(read_model(path_or_proto)), layout, name)
    if isinstance(report, list):
        report.append(made)
    elif report is not None:
        report(made)
    return model
