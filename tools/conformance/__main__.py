"""Run ONNX' backend tests on one Keras backend and count.

    KERAS_BACKEND=torch python -m tools.conformance                      # all of them
    KERAS_BACKEND=torch python -m tools.conformance -k softmax --reasons # some, with why they fail
    KERAS_BACKEND=torch python -m tools.conformance --write              # all, into tools/tables
    KERAS_BACKEND=torch python -m tools.conformance --check 200          # a sample; fails if one passed before
    python -m tools.conformance --runtime --write                        # ONNX Runtime, to compare
    KERAS_BACKEND=jax python -m tools.conformance --part 1/2             # half of them, which --write then knows

What --part and --write have run is kept in build/conformance until the table is written: a run that was cut off goes
on where it was. JAX compiles every operation of every case, which takes a processor 15 minutes in all; a part for each
core is what helps.
While a case runs, onnxruntime and onnx.reference cannot be imported: nothing but Keras computes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any

from tools.conformance import runtime, table
from tools.conformance.cases import Case, all_cases, mismatch
from tools.conformance.journal import Journal

FORBIDDEN = ("onnxruntime", "onnx.reference")


class _Blocked(MetaPathFinder):
    """Refuses the import of what could compute in Keras' place."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.startswith(FORBIDDEN):
            raise ImportError(f"{name} is blocked: conformance is of Keras operations alone")


@contextmanager
def blocked() -> Iterator[None]:
    """A block in which nothing of FORBIDDEN can be imported, nor is; Keras itself is imported before."""
    import interop.rebuild.interpreter  # noqa: F401

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(FORBIDDEN)}
    finder = _Blocked()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.modules.update(hidden)


def outcome(case: Case) -> str:
    """ "" if the case passes, else why not."""
    from interop import onnx_backend
    from interop.errors import InteropError

    try:
        prepared = onnx_backend.prepare(case.model)
        for inputs, wanted in case.data:
            got = prepared.run(inputs)
            if len(got) != len(wanted):
                return f"{len(got)} outputs instead of {len(wanted)}"
            for ours, theirs in zip(got, wanted, strict=True):
                if problem := mismatch(ours, theirs, case):
                    return problem
    except InteropError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a case raises is its row
        return f"crash {type(error).__name__}: {error}"
    return ""


def sample(cases: Sequence[Case], count: int) -> list[Case]:
    """Some cases, spread evenly over all but the `light` ones, which take seconds each."""
    short = [case for case in cases if case.kind != "light"]
    return [short[i * len(short) // count] for i in range(count)]


def part_of(cases: Sequence[Case], text: str) -> list[Case]:
    """The cases of a part such as "2/3": every third one, from the second on."""
    part, parts = map(int, text.split("/"))
    if not 1 <= part <= parts:
        raise SystemExit(f"--part is one of 1/{parts} to {parts}/{parts}. Received: {text}")
    return list(cases[part - 1 :: parts])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-k", default="", help="only cases whose name holds this")
    parser.add_argument("--reasons", action="store_true", help="say why cases fail")
    parser.add_argument("--runtime", action="store_true", help="run ONNX Runtime instead of Keras")
    parser.add_argument(
        "--write", action="store_true", help="write tools/tables/conformance.*; takes all cases"
    )
    parser.add_argument(
        "--check", type=int, default=0, metavar="COUNT", help="compare a sample with the table"
    )
    parser.add_argument("--part", metavar="K/N", help="run only every Nth case, from the Kth on, for --write")
    arguments = parser.parse_args()
    backend = os.environ.setdefault("KERAS_BACKEND", "jax")
    if backend == "jax":
        os.environ["JAX_ENABLE_X64"] = "1"
    cases = [case for case in all_cases() if arguments.k in case.name]
    if arguments.check:
        cases = sample(cases, arguments.check)
    if arguments.part:
        cases = part_of(cases, arguments.part)
    column = "onnxruntime" if arguments.runtime else backend
    writes = arguments.write and not arguments.k and not arguments.check and not arguments.part
    journal = Journal(column) if writes or arguments.part else None
    known = {} if journal is None else journal.outcomes
    reasons: dict[str, str] = {}
    with contextlib.nullcontext() if arguments.runtime else blocked():
        for case in cases:
            if case.name in known:
                reason = known[case.name]
            else:
                reason = runtime.outcome(case) if arguments.runtime else outcome(case)
                if journal is not None:
                    journal.add(case.name, reason)
            if reason:
                reasons[case.name] = reason
                if arguments.reasons:
                    print(f"{case.name}: {reason[:300]}", flush=True)
    kinds = collections.Counter(case.kind for case in cases)
    failed = collections.Counter(case.kind for case in cases if case.name in reasons)
    for kind, count in sorted(kinds.items()):
        print(f"{kind}: {count - failed[kind]} of {count}")
    print(f"{len(cases) - len(reasons)} of {len(cases)} pass")
    if journal is not None and writes:
        table.write(cases, column, reasons)
        journal.close()
    if arguments.check:
        before = table.read()["failures"].get(backend, {})
        lost = {name: reason for name, reason in reasons.items() if name not in before}
        for name, reason in lost.items():
            print(f"passed in the table, fails now: {name}: {reason[:300]}", file=sys.stderr)
        return 1 if lost else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
