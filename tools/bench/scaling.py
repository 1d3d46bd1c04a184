"""How the time of an export grows with depth: MLPs and transformers of 50 to 400 layers.

A fresh process for each depth; of three exports in it the fastest counts, so that what happens once a process
does not flatter the slope. The exponent is the slope of log time over log depth, by least squares.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from math import log
from pathlib import Path

import measure
import networks
from measure import Row

MOST = 1.15
DEPTHS = (50, 100, 200, 400)
EXPORTS = 3


def rows(quick: bool) -> Iterator[Row]:
    """The exponent of each kind of network."""
    for kind in ("mlp", "transformer"):
        depths = DEPTHS[:2] if quick else DEPTHS
        samples = [measure.child("scaling.py", kind, depth, backend="jax") for depth in depths]
        if failed := measure.error(samples):
            yield Row("scaling", kind, "", None, None, None, f"<= {MOST}", False, failed)
            continue
        found = {depth: sample["seconds"] for depth, sample in zip(depths, samples, strict=True)}
        exponent = statistics.linear_regression(
            *zip(*((log(depth), log(min(seconds))) for depth, seconds in found.items()), strict=True)
        ).slope
        note = "best of 3: " + ", ".join(f"{depth}: {min(s):.2f} s" for depth, s in found.items())
        yield Row(
            "scaling",
            f"{kind} exponent",
            "",
            exponent,
            None,
            None,
            f"<= {MOST}",
            exponent <= MOST,
            note,
            {str(depth): seconds for depth, seconds in found.items()},
        )


def main(kind: str, depth: int) -> None:
    """The child: build once, export a few times."""
    import interop

    model = networks.mlp(depth) if kind == "mlp" else networks.transformer(depth)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(EXPORTS):
            clock = measure.Clock()
            with clock.running():
                interop.export_onnx(model, Path(folder, "model.onnx"), verify=False)
            seconds.append(clock.net_seconds)
    measure.report(seconds=seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
