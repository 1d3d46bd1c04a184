"""Writing an artifact: a Keras model becomes a config, a graph and its tensors.

Enters: a built model. Leaves: files, and an ``ExportSummary``. Invariant: everything that can fail because of
the model fails before the first byte is written.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interop.artifact.bundle import TensorSource, write_bundle
from interop.errors import CaptureError
from interop.status import ExportSummary


def save_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    input_signature: Any = None,
    opset: int | None = None,
    include_optimizer: bool = True,
    overwrite: bool = True,
) -> ExportSummary:
    """Save a built Keras model as one artifact that opens as layers, as a graph and as tensors.

    Args:
        model: a Sequential, Functional or subclassed ``keras.Model``, built.
        path: the zip form if it ends in ``.interop``, else a folder.
        input_signature: shapes or example inputs, where the model does not tell; see ``capture``.
        opset: of the graph, 17 to 23; default 20.
        include_optimizer: store the optimizer's variables and step, so that training can resume.
        overwrite: whether an existing artifact may be replaced; it is replaced as a whole or not at all.

    Returns:
        What was written.

    Raises:
        CaptureError: the model cannot become a graph; nothing is written. UnsupportedOp and
            SpecializationError say more.
        FileExistsError: `path` exists and `overwrite` is false, or it holds files that are not an artifact's.
        OSError: writing failed; what was there before is intact.
    """
    started = time.perf_counter()
    from interop.capture.keras import capture
    from interop.capture.keras.describe import describe

    try:
        description = describe(model, include_optimizer=include_optimizer)
        captured = capture(model, input_signature=input_signature, opset=opset)
    except CaptureError as error:
        raise type(error)(
            f"{error}\nNothing was written to {os.fspath(path)!r}. To keep the weights without a graph: "
            "model.save_weights('model.weights.h5'), or model.save('model.keras') for Keras alone"
        ) from error
    files = write_bundle(
        path,
        config=_config(description.config, captured),
        graph=captured.serialize,
        weights={record.key: record.source for record in captured.variables},
        optimizer=_optimizer_sources(model) if description.config["optimizer"] else None,
        overwrite=overwrite,
    )
    return ExportSummary(
        path=Path(path),
        opset=captured.opset,
        ir_version=captured.ir_version,
        parameters=sum(math.prod(r.shape) for r in captured.variables if r.role == "weight"),
        size_bytes=files.size_bytes,
        files={name: record.size for name, record in files.records.items()},
        warnings=description.warnings,
        seconds=time.perf_counter() - started,
    )


def _config(described: dict[str, Any], captured: Any) -> dict[str, Any]:
    """Everything of ``config.json`` that is known before the files are written."""
    import keras

    from interop import __version__
    from interop.artifact import config as config_file

    return {
        "format": config_file.FORMAT,
        "format_version": config_file.FORMAT_VERSION,
        "min_reader_version": 1,
        "producer": f"interop {__version__}",
        "source": {"framework": "keras", "version": keras.__version__},
        "model": {**described, "layers": [layer.to_json() for layer in captured.layers]},
        "variables": [
            {"key": r.key, "dtype": r.dtype, "shape": list(r.shape), "trainable": r.trainable, "role": r.role}
            for r in captured.variables
        ],
        "signature": captured.signature.to_json(),
        "opset": captured.opset,
        "ir_version": captured.ir_version,
    }


@dataclass(frozen=True)
class _OptimizerVariable:
    """A variable of the optimizer, read when it is written."""

    variable: Any
    dtype: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray[Any, Any]:
        import keras

        return np.asarray(keras.ops.convert_to_numpy(self.variable))


def _optimizer_sources(model: Any) -> dict[str, TensorSource]:
    from interop.capture.keras import compat_objects, paths

    return {
        key: _OptimizerVariable(variable, compat_objects.stored_dtype(variable), tuple(map(int, variable.shape)))
        for key, variable in paths.optimizer_variables(model).items()
    }
