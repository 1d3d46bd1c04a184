"""The long tables: how they are kept and filled, and that no row of them was lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cases import layers, ops

from interop.capture.keras.absent import ABSENT
from tools.full_run import report, shards
from tools.full_run.kinds import Kind, kinds
from tools.full_run.tables import Row, Run, Table, tree_hash

RUN = Run("0123", "2026-01-01", {"keras": "3"})

pytestmark = pytest.mark.framework("torch")


def test_a_table_is_on_disk_after_every_row_and_keeps_what_others_write(tmp_path: Any) -> None:
    one, other = Table("some", tmp_path), Table("some", tmp_path)
    one.put(Row("a", "torch", "pass", 1.234, facts={"max_rel": [1.23456e-7, 0.0]}), RUN)
    other.put(Row("b", "torch", "error", reason="ValueError: no"), RUN)
    one.put(Row("a", "jax", "pass"), Run("4567", "2026-01-02", {}))
    content = json.loads((tmp_path / "some.json").read_text())
    assert [(row["name"], row["backend"], row["run"]) for row in content["rows"]] == [
        ("a", "jax", "1"),
        ("a", "torch", "2"),
        ("b", "torch", "2"),
    ]
    assert content["rows"][1]["max_rel"] == [1.23e-07, 0.0]
    assert Table("some", tmp_path).get("b", "torch") == Row("b", "torch", "error", reason="ValueError: no")
    one.keep("torch", ["b"])
    assert [row.name for row, _ in Table("some", tmp_path)] == ["a", "b"]
    assert len(json.loads((tmp_path / "some.json").read_text())["runs"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["some.json"]


def row(name: str) -> dict[str, Any]:
    return {"row": {"name": name, "backend": "torch", "verdict": "pass"}}


@pytest.fixture
def filled(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a shard of a table with the messages of made-up processes, one list each."""
    monkeypatch.setattr(shards, "Table", lambda name: Table(name, tmp_path))

    def fill(*processes: list[dict[str, Any]], **options: Any) -> tuple[list[Row], list[list[str]]]:
        left, kept = list(processes), []

        def messages(name: str, kind: Any, backend: str, shard: Any, keep: list[str]) -> Any:
            kept.append(keep)
            return iter(left.pop(0))

        monkeypatch.setattr(shards, "_messages", messages)
        kind = Kind("some", list, lambda names, progress: None)
        return shards.run_shard("some", kind, "torch", say=lambda line: None, **options), kept

    return fill


def test_a_process_that_dies_is_an_error_row_and_another_goes_on(filled: Any) -> None:
    names = {"names": ["a", "b", "c"]}
    first = [
        names,
        {"started": "a"},
        row("a"),
        {"started": "b"},
        {"ended": "the process ended with signal 9"},
    ]
    rows, kept = filled(first, [names, {"started": "c"}, row("c")])
    assert [(made.name, made.verdict) for made in rows] == [("a", "pass"), ("b", "error"), ("c", "pass")]
    assert kept == [[], ["a", "b"]]
    assert filled([names])[1] == [["a", "b", "c"]]
    assert filled([names], failed=True)[1] == [["a", "c"]]


def test_a_process_that_dies_before_its_first_case_is_an_error(filled: Any) -> None:
    with pytest.raises(RuntimeError, match="exit code 1"):
        filled([{"ended": "the process ended with exit code 1"}])


def test_a_change_of_the_code_ends_the_run(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = iter(["before", "before", "after"])
    monkeypatch.setattr(shards, "tree_hash", lambda: next(hashes))
    with pytest.raises(shards.TreeChanged):
        filled([{"names": ["a"]}, row("a")])


def test_the_hash_is_of_the_sources_alone() -> None:
    assert tree_hash() == tree_hash()
    assert len(tree_hash()) == 16


def test_no_row_of_the_tables_was_lost() -> None:
    """A case that passed and is gone is a regression: rename its rows by running the table again."""
    cases = {
        "ops": {case.id for case in ops.all_cases()} | set(ABSENT),
        "layers": {case.id for case in layers.all_cases()} | set(layers.ABSENT),
    }
    for name, there in cases.items():
        lost = {row.name for row, _ in Table(name)} - there
        assert not lost, f"python -m tools.full_run --only {name}"


def test_the_page_says_what_the_tables_hold() -> None:
    text = report.text()
    assert all(kind.title in text for kind in kinds().values())
