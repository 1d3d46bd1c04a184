"""``interop inspect PATH``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interop.cli import output


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            help="An artifact, a .onnx, .keras, .h5, .safetensors or .npz file, or a checkpoint's prefix."
        ),
    ],
    as_json: output.Json = False,
) -> None:
    """Say what a model file holds: layers, parameters, signature, tensors, digests.

    Nothing is run and no framework is loaded.

    Examples:

    \b
      interop inspect model.interop
      interop inspect model.onnx
      interop inspect model.interop --json | jq .parameters
      interop inspect training/ckpt-3              # what a TensorFlow checkpoint holds, without TensorFlow
    """
    from interop.inspection import inspect as run

    summary = run(path)
    if as_json:
        output.show_json(summary.to_json())
    else:
        output.show(str(summary))
