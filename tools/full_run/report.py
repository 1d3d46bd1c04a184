"""The tables for people: ``tools/tables/README.md``.

Enters: the JSON tables. Leaves: counts by table and backend, every row that does not pass with its reason, and
the applications one by one.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from tools.full_run.kinds import BACKENDS, kinds
from tools.full_run.tables import FOLDER, Row, Run, Table

README = FOLDER / "README.md"
COMMAND = "python -m tools.full_run --write"

#: A table is shown row by row up to so many names.
SHOWN = 60


def check() -> int:
    """Exit code 1 if the file is not what the tables say."""
    if not README.is_file() or README.read_text(encoding="utf-8") != text():
        print(f"tools/tables/README.md is out of date: run `{COMMAND}`", file=sys.stderr)
        return 1
    print("tools/tables/README.md is up to date")
    return 0


def write() -> None:
    """Write the file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    README.write_text(text(), encoding="utf-8")


def text() -> str:
    """What the file holds."""
    tables = {name: Table(name) for name in kinds()}
    titles = {name: kind.title for name, kind in kinds().items()}
    return "\n".join([*_head(), *_counts(tables, titles), *_runs(tables), *_details(tables, titles)]) + "\n"


def _head() -> Iterator[str]:
    yield "# What exports"
    yield ""
    yield f"Made by `{COMMAND}` from the JSON files beside it, which `python -m tools.full_run` fills row by row."
    yield "Every row is exported, run in ONNX Runtime and compared with Keras at two sizes of every dynamic"
    yield "dimension. `absent` rows have nothing to run, for the reason given."
    yield ""


def _counts(tables: dict[str, Table], titles: dict[str, str]) -> Iterator[str]:
    yield "| table | " + " | ".join((*BACKENDS, "in all")) + " |"
    yield "|---|" + "---|" * (len(BACKENDS) + 1)
    for name, table in tables.items():
        by_backend: dict[str, Counter[str]] = defaultdict(Counter)
        for row, _ in table:
            by_backend[row.backend][row.verdict] += 1
        names, backends = {row.name for row, _ in table}, kinds()[name].backends
        cells = [
            _count(by_backend[backend], len(names)) if backend in backends else "" for backend in BACKENDS
        ]
        cells.append(_count(sum(by_backend.values(), Counter[str]()), len(names) * len(backends)))
        yield f"| [{titles[name]}]({name}.json) | " + " | ".join(cells) + " |"
    yield ""


def _count(verdicts: Counter[str], wanted: int) -> str:
    """How many passed of those that ran, and how many of those wanted did not."""
    ran = verdicts.total() - verdicts["absent"]
    if not verdicts.total():
        return "not run"
    absent = f", {verdicts['absent']} absent" if verdicts["absent"] else ""
    left = f", {wanted - verdicts.total()} not run" if wanted > verdicts.total() else ""
    return f"{verdicts['pass']}/{ran}{absent}{left}"


def _runs(tables: dict[str, Table]) -> Iterator[str]:
    yield "Rows ran on:"
    yield ""
    for name, table in tables.items():
        rows: Counter[tuple[str, str]] = Counter((run.date, run.tree) for _, run in table)
        for (date, tree), count in sorted(rows.items()):
            yield f"- {name}: {count} rows on {date}, `interop/` {tree}"
    yield ""


def _details(tables: dict[str, Table], titles: dict[str, str]) -> Iterator[str]:
    for name, table in tables.items():
        by_name: dict[str, dict[str, tuple[Row, Run]]] = defaultdict(dict)
        for row, run in table:
            by_name[row.name][row.backend] = row, run
        if not by_name:
            continue
        yield f"## {titles[name]}"
        yield ""
        reasons = _reasons(table)
        if reasons:
            yield "| row | backend | | why |"
            yield "|---|---|---|---|"
            yield from reasons
            yield ""
        yield from _classes([row for row, _ in table if "classes" in row.facts])
        if len(by_name) <= SHOWN:
            yield from _row_by_row(by_name)


def _classes(rows: list[Row]) -> Iterator[str]:
    """Whether layers came back as the classes they were, for rows that say so."""
    if not rows:
        return
    counts = Counter(row.facts["classes"] for row in rows)
    yield (
        f"Of {len(rows)} models that compute the same, {counts['same']} have layers of the same classes, "
        f"{counts['weighted']} the same layers with weights and operations in the place of others, and "
        f"{counts['other']} other layers with weights. What is not the same, and how often:"
    )
    yield ""
    yield "| before | after | rows |"
    yield "|---|---|---|"
    kinds_of_loss: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row.facts["classes"] != "same":
            key = _names(row.facts.get("missing", {})), _names(row.facts.get("instead", {}))
            kinds_of_loss[key].append(row.name)
    for (before, after), names in sorted(kinds_of_loss.items(), key=lambda item: (-len(item[1]), item)):
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield f"| {before} | {after or 'operations'} | {shown} |"
    yield ""


def _names(counts: Mapping[str, int]) -> str:
    """Classes, and how many of each where there is more than one."""
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())


def _reasons(table: Table) -> list[str]:
    """Rows that do not pass, those that say the same on several backends as one."""
    backends: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row, _ in table:
        if row.verdict != "pass":
            reason = row.reason.replace("|", "\\|").replace("<", "\\<")
            backends[row.name, row.verdict, reason].append(row.backend)
    return [
        f"| {name} | {', '.join(sorted(on))} | {verdict} | {reason} |"
        for (name, verdict, reason), on in sorted(backends.items())
    ]


def _row_by_row(by_name: dict[str, dict[str, tuple[Row, Run]]]) -> Iterator[str]:
    """Largest relative error by backend, and the size of the graph."""
    yield "| row | " + " | ".join(f"error, {backend}" for backend in BACKENDS) + " | nodes | transposes |"
    yield "|---|" + "---|" * (len(BACKENDS) + 2)
    for name, rows in sorted(by_name.items()):
        cells = [_error(rows[backend][0]) if backend in rows else "" for backend in BACKENDS]
        facts = next((row.facts for row, _ in rows.values() if row.facts), {})
        yield (
            f"| {name} | "
            + " | ".join(cells)
            + f" | {facts.get('nodes', '')} | {facts.get('transposes', '')} |"
        )
    yield ""


def _error(row: Row) -> str:
    if row.verdict != "pass":
        return row.verdict
    errors = row.facts.get("max_rel", [])
    return f"{max(errors):.1e}" if errors else "pass"
