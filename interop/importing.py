"""``import_onnx``: an ONNX graph as a Keras model that trains."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interop.backend import choose_backend
from interop.errors import ArtifactError, GraphError, InteropError, UnsupportedNodes
from interop.garbage import uncollected
from interop.status import ImportReport

if TYPE_CHECKING:
    import onnx

    from interop.rebuild.source import Source

_FRAMES_AROUND = 100
"""Calls on the stack, at most, when Keras begins to follow a graph."""


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

    Where a file says which Keras model it was made of (``export_onnx`` with ``config``), its layers are made again,
    with their names and flags, if the graph is shown to be that model's; the report's ``original`` says whether it was,
    and its ``notes`` why not. Else, and for any other file, patterns of nodes become layers. Nothing in a file is run.

    A graph may be deeper than Python's recursion limit. Keras reads the ``.keras`` file of such a model only after
    ``sys.setrecursionlimit``, of which a warning says how much; ``interop.load_model`` reads it as it is.

    Args:
        path_or_proto: a ``.onnx`` file, whose weights may lie beside it, or a ModelProto.
        name: of the model.
        layout: "nhwc" computes with channels last, whatever the graph does; "keep" with channels first. A model that
            is made again computes as it did; with "keep" none is.
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
    from interop.rebuild.source import read_source

    with uncollected():
        source = read_source(path_or_proto)
        model, made = _original(source, layout, name)
        if model is None:
            model, made = _lifted(source, layout, name, made.notes)
    if isinstance(report, list):
        report.append(made)
    elif report is not None:
        report(made)
    _warn_if_deep(model)
    return model


def _original(source: Source, layout: str, name: str | None) -> tuple[Any, ImportReport]:
    """The Keras model that a file says it was made of; None, and why not in the report's notes."""
    from interop.artifact.recorded import KEY, decoded
    from interop.rebuild.original import NotOriginal, original

    entry = source.metadata.get(KEY)
    if entry is None:
        return None, ImportReport()
    try:
        if layout == "keep":
            raise NotOriginal("layout='keep' asks for channels first")
        return original(source.as_it_is(), decoded(entry), name)
    except (ArtifactError, NotOriginal) as error:
        note = f"the Keras model in the file's {KEY!r} was not made: {error}"
        return None, ImportReport(notes=(note,))


def _lifted(
    source: Source, layout: str, name: str | None, notes: tuple[str, ...]
) -> tuple[Any, ImportReport]:
    """The model that the patterns of ``rebuild/lift`` make of the graph."""
    from interop.rebuild.element_types import check_types
    from interop.rebuild.importer import imported
    from interop.rebuild.source import inlined

    try:
        model, made = imported(check_types(inlined(source.plain())), layout, name)
    except (GraphError, UnsupportedNodes) as error:
        if not notes:
            raise
        raise type(error)(f"{error}. Nor was there a way around it: {'; '.join(notes)}") from error
    return model, replace(made, notes=notes)


def _warn_if_deep(model: Any) -> None:
    from interop.capture.keras import compat

    depth = compat.depth(model)
    if depth > sys.getrecursionlimit() - _FRAMES_AROUND:
        warnings.warn(
            f"{model.name} has {depth} operations one after the other, and Keras follows them by recursion when it "
            "reads a .keras file. Read it with interop.load_model, or call "
            f"sys.setrecursionlimit({depth + sys.getrecursionlimit()}) before keras.saving.load_model",
            stacklevel=3,
        )
