"""A model becomes an artifact: ``save_model``.

Enters: a built Keras model, or a model of another framework. Leaves: the artifact on disk,
and an ``ExportSummary``. Invariants: an artifact that
stood there before is replaced as a whole or not at all; the same model gives the same bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interop.errors import CaptureError
from interop.garbage import uncollected
from interop.status import ExportSummary
from interop.version import __version__

if TYPE_CHECKING:
    from interop.capture.records import Capture, LayerRecord


@dataclass(frozen=True)
class _OptimizerSource:
    """A variable of the optimizer, read when it is written."""

    variable: Any
    dtype: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray[Any, Any]:
        from interop.capture.keras import compat

        return compat.to_numpy(self.variable)


@uncollected()
def save_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    input_signature: Any = None,
    opset: int | None = None,
    include_optimizer: bool = True,
    overwrite: bool = True,
) -> ExportSummary:
    """Save a model as layers, graph and named tensors in one artifact.

    Args:
        model: a built ``keras.Model``, on any backend. Or a model of another framework, as ``export_onnx``
            takes it: its artifact opens as a graph and as tensors, and has no layers of its own.
        path: where; one zip file if it ends in ``.interop``, else a folder.
        input_signature: shapes, specs or example arrays in the structure of the model's first argument;
            default: its own.
        opset: ONNX opset of the graph, 17 to 23; default 20.
        include_optimizer: keep the optimizer's state, so that training can go on.
        overwrite: whether an artifact at `path` is replaced.

    Returns:
        What was written; its ``warnings`` tell what a reader of the files should know.

    Raises:
        CaptureError: the model cannot be captured; nothing was written.
        FileExistsError: something exists and `overwrite` is false, or it holds foreign entries.
        OSError: the disk is full or fails; what stood there is intact.
    """
    from interop.artifact.writing import writing
    from interop.capture.dispatch import capture_any, framework_of

    started = time.perf_counter()
    is_keras = framework_of(model) == "keras"
    with writing(path, overwrite=overwrite) as writer:
        try:
            captured = capture_any(
                model, input_signature=input_signature, opset=opset, trust_keras=True, announce=writer.begin
            )
        except CaptureError as error:
            if not is_keras:
                raise
            raise type(error)(
                f"{error}\nNothing was written. Without a graph, the model still saves with "
                "model.save('model.keras'), and its weights with model.save_weights('model.weights.h5')."
            ) from error
        if is_keras:
            description = _described(model, captured, include_optimizer)
        else:
            description = _Described(_bare_config(model))
        written = writer.finish(
            config=lambda: _config(captured, description),
            graph=captured.serialize,
            weights={record.key: record.source for record in captured.variables},
            optimizer=description.optimizer or None,
        )
    return ExportSummary(
        path=Path(path),
        opset=captured.opset,
        ir_version=captured.ir_version,
        parameters=captured.parameters,
        size_bytes=written.size_bytes,
        files={name: record.size for name, record in written.records.items()},
        warnings=description.warnings,
        fallback_layers=captured.fallback_layers,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Described:
    """What goes into the config's ``model`` beside its layers, and the optimizer's variables."""

    config: dict[str, Any]
    optimizer: dict[str, _OptimizerSource] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    revivable: bool = False
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)

    def layers(self, records: Iterable[LayerRecord]) -> list[dict[str, Any]]:
        """The layers, with what reviving them takes where a class or function may be lost."""
        return [
            record.to_json(revivable=self.revivable, described=self.objects.get(record.path))
            for record in records
        ]


def _config(captured: Capture, description: _Described) -> dict[str, Any]:
    """The content of ``config.json``, without its files; layers know their functions once the graph is made."""
    return {
        "format": "interop",
        "format_version": 1,
        "min_reader_version": 1,
        "producer": f"interop {__version__}",
        "source": captured.source,
        "model": {**description.config, "layers": description.layers(captured.layers)},
        "variables": [record.to_json() for record in captured.variables],
        "signature": captured.signature.to_json(),
        "opset": captured.opset,
        "ir_version": captured.ir_version,
    }


def _described(model: Any, captured: Any, include_optimizer: bool) -> _Described:
    from interop.capture.keras import compat, describe, paths

    description = describe.describe(model, captured.layer_paths, include_optimizer=include_optimizer)
    variables: dict[str, Any] = {}
    if description.config["optimizer"] is not None:
        variables |= paths.optimizer_variables(model)
    if "optimizers" in description.config:
        variables |= paths.held_optimizer_variables(model)
    optimizer = {
        key: _OptimizerSource(v, compat.stored_dtype(v), tuple(int(dim) for dim in v.shape))
        for key, v in variables.items()
    }
    return _Described(
        description.config, optimizer, description.warnings, description.revivable, description.layers
    )


def _bare_config(model: Any) -> dict[str, Any]:
    """Of a model that has no layers of Keras."""
    name = getattr(model, "__name__", type(model).__name__)
    return {"name": str(name), "object": {}, "build": None, "compile": None, "optimizer": None}
