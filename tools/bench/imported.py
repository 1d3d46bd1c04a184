"""Speed of an imported model against the same one written in Keras: predict and train step, by backend.

ResNet-50 at 224 x 224 and BERT-base's shapes at 128 tokens come from ``torch.onnx``. Both models are compiled alike
and live in one process, call by call in turn; time of the processor is kept too, which other work on the machine moves
less. The imported one must also compute what ONNX Runtime does.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import measure
import networks
from export import BACKENDS
from measure import Row, Target

TARGET = Target("at least", 0.95)
FOLDER = measure.WORK / "imported"
#: kind: (size of an input, batch, calls of predict and of a train step)
KINDS = {"resnet50": (224, 2, 8, 4), "bert12": (128, 1, 8, 4)}
QUICK = {"resnet50": (64, 1, 2, 2), "bert1": (16, 1, 2, 2)}
WARM_UPS = 1


def exported(kind: str, exporter: str, size: int) -> tuple[Path, str]:
    """Where the graph of a network lies, made if it does not, and why it could not be made."""
    path = FOLDER / f"{kind}-{exporter}-{size}.onnx"
    if path.is_file():
        return path, ""
    FOLDER.mkdir(parents=True, exist_ok=True)
    sample = measure.child("torch_networks.py", kind, exporter, size, path)
    return path, str(sample.get("error", ""))


def rows(quick: bool) -> Iterator[Row]:
    """Two rows for each backend and network."""
    for backend in BACKENDS:
        for kind, (size, batch, predictions, steps) in (QUICK if quick else KINDS).items():
            case = f"{backend} {kind} batch {batch}"
            path, failed = exported(kind, "dynamo", size)
            sample: measure.Sample = {"error": failed}
            if not failed:
                sample = measure.child(
                    "imported.py", kind, path, size, batch, predictions, steps, backend=backend
                )
            if "error" in sample:
                yield Row("imported", case, "ms", None, None, None, str(TARGET), False, sample["error"])
                continue
            for what in ("predict", "train step"):
                found = sample[what]
                yield measure.compared(
                    "imported",
                    f"{case} {what}",
                    "ms",
                    found["ours"],
                    found["theirs"],
                    TARGET,
                    note=f"time of the processor: {_cpu_ratio(found):.2f}x",
                    samples={"cpu": found["cpu"], "difference": sample["difference"]},
                )


def main(kind: str, path: str, size: int, batch: int, predictions: int, steps: int) -> None:
    """The child: make both models, then call them in turn."""
    import numpy as np

    import interop

    rng = np.random.default_rng(0)
    given: dict[str, Any]
    if kind == "resnet50":
        theirs = networks.application("ResNet50", (size, size, 3))
        images = rng.standard_normal((batch, size, size, 3), dtype="float32")
        given = {"theirs": images, "ours": np.ascontiguousarray(images.transpose(0, 3, 1, 2))}
    else:
        theirs = networks.bert(int(kind.removeprefix("bert")), size)
        ids = rng.integers(0, networks.VOCABULARY, (batch, size))
        given = {"theirs": ids, "ours": ids}
    models = {"ours": interop.import_onnx(path), "theirs": theirs}
    difference = _difference(models["ours"], path, given["ours"])
    for model in models.values():
        model.compile("sgd", "mse")
    wanted = np.zeros((batch, *models["ours"].output_shape[1:]), "float32")
    found = {
        "predict": _in_turn(
            {side: partial(model.predict_on_batch, given[side]) for side, model in models.items()},
            predictions,
        ),
        "train step": _in_turn(
            {side: partial(model.train_on_batch, given[side], wanted) for side, model in models.items()},
            steps,
        ),
    }
    measure.report(**found, difference=difference)


def _difference(model: Any, path: str, x: Any) -> float:
    """The largest difference from ONNX Runtime, relative to the spread of the outputs."""
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(path)
    (wanted,) = session.run(None, {session.get_inputs()[0].name: x})
    return float(np.abs(model.predict_on_batch(x) - wanted).max() / wanted.std())


def _cpu_ratio(found: dict[str, Any]) -> float:
    ours, theirs = (statistics.median(found["cpu"][side]) for side in ("ours", "theirs"))
    return TARGET.ratio(ours, theirs)


def _in_turn(calls: dict[str, Callable[[], object]], times: int) -> dict[str, Any]:
    """Milliseconds of each call after the one that compiles, and those of the processor."""
    found: dict[str, list[float]] = {side: [] for side in calls}
    cpu: dict[str, list[float]] = {side: [] for side in calls}
    for turn in range(WARM_UPS + times):
        for side in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            started, cpu_started = time.perf_counter(), time.process_time()
            calls[side]()
            if turn >= WARM_UPS:
                found[side].append((time.perf_counter() - started) * 1000)
                cpu[side].append((time.process_time() - cpu_started) * 1000)
    return {**found, "cpu": cpu}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
