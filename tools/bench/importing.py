"""Time to import an ONNX file, against onnx2tf and onnx2kerastl, and how it grows with the number of nodes.

ResNet-50 and a transformer of 12 layers are TorchScript exports of opset 13, which every tool here reads; each tool
starts from the path in a fresh process, with its documented call, and time of importing modules is taken out. How it
grows is measured on our own exports of MLPs and transformers, as in ``scaling``.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from math import log
from pathlib import Path

import measure
import networks
from environments import is_there, python_of
from imported import exported
from measure import Row, Sample, Target

BACKENDS = ("tensorflow", "torch")
PEERS = ("onnx2tf", "onnx2kerastl")
KINDS = {"resnet50": 224, "bert12": 128}
QUICK = {"resnet50": 64, "bert1": 16}
TARGET = Target("at least", 1)
MOST = 1.15
DEPTHS = {"mlp": (50, 100, 200, 400), "transformer": (6, 12, 24, 48)}
IMPORTS = 3


def rows(quick: bool) -> Iterator[Row]:
    """A row for each backend, network and peer, and the exponents."""
    for kind, size in (QUICK if quick else KINDS).items():
        path, failed = exported(kind, "torchscript", size)
        if failed:
            yield Row("importing", kind, "s", None, None, None, str(TARGET), False, failed)
            continue
        for peer in PEERS:
            sides = {peer: partial(_timed, peer, path)}
            sides |= {backend: partial(_timed, "ours", path, backend) for backend in BACKENDS}
            found = measure.alternate(sides, 1 if quick else 3, 120)
            for backend in BACKENDS:
                yield _row(f"{kind} on {backend} vs {peer}", found[backend], found[peer])
    for kind, depths in DEPTHS.items():
        yield _exponent(kind, depths[:2] if quick else depths)


def _timed(side: str, path: Path, backend: str | None = None) -> Sample:
    if side == "ours":
        return measure.child("importing.py", "time", side, path, backend=backend)
    if not is_there(side):
        return {"error": f"{side} could not be installed: see environments.py {side}"}
    return measure.child("importing.py", "time", side, path, python=python_of(side))


def _row(case: str, ours: list[Sample], theirs: list[Sample]) -> Row:
    left, right = measure.series(ours, "seconds"), measure.series(theirs, "seconds")
    if left and right:
        return measure.compared("importing", case, "s", left, right, TARGET)
    side, failed = ("ours", measure.error(ours)) if not left else ("theirs", measure.error(theirs))
    value = statistics.median(left) if left else None
    met = None if left else False
    return Row(
        "importing", case, "s", value, None, None, str(TARGET), met, f"{side} fails: {failed}", {"ours": left}
    )


def _exponent(kind: str, depths: tuple[int, ...]) -> Row:
    """The slope of log time over log nodes, by least squares."""
    samples = [measure.child("importing.py", "depth", kind, depth, backend="torch") for depth in depths]
    case, target = f"{kind} exponent in nodes", f"<= {MOST}"
    if failed := measure.error(samples):
        return Row("importing", case, "", None, None, None, target, False, failed)
    points = [(sample["nodes"], min(sample["seconds"])) for sample in samples]
    exponent = statistics.linear_regression(*zip(*((log(n), log(s)) for n, s in points), strict=True)).slope
    note = f"best of {IMPORTS}: " + ", ".join(f"{n} nodes: {s:.2f} s" for n, s in points)
    kept = {str(sample["nodes"]): sample["seconds"] for sample in samples}
    return Row("importing", case, "", exponent, None, None, target, exponent <= MOST, note, kept)


def time_one(side: str, path: str) -> None:
    """A child: import once."""
    clock = measure.Clock()
    if side == "ours":
        import interop

        with clock.running():
            interop.import_onnx(path)
    elif side == "onnx2tf":
        import onnx2tf  # type: ignore[import-not-found]

        with tempfile.TemporaryDirectory() as folder, clock.running():
            os.chdir(folder)  # it leaves files beside itself
            onnx2tf.convert(input_onnx_file_path=path, output_folder_path=folder, non_verbose=True)
    else:
        import onnx
        from onnx2kerastl import onnx_to_keras  # type: ignore[import-not-found]

        with clock.running():
            onnx_to_keras(onnx.load(path), ["x"], name_policy="attach_weights_name")
    measure.report(seconds=clock.net_seconds, cpu_seconds=clock.cpu_seconds)


def time_depth(kind: str, depth: int) -> None:
    """A child: import a network of some depth a few times."""
    import onnx

    import interop

    model = networks.mlp(depth) if kind == "mlp" else networks.transformer(depth)
    sys.setrecursionlimit(100_000)  # Keras follows a graph by recursion
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        interop.export_onnx(model, path, verify=False)
        nodes = len(onnx.load(path).graph.node)
        for _ in range(IMPORTS):
            clock = measure.Clock()
            with clock.running():
                interop.import_onnx(path)
            seconds.append(clock.net_seconds)
    measure.report(seconds=seconds, nodes=nodes)


if __name__ == "__main__":
    if sys.argv[1] == "time":
        time_one(sys.argv[2], str(Path(sys.argv[3]).resolve()))
    else:
        time_depth(sys.argv[2], int(sys.argv[3]))
