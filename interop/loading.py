"""The three doors of an artifact: as layer objects, as a graph, as named tensors.

What enters: a path. What leaves: a model, a `GraphModel`, or a mapping of name to array. Each door imports
only what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interop.formats import TensorMapping
    from interop.runtime.session import GraphModel, Provider


def load_graph(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[Provider] | None = None,
    low_memory: bool = False,
    verify_digest: bool = False,
) -> GraphModel:
    """Open a model as a bare graph on ONNX Runtime: no Keras, no backend, no custom code.

    The weights are mapped from the file, not read. Everything is checked before ONNX Runtime sees it.

    Args:
        path: an artifact (folder or ``.interop``), or any plain ``.onnx`` file.
        providers: execution providers of ONNX Runtime, best first; None: its default.
        low_memory: keep the weights in the file's pages instead of packing them for speed: a model
            of any size opens at once and takes no memory of its own, each run is somewhat slower.
        verify_digest: hash the weights first (about 0.5 s per GB). Without it, bounds, dtypes and
            shapes are still checked, and ``config.json`` and ``model.onnx`` still hashed.

    Returns:
        A `GraphModel`: ``graph(x)``, ``graph(a, b)`` or ``graph({"a": a, "b": b})`` runs it;
        ``.predict(x, batch_size=32)`` runs it over many samples; ``.inputs`` and ``.outputs`` tell names,
        dtypes and shapes.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ArtifactError: it is no valid artifact or graph; UnsafeFileError, DigestError and VersionError
            say more.
    """
    from interop.runtime.session import open_graph

    return open_graph(path, providers=providers, low_memory=low_memory, verify_digest=verify_digest)


def load_tensors(path: str | os.PathLike[str], *, format: str | None = None) -> TensorMapping:
    """Open a file of named tensors as a lazy mapping of name to NumPy array; no framework is needed.

    Args:
        path: an artifact (folder or ``.interop``: its weights, by object path), or a ``.safetensors``,
            ``.npz``, ``.keras`` or ``.h5`` file.
        format: the file's format (``"safetensors"``, ``"npz"``, ``"keras"``, ``"h5"``, ``"interop"``) where
            its ending does not tell.

    Returns:
        A mapping with ``.dtypes`` and ``.shapes`` known at once; a tensor is read (or mapped) when it is
        asked for, read-only. A context manager; ``.close()`` releases the file.

    Raises:
        FileNotFoundError: nothing is at `path`.
        FormatError: the file is not valid in its format.
        ArtifactError: an artifact breaks a rule.
    """
    path = Path(path)
    if format == "interop" or (format is None and (path.name.endswith(".interop") or path.is_dir())):
        from interop.artifact.bundle import open_bundle

        with open_bundle(path, verify_digest=False) as bundle:
            return bundle.weights
    from interop.formats import open_tensors

    return open_tensors(path, format)
