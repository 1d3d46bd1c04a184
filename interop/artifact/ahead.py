"""A tensor file that a thread writes while its user does something else.

What enters: a planned file, the sink. What leaves: what the sink says of it, or the error that ended the writing.

Between two calls into the system the thread needs Python's lock. A thread that computes gives it up after 5 ms when it
is asked to, and a call takes a tenth of that, so while the file is written the lock changes hands ten times as often.

Invariant: nothing is written to the sink once `close` has returned.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from interop.artifact.sinks import Added, Sink
from interop.artifact.tensors import TensorFile
from interop.errors import ArtifactError

_TURN_SECONDS = 5e-4


class Ahead:
    """A file on its way. Its sources must keep their values, and be readable in another thread, until `result`."""

    def __init__(self, file: TensorFile, sink: Sink) -> None:
        self.file = file
        self._stopped = False
        self._thread = ThreadPoolExecutor(1, "interop-write")
        self._added = self._thread.submit(self._write, sink)

    def result(self) -> Added:
        """Wait until it is written.

        Raises:
            ArtifactError: a source's values are not of the dtype and shape it announced.
            OSError: the disk is full or fails.
        """
        return self._added.result()

    def close(self) -> None:
        """Give up what is not written yet."""
        self._stopped = True
        self._thread.shutdown()

    def _write(self, sink: Sink) -> Added:
        with _Turns.short():
            return self.file.write(sink, between=self._go_on)

    def _go_on(self) -> None:
        if self._stopped:
            raise ArtifactError(f"{self.file.name} was given up before it was whole")


class _Turns:
    """How long Python's lock may be kept from a thread that asks for it; the process has one such setting."""

    _lock = threading.Lock()
    _users = 0
    _before = 0.0

    @classmethod
    @contextmanager
    def short(cls) -> Iterator[None]:
        with cls._lock:
            if not cls._users:
                cls._before = sys.getswitchinterval()
                sys.setswitchinterval(min(cls._before, _TURN_SECONDS))
            cls._users += 1
        try:
            yield
        finally:
            with cls._lock:
                cls._users -= 1
                if not cls._users:
                    sys.setswitchinterval(cls._before)
