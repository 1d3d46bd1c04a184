"""What a comparison found: one row per output and case, and a verdict over all of them.

Invariants:
- A report passes only if it has rows and every row's verdict is ``"pass"``; a vacuous row never passes.
- ``str(report)`` and ``to_json()`` say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from interop.errors import ParityError

Verdict = Literal["pass", "vacuous", "fail"]


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One output at one case.

    Attributes:
        case: the sizes of the dynamic dimensions, such as ``"batch=4 time=7"``, or ``"given"``.
        output: the output's name.
        dtype: the reference's element type.
        shape: the reference's shape.
        max_abs: largest absolute difference; None when dtypes or shapes already differ.
        max_rel: largest relative difference (see ``Difference``).
        mean_abs: mean absolute difference.
        rtol: relative term of the tolerance.
        atol: absolute term of the tolerance.
        relative_std: how much the reference output varies over the batch; None when it cannot be told.
        verdict: ``"pass"``, ``"vacuous"`` (agrees, but would whatever the weights were) or ``"fail"``.
        reason: why it is not a pass; empty for a pass.
    """

    case: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    max_abs: float | None
    max_rel: float | None
    mean_abs: float | None
    rtol: float
    atol: float
    relative_std: float | None
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Departure:
    """The first layer call whose output differs between the two models.

    Attributes:
        call: ``<object path>#<n>``: the n-th call of the layer with that path.
        max_abs: largest absolute difference of its output.
        dtype: element type of that output.
        shape: its shape.
        compared: number of layer calls that agreed before it.
    """

    call: str
    max_abs: float
    dtype: str
    shape: tuple[int, ...]
    compared: int

    def __str__(self) -> str:
        before = "no layer call before it was compared"
        if self.compared:
            before = f"{self.compared} layer call{'s' if self.compared > 1 else ''} before it agree"
        return f"{self.call} (max abs {_number(self.max_abs)}; {before})"


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The result of ``verify``.

    Attributes:
        reference: what was taken as right.
        candidate: what was compared with it.
        rows: one row per output and case.
        first_departure: the first layer call that differs, when the comparison failed and both sides
            have layer names.
        notes: what else the reader should know, such as why no layer could be named.
    """

    reference: str
    candidate: str
    rows: tuple[ParityRow, ...]
    first_departure: Departure | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every output agrees at every case and none of them vacuously."""
        return bool(self.rows) and all(row.verdict == "pass" for row in self.rows)

    @property
    def vacuous(self) -> bool:
        """Whether some comparison proves nothing, because the output does not vary over the batch."""
        return any(row.verdict == "vacuous" for row in self.rows)

    @property
    def disagrees(self) -> bool:
        """Whether some output differs; what proves nothing does not."""
        return any(row.verdict == "fail" for row in self.rows)

    @property
    def max_abs(self) -> float | None:
        """The largest absolute difference over all rows; None when nothing could be subtracted."""
        measured = [row.max_abs for row in self.rows if row.max_abs is not None]
        return max(measured) if measured else None

    def raise_if_failed(self) -> ParityReport:
        """Return the report itself if it passed.

        Raises:
            ParityError: it did not pass; the message is the report.
        """
        if not self.passed:
            raise ParityError(str(self))
        return self

    def to_json(self) -> dict[str, Any]:
        """The report as plain values; non-finite numbers become strings, as JSON has none."""
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "passed": self.passed,
            "vacuous": self.vacuous,
            "max_abs": _plain(self.max_abs),
            "rows": [_plain(asdict(row)) for row in self.rows],
            "first_departure": None if self.first_departure is None else _plain(asdict(self.first_departure)),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        headline = {True: "PASS", False: "FAIL"}[self.passed]
        if self.vacuous and not any(row.verdict == "fail" for row in self.rows):
            headline = "VACUOUS"
        lines = [f"{headline}: {self.candidate} against {self.reference}"]
        lines += _table(
            ("case", "output", "dtype", "shape", "max abs", "max rel", "mean", "varies", "verdict"),
            [_cells(row) for row in self.rows],
        )
        first_reasons: dict[str, ParityRow] = {}
        for row in self.rows:
            if row.reason:
                first_reasons.setdefault(row.output, row)
        lines += [f"  {name} at {row.case}: {row.reason}" for name, row in first_reasons.items()]
        if self.first_departure is not None:
            lines.append(f"  first layer whose output departs: {self.first_departure}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _cells(row: ParityRow) -> tuple[str, ...]:
    shape = "x".join(str(size) for size in row.shape) or "scalar"
    numbers = (row.max_abs, row.max_rel, row.mean_abs, row.relative_std)
    return (row.case, row.output, row.dtype, shape, *map(_number, numbers), row.verdict)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
