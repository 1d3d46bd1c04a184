"""Python's cyclic garbage collector, paused while a graph is built.

A trace makes hundreds of thousands of objects that all stay alive until the graph is written; each full
collection walks them for nothing, about a third of an export's time; and the first one after it would, a tenth.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """A block, or a function, in which nothing is collected; after it, the collector is as it was before.

    What the block made counts as old then: the next full collection walks it, as the program goes on.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # of a program that keeps its own objects from the collector
                gc.freeze()
                gc.unfreeze()
            gc.enable()
