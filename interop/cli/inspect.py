"""``interop inspect PATH``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interop.cli import output


def inspect(
    path: Annotated[
        Path, typer.Argument(help="An artifact, or a .onnx, .keras, .h5, .safetensors or .npz file.")
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
    """
    from interop.inspection import inspect as run

    summary = run(path)
    if as_json:
        output.show_json(summary.to_json())
    else:
        output.show(str(summary))
