"""Weights files are damaged at random for as long as one likes: only errors of this toolkit may come out.

    python -m tools.fuzz_weights --seconds 600            # every format
    python -m tools.fuzz_weights --formats ckpt --seed 7

Each batch runs in a process of its own, for HDF5's library may crash on damaged bytes; a crash there is counted and
is no failure. Every other outcome but an ``InteropError`` is, and so is a value that differs where the format has
checksums (all but safetensors and HDF5). Prints a line a format; exit code 1 on a failure.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ENDINGS = ("ckpt", "w.safetensors", "w.npz", "w.interop", "w.weights.h5", "w.h5")
UNCHECKED = ("w.safetensors", "w.weights.h5", "w.h5")
MODEL_SEED = 11
_BATCH = 200


def model_of(seed: int) -> Any:
    """A small model with weights, a seed generator and statistics."""
    from interop.backend import choose_backend

    choose_backend()
    import keras

    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Dense(4, name="dense"),
        keras.layers.Dropout(0.5),
        keras.layers.BatchNormalization(),
    ]
    return keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2, name="head")])


def same_values(a: Any, b: Any) -> bool:
    """Whether two models have the same weights."""
    import keras

    pairs = zip(a.weights, b.weights, strict=True)
    to_numpy = keras.ops.convert_to_numpy
    return all(np.array_equal(to_numpy(x.value), to_numpy(y.value)) for x, y in pairs)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A bit flipped, a piece cut out, doubled or overwritten, or the end missing."""
    changed, at = bytearray(data), rng.randrange(len(data))
    kind = rng.randrange(5)
    size = min(rng.choice((1, 4, 64)), len(data) - at)
    if kind == 0:
        del changed[at:]
    elif kind == 1:
        del changed[at : at + size]
    elif kind == 2:
        changed[at:at] = changed[at : at + size]
    elif kind == 3:
        changed[at : at + size] = rng.randbytes(size)
    else:
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def batch(ending: str, seed: int) -> dict[str, int]:
    """Damage a file many times; the counts of what happened."""
    import interop
    from interop.errors import InteropError

    saved, target, rng = model_of(MODEL_SEED), model_of(MODEL_SEED + 1), random.Random(f"{ending}/{seed}")
    counts = {"loaded": 0, "refused": 0, "different": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ending
        interop.save_weights(saved, path)
        files = [file for file in Path(folder).iterdir() if file.stat().st_size]
        for _ in range(_BATCH):
            file = rng.choice(files)
            good = file.read_bytes()
            file.write_bytes(damaged(good, rng))
            try:
                interop.load_weights(target, path).assert_consumed()
                counts["loaded"] += 1
                counts["different"] += ending not in UNCHECKED and not same_values(saved, target)
            except InteropError:
                counts["refused"] += 1
            file.write_bytes(good)
    return counts


def main() -> int:
    """Run batches until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--formats", default=",".join(ENDINGS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", metavar="FORMAT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch:
        print(json.dumps(batch(options.batch, options.seed)))
        return 0
    chosen, failures = options.formats.split(","), 0
    deadline, seed = time.monotonic() + options.seconds, options.seed
    totals = {ending: {"loaded": 0, "refused": 0, "different": 0, "crashed": 0} for ending in chosen}
    while time.monotonic() < deadline:
        for ending in chosen:
            command = [sys.executable, "-m", "tools.fuzz_weights", "--batch", ending, "--seed", str(seed)]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode < 0 and ending.endswith(".h5"):
                totals[ending]["crashed"] += 1
            elif ended.returncode:
                failures += 1
                print(f"{ending}, seed {seed}: {ended.stderr.strip()[-2000:]}", flush=True)
            else:
                for name, count in json.loads(ended.stdout.splitlines()[-1]).items():
                    totals[ending][name] += count
        seed += 1
    for ending, counts in totals.items():
        failures += counts["different"]
        print(f"{ending:<14}" + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
