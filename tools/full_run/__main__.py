"""Run the long tables, or say what they hold.

    python -m tools.full_run                                           # every row this interop/ has none for
    python -m tools.full_run --only applications --backend torch       # one table, one backend
    python -m tools.full_run --only applications --shard 2/4           # the second quarter of it
    python -m tools.full_run --missing                                 # only rows that never ran
    python -m tools.full_run --failed                                  # also those that ran and failed
    python -m tools.full_run --stale                                   # count the rows of another interop/
    python -m tools.full_run --write                                   # tools/tables/README.md
    python -m tools.full_run --check                                   # exit code 1 if that is out of date

Rows are on disk as they finish: end it at any time and start it again. The exit code is 1 if a row that passed
does not pass any more.
"""

from __future__ import annotations

import argparse
import sys

from tools.full_run import report
from tools.full_run.kinds import BACKENDS, kinds
from tools.full_run.shards import run_shard
from tools.full_run.tables import Table, tree_hash


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="these tables, with commas between")
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="can be repeated")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="K/N", help="the K-th of N parts")
    parser.add_argument("--missing", action="store_true", help="only rows that never ran")
    parser.add_argument("--failed", action="store_true", help="also rows that failed on this interop/")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--stale", action="store_true", help="count the rows of another interop/")
    choice.add_argument("--write", action="store_true", help="write tools/tables/README.md")
    choice.add_argument("--check", action="store_true", help="exit code 1 if it is out of date")
    options = parser.parse_args()
    chosen = kinds()
    if options.only:
        if unknown := set(options.only.split(",")) - set(chosen):
            parser.error(f"no table {', '.join(sorted(unknown))}; there are {', '.join(chosen)}")
        chosen = {name: chosen[name] for name in options.only.split(",")}
    if options.stale:
        return _count_stale(list(chosen))
    if options.check:
        _count_stale(list(chosen))
        return report.check()
    if options.write:
        report.write()
        return 0
    worse = []
    for name, kind in chosen.items():
        before = {(row.name, row.backend): row.verdict for row, _ in Table(name)}
        for backend in options.backend or kind.backends:
            if backend not in kind.backends:
                continue
            rows = run_shard(
                name, kind, backend, shard=options.shard, missing=options.missing, failed=options.failed
            )
            worse += [
                f"{row.name} [{row.backend}]: {row.reason}"
                for row in rows
                if before.get((row.name, row.backend)) == "pass" != row.verdict
            ]
            report.write()
    for line in worse:
        print(f"passed before: {line}", file=sys.stderr)
    return 1 if worse else 0


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"expected K/N with 1 <= K <= N, such as 2/4. Received: {text}")
    return int(part), int(parts)


def _count_stale(names: list[str]) -> int:
    """Warn of rows that ran on another ``interop/``; that alone is no error."""
    tree = tree_hash()
    for name in names:
        table = Table(name)
        stale = sum(run.tree != tree for _, run in table)
        if stale:
            print(
                f"warning: {stale} of {len(table)} rows of {name} ran on another interop/ than this one "
                f"({tree}): python -m tools.full_run --only {name}",
                file=sys.stderr,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
