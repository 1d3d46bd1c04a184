"""Process start to first prediction: ``interop.load_graph`` on an artifact against bare ONNX Runtime on the flat file.

Two models: the digits CNN, where only the start itself counts, and MobileNetV2. Files are in the page cache
and modules compiled, for both sides.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import measure
import networks
from measure import Row, Sample, Target

TARGET = Target("at most", 1.35)
MODELS = ("digits_cnn", "MobileNetV2")


def rows(quick: bool) -> Iterator[Row]:
    """Time and peak memory for each model."""
    for name in MODELS[: 1 if quick else None]:
        artifact, flat = _files(name)
        found = measure.alternate(
            {"ours": partial(_start, "ours", artifact), "theirs": partial(_start, "theirs", flat)},
            rounds=4 if quick else 25,
        )
        for key, unit, what in (("seconds", "s", "time"), ("peak_mb", "MB", "peak memory")):
            # The first round fills caches.
            ours, theirs = (measure.series(found[side][1:], key) for side in ("ours", "theirs"))
            yield measure.compared("coldstart", f"{name} {what}", unit, ours, theirs, TARGET)


def _files(name: str) -> tuple[Path, Path]:
    folder = measure.WORK / "coldstart"
    folder.mkdir(parents=True, exist_ok=True)
    artifact, flat = folder / name, folder / f"{name}.onnx"
    if not (artifact.is_dir() and flat.is_file()):
        sample = measure.child("coldstart.py", "files", name, artifact, flat, backend="jax")
        if "error" in sample:
            raise RuntimeError(f"{name}: {sample['error']}")
    return artifact, flat


def _start(side: str, path: Path) -> Sample:
    sample = measure.child("coldstart.py", side, path)
    return sample if "error" in sample else {**sample, "seconds": sample["predicted"] - sample["started"]}


def make_files(name: str, artifact: str, flat: str) -> None:
    """A child: both forms of a model."""
    import keras

    import interop

    if name in networks.APPLICATIONS:
        model = networks.application(name)
    else:
        model = keras.saving.load_model(measure.REPOSITORY / "models" / f"{name}.keras")
    interop.save_model(model, artifact, include_optimizer=False)
    interop.export_onnx(model, flat, verify=False)
    measure.report()


def predict_ours(path: str) -> None:
    """A child: what a user of the graph alone writes."""
    import numpy as np

    import interop

    graph = interop.load_graph(path)
    graph(np.zeros((1, *graph.inputs[0].shape[1:]), np.float32))


def predict_theirs(path: str) -> None:
    """A child: what a user of ONNX Runtime alone writes."""
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(path)
    spec = session.get_inputs()[0]
    session.run(None, {spec.name: np.zeros((1, *spec.shape[1:]), np.float32)})


if __name__ == "__main__":
    if sys.argv[1] == "files":
        make_files(*sys.argv[2:5])
    else:
        (predict_ours if sys.argv[1] == "ours" else predict_theirs)(sys.argv[2])
        measure.report(predicted=time.monotonic(), peak_mb=measure.peak_mb())
