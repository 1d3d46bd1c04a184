"""Python's garbage collector while a model is built."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from interop.garbage import uncollected


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """As in a program that keeps nothing from the collector; the tests do."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_collection_meanwhile_walks_new_objects_alone(enabled):
    if not enabled:
        gc.disable()
    try:
        with uncollected(), uncollected():
            assert not gc.isenabled()
            assert gc.get_freeze_count() > 10_000  # pytest alone makes more
            gc.collect()
            assert len(gc.get_objects()) < 1_000
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert gc.get_freeze_count() == 0
    assert len(gc.get_objects()) > 10_000


def test_what_a_program_keeps_from_the_collector_stays_there():
    gc.freeze()
    try:
        count = gc.get_freeze_count()
        with uncollected():
            assert gc.get_freeze_count() == pytest.approx(count, abs=50)
        assert gc.get_freeze_count() == pytest.approx(count, abs=50)
    finally:
        gc.unfreeze()
