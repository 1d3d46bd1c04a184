"""Time of a run in ONNX Runtime: our flat export against the peer's, in one process, run by run in turn.

Threads of a session go on spinning after its run, and take a core from the other session's: a graph is then up to 25 %
slower than its own copy, depending on which was opened first. Both are told to stop spinning with the run
(``session.force_spinning_stop``). Where a session's memory comes to lie differs from process to process: the runs are
spread over several processes, which open the two sessions in turn first. A process that is done early goes on, up to
`MOST_RUNS`. A graph against its own copy is then within 1 to 2 %.

Both graphs come from the same weights and get the same input and session options. Where ours is slower than the
target, the operators of both graphs as ONNX Runtime optimised them are counted into the sample.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import export
import measure
import networks
from measure import Row, Target

TARGET = Target("at most", 1.03)
BATCHES = (1, 8)
RUNS = 30
PROCESSES = 6
MOST_RUNS = 30
SECONDS = 1.0
WARM_UPS = 3


def rows(quick: bool) -> Iterator[Row]:
    """A row for each backend, application and batch size that the peer has an export of."""
    for backend in export.BACKENDS:
        for name in networks.APPLICATIONS[: 1 if quick else None]:
            paths = []
            for side in ("ours", "theirs"):
                path = export.exported(backend, name, side)
                sample = {} if path.is_file() else export.export(backend, name, side)
                if "error" in sample:
                    yield _failed(f"{backend} {name}", side, sample["error"])
                else:
                    paths.append(path)
            if len(paths) == 2:
                yield from _pair(f"{backend} {name}", paths[0], paths[1], 5 if quick else RUNS)


def _pair(case: str, ours: Path, theirs: Path, runs: int) -> Iterator[Row]:
    for batch in BATCHES:
        found: dict[str, list[float]] = {"ours": [], "theirs": []}
        kept: dict[str, Any] = {}
        label = f"{case} batch {batch}"
        for turn in range(PROCESSES):
            first = list(found)[turn % 2]
            sample = measure.child("latency.py", ours, theirs, batch, max(1, runs // PROCESSES), first)
            if "error" in sample:
                yield _failed(label, "theirs", sample["error"])
                break
            for side, milliseconds in found.items():
                milliseconds.extend(sample[side])
            kept |= {k: sample[k] for k in ("difference", "operators") if k in sample}
        else:
            yield measure.compared(
                "latency", label, "ms", found["ours"], found["theirs"], TARGET, samples=kept
            )


def _failed(case: str, side: str, error: str) -> Row:
    met = None if side == "theirs" else False
    return Row("latency", case, "ms", None, None, None, str(TARGET), met, f"{side} fails: {error}")


def main(ours: str, theirs: str, batch: int, runs: int, first: str) -> None:
    """The child: run both in turn, report milliseconds."""
    import numpy as np
    import onnxruntime as ort

    paths = {"ours": ours, "theirs": theirs}
    options = ort.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    sessions = {
        side: ort.InferenceSession(paths[side], options)
        for side in sorted(paths, key=lambda side: side != first)
    }
    feeds: dict[str, dict[str, Any]] = {}
    for side, session in sessions.items():
        spec, *others = session.get_inputs()
        if others:  # tf2onnx leaves constants of EfficientNetB0's Normalization behind as inputs
            raise ValueError(f"{side}: the graph also asks for {', '.join(other.name for other in others)}")
        shape = (batch, *spec.shape[1:])
        feeds[side] = {spec.name: np.random.default_rng(0).random(shape, dtype=np.float32)}
    for _ in range(WARM_UPS):
        outputs = [session.run(None, feeds[side])[0] for side, session in sessions.items()]
    found: dict[str, list[float]] = {side: [] for side in sessions}
    begun = time.perf_counter()
    for turn in range(max(runs, MOST_RUNS)):
        if turn >= runs and time.perf_counter() - begun > SECONDS:
            break
        for side in list(sessions)[:: 1 if turn % 2 == 0 else -1]:
            started = time.perf_counter()
            sessions[side].run(None, feeds[side])
            found[side].append((time.perf_counter() - started) * 1000)
    extra: dict[str, Any] = {"difference": float(np.abs(outputs[0] - outputs[1]).max())}
    if not TARGET.met(TARGET.ratio(float(np.median(found["ours"])), float(np.median(found["theirs"])))):
        extra["operators"] = {"ours": operators(ours), "theirs": operators(theirs)}
    measure.report(**found, **extra)


def operators(path: str) -> dict[str, int]:
    """How many nodes of each operator ONNX Runtime runs for a graph."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # it warns that the optimised graph suits this processor only
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        ort.InferenceSession(path, options)
        graph = onnx.load(options.optimized_model_filepath).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
