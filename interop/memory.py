"""Memory that values of a file are read into, and that the kernel keeps them in when they are written.

Invariant: not made of huge pages (2 MB). NumPy asks for those from 4 MB on, and the kernel takes them for what one
call writes; a machine whose memory is in pieces has few, and the host of a virtual machine takes them back while
they are free, so that 1 GB waits for 1 to 2 s.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
_NUMPY_HUGE_BYTES = 1 << 22


_CALL_BYTES = 1 << 20


def calls(data: memoryview) -> Iterator[memoryview]:
    """The bytes in parts short enough for a system call that writes them."""
    for start in range(0, len(data), _CALL_BYTES):
        yield data[start : start + _CALL_BYTES]


def pages(size: int) -> mmap.mmap:
    """Whole pages, at least `size` bytes."""
    return mmap.mmap(-1, max(size, 1), **_PRIVATE)


def buffer(size: int) -> NDArray[np.uint8]:
    """`size` bytes, from NumPy where it would use small pages anyway."""
    if size < _NUMPY_HUGE_BYTES:
        return np.empty(size, np.uint8)
    return np.frombuffer(pages(size), np.uint8, size)
