"""What becomes of every class and argument of Keras 2: ``python -m tools.legacy_arguments.table [--write | --check]``.

Reads the list that `tools.legacy_arguments` made of tf_keras itself and asks the table of the migration. Writes
``MIGRATION.md`` beside the fixtures; `--check` fails where it is not what the table says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from interop.rebuild.legacy import table
from interop.rebuild.legacy.migration import becomes, found_class, parameters

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "legacy"
LISTED = FIXTURES / "arguments.json"
PAGE = FIXTURES / "MIGRATION.md"
HEADER = """# What becomes of Keras 2

Every class of tf_keras 2.21 and every argument that a file has of it; made by `python -m tools.legacy_arguments.table
--write` from [`arguments.json`](arguments.json), which lists them from tf_keras itself. *Kept* has the same name and
value. *Left out* is reported, unless the value is the one as which Keras 3 computes anyway; *without effect* never
changed what is computed. What is *refused* raises an error that names it, for any value but the usual one. A class of
your own by the name of one that is refused takes its place: `custom_objects={"LocallyConnected1D": ...}`.
"""
COLUMNS = ("kept", "changed", "left out", "without effect", "refused")


def main() -> int:
    """Write or check the page."""
    text = page(json.loads(LISTED.read_text(encoding="utf-8")))
    if "--write" in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif "--check" in sys.argv:
        if text != PAGE.read_text(encoding="utf-8"):
            print(f"{PAGE} is not what the table says: python -m tools.legacy_arguments.table --write")
            return 1
    else:
        print(text)
    return 0


def page(listed: Mapping[str, Mapping[str, Mapping[str, bool]]]) -> str:
    """The page: a table for every part of Keras."""
    lines = [HEADER]
    for family, classes in listed.items():
        lines += [
            f"## {family}",
            "",
            f"| class | becomes | {' | '.join(COLUMNS)} |",
            "|---|---" + "|---" * 5 + "|",
        ]
        for name, arguments in classes.items():
            cells = row(family, name, [argument for argument, in_a_file in arguments.items() if in_a_file])
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def row(family: str, name: str, arguments: list[str]) -> list[str]:
    """What becomes of a class, and of its arguments."""
    family = family.removesuffix(".legacy")
    if name in table.REFUSED_CLASSES:
        return [f"refused: {table.REFUSED_CLASSES[name]}", *[""] * len(COLUMNS)]
    cls = found_class(table.CLASSES.get(name, name), family)
    if cls is None:
        return ["looked for in `custom_objects`", *[""] * len(COLUMNS)]
    cells: dict[str, list[str]] = {column: [] for column in COLUMNS}
    for argument in sorted(arguments):
        column, words = fate(name, cls, argument)
        cells[column].append(f"{argument}{words}")
    several = f", {table.SEVERAL[name][1]}" if name in table.SEVERAL else ""
    return [f"{cls.__name__}{several}", *(", ".join(cells[column]) for column in COLUMNS)]


def fate(name: str, cls: type, argument: str) -> tuple[str, str]:
    """The column of an argument, and what is to be said of it."""
    taken = parameters(cls)
    found = becomes(name, argument, argument in taken)
    match found:
        case table.Renamed(other):
            return ("changed", f" → {other}") if other in taken else ("left out", "")
        case table.Dropped(_, meaning):
            return "left out", "" if meaning == table.Dropped().meaning else f" ({meaning})"
        case table.Ignored():
            return "without effect", ""
        case table.Refused(feature):
            return "refused", f" ({feature})"
        case table.Only(_, feature):
            return "refused", f" ({feature})"
        case table.Converted(_, meaning) if meaning and argument in taken:
            return "changed", f" ({meaning})"
    return ("kept" if argument in taken else "left out"), ""


if __name__ == "__main__":
    sys.exit(main())
