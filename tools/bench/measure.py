"""Processes, time and memory: what every row of the bench is measured with.

Enters: a script of this folder and its arguments. Leaves: what the script reported from a process of its own,
as a `Sample`; rows of those with a target. Invariants: only the standard library is imported, as peers run this
file in environments that have nothing of ours; a failed child is a sample with the first line of its error.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
WORK = REPOSITORY / "build" / "bench"
LIMIT_SECONDS = 600

Sample = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A bound on a ratio: theirs / ours must be at least it, or ours / theirs at most."""

    sense: Literal["at least", "at most"]
    bound: float

    def ratio(self, ours: float, theirs: float) -> float:
        return theirs / ours if self.sense == "at least" else ours / theirs

    def met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.sense == "at least" else ratio <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.sense == 'at least' else '<='} {self.bound:g}x"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        section: the family it belongs to.
        case: what was measured.
        unit: of `ours` and `theirs`.
        ours, theirs: the medians; None where that side failed or does not exist.
        ratio: as the target wants it.
        target: in words.
        met: whether it is; None where there is none.
        note: a failure's first line, or what a reader must know.
        samples: everything measured.
    """

    section: str
    case: str
    unit: str
    ours: float | None
    theirs: float | None
    ratio: float | None
    target: str
    met: bool | None
    note: str = ""
    samples: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        ours, theirs, ratio = (_short(value) for value in (self.ours, self.theirs, self.ratio))
        met = {True: "yes", False: "NO", None: ""}[self.met]
        numbers = f"{ours:>9s}{theirs:>9s} {self.unit:3s}{ratio:>8s}"
        return f"{self.section:11s}{self.case:42s}{numbers}  {self.target:9s}{met:4s}{self.note}"


HEADER = f"{'what':53s}{'ours':>9s}{'theirs':>9s} {'':3s}{'ratio':>8s}  {'target':9s}met"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def compared(
    section: str,
    case: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    target: Target,
    *,
    note: str = "",
    samples: dict[str, Any] | None = None,
) -> Row:
    """The row of two series of the same unit, by their medians."""
    left, right = statistics.median(ours), statistics.median(theirs)
    ratio = target.ratio(left, right)
    kept = {"ours": list(ours), "theirs": list(theirs), **(samples or {})}
    return Row(section, case, unit, left, right, ratio, str(target), target.met(ratio), note, kept)


def limited(section: str, case: str, unit: str, ours: Sequence[float], most: float, *, note: str = "") -> Row:
    """The row of a series with a bound of its own, by its largest value."""
    worst = max(ours)
    return Row(
        section, case, unit, worst, None, None, f"<= {most:g}", worst <= most, note, {"ours": list(ours)}
    )


# --- the parent's side


def child(
    script: str,
    *arguments: object,
    python: Path | str = sys.executable,
    backend: str | None = None,
) -> Sample:
    """Run a script of this folder in a fresh process and return what it reported.

    Args:
        script: file name in this folder.
        *arguments: its command line.
        python: the interpreter, which chooses the environment.
        backend: the Keras backend.

    Returns:
        The report, with ``process_seconds`` (start to end) and ``started`` (monotonic clock) added;
        ``{"error": first line}`` when the process failed.
    """
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONDONTWRITEBYTECODE", "KERAS_BACKEND", "PYTHONPATH")
    }
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    if python == sys.executable:
        environment["PYTHONPATH"] = str(REPOSITORY)  # what is measured is this checkout
    with tempfile.TemporaryDirectory() as folder:
        environment["INTEROP_BENCH_REPORT"] = str(Path(folder, "report.json"))
        started = time.monotonic()
        try:
            ended = subprocess.run(
                [str(python), str(HERE / script), *map(str, arguments)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no result after {LIMIT_SECONDS} s"}
        seconds = time.monotonic() - started
        if ended.returncode != 0:
            return {"error": _first_line(ended.stderr) or f"exit code {ended.returncode}"}
        report: Sample = json.loads(Path(environment["INTEROP_BENCH_REPORT"]).read_text())
    return {**report, "started": started, "process_seconds": seconds}


def _first_line(stderr: str) -> str:
    """The first line of the error that ended a Python process, without folders of this machine."""
    lines = stderr.rstrip().splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("Traceback (most recent")]
    after = lines[starts[-1] + 1 :] if starts else lines[-1:]
    line = next((line for line in after if line and not line.startswith(" ")), "")
    for folder in (str(REPOSITORY), str(Path.home()), tempfile.gettempdir()):
        line = line.replace(folder, "...")
    return line[:300]


def alternate(
    sides: Mapping[str, Callable[[], Sample]], rounds: int, seconds: float = float("inf")
) -> dict[str, list[Sample]]:
    """Measure the sides in turn, each round in the other order.

    Args:
        sides: name to what measures once.
        rounds: how many times each.
        seconds: no further round begins that would end later than this, by the rounds before it.

    Returns:
        Samples by side. A side that failed is not tried again.
    """
    found: dict[str, list[Sample]] = {side: [] for side in sides}
    started = time.monotonic()
    for turn in range(rounds):
        if turn and (time.monotonic() - started) * (turn + 1) / turn > seconds:
            break
        for side in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            if not (found[side] and "error" in found[side][-1]):
                found[side].append(sides[side]())
    return found


def series(samples: Sequence[Sample], key: str) -> list[float]:
    """One number of each sample; empty if any failed."""
    return [] if any("error" in sample for sample in samples) else [sample[key] for sample in samples]


def error(samples: Sequence[Sample]) -> str:
    """The error of a series, empty if there is none."""
    return next((sample["error"] for sample in samples if "error" in sample), "")


def versions(python: Path | str, names: Sequence[str]) -> dict[str, str]:
    """Versions of the distributions that an environment has."""
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}\n"
        "print(json.dumps({'python': platform.python_version()}"
        " | {n: found[n] for n in sys.argv[1:] if n in found}))"
    )
    ended = subprocess.run(
        [str(python), "-c", code, *names], capture_output=True, text=True, check=True, cwd=WORK
    )
    found: dict[str, str] = json.loads(ended.stdout)
    return found


# --- the child's side


def report(**values: Any) -> None:
    """Hand values to the parent."""
    Path(os.environ["INTEROP_BENCH_REPORT"]).write_text(json.dumps(values))


def _memory_mb(field_name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field_name):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field_name}")


def resident_mb() -> float:
    """Resident memory of this process now, mapped pages of files included."""
    return _memory_mb("VmRSS:")


def peak_mb() -> float:
    """Largest resident memory of this process since its start or the last `reset_peak`.

    Not ``ru_maxrss``, which a process inherits from the one that started it.
    """
    return _memory_mb("VmHWM:")


def reset_peak() -> None:
    """Let `peak_mb` begin again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


class Clock:
    """Time of a block, and how much of it went into importing modules.

    Attributes:
        seconds: of the whole block.
        import_seconds: inside the outermost imports.
        cpu_seconds: of all threads of the process, without imports; on a machine that does other things too, it
            tells more than time.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.import_seconds = 0.0
        self.cpu_seconds = 0.0
        self._depth = 0

    @property
    def net_seconds(self) -> float:
        """Time without imports."""
        return self.seconds - self.import_seconds

    def _timed(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started, cpu_started = time.perf_counter(), time.process_time()
            try:
                return real(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.import_seconds += time.perf_counter() - started
                    self.cpu_seconds -= time.process_time() - cpu_started

        return wrapped

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Measure this block."""
        kept = builtins.__import__, importlib.import_module
        builtins.__import__ = self._timed(kept[0])
        importlib.import_module = self._timed(kept[1])
        started, cpu_started = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds = time.perf_counter() - started
            self.cpu_seconds += time.process_time() - cpu_started
            builtins.__import__, importlib.import_module = kept


def warm_memory(folder: Path, megabytes: int = 3000) -> None:
    """Write a file and delete it: what is measured next finds memory that the machine has.

    The host of a virtual machine may take free memory back, here every 2 s; whoever needs it next waits up to 2 s for a
    GB. A pause of random length keeps what is measured from falling into step with that.
    """
    time.sleep(random.uniform(0, 2))
    path = folder / "scratch.bin"
    block = memoryview(bytes((4 << 20) + 4096))  # at odd offsets, so that pages of every order are used
    with path.open("wb", buffering=0) as file:
        for _ in range(megabytes // 4):
            file.write(block)
    path.unlink()
    os.sync()
