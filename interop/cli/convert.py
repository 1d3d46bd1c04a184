"""``interop convert SRC DST``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interop.cli import output


def convert(
    src: Annotated[
        str,
        typer.Argument(
            help="A .keras, .h5 or .onnx model, an artifact, a SavedModel directory, a .tflite file, or "
            "package.module:function, which returns a model (and its input signature)."
        ),
    ],
    dst: Annotated[
        Path,
        typer.Argument(help="An artifact (.interop, or a directory), .onnx, .keras, .safetensors or .npz."),
    ],
    opset: Annotated[int | None, typer.Option(help="ONNX opset, 17 to 23.", show_default="20")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Float type of an .onnx file: float16, bfloat16 or float32.", show_default="its own"
        ),
    ] = None,
    io_dtype: Annotated[
        str | None,
        typer.Option(
            help="Float type of its inputs and outputs, such as float32.", show_default="as --dtype"
        ),
    ] = None,
    optimizer: Annotated[
        bool, typer.Option("--optimizer/--no-optimizer", help="Keep the optimizer's state in an artifact.")
    ] = True,
    config: Annotated[
        bool,
        typer.Option(
            "--config/--no-config",
            help="Keep a Keras model's config in an .onnx file, to import it as it was.",
        ),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace what is at DST.")
    ] = True,
    check: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare DST with SRC, output by output.")
    ] = True,
    inputs: Annotated[
        Path | None, typer.Option(help="Inputs to compare on (.npy or .npz); made up if not given.")
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Convert a model into another form, and check that it still computes the same.

    The ending of DST says what it becomes. The exit code is 0 only if the result was written and agrees.

    Examples:

    \b
      interop convert model.keras model.interop    # one file, for layers, graph and tensors
      interop convert model.keras model/           # the same as a directory
      interop convert model.interop model.onnx     # a plain ONNX graph; needs no Keras
      interop convert model.keras half.onnx --dtype float16 --io-dtype float32
      interop convert model.interop model.keras    # back to Keras
      interop convert model.interop model/         # unpack; needs no Keras
      interop convert model.onnx model.keras       # any ONNX graph as Keras layers that train
      interop convert saved_model/ model.onnx      # TensorFlow
      interop convert model.keras model.weights.h5 # its weights alone; model.ckpt is a TensorFlow checkpoint
      interop convert run/ckpt-3 w.safetensors     # the tensors of a TensorFlow checkpoint; needs no TensorFlow
      interop convert my.nets:resnet model.onnx    # whatever the function returns: PyTorch, JAX, Keras, ...
    """
    from interop.cli.arrays import read_arrays
    from interop.conversion import convert as run

    arrays = None if inputs is None else read_arrays(inputs)
    with output.working(f"converting {src}") as say:
        conversion = run(
            src,
            dst,
            opset=opset,
            dtype=dtype,
            io_dtype=io_dtype,
            include_optimizer=optimizer,
            config=config,
            overwrite=overwrite,
            verify=check,
            inputs=arrays,
            progress=say,
        )
    if as_json:
        output.show_json(conversion.to_json())
    else:
        output.show(str(conversion))
    if conversion.parity is not None and not conversion.parity.passed:
        raise typer.Exit(1)
