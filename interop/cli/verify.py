"""``interop verify REFERENCE CANDIDATE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interop.cli import output


def verify(
    reference: Annotated[Path, typer.Argument(help="What is taken as right: artifact, .onnx or .keras.")],
    candidate: Annotated[Path, typer.Argument(help="What is compared with it: artifact, .onnx or .keras.")],
    inputs: Annotated[Path | None, typer.Option(help="Inputs (.npy, or .npz by input name).")] = None,
    rtol: Annotated[float | None, typer.Option(help="Relative tolerance.", show_default="by dtype")] = None,
    atol: Annotated[float | None, typer.Option(help="Absolute tolerance.", show_default="by dtype")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Sizes of a dynamic dimension; can be repeated.", metavar="DIM=N,N"),
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Compare two models output by output; on failure, name the first layer that departs.

    Inputs are made from the signature unless they are given. The exit code is 0 only if every output
    agrees and none of them is constant over the batch.

    Examples:

    \b
      interop verify model.keras model.interop
      interop verify model.interop model.onnx --inputs images.npy
      interop verify a.interop b.interop --size batch=2,9 --size time=16,40
    """
    from interop.cli.arrays import read_arrays
    from interop.parity import verify as run

    arrays = None if inputs is None else read_arrays(inputs)
    with output.working(f"comparing {candidate} with {reference}"):
        report = run(reference, candidate, arrays, rtol=rtol, atol=atol, sizes=_sizes(size))
    if as_json:
        output.show_json(report.to_json())
    else:
        output.show(str(report))
    if not report.passed:
        raise typer.Exit(1)


def _sizes(given: list[str] | None) -> dict[str, list[int]] | None:
    if not given:
        return None
    sizes = {}
    for item in given:
        name, separator, numbers = item.partition("=")
        if not separator or not all(number.isdecimal() for number in numbers.split(",")):
            raise typer.BadParameter(f"{item!r} is not DIM=N,N, such as batch=2,9", param_hint="--size")
        sizes[name] = [int(number) for number in numbers.split(",")]
    return sizes
