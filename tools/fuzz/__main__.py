"""Files of every format are damaged at random for as long as one likes: only errors of this toolkit may come out.

    python -m tools.fuzz --seconds 900                      # every reader
    python -m tools.fuzz --readers checkpoint,torch --seed 7

Each batch runs in a process of its own, for HDF5's library may crash on damaged bytes; a crash there is counted and
is no failure. Every other outcome but an ``InteropError`` or ``OSError`` is, and so is a value that differs where the
format has checksums. Prints a line a reader; exit code 1 on a failure.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tools.fuzz.damage import damage
from tools.fuzz.readers import READERS, same

_BATCH = 200
_BATCH_SECONDS = 300
_OUTCOMES = ("loaded", "refused", "different", "crashed")


def batch(name: str, seed: int, count: int = _BATCH) -> dict[str, int]:
    """Damage files many times; the counts of what happened.

    Raises:
        Exception: whatever a reader raised that is no error of this toolkit.
    """
    from interop.errors import InteropError

    reader, rng = READERS[name], random.Random(f"{name}/{seed}")
    counts = dict.fromkeys(_OUTCOMES, 0)
    with tempfile.TemporaryDirectory(prefix=f"{seed}") as made:
        good, bad = Path(made) / f"good{seed}", Path(made) / "bad"
        good.mkdir()
        reader.make(good)
        expected = reader.read(good)
        for turn in range(count):
            shutil.copytree(good, bad)
            kept = damage(bad, rng)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read = reader.read(bad)
                counts["loaded"] += 1
                counts["different"] += kept and reader.checked and not same(read, expected)
            except (InteropError, FileNotFoundError):
                counts["refused"] += 1
            except Exception as error:
                kept_at = Path(tempfile.mkdtemp(prefix="fuzz_")) / "files"
                shutil.copytree(bad, kept_at)
                error.add_note(f"reader {name!r}, turn {turn} of seed {seed}; the files are in {kept_at}")
                raise
            shutil.rmtree(bad)
    return counts


def main() -> int:
    """Run batches until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", metavar="READER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch:
        print(json.dumps(batch(options.batch, options.seed)))
        return 0
    chosen, failures = options.readers.split(","), 0
    deadline, seed = time.monotonic() + options.seconds, options.seed
    totals = {name: dict.fromkeys(_OUTCOMES, 0) for name in chosen}
    while time.monotonic() < deadline:
        for name in chosen:
            if time.monotonic() > deadline:
                break
            command = [sys.executable, "-m", "tools.fuzz", "--batch", name, "--seed", str(seed)]
            try:
                ended = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=_BATCH_SECONDS
                )
            except subprocess.TimeoutExpired:
                failures += 1
                print(f"{name}, seed {seed}: no end in {_BATCH_SECONDS} s", flush=True)
                continue
            if ended.returncode < 0 and READERS[name].hdf5:
                totals[name]["crashed"] += 1
            elif ended.returncode:
                failures += 1
                print(
                    f"{name}, seed {seed}: exit code {ended.returncode}\n{ended.stderr.strip()[-2500:]}",
                    flush=True,
                )
            else:
                counted = json.loads(ended.stdout.splitlines()[-1])
                print(f"{name}, seed {seed}: {counted}", flush=True)
                for outcome, count in counted.items():
                    totals[name][outcome] += count
        seed += 1
    for name, counts in totals.items():
        failures += counts["different"]
        print(f"{name:<22}" + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    print(f"{sum(sum(c.values()) for c in totals.values())} damaged files, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
