"""Sizes as expressions: equal ones are one expression, and what must be equal is found."""

from __future__ import annotations

import pytest

from interop.capture.keras.shapes import Unify, merge
from interop.capture.keras.symint import SymInt, equated, floor_divide, render, same

X, Y = SymInt.symbol("x", 23), SymInt.symbol("y", 29)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ((X - 7) // 2, "floor((x + 1)/2) - 4"),
        (-(-X // 3), "floor((x + 2)/3)"),
        ((4 * X + 6) // 2, "2*x + 3"),
        ((5 * X + 4) // 5, "x"),
        ((X + 5) % 2, "mod((x + 1), 2)"),
        ((Y - X) // 2, "floor((x + y)/2) - x"),
    ],
)
def test_quotients_have_one_form(size: int, text: str) -> None:
    assert render(size) == text


def test_the_hint_follows_the_expression() -> None:
    assert [int(size) for size in ((X - 7) // 2, -(-X // 3), (Y - X) // 2, (X - 30) // 4)] == [8, 8, 3, -2]
    assert same(floor_divide(X + 2, 2), X // 2 + 1)


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        (X + 1, Y + 1, (X, Y)),
        (Y, Y * X, (X, 1)),
        (X + 2, 31, (X, 29)),
        (2 * X, Y, None),
        (X, X + 1, None),
        (X, X // 2 * 2, None),
    ],
)
def test_what_must_be_equal(a: int, b: int, found: tuple[int, int] | None) -> None:
    assert [render(size) for size in equated(a, b) or ()] == [render(size) for size in found or ()]


def test_sizes_that_meet_only_where_they_divide() -> None:
    even = SymInt.symbol("x", 24)
    assert merge(even, even // 2 * 2) is even
    with pytest.raises(ValueError, match="cannot be broadcast together"):
        merge(X, X // 2 * 2)
    with pytest.raises(ValueError, match="cannot be broadcast together"):
        merge(X, X + 1)
    with pytest.raises(Unify):
        merge(X, Y)
