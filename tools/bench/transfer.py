"""Moving weights: how aligning two transformers grows with depth, what it takes at 300 M parameters, and file to file.

A PyTorch encoder, whose queries, keys and values are one layer, goes into a Keras model of ``MultiHeadAttention``. Time
and peak memory count from the two models to the plan, both captures included; the proof and the transfer itself have
rows of their own, and one bounds the memory of all three. A fresh process for each row; imports are excluded.

File to file: 1 GB of tensors in a ``.safetensors`` file go into another that has their names, against a plain copy of
the same bytes; both end with ``fsync``.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import measure
from measure import Row, Target

DEPTHS = (6, 12, 24, 48)
EXPONENT = 1.25
SECONDS, PEAK = 60, 2.5
COPY = Target("at least", 0.7)
COPY_PEAK_MB = 96
FOLDER = measure.WORK / "transfer"
TENSORS, SHAPE = 256, (1024, 1024)
HEADS = 16


def rows(quick: bool) -> Iterator[Row]:
    """Growth, scale, files."""
    depths = DEPTHS[:2] if quick else DEPTHS
    samples = [measure.child("transfer.py", "align", depth, 64, backend="torch") for depth in depths]
    if failed := measure.error(samples):
        yield Row("transfer", "growth", "", None, None, None, f"<= {EXPONENT}", False, failed)
    else:
        found = {depth: sample["match_seconds"] for depth, sample in zip(depths, samples, strict=True)}
        slope = statistics.linear_regression([log(d) for d in found], [log(s) for s in found.values()]).slope
        note = ", ".join(f"{depth} layers: {seconds:.2f} s" for depth, seconds in found.items())
        yield measure.limited("transfer", "exponent in layers", "", [slope], EXPONENT, note=note)
    depth, width = (4, 256) if quick else (24, 1024)
    sample = measure.child("transfer.py", "align", depth, width, backend="torch")
    case = f"{depth} layers, width {width}"
    if failed := measure.error([sample]):
        yield Row("transfer", case, "s", None, None, None, f"<= {SECONDS}", False, failed)
    else:
        size = f"{sample['parameters'] / 1e6:.0f} M parameters"
        yield measure.limited(
            "transfer", f"{case}: align", "s", [sample["match_seconds"]], SECONDS, note=size
        )
        yield measure.limited("transfer", f"{case}: align, peak / weights", "", [sample["match_peak"]], PEAK)
        note = f"error {sample['difference']:.1e} at the outputs, {sample['inner']:.1e} inside"
        yield Row("transfer", f"{case}: proof", "s", sample["proof_seconds"], None, None, "", None, note)
        peaks = max(sample["match_peak"], sample["proof_peak"], sample["apply_peak"])
        yield measure.limited("transfer", f"{case}: whole call, peak / weights", "", [peaks], PEAK)
        yield Row("transfer", f"{case}: apply", "s", sample["apply_seconds"], None, None, "", None)
    yield from _files(quick)


def _files(quick: bool) -> Iterator[Row]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    count = 16 if quick else TENSORS
    for name, seed in (("source", 0), ("target", 1)):
        measure.child("transfer.py", "write", FOLDER / f"{name}.safetensors", count, seed)
    sides = {side: partial(measure.child, "transfer.py", side, FOLDER) for side in ("ours", "theirs")}
    found = measure.alternate(sides, rounds=1 if quick else 7)
    if failed := measure.error(found["ours"] + found["theirs"]):
        yield Row("transfer", "file to file", "s", None, None, None, str(COPY), False, failed)
        return
    ours, theirs = (measure.series(found[side], "seconds") for side in sides)
    yield measure.compared(
        "transfer", f"file to file, {count * 4} MB", "s", ours, theirs, COPY, note="a plain copy"
    )
    peaks = measure.series(found["ours"], "extra_mb")
    yield measure.limited("transfer", "file to file, more memory", "MB", peaks, COPY_PEAK_MB)


# --- children


def encoder(layers: int, width: int) -> tuple[Any, Any]:
    """The same encoder in PyTorch and in Keras."""
    import keras
    import torch
    from torch import nn

    heads = min(HEADS, width // 16)

    class Block(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.fc2, self.fc1 = nn.Linear(4 * width, width), nn.Linear(width, 4 * width)
            self.norm2, self.norm1 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.proj, self.qkv = nn.Linear(width, width), nn.Linear(width, 3 * width)

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = self.qkv(x).reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            h = (
                nn.functional.scaled_dot_product_attention(q, k, v)
                .transpose(1, 2)
                .reshape(batch, length, width)
            )
            x = self.norm1(x + self.proj(h))
            return self.norm2(x + self.fc2(torch.relu(self.fc1(x))))

    h = inputs = keras.Input((8, width))
    for _ in range(layers):
        attention = keras.layers.MultiHeadAttention(heads, width // heads)
        h = keras.layers.LayerNormalization(epsilon=1e-5)(h + attention(h, h))
        hidden = keras.layers.Dense(4 * width, "relu")(h)
        h = keras.layers.LayerNormalization(epsilon=1e-5)(h + keras.layers.Dense(width)(hidden))
    return nn.Sequential(*(Block() for _ in range(layers))).eval(), keras.Model(inputs, h)


def align(layers: str, width: str) -> None:
    """Match two encoders, prove it and transfer."""
    from interop.transfer.matching import matched
    from interop.transfer.proof import prove

    matched(*encoder(1, 32))  # what a process does once
    source, target = encoder(int(layers), int(width))
    weights_mb = target.count_params() * 4 / 2**20
    measure.reset_peak()
    before = measure.resident_mb()
    clocks = [measure.Clock() for _ in range(3)]
    with clocks[0].running():
        found = matched(source, target)
    match_peak = measure.peak_mb() - before
    found.plan.check()
    with clocks[1].running():
        proof = prove(found)
    proof_peak = measure.peak_mb() - before
    measure.reset_peak()
    with clocks[2].running():
        found.plan.apply()
    measure.report(
        parameters=target.count_params(),
        match_seconds=clocks[0].net_seconds,
        proof_seconds=clocks[1].net_seconds,
        apply_seconds=clocks[2].net_seconds,
        match_peak=match_peak / weights_mb,
        proof_peak=proof_peak / weights_mb,
        apply_peak=(measure.peak_mb() - before) / weights_mb,
        difference=proof.error,
        inner=proof.inner,
    )


def write(path: str, count: str, seed: str) -> None:
    """Write a file of tensors, one after the other."""
    import checkpoint

    from interop.formats import safetensors

    with open(path, "wb") as file:
        sources = {f"layer-{i:03d}.weight": checkpoint._Tensor(int(seed) + i) for i in range(int(count))}
        safetensors.write(file, sources)
        os.fsync(file.fileno())
    measure.report()


def ours(folder: str) -> None:
    """Transfer by name from file to file."""
    import interop

    _timed(
        lambda: interop.transfer_weights(
            Path(folder, "source.safetensors"), Path(folder, "target.safetensors")
        )
    )


def theirs(folder: str) -> None:
    """Copy the file, and replace another by it."""
    import shutil

    def copy() -> None:
        made = Path(folder, "copy.new")
        shutil.copyfile(Path(folder, "source.safetensors"), made)
        descriptor = os.open(made, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        os.replace(made, Path(folder, "copy.safetensors"))

    _timed(copy)


def _timed(work: Callable[[], object]) -> None:
    measure.reset_peak()
    before = measure.resident_mb()
    clock = measure.Clock()
    with clock.running():
        work()
    measure.report(seconds=clock.net_seconds, extra_mb=measure.peak_mb() - before)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    children: dict[str, Callable[..., None]] = {
        "align": align,
        "write": write,
        "ours": ours,
        "theirs": theirs,
    }
    children[what](*arguments)
