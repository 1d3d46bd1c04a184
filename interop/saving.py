"""A Keras model becomes an artifact: ``save_model``.

Enters: a built model. Leaves: the artifact on disk, and an ``ExportSummary``. Invariants: an artifact that
stood there before is replaced as a whole or not at all; the same model gives the same bytes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interop.errors import CaptureError
from interop.status import ExportSummary


@dataclass(frozen=True)
class _OptimizerSource:
    """A variable of the optimizer, read when it is written."""

    variable: Any
    dtype: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray[Any, Any]:
        from interop.capture.keras import compat

        return compat.to_numpy(self.variable)


def save_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    input_signature: Any = None,
    opset: int | None = None,
    include_optimizer: bool = True,
    overwrite: bool = True,
) -> ExportSummary:
    """Save a Keras model as layers, graph and named tensors in one artifact.

    Args:
        model: a built ``keras.Model``, on any backend.
        path: where; one zip file if it ends in ``.interop``, else a folder.
        input_signature: shapes or specs in the structure of the model's first argument; default: its own.
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
    import keras

    from interop.artifact.bundle import write_bundle
    from interop.capture.keras import capture, compat, describe, paths
    from interop.version import __version__

    started = time.perf_counter()
    if not isinstance(model, keras.Layer):
        raise CaptureError(
            f"save_model takes a Keras model. Received: {model!r:.80}, a {type(model).__name__}"
        )
    description = describe.describe(model, include_optimizer=include_optimizer)
    try:
        captured = capture(model, input_signature=input_signature, opset=opset)
    except CaptureError as error:
        raise type(error)(
            f"{error}\nNothing was written. Without a graph, the model still saves with "
            "model.save('model.keras'), and its weights with model.save_weights('model.weights.h5')."
        ) from error
    records = captured.variables
    config = {
        "format": "interop",
        "format_version": 1,
        "min_reader_version": 1,
        "producer": f"interop {__version__}",
        "source": captured.source,
        "model": {**description.config, "layers": [layer.to_json() for layer in captured.layers]},
        "variables": [record.to_json() for record in records],
        "signature": captured.signature.to_json(),
        "opset": captured.opset,
        "ir_version": captured.ir_version,
    }
    optimizer = {}
    if description.config["optimizer"] is not None:
        optimizer = {
            key: _OptimizerSource(v, compat.stored_dtype(v), tuple(int(dim) for dim in v.shape))
            for key, v in paths.optimizer_variables(model).items()
        }
    written = write_bundle(
        path,
        config=config,
        graph=captured.serialize,
        weights={record.key: record.source for record in records},
        optimizer=optimizer or None,
        overwrite=overwrite,
    )
    return ExportSummary(
        path=Path(path),
        opset=captured.opset,
        ir_version=captured.ir_version,
        parameters=captured.parameters,
        size_bytes=written.size_bytes,
        files={name: record.size for name, record in written.records.items()},
        warnings=description.warnings,
        seconds=time.perf_counter() - started,
    )
