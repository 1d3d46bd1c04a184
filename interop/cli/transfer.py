"""``interop transfer SRC DST``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from interop.cli import output


def transfer(
    source: Annotated[
        str,
        typer.Argument(help="Where the weights are: a model or file of weights, or `my.module:function`."),
    ],
    target: Annotated[
        Path,
        typer.Argument(help="The file that they go into; with --rules, a new .safetensors or .npz file too."),
    ],
    rules: Annotated[
        Path | None, typer.Option(help="A plan that was saved before; it goes before what is found.")
    ] = None,
    source_model: Annotated[
        str | None,
        typer.Option(help="A model of the source's framework, where the source has names and shapes only."),
    ] = None,
    target_model: Annotated[str | None, typer.Option(help="The same for the target.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Transfer what was found, if not all.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the report as JSON, the plan in it.")] = None,
    as_json: output.Json = False,
) -> None:
    """Write the weights of one model into another, in whatever framework, and prove that it was right.

    SRC and DST are artifacts, .onnx, .keras or .h5 files, SavedModels; or files of weights: .safetensors, an index of
    shards, .pt, .npz, .weights.h5, checkpoints of TensorFlow or Orbax. The mapping is found by the graphs of both
    models; where a side has none, by names. What else is in DST stays as it is. With --dry-run the report of --report
    is the plan itself, for --rules.

    The exit code is 0 if everything was transferred, and proven where both sides have a graph; 1 if something has no
    partner or the models differ (nothing was written then, unless the difference is one that is named, such as an
    epsilon); 2 for wrong usage.

    Examples:

    \b
      interop transfer torch_model.onnx model.keras --dry-run
      interop transfer my.models:resnet model.keras
      interop transfer a.keras b.keras --partial --report out.json
      interop transfer resnet.pt model.keras --source-model my.models:resnet
      interop transfer resnet.pt model.keras --source-model my.models:resnet --dry-run --report plan.json
      interop transfer other.pt new.safetensors --rules plan.json     # needs no model and no framework
    """
    from interop.transfer.command import Sides, move, planned

    sides = Sides(source, target, rules, source_model, target_model)
    with output.working(f"matching {source} with {target}"):
        if dry_run:
            plan = planned(sides)
            result, text, passed = plan.to_json(), str(plan), plan.complete
        else:
            done = move(sides, partial=partial)
            result, text = done.to_json(), str(done)
            passed = done.passed or (done.proof is None and (partial or done.plan.complete))
    if report is not None:
        report.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if as_json:
        output.show_json(result)
    else:
        output.show(text)
    if not passed:
        raise typer.Exit(1)
