"""A TensorFlow checkpoint of 2 GB, 500 tensors of 4 MB: every tensor read and kept.

Against ``tf.train.load_checkpoint`` reading the same tensors, each in a fresh process, in turn. Imports are excluded.
Both check the CRC32C of every byte. Memory is the peak over what was resident before, by the size of the tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
from measure import Row, Target
from numpy.typing import NDArray

TIME = Target("at least", 0.5)
PEAK = 1.2
FOLDER = measure.WORK / "checkpoint"
TENSORS, SHAPE = 500, (1024, 1024)


def rows(quick: bool) -> Iterator[Row]:
    """Time and memory of reading all of it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    count = 50 if quick else TENSORS
    prefix = FOLDER / f"ckpt-{count}"
    sample = measure.child("checkpoint.py", "write", prefix, count)
    if failed := measure.error([sample]):
        yield Row("checkpoint", "read", "s", None, None, None, str(TIME), False, failed)
        return
    sides = {side: partial(measure.child, "checkpoint.py", side, prefix) for side in ("ours", "theirs")}
    found = measure.alternate(sides, rounds=1 if quick else 5)
    if failed := measure.error(found["ours"] + found["theirs"]):
        yield Row("checkpoint", "read", "s", None, None, None, str(TIME), False, failed)
        return
    ours, theirs = (measure.series(found[side], "seconds") for side in sides)
    yield measure.compared("checkpoint", "read every tensor", "s", ours, theirs, TIME)
    peaks = [sample["extra_mb"] / sample["tensors_mb"] for sample in found["ours"]]
    their_peak = max(sample["extra_mb"] / sample["tensors_mb"] for sample in found["theirs"])
    yield measure.limited("checkpoint", "peak / tensors", "", peaks, PEAK, note=f"theirs {their_peak:.2f}")


# --- children


@dataclass(frozen=True)
class _Tensor:
    """Numbers made when they are written."""

    seed: int
    dtype: str = "float32"
    shape: tuple[int, ...] = SHAPE

    def read(self) -> NDArray[Any]:
        return np.random.default_rng(self.seed).random(self.shape, np.float32)


def write(prefix: str, count: str) -> None:
    """Write the checkpoint, one tensor at a time."""
    from interop.artifact.checkpoints import write_checkpoint

    write_checkpoint(Path(prefix), {f"layer-{i:03d}/kernel": _Tensor(i) for i in range(int(count))})
    measure.report()


def ours(prefix: str) -> None:
    """Read with this toolkit."""
    import interop

    def read() -> list[Any]:
        with interop.load_tensors(prefix) as tensors:
            return [tensors[key] for key in tensors]

    _timed(read)


def theirs(prefix: str) -> None:
    """Read with TensorFlow."""
    import tensorflow as tf

    def read() -> list[Any]:
        reader = tf.train.load_checkpoint(prefix)
        return [reader.get_tensor(key) for key in reader.get_variable_to_shape_map()]

    _timed(read)


def _timed(read: Callable[[], list[Any]]) -> None:
    measure.reset_peak()
    before = measure.resident_mb()
    clock = measure.Clock()
    with clock.running():
        arrays = read()
    measure.report(
        seconds=clock.net_seconds,
        extra_mb=measure.peak_mb() - before,
        tensors_mb=sum(array.nbytes for array in arrays) / 2**20,
    )


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    children: dict[str, Callable[..., None]] = {"write": write, "ours": ours, "theirs": theirs}
    children[what](*arguments)
