"""The three doors of an artifact: as layer objects, as a graph, as named tensors.

What enters: a path. What leaves: a model, a `GraphModel`, or a mapping of name to array. Each door imports
only what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interop.errors import ArtifactError, GraphError, RebuildError, UnsupportedNodes, WeightsError
from interop.garbage import uncollected

if TYPE_CHECKING:
    from interop.formats import TensorMapping
    from interop.rebuild.from_config import Rebuilt
    from interop.runtime.session import GraphModel, Provider
    from interop.status import LoadStatus

_NO_LAYERS = {".onnx": "a plain graph holds no layers. It opens with interop.load_graph(path)"}


@uncollected()
def load_model(
    path: str | os.PathLike[str],
    *,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    revive: bool = True,
    inline: bool = False,
    verify_digest: bool = True,
    report: list[LoadStatus] | Callable[[LoadStatus], object] | None = None,
) -> Any:
    """Open an artifact, or a file that any Keras wrote, as Keras layers, on whatever backend runs.

    Args:
        path: an artifact (folder or ``.interop``), written on any backend; or a ``.keras``, ``.h5``, ``.json`` file
            or SavedModel of Keras 1, 2 or 3, for which TensorFlow is not needed. Any other SavedModel (of
            ``tf.Module``, of Keras 3's ``export``) becomes stock layers, as ``import_onnx`` makes them, of its
            ``serving_default`` signature, or of its function if it has none: TensorFlow and tf2onnx open that, and it
            is to be trusted as a program.
        custom_objects: name to class or function, for what is not registered with Keras. A lambda, whose
            code is never stored, is expected under the name that saving reported.
        compile: compile as the saved model was, with the optimizer's variables and step, so that training
            goes on where it stopped.
        revive: layers of an artifact whose class, or a function they use, is found neither in `custom_objects` nor
            registered with Keras are made from the graph: same weights, same predictions, and they train. Layers
            inside them whose class is known are those layers. A missing loss, metric or optimizer leaves the model
            uncompiled. One warning lists them, or the report's ``revived`` and ``changes``. If False, or for a
            file of Keras, missing ones raise MissingClassError.
        inline: make the artifact's graph a Functional model of stock layers, as ``import_onnx`` does: no class of its
            own is needed, it saves as ``.keras`` for where this toolkit is not installed, and it is not compiled. Of a
            SavedModel of Keras 2, whose classes are not there: of its function, as of other SavedModels.
        verify_digest: hash the weights (0.5 s per GB and core) while the layers are made.
        report: a list to append the ``LoadStatus`` to, or a function to call with it. With it, keys that do
            not match are only listed; without, they raise. Its ``changes`` tell what Keras 3 does otherwise than
            the file of an older Keras says; without `report`, what is lost is a warning.

    Returns:
        A built ``keras.Model``. Weights of more than 16 MB stay in the artifact's pages, copy on write, while it uses
        them: replace an artifact, as `save_model` does; do not write into its files.

    Raises:
        BackendError: no Keras backend is installed; names the extra.
        ArtifactError: the files are not a valid artifact; DigestError: they were changed.
        FormatError: a file of Keras is damaged, or holds no model.
        MissingClassError: custom classes or functions that were not passed and not revived, all of them.
        RebuildError: Keras could not make the objects, or Keras 3 does not have what an older one had.
        WeightsError: stored tensors and variables do not match.
    """
    if (advice := _NO_LAYERS.get(Path(path).suffix)) is not None and Path(path).is_file():
        raise ArtifactError(f"{os.fspath(path)} is no artifact: {advice}")
    from interop.backend import choose_backend
    from interop.rebuild.legacy.kinds import kind_of

    choose_backend()
    kind = kind_of(Path(path))
    if inline and kind not in (None, "saved_model"):
        raise RebuildError(
            f"{os.fspath(path)} has no graph that inline=True could use; it loads with inline=False"
        )
    if inline:
        rebuilt = _load_inline(path, verify_digest) if kind is None else _load_traced(path)
    elif kind is None:
        rebuilt = _load_artifact(path, custom_objects, compile, revive, verify_digest)
    else:
        from interop.rebuild.legacy.files import load

        try:
            rebuilt = load(Path(path), kind, custom_objects=custom_objects, compile=compile)
        except (RebuildError, WeightsError) as error:
            raise type(error)(f"{os.fspath(path)}: {error}") from error
    if report is None:
        return rebuilt.complete(os.fspath(path))
    if isinstance(report, list):
        report.append(rebuilt.status)
    else:
        report(rebuilt.status)
    return rebuilt.model


def _load_artifact(
    path: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None,
    compile: bool,
    revive: bool,
    verify_digest: bool,
) -> Rebuilt:
    from interop.artifact.bundle import open_bundle

    with ExitStack() as open_files:
        bundle = open_files.enter_context(open_bundle(path, verify_digest=False))
        if bundle.framework != "keras":
            raise RebuildError(
                f"{os.fspath(path)} was saved from {bundle.framework}: it has a graph and tensors, but no Keras "
                "layers. inline=True makes stock layers of its graph; interop.load_graph and interop.load_tensors "
                "open it too"
            )
        from interop.rebuild.from_config import rebuild

        files = [bundle.read_weights(verify_digest=verify_digest)]
        if compile and (state := bundle.read_optimizer(verify_digest=verify_digest)) is not None:
            files.append(state)
        for file in files:
            open_files.callback(file.close)
        try:
            rebuilt = rebuild(
                bundle.config,
                *files,
                custom_objects=custom_objects,
                compile=compile,
                graph=bundle.graph_bytes() if revive else None,
            )
            for file in files:
                file.check()
        except (ArtifactError, RebuildError, WeightsError) as error:
            raise type(error)(f"{os.fspath(path)}: {error}") from error
    return rebuilt


def _load_inline(path: str | os.PathLike[str], verify_digest: bool) -> Rebuilt:
    from interop.artifact.bundle import open_bundle
    from interop.rebuild.inline import inline

    with open_bundle(path, verify_digest=verify_digest) as bundle:
        try:
            return inline(bundle)
        except (GraphError, UnsupportedNodes) as error:
            raise type(error)(f"{os.fspath(path)}: {error}") from error


def _load_traced(path: str | os.PathLike[str]) -> Rebuilt:
    from interop.rebuild.legacy.traced import load_traced

    try:
        return load_traced(Path(path))
    except (RebuildError, WeightsError) as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from error


@uncollected()
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
        verify_digest: hash the weights first (0.5 s per GB and core). Without it, bounds, dtypes and
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
        path: an artifact (folder or ``.interop``: its weights, by object path); a ``.safetensors``, ``.npz``,
            ``.keras`` or ``.h5`` file; ``.pt``, ``.pth`` or ``.bin`` of PyTorch, in which nothing is unpickled; an
            ``.index.json`` of shards, or a folder with one; a TensorFlow checkpoint: its prefix, the folder that has it
            as its newest, or a SavedModel; the folder of an Orbax checkpoint (needs tensorstore); a ``.onnx`` file: its
            initializers.
        format: the file's format (``"safetensors"``, ``"npz"``, ``"keras"``, ``"h5"``, ``"torch"``, ``"shards"``,
            ``"tf"``, ``"orbax"``, ``"onnx"``, ``"interop"``) where its ending does not tell.

    Returns:
        A mapping with ``.dtypes`` and ``.shapes`` known at once; a tensor is read (or mapped) when it is
        asked for, read-only. A context manager; ``.close()`` releases the file.

    Raises:
        FileNotFoundError: nothing is at `path`.
        FormatError: the file is not valid in its format.
        ArtifactError: an artifact breaks a rule.
    """
    from interop.formats import holds_tensors, open_tensors

    path = Path(path)
    is_artifact = path.name.endswith(".interop") or (path.is_dir() and not holds_tensors(path))
    if format == "interop" or (format is None and is_artifact):
        from interop.artifact.bundle import open_bundle

        with open_bundle(path, verify_digest=False) as bundle:
            return bundle.weights

    return open_tensors(path, format)
