"""The rows of a parametrised test as rows of a table.

Enters: a test function and, where the code keeps one, the list of what has no row. Leaves: a ``Kind``. A row's name
is its id; its facts are what the test records with ``record_property``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence

import pytest

from tools.full_run.kinds import Kind, Progress
from tools.full_run.tables import REPOSITORY, Row, Verdict


def rows_of(title: str, test: str, absent: Callable[[], Mapping[str, str]]) -> Kind:
    """The table of a test.

    Args:
        title: what the rows are, for people.
        test: ``tests/file.py::function``.
        absent: names without a row -> why they need none.
    """

    def names() -> list[str]:
        sys.path.insert(0, str(REPOSITORY / "tests"))
        collected = _Names()
        _pytest(test, collected, "--collect-only", "-q")
        return [*collected.names, *absent()]

    def run(chosen: Sequence[str], progress: Progress) -> None:
        backend = os.environ["KERAS_BACKEND"]
        for name, reason in absent().items():
            if name in chosen:
                progress.finished(Row(name, backend, "absent", reason=reason))
        _pytest(test, _Rows(set(chosen), backend, progress))

    return Kind(title, names, run)


def _pytest(test: str, plugin: object, *arguments: str) -> None:
    code = pytest.main(
        [test, "--full", "-p", "no:cacheprovider", "--capture=fd", *arguments], plugins=[plugin]
    )
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest could not run {test}: {code!r}")


def _name(item: pytest.Item) -> str:
    return item.name.partition("[")[2].rstrip("]")


class _Names:
    """Collects the names of the rows."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.names = [_name(item) for item in items]


class _Rows:
    """Runs the chosen rows and tells what came out."""

    def __init__(self, chosen: Collection[str], backend: str, progress: Progress) -> None:
        self._chosen = chosen
        self._backend = backend
        self._progress = progress
        self._reason = ""
        self._seconds = 0.0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if _name(item) in self._chosen]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._reason, self._seconds = "", 0.0
        self._progress.started(nodeid.partition("[")[2].rstrip("]"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds += report.duration
        if report.failed and not self._reason:
            self._reason = _first_line(report)
        if report.when == "teardown":
            name = report.nodeid.partition("[")[2].rstrip("]")
            verdict: Verdict = "fail" if self._reason else "pass"
            facts = dict(report.user_properties)
            self._progress.finished(Row(name, self._backend, verdict, self._seconds, self._reason, facts))


def _first_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    message = str(report.longrepr) if crash is None else str(crash.message)
    return next((line.strip() for line in message.splitlines() if line.strip()), "failed")[:300]
