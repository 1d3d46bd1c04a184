"""The whole bench: every row of the speed and memory table, printed and kept as JSON.

    python tools/bench/environments.py               # once: the peers
    python tools/bench/run.py                        # everything, about 25 minutes on two cores
    python tools/bench/run.py --only export,latency  # these sections; the JSON keeps the others
    python tools/bench/run.py --quick                # one small case each, in build/bench/quick.json

Enters: nothing but the peers' environments. Leaves: ``results/bench.json``, one entry a section with its rows,
versions and date; no names of machines or folders. The exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoint
import coldstart
import environments
import export
import gigabyte
import huge
import imported
import importing
import latency
import measure
import scaling
import transfer
from measure import Row

RESULTS = measure.HERE / "results" / "bench.json"
SECTIONS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "export": export.rows,
    "latency": latency.rows,
    "coldstart": coldstart.rows,
    "save": gigabyte.save_rows,
    "load_graph": gigabyte.graph_rows,
    "load_model": gigabyte.model_rows,
    "checkpoint": checkpoint.rows,
    "scaling": scaling.rows,
    "transfer": transfer.rows,
    "imported": imported.rows,
    "importing": importing.rows,
    "huge": huge.rows,
}
WITHOUT_PEERS = frozenset({"scaling", "huge", "transfer", "imported", "importing"})
DISTRIBUTIONS = (
    *("interop", "keras", "jax", "jaxlib", "tensorflow", "tensorflow-cpu", "torch"),
    *(
        "onnx",
        "onnx-ir",
        "onnxscript",
        "onnxruntime",
        "tf2onnx",
        "jax2onnx",
        "numpy",
        "protobuf",
        "safetensors",
        "onnx2tf",
        "onnx2kerastl",
    ),
)


def machine() -> dict[str, Any]:
    """The machine, as far as it explains numbers."""
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        processor = models[0] if models else processor
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gb": round(memory_gb, 1),
        "system": platform.system(),
    }


def all_versions() -> dict[str, dict[str, str]]:
    """Versions in our environment and in each peer's."""
    found = {"ours": measure.versions(sys.executable, DISTRIBUTIONS)}
    for name in filter(environments.is_there, environments.names()):
        found[name] = measure.versions(environments.python_of(name), DISTRIBUTIONS)
    return found


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(name for name in SECTIONS if name != "huge"))
    parser.add_argument("--quick", action="store_true", help="one small case each, few rounds")
    parser.add_argument(
        "--keep", action="store_true", help="keep the files that were measured, in build/bench"
    )
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    needed = set(environments.names()) - set(importing.PEERS) if set(chosen) - WITHOUT_PEERS else set()
    if missing := sorted(name for name in needed if not environments.is_there(name)):
        parser.error(f"no environment {', '.join(missing)}: python tools/bench/environments.py makes them")
    target = measure.WORK / "quick.json" if options.quick else RESULTS
    measure.WORK.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(exist_ok=True)
    results: dict[str, Any] = json.loads(target.read_text()) if target.is_file() else {}
    where, versions = machine(), all_versions()
    print(json.dumps({"machine": where, "versions": versions}, indent=1))
    print(measure.HEADER, flush=True)
    missed = 0
    for section in chosen:
        started, rows = time.monotonic(), []
        for row in SECTIONS[section](options.quick):
            rows.append(row)
            print(row, flush=True)
        missed += sum(row.met is False for row in rows)
        seconds = time.monotonic() - started
        print(f"{section} took {seconds:.0f} s", flush=True)
        results[section] = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": where,
            "versions": versions,
            "seconds": round(seconds),
            "rows": [row.to_json() for row in rows],
        }
        target.write_text(json.dumps(_rounded(results), indent=1) + "\n")
    if not options.keep:
        for folder in ("export", "coldstart", "gigabyte", "checkpoint", "transfer", "imported"):
            shutil.rmtree(measure.WORK / folder, ignore_errors=True)
    print(f"{missed} missed; {target.relative_to(measure.REPOSITORY)}")
    return 1 if missed else 0


def _rounded(value: Any) -> Any:
    """The same with numbers of five digits, which is more than they are worth."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
