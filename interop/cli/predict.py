"""``interop predict MODEL INPUT OUTPUT``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from interop.cli import output


def predict(
    model: Annotated[Path, typer.Argument(help="An artifact or a .onnx file.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help=".npy, or .npz by input name.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help=".npy, or .npz by output name.")],
    batch_size: Annotated[int, typer.Option(help="Samples per run.", min=1)] = 32,
    low_memory: Annotated[
        bool,
        typer.Option("--low-memory", help="Leave the weights in the file: less memory, somewhat slower."),
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Run a model over many samples with ONNX Runtime, a batch at a time.

    An .npy input is mapped, so it may be larger than memory. No Keras is loaded.

    Examples:

    \b
      interop predict model.interop images.npy digits.npy
      interop predict model.onnx inputs.npz outputs.npz --batch-size 256
    """
    from interop.artifact.signature import flatten
    from interop.cli.arrays import read_arrays, write_arrays
    from interop.loading import load_graph

    arrays = read_arrays(source)
    with output.working(f"opening {model}"):
        graph = load_graph(model, low_memory=low_memory)
    started = time.perf_counter()
    with output.counting("predicting") as report:
        nested = graph.predict(arrays, batch_size=batch_size, progress=report)
    seconds = time.perf_counter() - started
    found = flatten(graph.signature.output_structure, nested)
    outputs = [found[index] for index in range(len(graph.outputs))]
    names = [spec.name for spec in graph.outputs]
    write_arrays(target, names, outputs)
    if as_json:
        output.show_json(
            {
                "model": str(model),
                "output": str(target),
                "seconds": seconds,
                "outputs": [
                    {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
                    for name, array in zip(names, outputs, strict=True)
                ],
            }
        )
        return
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in zip(names, outputs, strict=True))
    output.show(f"wrote {target}: {shapes}, in {seconds:.2f} s")
