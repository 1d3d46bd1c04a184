"""Memory that values of a file are read into.

Invariant: private, writable, and not made of huge pages. NumPy asks for those from 4 MB on, and a machine
whose memory is in pieces, or is a guest's, takes seconds to find them: reading is bound by them then.
"""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
_NUMPY_HUGE_BYTES = 1 << 22


def pages(size: int) -> mmap.mmap:
    """Whole pages, at least `size` bytes."""
    return mmap.mmap(-1, max(size, 1), **_PRIVATE)


def buffer(size: int) -> NDArray[np.uint8]:
    """`size` bytes, from NumPy where it would use small pages anyway."""
    if size < _NUMPY_HUGE_BYTES:
        return np.empty(size, np.uint8)
    return np.frombuffer(pages(size), np.uint8, size)
