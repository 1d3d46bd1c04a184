"""The process that runs a shard of a table; ``shards`` starts it.

Enters: a table, a shard, a file descriptor, and on standard input the names of rows that need not run. Leaves:
one line of JSON at a time on the descriptor: all names, then for each case its name and its row.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from types import TracebackType
from typing import TextIO

from tools.full_run.kinds import kinds
from tools.full_run.tables import Row


class Lines:
    """Tells the parent process at once what happens."""

    def __init__(self, pipe: TextIO) -> None:
        self._pipe = pipe

    def started(self, name: str) -> None:
        """The case that runs next."""
        self.say({"started": name})

    def finished(self, row: Row) -> None:
        """Its row."""
        self.say({"row": asdict(row)})

    def died(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """The exception that ends this process."""
        sys.__excepthook__(kind, error, trace)
        self.say({"died": f"{kind.__name__}: {error}".splitlines()[0][:300]})

    def say(self, message: dict[str, object]) -> None:
        """Any message."""
        self._pipe.write(json.dumps(message) + "\n")
        self._pipe.flush()


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("part", type=int, help="which shard, from 1")
    parser.add_argument("parts", type=int, help="of how many")
    parser.add_argument("descriptor", type=int)
    options = parser.parse_args()
    kind = kinds()[options.kind]
    lines = Lines(os.fdopen(options.descriptor, "w"))
    sys.excepthook = lines.died
    keep = set(json.load(sys.stdin))
    names = kind.names()
    lines.say({"names": names})
    first, last = (len(names) * part // options.parts for part in (options.part - 1, options.part))
    kind.run([name for name in names[first:last] if name not in keep], lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
