"""One gigabyte of weights, 250 Dense layers of 1024 x 1024: saved, opened as a graph, loaded as layers.

- save: ``interop.save_model`` against writing the same arrays to a file and ``fsync``, in one process in turn,
  after a small save that brings the modules in. Before each, another file is written and deleted, so that both find
  memory that the machine has (`measure.warm_memory`).
- load_graph: against ONNX Runtime on the artifact's own ``model.onnx`` with the same session options, each in a
  fresh process; the session's creation is timed, and once more with the first run, which is when the weights of
  low_memory are read.
- load_model: against ``keras.models.load_model`` of the ``.keras`` file, each in a fresh process; it ends when all
  values are in place.

Imports are excluded. Memory is the peak over what was resident before.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import export
import measure
import networks
from environments import python_of
from measure import Row, Sample, Target

SAVE = Target("at most", 1.3)
SAVE_EXTRA_MB = 64
GRAPH = Target("at most", 1.1)
MODEL = Target("at least", 5)
MODEL_PEAK = 1.3
FOLDER = measure.WORK / "gigabyte"
ARTIFACT = FOLDER / "ours"
KERAS_FILE = FOLDER / "theirs.keras"


def save_rows(quick: bool) -> Iterator[Row]:
    """Time and memory of saving, on each backend."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for backend in ("jax",) if quick else export.BACKENDS:
        sample = measure.child("gigabyte.py", "save", 1 if quick else 9, backend=backend)
        if "error" in sample:
            yield Row("save", backend, "s", None, None, None, str(SAVE), False, sample["error"])
            continue
        yield measure.compared("save", f"{backend} time", "s", sample["ours"], sample["theirs"], SAVE)
        yield measure.limited("save", f"{backend} extra memory", "MB", sample["extra_mb"], SAVE_EXTRA_MB)


def graph_rows(quick: bool) -> Iterator[Row]:
    """Opening as a graph, both ways of using memory; the zip form too."""
    _files()
    for memory in ("default", "low_memory"):
        for form, path in (("directory", ARTIFACT), ("zip", ARTIFACT.with_suffix(".interop"))):
            sides = {
                "ours": partial(measure.child, "gigabyte.py", "graph", memory, path),
                "theirs": partial(measure.child, "gigabyte.py", "session", memory, ARTIFACT / "model.onnx"),
            }
            found = measure.alternate(sides, rounds=1 if quick else 9)
            extra = {f"{side}_extra_mb": measure.series(found[side], "extra_mb") for side in sides}
            for key, what in (("seconds", ""), ("first_seconds", " and first run")):
                ours, theirs = (measure.series(found[side], key) for side in sides)
                case = f"{memory} {form}{what}"
                yield measure.compared("load_graph", case, "s", ours, theirs, GRAPH, samples=extra)


def model_rows(quick: bool) -> Iterator[Row]:
    """Loading as layers, time and memory."""
    _files()
    for backend in ("jax",) if quick else ("jax", "tensorflow"):
        sides = {
            "ours": partial(measure.child, "gigabyte.py", "model", "ours", ARTIFACT, backend=backend),
            "theirs": partial(
                measure.child,
                "gigabyte.py",
                "model",
                "theirs",
                KERAS_FILE,
                python=python_of(f"keras-{backend}"),
                backend=backend,
            ),
        }
        found = measure.alternate(sides, rounds=1 if quick else 3)
        if failed := measure.error(found["ours"] + found["theirs"]):
            yield Row("load_model", backend, "s", None, None, None, str(MODEL), False, failed)
            continue
        ours, theirs = (measure.series(found[side], "seconds") for side in sides)
        yield measure.compared("load_model", f"{backend} time", "s", ours, theirs, MODEL)
        peaks = [sample["extra_mb"] / sample["weights_mb"] for sample in found["ours"]]
        theirs_peak = max(sample["extra_mb"] / sample["weights_mb"] for sample in found["theirs"])
        yield measure.limited(
            "load_model",
            f"{backend} peak / weights",
            "",
            peaks,
            MODEL_PEAK,
            note=f"theirs {theirs_peak:.2f}",
        )


def _files() -> None:
    """Both artifacts and the ``.keras`` file, once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not KERAS_FILE.is_file():
        sample = measure.child("gigabyte.py", "files", backend="jax")
        if "error" in sample:
            raise RuntimeError(sample["error"])


# --- children


def make_files() -> None:
    """The model in all three forms; the file that tells it is done comes last."""
    import interop

    model = networks.gigabyte()
    interop.save_model(model, ARTIFACT)
    interop.save_model(model, ARTIFACT.with_suffix(".interop"))
    model.save(KERAS_FILE.with_name("partial.keras"))
    os.replace(KERAS_FILE.with_name("partial.keras"), KERAS_FILE)
    measure.report()


def save(rounds: int) -> None:
    """Write plainly and save, in turn."""
    import keras

    import interop

    target, plain = FOLDER / "saved", FOLDER / "plain.bin"
    interop.save_model(networks.mlp(1), target)
    model = networks.gigabyte()
    arrays = [keras.ops.convert_to_numpy(variable.value) for variable in model.weights]
    extra_mb: list[float] = []

    def save_ours() -> None:
        measure.reset_peak()
        before = measure.resident_mb()
        interop.save_model(model, target)
        extra_mb.append(measure.peak_mb() - before)

    def write_plain() -> None:
        with plain.open("wb", buffering=0) as file:
            for array in arrays:
                file.write(memoryview(array).cast("B"))
            os.fsync(file.fileno())

    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    sides = {"theirs": write_plain, "ours": save_ours}
    for turn in range(rounds):
        for side in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            shutil.rmtree(target, ignore_errors=True)
            plain.unlink(missing_ok=True)
            measure.warm_memory(FOLDER)
            clock = measure.Clock()
            with clock.running():
                sides[side]()
            found[side].append(clock.net_seconds)
    shutil.rmtree(target, ignore_errors=True)
    plain.unlink(missing_ok=True)
    measure.report(**found, extra_mb=extra_mb)


def graph(memory: str, path: str) -> None:
    """Open with `interop.load_graph`."""
    import numpy as np

    import interop
    import interop.runtime.session

    def load() -> Any:
        return interop.load_graph(path, low_memory=memory == "low_memory")

    _loaded(load, use=lambda graph: graph(np.zeros((1, 1024), np.float32)))


def session(memory: str, path: str) -> None:
    """Open with ONNX Runtime, with the options that `interop.load_graph` sets."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    if memory == "low_memory":
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED

    def run(opened: Any) -> None:
        opened.run(None, {opened.get_inputs()[0].name: np.zeros((1, 1024), np.float32)})

    _loaded(lambda: ort.InferenceSession(path, options), use=run)


def model(side: str, path: str) -> None:
    """Load as layers, until every value is there."""
    import keras

    if side == "ours":
        import interop

        load: Any = interop.load_model
    else:
        load = keras.models.load_model

    def load_all() -> Any:
        loaded = load(path)
        for variable in loaded.weights:
            if keras.backend.backend() == "jax":
                variable.value.block_until_ready()
        return loaded

    loaded = _loaded(load_all, weights=True)
    if loaded.count_params() != 250 * (1024 * 1024 + 1024):
        raise RuntimeError(f"{path}: {loaded.count_params()} parameters")


def _loaded(load: Any, weights: bool = False, use: Callable[[Any], object] | None = None) -> Any:
    """Run `load`, report time and memory, and the time until it was used, return what it gave."""
    measure.reset_peak()
    before = measure.resident_mb()
    clock = measure.Clock()
    with clock.running():
        loaded = load()
    values: Sample = {"seconds": clock.net_seconds, "import_seconds": clock.import_seconds}
    values["extra_mb"] = measure.peak_mb() - before
    if use is not None:
        started = time.perf_counter()
        use(loaded)
        values["first_seconds"] = values["seconds"] + time.perf_counter() - started
    if weights:
        values["weights_mb"] = 4 * loaded.count_params() / 2**20
    measure.report(**values)
    return loaded


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    children: dict[str, Callable[..., None]] = {
        "files": make_files,
        "graph": graph,
        "session": session,
        "model": model,
    }
    if what == "save":
        save(int(arguments[0]))
    else:
        children[what](*arguments)
