"""Python's cyclic garbage collector, paused while a graph is built.

A trace makes hundreds of thousands of objects that all stay alive until the graph is written; each full
collection walks them for nothing, about a third of an export's time; and the first one after it would, a tenth.
Keras asks for a full collection whenever a layer gives up a variable, as each one does that is quantised.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """A block, or a function, in which nothing is collected; after it, the collector is as it was before.

    Who asks for a collection meanwhile gets one of what the block made. That counts as old afterwards: the next full
    collection walks it, as the program goes on.
    """
    was_enabled = gc.isenabled()
    freezes = not gc.get_freeze_count()  # a program may keep its own objects from the collector
    gc.disable()
    if freezes:
        gc.freeze()
    try:
        yield
    finally:
        if freezes:
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()
