"""``interop transfer SRC DST``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from interop.cli import output


def transfer(
    source: Annotated[
        str, typer.Argument(help="Where the weights are: a model file, or `my.module:function`.")
    ],
    target: Annotated[Path, typer.Argument(help="The .onnx or .keras file that they go into.")],
    rules: Annotated[Path | None, typer.Option(help="A plan that was saved before.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Transfer what was found, if not all.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the report as JSON, the plan in it.")] = None,
    as_json: output.Json = False,
) -> None:
    """Write the weights of one model into another, in whatever framework, and prove that it was right.

    The mapping is found by the graphs of both. With --dry-run the report of --report is the plan itself, for --rules.
    The exit code is 0 only if the models were proven to agree.

    Examples:

    \b
      interop transfer torch_model.onnx model.keras --dry-run
      interop transfer my.models:resnet model.keras
      interop transfer a.keras b.keras --partial --report out.json
    """
    from interop.transfer.command import move, planned

    with output.working(f"matching {source} with {target}"):
        if dry_run:
            plan = planned(source, target, rules)
            result, text, passed = plan.to_json(), str(plan), plan.complete
        else:
            done = move(source, target, rules, partial=partial)
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
