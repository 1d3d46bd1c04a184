"""First export in a fresh process: ``interop.export_onnx`` against ``Model.export(format="onnx")``.

Building the model and importing modules are excluded on both sides, and neither replaces a file. The peer runs in the
environment of its backend, with nothing but the documented call; we do without ``verify``, which it has not. On JAX the
second export of the same process counts too, when its caches are warm.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measure
import networks
from environments import python_of
from measure import Row, Sample, Target

BACKENDS = ("tensorflow", "jax", "torch")
FIRST = Target("at least", 10)
WARM = Target("at least", 4)


def exported(backend: str, name: str, side: str) -> Path:
    """Where a side's export of an application lies."""
    return measure.WORK / "export" / f"{backend}-{name}-{side}.onnx"


def export(backend: str, name: str, side: str) -> Sample:
    """Export once, or twice on JAX, in a fresh process, where no file is: to free an old one takes time too."""
    path = exported(backend, name, side)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    python = sys.executable if side == "ours" else python_of(f"keras-{backend}")
    times = 2 if backend == "jax" else 1
    return measure.child("export.py", side, name, path, times, python=python, backend=backend)


def rows(quick: bool) -> Iterator[Row]:
    """A row for each backend and application; two on JAX."""
    for backend in BACKENDS:
        for name in networks.APPLICATIONS[: 1 if quick else None]:
            yield from _pair(backend, name, rounds=1 if quick else 3, seconds=100)


def _pair(backend: str, name: str, rounds: int, seconds: float) -> Iterator[Row]:
    found = measure.alternate(
        {side: partial(export, backend, name, side) for side in ("theirs", "ours")},
        rounds,
        seconds,
    )
    ours, theirs = found["ours"], found["theirs"]
    case, samples = f"{backend} {name}", dict(found)
    extra = _extra_inputs(backend, name) if not measure.error(theirs) else ""
    if failed := measure.error(ours) or measure.error(theirs):
        side = "ours" if measure.error(ours) else "theirs"
        left, right = (_best(measure.series(s, "first")) for s in (ours, theirs))
        yield Row(
            "export",
            case,
            "s",
            left,
            right,
            None,
            str(FIRST),
            side == "theirs",
            f"{side} fails: {failed}",
            samples,
        )
        return
    for kind, target in (("first", FIRST), ("second", WARM)):
        if kind in ours[0]:
            yield measure.compared(
                "export",
                f"{case}{' warm' if kind == 'second' else ''}",
                "s",
                measure.series(ours, kind),
                measure.series(theirs, kind),
                target,
                note=f"rounds: {len(ours)}{extra}",
                samples=samples if kind == "first" else None,
            )


def _extra_inputs(backend: str, name: str) -> str:
    """What is wrong with a peer's export that nothing can run: it asks for inputs that the model does not have."""
    sample = measure.child("export.py", "inputs", name, exported(backend, name, "theirs"), 0)
    if "error" in sample:
        return f"; theirs does not open: {sample['error']}"
    unknown = ", ".join(sample["inputs"][1:])
    return f"; theirs cannot run, it asks for {unknown} too" if unknown else ""


def _best(values: list[float]) -> float | None:
    return min(values, default=None)


def inputs(path: str) -> None:
    """A child: the inputs that a graph asks for."""
    import onnxruntime as ort

    measure.report(inputs=[value.name for value in ort.InferenceSession(path).get_inputs()])


def main(side: str, name: str, path: str, times: int) -> None:
    """The child: build, export, report."""
    model = networks.application(name)
    if side == "ours":
        import interop

        def run() -> None:
            interop.export_onnx(model, path, verify=False)
    else:

        def run() -> None:
            model.export(path, format="onnx")

    clocks = []
    for _ in range(times):
        clock = measure.Clock()
        with clock.running():
            run()
        clocks.append(clock)
    values = {kind: clock.net_seconds for kind, clock in zip(("first", "second"), clocks, strict=False)}
    values["cpu_seconds"] = clocks[0].cpu_seconds
    measure.report(**values, import_seconds=clocks[0].import_seconds, peak_mb=measure.peak_mb())


if __name__ == "__main__":
    if sys.argv[1] == "inputs":
        inputs(sys.argv[3])
    else:
        main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
