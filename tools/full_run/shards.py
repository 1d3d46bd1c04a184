"""Shards of a table, each in a process with a Keras backend of its own.

Enters: a table, a backend, which part of it. Leaves: its rows, in the table on disk as they finish. Invariants:
rows that ran on this very ``interop/`` are kept; a case in which the process dies or hangs is an error row, and
another process goes on with the next case; when ``interop/`` changes while rows run, the run stops.
"""

from __future__ import annotations

import datetime
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tools.full_run.kinds import Kind
from tools.full_run.tables import LOCKS, REPOSITORY, Row, Run, Table, tree_hash, versions

#: A case that says nothing for so long is ended.
LIMIT_SECONDS = 1800

_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    **{f"{pool}_NUM_THREADS": "1" for pool in ("OMP", "MKL", "OPENBLAS")},
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    # Compiling is most of what the reference costs on JAX; what we export never passes through XLA.
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0",
}


class TreeChanged(Exception):
    """``interop/`` is not what the run started with."""


def run_shard(
    name: str,
    kind: Kind,
    backend: str,
    *,
    shard: tuple[int, int] = (1, 1),
    missing: bool = False,
    failed: bool = False,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Run the cases of a shard that have no row of this ``interop/``.

    Args:
        name: of the table.
        kind: what it holds.
        backend: for Keras.
        shard: which part, from 1, of how many.
        missing: only rows that never ran.
        failed: also rows that ran on this tree and failed.
        say: told every row.

    Returns:
        The rows that ran.

    Raises:
        TreeChanged: a file of ``interop/`` changed meanwhile; rows finished before are kept.
    """
    table, tree = Table(name), tree_hash()
    run = Run(tree, datetime.datetime.now(datetime.UTC).date().isoformat(), versions())
    kept = {
        row.name
        for row, ran in table
        if row.backend == backend
        and (missing or ran.tree == tree)
        and not (failed and row.verdict in ("fail", "error"))
    }
    made: list[Row] = []
    finished = False
    while not finished:
        running: str | None = None
        finished = True
        for message in _messages(name, kind, backend, shard, sorted(kept)):
            if tree_hash() != tree:
                raise TreeChanged(
                    "interop/ changed while rows ran; start again to run the rest on what is there now"
                )
            if "names" in message:
                table.keep(backend, message["names"])
            elif "started" in message:
                running = message["started"]
            elif "row" in message:
                row, running = Row(**message["row"]), None
                table.put(row, run)
                made.append(row)
                kept.add(row.name)
                say(_told(row))
            elif "ended" in message and running is None:
                raise RuntimeError(f"{name} on {backend}: {message['ended']}; its log is in build/full_run")
            elif "ended" in message and running is not None:
                row = Row(running, backend, "error", reason=message["ended"])
                table.put(row, run)
                made.append(row)
                kept.add(running)
                say(_told(row))
                finished = False
    return made


def _told(row: Row) -> str:
    facts = " ".join(f"{key}={value}" for key, value in row.facts.items())
    return f"{row.verdict:7}{row.name} [{row.backend}] {row.seconds:.1f} s {row.reason or facts}"


def _messages(
    name: str, kind: Kind, backend: str, shard: tuple[int, int], kept: list[str]
) -> Iterator[dict[str, Any]]:
    """What a process says, and ``ended`` with the reason if it did not end well."""
    receive, send = os.pipe()
    log = LOCKS / f"{name}-{backend}-{shard[0]}of{shard[1]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tools.full_run.child", name, *map(str, shard), str(send)]
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={
                **os.environ,
                **_ENVIRONMENT,
                **dict(kind.environment),
                "PYTHONPATH": str(REPOSITORY),
                "KERAS_BACKEND": backend,
            },
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(send,),
            text=True,
        )
    os.close(send)
    assert process.stdin is not None
    with process.stdin:
        json.dump(kept, process.stdin)
    ended, rest, died = False, b"", ""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(receive, selectors.EVENT_READ)
            while selector.select(LIMIT_SECONDS):
                if not (data := os.read(receive, 1 << 16)):
                    ended = True
                    break
                *lines, rest = (rest + data).split(b"\n")
                for message in map(json.loads, lines):
                    died = message.get("died", died)
                    yield message
    finally:
        os.close(receive)
        if not ended:  # it hangs, or this program was interrupted
            process.kill()
    code = process.wait()
    if not ended:
        yield {"ended": f"no result after {LIMIT_SECONDS} s"}
    elif code != 0:
        yield {"ended": died or f"the process ended with {'signal' if code < 0 else 'exit code'} {abs(code)}"}
